# SPDX-License-Identifier: Apache-2.0
"""steps/extract.sh: utterances that are too short never end a job after it has begun."""

import subprocess
from collections import Counter

import pytest
import soundfile
from corpus import voice
from programs import forking
from tiny_model import write_experiment

from rawnext.kaldi.ark import read_vectors

SEGMENTS = "a-1 r1 0 1\na-2 r1 1 1.05\na-3 r1 1.05 1.55\nb-1 r2 0 0.08\nc-1 r2 0.3 0.45\nc-2 r2 0.5 -1\n"


@pytest.fixture
def extract(root, tmp_path):
    """extract(*options) of a directory with two recordings in six segments, one of them a command."""
    data = tmp_path / "data"
    data.mkdir()
    for i in (1, 2):
        soundfile.write(tmp_path / f"r{i}.wav", voice(i, 0, 2), 16000)
    (data / "wav.scp").write_text(f"r1 {tmp_path}/r1.wav\nr2 cat {tmp_path}/r2.wav |\n")
    (data / "segments").write_text(SEGMENTS)
    (data / "spk2utt").write_text("a a-1 a-2 a-3\nb b-1\nc c-1 c-2\n")
    write_experiment(tmp_path / "exp")

    def call(*options):
        command = ["steps/extract.sh", "--nj", "2", "--allow-pipes", "true", *options, data, tmp_path / "exp",
                   tmp_path / "out"]
        return subprocess.run([*map(str, command)], cwd=root, env=forking(), capture_output=True, text=True)
    return call


def test_short_segments_are_reported_before_work_starts(extract, tmp_path):
    done = extract()
    assert done.returncode == 1
    line = (f"extract.py: {tmp_path}/data/segments:2: a-2: {tmp_path}/r1.wav: 0.050 s of audio; at least 0.1 s; "
            "2 utterances are shorter; --min-duration 0.1 skips them, and steps/make_cuts.py --min-duration 0.1 "
            "removes them from the tables")
    assert line in done.stderr and not list((tmp_path / "out").glob("*.ark*"))


def test_short_segments_are_skipped_and_listed(root, extract, tmp_path):
    out = tmp_path / "out"
    done = extract("--min-duration", "0.2")
    assert done.returncode == 0, done.stderr
    assert f"skipped 3 of 6 utterances, shorter than 0.2 s; {out}/short_utts lists them" in done.stderr
    assert (out / "short_utts").read_text() == "a-2 0.050\nb-1 0.080\nc-1 0.150\n"
    assert list(read_vectors(out / "embedding.scp")) == ["a-1", "a-3", "c-2"]
    assert list(read_vectors(out / "spk_embedding.scp")) == ["a", "c"]
    assert (out / "num_utts.ark").read_text() == "a 2 \nc 1 \n"
    (tmp_path / "trials").write_text("a-1 b-1 nontarget\n")
    scored = subprocess.run(["steps/score.py", "--enroll", out / "embedding.scp", "--test", out / "embedding.scp",
                             tmp_path / "trials", tmp_path / "scores"], cwd=root, env=forking(), capture_output=True,
                            text=True)
    assert scored.returncode == 1 and f"trials:1: b-1 is not in {out}/embedding.scp" in scored.stderr


def test_a_command_of_unknown_length_is_skipped_when_it_has_run(extract, tmp_path):
    soundfile.write(tmp_path / "short.wav", voice(3, 0, 0.15), 16000)
    (tmp_path / "data/segments").unlink()
    names = {"a-1": "r1", "a-2": "short", "a-3": "r2", "a-4": "short", "a-5": "short", "a-6": "short", "b-1": "short",
             "b-2": "short", "c-1": "r1", "c-2": "r2", "c-3": "r2", "c-4": "r1"}
    (tmp_path / "data/wav.scp").write_text("".join(f"{utt} echo {utt} >> {tmp_path}/ran; cat {tmp_path}/{name}.wav |\n"
                                                   for utt, name in names.items()))
    done = extract("--min-duration", "0.2")
    assert done.returncode == 0, done.stderr
    assert list(read_vectors(tmp_path / "out/embedding.scp")) == ["a-1", "a-3", "c-1", "c-2", "c-3", "c-4"]
    short = [utt for utt, name in names.items() if name == "short"]
    assert (tmp_path / "out/short_utts").read_text() == "".join(f"{utt} 0.150\n" for utt in short)
    ran = Counter((tmp_path / "ran").read_text().split())
    assert ran.keys() == names.keys() and max(ran.values()) <= 3, "once more to find all, and once to embed the others"
    (tmp_path / "ran").unlink()
    assert extract("--min-duration", "0.2").returncode == 0 and not (tmp_path / "ran").exists(), "nothing is left to do"
