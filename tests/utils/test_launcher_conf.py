# SPDX-License-Identifier: Apache-2.0
"""Config files of the launchers: Kaldi's grammar and messages, and the two files in conf/."""

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "utils"))

import jobs  # noqa: E402
import launcher_conf  # noqa: E402
import sge  # noqa: E402
import slurm  # noqa: E402

CONF = """
# an example
command qsub -v PATH -l arch="*64*"   # a comment
option mem=* -l mem_free=$0,ram_free=$0
option mem=0          # nothing
option num_threads=* -pe smp $0
option num_threads=1
option max_jobs_run=* -tc $0
option queue=long -q long.q
default gpu=0
option gpu=0
option gpu=* -l gpu=$0 -q g.q
option anything=*
"""


def command(line: str, text: str = CONF, name: str = "x.conf") -> list[str]:
    return launcher_conf.submit_command(launcher_conf.parse_conf(name, text), jobs.parse([*line.split(), "log", "cmd"]))


@pytest.mark.parametrize("line, words", [
    ("", ""),
    ("--mem 4G", "-l mem_free=4G,ram_free=4G"),
    ("--mem 0 --num-threads 1 --gpu 0", ""),
    ("--num-threads 3 --gpu 2", "-pe smp 3 -l gpu=2 -q g.q"),
    ("--gpu 2 --gpu 1", "-l gpu=1 -q g.q"),                 # the last one is used
    ("--queue long --anything 7", "-q long.q"),
    ("--max-jobs-run 5 -tc 3 --num-nodes 1", ""),           # set by the launchers themselves
    ("--pick failed --config y.conf -q all.q", ""),
])
def test_options(line, words):
    got = command(line)
    assert got[:5] == ["qsub", "-v", "PATH", "-l", "arch=*64*"]
    assert sorted(got[5:]) == sorted(words.split())


@pytest.mark.parametrize("line", ["--foo 3", "--queue 3", "--queue short"])
def test_unknown_option_or_value(line):
    option, value = line[2:].split()
    with pytest.raises(jobs.LauncherError) as refused:
        command(line)
    assert refused.value.code == 255
    message = f"Command line option {option} not described in x.conf (or value '{value}' not allowed)"     # Kaldi's
    assert str(refused.value) == message


def test_default():
    text = "command sbatch\noption gpu=* -p gpu --gres=gpu:$0\ndefault gpu=1\n"     # in any order
    assert command("", text) == ["sbatch", "-p", "gpu", "--gres=gpu:1"]
    assert command("--gpu 4", text)[-1] == "--gres=gpu:4"


@pytest.mark.parametrize("line, why", [
    ("option mem=* -l mem", r"x.conf:2: expected \$0"),
    ("option mem", "x.conf:2: unable to parse 'option mem'"),
    ("defaults gpu=0", "x.conf:2: unable to parse"),
    ("default gpu", "x.conf:2: unable to parse"),
])
def test_malformed_lines(line, why):
    with pytest.raises(jobs.LauncherError, match=why) as refused:
        launcher_conf.parse_conf("x.conf", f"command qsub\n{line}  # why\n")
    assert refused.value.code == 1


def test_no_command():
    with pytest.raises(jobs.LauncherError, match=r"x.conf: no line 'command \.\.\.'"):
        launcher_conf.parse_conf("x.conf", "option mem=0\n")


def test_choice_of_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    usual, other = tmp_path / slurm.Slurm.conf, tmp_path / "other.conf"
    other.write_text("command other\n")

    def read(given: Path | None) -> str:
        return launcher_conf.read_conf(given and str(given), slurm.Slurm.conf).command

    assert (read(None).split()[0], read(other)) == ("sbatch", "other"), "without a file of its own, the project's"
    usual.parent.mkdir()
    usual.write_text("command usual\n")
    assert (read(None), read(other)) == ("usual", "other")
    for missing in (tmp_path / "none.conf", tmp_path):      # a folder cannot be read either
        with pytest.raises(jobs.LauncherError, match="cannot read config file") as refused:
            read(missing)
        assert refused.value.code == 1


@pytest.mark.parametrize("conf, words", [
    (slurm.Slurm.conf, "sbatch --export=PATH --requeue --signal=TERM@60 --mem=4G --gres=gpu:2 --cpus-per-task=8 "
                       "--time=1:00:00"),
    (sge.GridEngine.conf, "qsub -v PATH -S /bin/bash -notify -l mem_free=4G -l gpu=2 -pe smp 8 -l s_rt=1:00:00")])
def test_shipped_files(conf, words):
    text = (ROOT / conf).read_text()
    assert sorted(command("--mem 4G --gpu 2 --num-threads 8 --time 1:00:00", text)) == sorted(words.split())
    assert command("--gpu 0 --mem 0", text) == command("--mem 0", text)
