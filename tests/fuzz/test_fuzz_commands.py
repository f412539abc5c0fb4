# SPDX-License-Identifier: Apache-2.0
"""Every program with odd values for its options and arguments: it succeeds, or prints one line and fails.

Each command line below is valid; one or two of its words are replaced by odd ones, or an option with an odd value is
added. Programs run in forks of this process, without root's right to open closed folders. utils/{run,slurm,sge}.py and
steps/torchrun.py run commands and have tests of their own.
"""

import argparse
import contextlib
import ctypes
import os
import random
import runpy
import shlex
import shutil
import signal
import sys
import tarfile
import traceback
from pathlib import Path

import numpy as np
import pytest
import soundfile
from corpus import voice, write_corpus
from forked.server import import_packages, use_large_pages
from fuzzing import TIMES
from tiny_model import calibrate, inform, write_experiment

from rawnext.cli.main import program
from rawnext.errors import ArgumentParser
from rawnext.kaldi.ark import write_vectors
from rawnext.scoring.decision import MODEL_PATH

ROOT = Path(__file__).resolve().parents[2]
LAUNCHERS = {"run.py", "slurm.py", "sge.py", "torchrun.py"}
SECONDS = 60  # after which a program counts as hanging
E = "emb/embedding.scp"
ODD = ["", " ", "-", "--", "=", ",", "nan", "inf", "-1", "0", "0.5", "1e999", "1e-300", "9" * 40, "1 nan 2", "0 -1",
       "2 1 2", "a|", "| a", "~x", "x" * 300, "x/" * 3000, "no/such", "a.wav", "a.wav/x", "data", "data/trials", "exp",
       "emb", E, "scores:full:full", "scores:nan:-1", "\x1b[2J", "ä", "\udcff", "\udcff.ark,\udcff.scp", "scp:x", "a,b",
       "b.ark,b.scp", "loop", "fifo", "shut", "shut/x", "locked", "locked/x", "empty", "binary", "{}", "[", "'", "$(x)",
       "meta", "cuda:99", "${x}", "x=y", "optim.lr=1e999", "train.epochs=-1", "model=no"]
CALIBRATE = "steps/calibrate.py {} --backend cosine --protocol native"
COMMANDS = f"""
steps/activation_map.py exp data s00-u0 map.png
steps/average_speakers.py data/spk2utt emb
steps/branch_variation.py --durations 0.5 --num-utts 4 exp data out
{CALIBRATE.format("fit")} --data data --trials data/trials --out cal scores:full:full
{CALIBRATE.format("apply")} --model exp/{MODEL_PATH} --enroll-data data --test-data data scores:full:full out
steps/clean_labels.py --share 0.1 --players 1 data {E} labels
steps/compare.py --out cmp exp exp
steps/compute_vad.py --vad energy data vad
steps/center_model.py exp {E} new
steps/cut_data_dir.py --durations 0.5 --trials data/trials data cut
steps/der.py --collar 0.25 ref.rttm ref.rttm
steps/diarize.py --device cpu --max-speakers 3 data exp out
steps/evaluate.py --exp exp --list O --data-set data --protocol native scores data/trials
steps/extract.py --device cpu data exp out
steps/fit_lda.py --config small.yaml --device cpu --train data new
steps/identification.py --enroll-utts 1 --repeats 2 --sizes 2 --fpir 0.1 --seed 1 data {E}
steps/import_official.py binary new
steps/make_cuts.py data
steps/make_shar.py data shar
steps/normalize.py --enroll {E} --test {E} --cohort {E} scores out
steps/paired_test.py scores scores data/trials
steps/paper_tables.py --table 4 --out tables exp
steps/plot.py exp
steps/quality.py --cohort {E} emb
steps/report.py exp
steps/results.py exp
steps/round_weights.py exp new
steps/score.py --enroll {E} --test {E} data/trials out
steps/segment_data_dir.py --segments 2 --seconds 0.1 data pieces
steps/submission.py --dev-scores scores --dev-trials data/trials --pairs pairs scores sub.csv
steps/tasks.py plan --eval data:trials --durations 5 --backends cosine --dev data exp
steps/train.py --check --device cpu --config small.yaml --train data new
steps/train_backend.py {E} data/utt2spk back
steps/vad_segments.py data speech
steps/widen_ecapa.py --channels 8 --fused 8 --embedding-dim 8 exp new
local/cnceleb/prepare_cnceleb.py data out
local/convert_trials.py data data/trials out
local/csv/prepare_csv.py table.csv out
local/noise/make_coded.py --codecs ulaw data coded
local/noise/make_noisy.py data banks noisy
local/noise/prepare_banks.py --synthesise banks2
local/open/embed_teachers.py data new
local/open/prepare_open.py --train x=data --dev-speakers 2 out
local/sitw/prepare_sitw.py data out
local/unpack_tar.py a.tar folder
local/voices/prepare_voices.py data out
local/voxceleb/check_voxceleb.py --vox1 data --vox2 data --musan data
local/voxceleb/prepare_voxceleb.py --vox1 data --vox2 data out
local/voxceleb/transcode_vox2.py data out
utils/combine_data.py both data
utils/fix_data_dir.py data
utils/lint_trials.py data/trials
utils/make_trials.py data out
utils/subset_data_dir.py --speakers 2 data out
utils/validate_data_dir.py data
rawnext embed -m exp --device cpu a.wav -o e.ark,e.scp
rawnext embed -m exp --device cpu --window 0.5 --shift 0.2 -l data/wav.scp -o w.ark,w.scp
rawnext verify -m exp --device cpu --prior 0.1 a.wav a.wav
rawnext enroll -m exp --device cpu -g g.ark,g.scp anna a.wav
rawnext enroll -m exp --device cpu -g g.ark,g.scp --table data
rawnext identify -m exp --device cpu -g g.ark,g.scp --prior 0.1 a.wav
rawnext gallery list g.ark,g.scp
rawnext gallery remove g.ark,g.scp anna
rawnext score -m exp --device cpu data/trials data/wav.scp -o out
rawnext eval scores data/trials --llr --p-target 0.1 --c-fa 2
rawnext diarize -m exp --device cpu --num-speakers 1 a.wav -o out.rttm
rawnext info exp
rawnext export exp --safetensors release
rawnext serve -m exp --host 192.0.2.1 --port 80000 --no-browser
rawnext completion bash
""".strip().splitlines()


