# SPDX-License-Identifier: Apache-2.0
"""The program as a user starts it: quick help, errors in one line, completion."""

import os
import subprocess
import sys
import tomllib
from argparse import SUPPRESS
from importlib import import_module

import pytest
import soundfile
from corpus import voice
from tiny_model import write_experiment

import rawnext
from rawnext.cli.main import all_actions, build_parser, main

PROGRAM = "import sys; sys.argv[0] = 'rawnext'; from rawnext.cli.main import program; program()"


def run(root, *words, **options):
    env = {"PYTHONPATH": str(root), "LC_ALL": "C"}
    return subprocess.run([sys.executable, "-c", PROGRAM, *map(str, words)], env=env, capture_output=True, text=True,
                          timeout=60, **options)


def test_help_is_quick_and_imports_no_torch(root):
    run(root, "--help")  # a first run may have to compile modules
    began = sum(os.times()[2:4])
    done = run(root, "--help")
    assert done.returncode == 0 and "identify" in done.stdout
    assert sum(os.times()[2:4]) - began < 0.5  # of processor time, whatever the load
    code = ("import sys\nfrom rawnext.cli.main import build_parser\nbuild_parser()\n"
            "assert not sys.modules.keys() & {'torch', 'soundfile', 'scipy.signal'}")
    subprocess.run([sys.executable, "-c", code], cwd=root, check=True)


def test_version_is_that_of_the_package_and_the_citation(root, capsys):
    with pytest.raises(SystemExit, match="^0$"):
        main(["--version"])
    assert capsys.readouterr().out == f"rawnext {rawnext.__version__}\n"
    assert f"\nversion: {rawnext.__version__}\n" in (root / "CITATION.cff").read_text()
    project = tomllib.loads((root / "pyproject.toml").read_text())
    assert project["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "rawnext.__version__"}


def test_error_in_a_list_from_standard_input_is_one_line(root, tmp_path):
    soundfile.write(tmp_path / "a.wav", voice(0, 0, 1), 16000)
    done = run(root, "embed", "-m", "exp", "-", input=f"anna {tmp_path}/a.wav\nbert {tmp_path}/b.wav\n")
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr == f"rawnext: /dev/stdin:2: bert: {tmp_path}/b.wav: no such file\n"


def test_entry_point_of_the_package_exists(root):
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    module, _, name = project["scripts"]["rawnext"].partition(":")
    assert callable(getattr(import_module(module), name))


@pytest.mark.parametrize("shell", ["bash", "zsh", "tcsh"])
def test_completion_script_has_commands_files_and_folders(shell, capsys):
    main(["completion", shell])
    script = capsys.readouterr().out
    assert all(word in script for word in ("embed", "identify", "--window" if shell != "tcsh" else "window"))
    if shell == "bash":
        assert subprocess.run(["bash", "-n"], input=script, text=True).returncode == 0
        for argument, kind in (("embed_pos_0", "files"), ("embed___output", "files"), ("verify__m", "dirs"),
                               ("export___safetensors", "dirs"), ("info_pos_0", "dirs")):
            assert f"_shtab_rawnext_{argument}_COMPGEN=_shtab_compgen_{kind}\n" in script


def test_every_option_has_help():
    actions = list(all_actions(build_parser()))
    assert len(actions) > 30
    without_help = {action.dest for action in actions if not action.help} - {SUPPRESS}  # the subcommand
    assert without_help <= {"enroll", "test", "inputs", "model", "shell"}, without_help  # self-explanatory arguments


def test_resampling_needs_no_torchaudio(monkeypatch, tmp_path, capsys):
    """`pip install` of the package does not bring it."""
    monkeypatch.chdir(tmp_path)
    soundfile.write("a.wav", voice(0, 0, 1), 8000)
    exp = write_experiment(tmp_path / "exp")
    monkeypatch.setitem(sys.modules, "torchaudio.functional", None)
    monkeypatch.setitem(sys.modules, "torchaudio", None)
    main(["embed", "-m", str(exp), "a.wav"])
    assert capsys.readouterr().out
