# SPDX-License-Identifier: Apache-2.0
"""The first five minutes with a short training: egs/mini except its last stages, two files of one's own; the pack."""

import os
import re
import signal
import subprocess
import urllib.request
from pathlib import Path
from shutil import which

import pytest
import soundfile
from corpus import by_ffmpeg, voice
from page_commands import example
from programs import forking
from recipe import run_recipe

from rawnext.data.cuts import CutTable
from rawnext.kaldi.tables import read_table

pytestmark = pytest.mark.slow

QUICK = ("--set", "train.epochs=1 batch.speakers=4 batch.min_utts_per_speaker=2 batch.max_utts_per_speaker=2 "
                  "crop.samples=4375")


SCORED = ("--durations", "1", "--backends", "cosine", "--nj", "1")   # fewer rows than the recipe's defaults


def test_make_demo_is_the_recipe(root):
    page = example(root, "README.md", "make demo")
    done = subprocess.run([*page, "--dry-run"], cwd=root, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "cd egs/mini && ./run.sh"


@pytest.fixture(scope="module")
def mini(root, tmp_path_factory):
    """What the recipe leaves."""
    folder = tmp_path_factory.mktemp("demo") / "egs/mini"
    folder.parent.mkdir()
    _, *page = example(root, "docs/tutorial/first_five_minutes.md", "./run.sh")
    done = run_recipe(root, "mini", folder, *page, *QUICK, "--stop-stage", "3")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert done.stdout.count("Successfully validated") == 3
    done = run_recipe(root, "mini", folder, *page, "--stage", "4", "--stop-stage", "5", *SCORED)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return folder


def test_from_nothing_to_scores(root, mini):
    speakers = {name: set(CutTable(mini / "data" / name).speakers) for name in ("train", "dev", "test")}
    assert len(speakers["train"]) >= 60 and len(speakers["test"]) >= 20
    assert not (speakers["train"] & speakers["dev"]) and not ((speakers["train"] | speakers["dev"]) & speakers["test"])
    assert (mini / "exp/demo/model.pt").stat().st_size > 0
    page = example(root, "docs/tutorial/first_five_minutes.md", "head")
    done = subprocess.run(page, cwd=mini, capture_output=True, text=True)
    assert re.fullmatch(r"(\S+ \S+ -?[\d.]+\n){3}", done.stdout)
    again = run_recipe(root, "mini", mini, "--stop-stage", "2")
    assert again.returncode == 0 and (again.stdout + again.stderr).count("nothing to do, done before") == 2


def test_the_last_line_has_the_eer_the_page_and_a_command_that_works(root, mini, tmp_path):
    done = run_recipe(root, "mini", mini, "--stage", "8", "--calibrate", "", *SCORED)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    last = re.match(r"EER [\d.]+ % \[[\d.]+, [\d.]+\] .* Page: (\S+)\. Two files of your own: (.*)$",
                     done.stdout.splitlines()[-1])
    assert last and Path(last[1]).is_file(), done.stdout[-1000:]
    for name in "ab":
        soundfile.write(tmp_path / f"{name}.wav", voice(1, 0, 1.5), 16000)
    verify = subprocess.run(["bash", "-c", last[2]], cwd=tmp_path, capture_output=True, text=True, env=forking())
    assert verify.returncode == 0 and re.search(r"^score +-?[\d.]+", verify.stdout, re.M), verify.stdout + verify.stderr


def test_scored_again_and_another_system(root, mini):
    scores = mini / "exp/demo/scores/cosine/test/trials_native"
    before = scores.read_text()
    scores.unlink()
    page = example(root, "docs/tutorial/first_five_minutes.md", "./run.sh --stage 5")
    done = run_recipe(root, "mini", mini, *page[1:], "--stop-stage", "5", *SCORED)
    assert done.returncode == 0 and scores.read_text() == before, done.stderr
    page = example(root, "docs/tutorial/first_five_minutes.md", "./run.sh --stage 3")
    done = run_recipe(root, "mini", mini, *page[1:], *QUICK, "--stop-stage", "3")
    assert done.returncode == 0 and (mini / "exp/resnext/model.pt").stat().st_size > 0, done.stderr
    done = subprocess.run(example(root, "docs/tutorial/first_five_minutes.md", "steps/score.py --help"), cwd=mini,
                          capture_output=True, text=True)
    assert done.returncode == 0 and "--enroll" in done.stdout


def test_the_pack_is_small_complete_and_licensed(root):
    pack = root / "egs/mini/pack"
    files = {path for path in pack.rglob("*") if path.is_file()}
    assert sum(path.stat().st_size for path in files) <= 12_000_000
    licences, speakers = (pack / "LICENCES.md").read_text(), []
    named = {pack / "LICENCES.md", pack / "dev/LICENSE-DSPSpeech-20"}
    for folder in filter(Path.is_dir, pack.iterdir()):
        subprocess.run([root / "utils/validate_data_dir.py", folder], cwd=folder, check=True)
        tables = {name: read_table(folder / name) for name in ("wav.scp", "utt2spk", "spk2utt", "spk2gender")
                  if (folder / name).exists()}
        named |= {folder / name for name in (*tables, *tables["wav.scp"].values())}
        speakers += tables["spk2utt"]
        num_spks, num_utts = len(tables["spk2utt"]), len(tables["wav.scp"])
        line = rf"^\| {folder.name} \|.*\| {num_spks} \(.*\| {num_utts} \|.*\| CC BY 4.0(; MIT)? \|$"
        assert re.search(line, licences, re.M)
    assert files == named and len(speakers) == len(set(speakers))


@pytest.fixture(params=["README.md", "docs/tutorial/first_five_minutes.md"])
def reader(root, mini, request):
    """The folder of a page's reader, with two files; its `rawnext verify`, and its `rawnext serve`."""
    if not which("ffmpeg"):
        pytest.skip("no ffmpeg, which b.m4a needs")
    if request.param == "README.md":
        folder = mini.parent.parent
        commands = example(root, "README.md", "rawnext verify"), example(root, "README.md", "rawnext serve")
    else:
        folder = mini
        commands = (example(root, "docs/tutorial/first_five_minutes.md", "rawnext verify"),
                    example(root, "docs/tutorial/first_five_minutes.md", "rawnext serve"))
    soundfile.write(folder / "a.wav", voice(1, 0, 1.5), 16000)
    by_ffmpeg(voice(1, 1, 1.5), 16000, folder / "b.m4a")
    return folder, *commands


def test_two_files_of_ones_own(reader):
    folder, verify, _ = reader
    done = subprocess.run(verify, cwd=folder, capture_output=True, text=True, env=forking())
    assert done.returncode == 0 and re.search(r"^score +-?[\d.]+", done.stdout, re.M), done.stdout + done.stderr


def test_the_page_opens(reader):
    folder, _, serve = reader
    with subprocess.Popen([*serve, "--port", "0", "--no-browser"], cwd=folder, stdout=subprocess.PIPE, text=True,
                          stderr=subprocess.STDOUT, env=forking({**os.environ, "PYTHONUNBUFFERED": "1"})) as server:
        try:
            found = (re.search(r"http://127\.0\.0\.1:\d+\S*", line) for line in server.stdout)
            address = next(filter(None, found), None)
            assert address and b"<html" in urllib.request.urlopen(address[0], timeout=10).read()
        finally:
            server.send_signal(signal.SIGINT)
            server.stdout.read()