def test_all_programs_have_a_command():
    found = {path.relative_to(ROOT).as_posix() for folder in ("steps", "local", "utils")
             for path in (ROOT / folder).rglob("*.py") if path.read_bytes().startswith(b"#!")}
    assert {line.split()[0] for line in COMMANDS} - {"rawnext"} == {
        name for name in found if Path(name).name not in LAUNCHERS}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """A folder of valid inputs, with audio outside of it."""
    import_packages()
    use_large_pages()
    folder = tmp_path_factory.mktemp("inputs")
    write_corpus(folder.parent / "corpus")
    shutil.copytree(folder.parent / "corpus", folder / "data", ignore=shutil.ignore_patterns("audio"))
    utts = [line.split()[0] for line in (folder / "data/utt2spk").read_text().splitlines()]
    (folder / "data/utt2dur").write_text("".join(f"{utt} 1.{3 + int(utt[-1])}\n" for utt in utts))
    (folder / "exp").mkdir()
    inform(calibrate(write_experiment(folder / "exp")))
    (folder / "emb").mkdir()
    rng = np.random.default_rng(0)
    vectors = [(utt, rng.standard_normal(8).astype(np.float32)) for utt in utts]
    write_vectors(folder / "emb/embedding.ark", folder / E, vectors)
    trials = [line.split() for line in (folder / "data/trials").read_text().splitlines()]
    (folder / "scores").write_text("".join(
        f"{a} {b} {rng.normal() + (kind == 'target'):.3f}\n" for a, b, kind in trials))
    (folder / "pairs").write_text("".join(f"{a} {b} {row}\n" for row, (a, b, _) in enumerate(trials)))
    (folder / "small.yaml").write_text("model: {name: mel_stats, embedding_dim: 4}\n")
    (folder / "table.csv").write_text("path,speaker\n" + "".join(
        f"{folder.parent}/corpus/audio/{utt}.wav,{utt[:3]}\n" for utt in utts))
    soundfile.write(folder / "a.wav", voice(0, 0, 1.0), 16000)
    with tarfile.open(folder / "a.tar", "w") as file:
        file.add(folder / "a.wav", "x/a.wav")
    (folder / "ref.rttm").write_text("SPEAKER a 1 0.2 1.5 <NA> <NA> anna <NA> <NA>\n")
    (folder / "empty").touch()
    (folder / "binary").write_bytes(rng.bytes(3000))
    (folder / "loop").symlink_to("loop")
    os.mkfifo(folder / "fifo")
    shutil.rmtree(folder / "exp/scores")
    (folder / "exp/scores/cosine/data").mkdir(parents=True)
    for line in (f"steps/score.py --enroll {E} --test {E} data/trials exp/scores/cosine/data/trials_native",
                 "steps/evaluate.py --exp exp --list O --data-set data --protocol native "
                 "exp/scores/cosine/data/trials_native data/trials"):
        assert run(line.split(), folder)[0] == 0
    run(["rawnext", "enroll", "-m", "exp", "--device", "cpu", "-g", "g.ark,g.scp", "anna", "a.wav"], folder)
    assert run(["steps/compute_vad.py", "data", "vad"], folder)[0] == 0
    shutil.copy(folder / "vad/vad.1.scp", folder / "data/vad.scp")
    return folder


def drop_capabilities() -> None:
    header, data = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    ctypes.CDLL(None).capset(header, data)


def run(words: list[str], folder: Path) -> tuple[int, str]:
    """Exit status, negative for a signal, and standard error of a command line in `folder`."""
    reader = os.open(folder / "fifo", os.O_RDWR | os.O_NONBLOCK)   # else a program that writes to it waits for one
    pid = os.fork()
    if pid == 0:
        code = 99
        try:
            os.setsid()
            os.chdir(folder)
            for number, file in enumerate(("/dev/null", "../out.txt", "../err.txt")):
                os.dup2(os.open(file, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o644), number)
            sys.stdin, sys.stdout = open(0), open(1, "w")  # noqa: SIM115
            sys.stderr = open(2, "w", errors="backslashreplace", buffering=1)  # noqa: SIM115
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(SECONDS)
            drop_capabilities()
            sys.argv[:] = words
            if words[0] == "rawnext":
                program()
            path = ROOT / words[0]
            sys.path[:0] = [str(path.parent)]
            runpy.run_path(str(path), run_name="__main__")
            code = 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
            if isinstance(end.code, str):
                print(end.code, file=sys.stderr)
        except BaseException:
            traceback.print_exc()
        finally:
            for stream in (sys.stdout, sys.stderr):
                with contextlib.suppress(OSError, ValueError):  # a closed one
                    stream.flush()
            os._exit(code & 255)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    os.close(reader)
    return code, (folder.parent / "err.txt").read_text(errors="replace")


def copied(inputs: Path) -> Path:
    """A new copy of the inputs, with folders that are closed to reading or to writing."""
    folder = inputs.parent / "copy"
    if folder.exists():
        for name in ("shut", "locked"):
            if (folder / name).is_dir():
                (folder / name).chmod(0o755)
        shutil.rmtree(folder)
    folder.mkdir()
    shutil.copytree(inputs, folder, dirs_exist_ok=True, symlinks=True,
                    ignore=lambda _, names: {"fifo"} & set(names))
    os.mkfifo(folder / "fifo")
    (folder / "shut").mkdir(0o000)
    (folder / "locked").mkdir(0o555)
    return folder


class Found(BaseException):
    """The parser of a program."""


def options_of(words: list[str], monkeypatch) -> list[str]:
    """Options of a program (of its subcommand, if it has any) that take a value or none."""
    def caught(self, *_):
        raise Found(self)

    with monkeypatch.context() as patch:
        patch.setattr(argparse.ArgumentParser, "parse_args", caught)
        patch.setattr(sys, "argv", words)
        patch.syspath_prepend(str((ROOT / words[0]).parent))
        try:
            program() if words[0] == "rawnext" else runpy.run_path(str(ROOT / words[0]), run_name="__main__")
        except Found as found:
            parser = found.args[0]
    assert isinstance(parser, ArgumentParser)   # its errors are printable
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            parser = action.choices[words[1]]
    return [action.option_strings[-1] for action in parser._actions if action.option_strings]


VALID = dict.fromkeys((  # exit status 1: they need corpora, networks
    "steps/import_official.py", "steps/activation_map.py", "local/noise/prepare_banks.py", "local/noise/make_noisy.py",
    "local/open/embed_teachers.py", "local/voxceleb/check_voxceleb.py", "local/voxceleb/prepare_voxceleb.py",
    "local/voxceleb/transcode_vox2.py", "local/cnceleb/prepare_cnceleb.py", "local/sitw/prepare_sitw.py",
    "local/voices/prepare_voices.py", "steps/widen_ecapa.py", "rawnext serve"), 1)


@pytest.mark.slow
@pytest.mark.parametrize("line", COMMANDS, ids=lambda line: " ".join(line.split()[:2]))
def test_odd_words(inputs, monkeypatch, line):
    words = shlex.split(line)
    folder = copied(inputs)
    code, errors = run(words, folder)
    expected = VALID.get(words[0], VALID.get(" ".join(words[:2]), 0))
    assert code == expected, errors
    rng = random.Random(None if TIMES else line)
    options = [option for option in options_of(words, monkeypatch) if option not in ("--help", "--onnx")]  # 20 s
    first = 1 + (words[0] in ("rawnext", "steps/calibrate.py", "steps/tasks.py"))
    for _ in range(6 * TIMES or 2):
        changed = list(words)
        for _ in range(rng.choice((1, 1, 2))):
            odd = rng.choice(ODD)
            if rng.random() < 0.5 and len(words) > first:
                changed[rng.randrange(first, len(words))] = odd
            elif options:
                changed[first:first] = [rng.choice(options), odd]
        folder = copied(inputs)
        code, errors = run(changed, folder)
        if words[1] == "serve" and code == -signal.SIGALRM:  # it listens
            continue
        assert code in (0, 1, 2, 65) and "Traceback" not in errors, f"{changed}: {code}\n{errors}"
        if code:
            last = errors.splitlines()[-1]
            assert last.isprintable(), f"{changed}: {errors}"


@pytest.mark.parametrize("line", ["steps/make_shar.py data loop", "steps/vad_segments.py data loop",
                                  "steps/cut_data_dir.py --durations 0.1 --trials data/trials data loop",
                                  "local/noise/make_coded.py --codecs ulaw data loop"])
def test_outputs_at_a_link_to_itself_are_one_line(inputs, line):
    code, errors = run(shlex.split(line), copied(inputs))
    assert code == 1 and "loop" in errors.splitlines()[-1] and "Traceback" not in errors, errors


@pytest.mark.parametrize(("words", "last"), [
    (["steps/extract.py", "--duration", "nan", "data", "exp", "out"], "extract.py: error: --duration: at least 0.1 s"),
    (["steps/fit_lda.py", "--set", "'", "--config", "small.yaml", "--train", "data", "new"],
     "fit_lda.py: --set: No closing quotation"),
    (["steps/train.py", "--check", "--set", "'", "--config", "small.yaml", "new"],
     "train.py: --set: No closing quotation"),
    (["utils/fix_data_dir.py", "\x1b[2J"], r"fix_data_dir.py: \x1b[2J/utt2spk: no such file"),
    (["utils/lint_trials.py", "\x1b[2J"], r"\x1b[2J: no such file"),
    (["rawnext", "info", "--\x1b[2J", "exp"], r"rawnext: error: unrecognized arguments: --\x1b[2J")])
def test_odd_options_are_one_line(inputs, words, last):
    code, errors = run(words, copied(inputs))
    assert code in (1, 2, 65) and errors.splitlines()[-1] == last


def test_an_archive_that_is_a_fifo_is_refused(inputs):
    code, errors = run(["local/unpack_tar.py", "fifo", "folder"], copied(inputs))
    assert (code, errors) == (1, "unpack_tar.py: fifo: not a file\n")


@pytest.mark.parametrize("kind", ["closed", "folder", "fifo"])
def test_locks_that_cannot_be_taken_are_one_line(inputs, kind):
    folder = copied(inputs)
    lock = folder / ".lock"
    lock.unlink(missing_ok=True)
    {"closed": lambda: lock.touch(0o000), "folder": lock.mkdir, "fifo": lambda: os.mkfifo(lock)}[kind]()
    code, errors = run(shlex.split("rawnext enroll -m exp --device cpu -g g.ark,g.scp bert a.wav"), folder)
    assert code == 1 and errors.splitlines()[-1].startswith("rawnext: "), errors
    assert ".lock: " in errors.splitlines()[-1] and "Traceback" not in errors


@pytest.mark.parametrize("device", ["meta", "cuda:99", "xpu", "no such"])
@pytest.mark.parametrize("line", ["rawnext verify -m exp a.wav a.wav", "steps/extract.py data exp out",
                                  "steps/train.py --check --config small.yaml --train data new"])
def test_devices_that_cannot_be_used_are_one_line(inputs, line, device):
    code, errors = run([*line.split(), "--device", device], copied(inputs))
    assert code in (1, 2) and "device" in errors.splitlines()[-1] and "Traceback" not in errors, errors
