# SPDX-License-Identifier: Apache-2.0
"""steps/vad.sh, steps/vad_segments.py and extraction with --vad: the same speech by each way, and nothing mixed."""

import json
import subprocess
import sys

import kaldi_native_io
import numpy as np
import pytest
import soundfile
from page_commands import example
from programs import forking
from tiny_model import write_experiment

from rawnext import Extractor
from rawnext.data.vad import select, speech_frames
from rawnext.data.wav import load_wave, read_sources
from rawnext.kaldi.ark import read_vectors


@pytest.fixture(scope="module")
def made(root, tmp_path_factory):
    """Real speech between pauses in data/ (a1 and a2 of one speaker, b1), and an experiment."""
    folder = tmp_path_factory.mktemp("vad")
    (folder / "data").mkdir()
    rng, lines = np.random.default_rng(0), []
    for utt, name in (("a1", "0036/000360013"), ("a2", "0036/000360034"), ("b1", "0135/001350002")):
        wave, rate = soundfile.read(root / f"egs/mini/pack/speechocean762/audio/{name}.ogg", dtype="float32")
        noise = rng.normal(0, 1e-4, len(wave) + 2 * rate).astype(np.float32)
        soundfile.write(folder / f"{utt}.wav", noise + np.pad(wave, rate), rate)
        lines.append(f"{utt} {folder}/{utt}.wav\n")
    (folder / "data/wav.scp").write_text("".join(lines))
    (folder / "data/utt2spk").write_text("a1 a\na2 a\nb1 b\n")
    write_experiment(folder / "exp")
    return folder


@pytest.fixture
def run(root):
    def call(*words, status=0):
        done = subprocess.run([*map(str, words)], cwd=root, env=forking(), capture_output=True, text=True)
        assert done.returncode == status, done.stderr
        return done
    return call


@pytest.fixture(scope="module")
def decided(root, made):
    """data/ with vad.scp, and speech/ with segments, by the command of the page."""
    words = example(root, "docs/howto/voice_activity.md", "steps/vad.sh --nj 8")
    assert words[-3:] == ["--segments", "data/test_speech", "data/test"]
    done = subprocess.run([*words[:-2], made / "speech", made / "data"], cwd=root, env=forking(), capture_output=True,
                          text=True)
    assert done.returncode == 0, done.stderr
    return made / "data"


def embeddings(folder):
    return np.stack(list(read_vectors(folder / "embedding.scp").values()))


def test_kaldi_reads_the_decisions(decided):
    with kaldi_native_io.SequentialFloatVectorReader(f"scp:{decided}/vad.scp") as reader:
        found = {utt: np.array(vector) for utt, vector in reader}
    for source in read_sources(decided):
        assert np.array_equal(found[source.utt], speech_frames(load_wave(source), "energy"))
    assert list(found) == ["a1", "a2", "b1"]


def test_segments_are_the_speech(made, decided):
    sources = read_sources(made / "speech")
    found = {utt: 0.0 for utt in ("a1", "a2", "b1")}
    for source in sources:
        assert source.start_s > 0.7 and source.utt.startswith(f"{source.utt[:2]}-")
        found[source.utt[:2]] += source.end_s - source.start_s
    for source in read_sources(decided):
        assert 0.7 * found[source.utt] < speech_frames(load_wave(source), "energy").sum() / 100 <= found[source.utt]
    assert (made / "speech/spk2utt").read_text().split()[0] == "a"


@pytest.mark.slow
def test_extraction_by_scp_and_by_energy_is_that_of_the_speech(root, made, decided, run):
    words = example(root, "docs/howto/voice_activity.md", "steps/extract.sh --vad scp")
    for kind in ("scp", "energy", ""):
        run(words[0], *(["--vad", kind] if kind else []), "--nj", 1, decided, made / "exp", made / f"x{kind}")
    scp, energy, whole = (embeddings(made / name) for name in ("xscp", "xenergy", "x"))
    extractor = Extractor.from_pretrained(made / "exp", "cpu", warn=False, vad="energy")
    want = extractor.embed_batch([load_wave(source) for source in read_sources(decided)])
    assert np.allclose(scp, want, atol=1e-4 * abs(want).max()) and np.array_equal(scp, energy)
    assert not np.allclose(whole, want, atol=1e-2 * abs(want).max())
    head = (made / "xenergy/embedding.1.sources").read_text().split("\n")[0]
    assert head == f"fingerprint {extractor.fingerprint}" and head.endswith(" vad=energy")
    (made / "trials").write_text("a1 a2 target\na1 b1 nontarget\n")
    side = ["--enroll", made / "xenergy/embedding.scp", "--test"]
    done = run("steps/score.py", *side, made / "x/embedding.scp", made / "trials", made / "mixed", status=1)
    assert ("without voice activity detection, but" in done.stderr and
            "with voice activity detection (energy); one of them must be made again" in done.stderr)
    run("steps/score.py", *side, made / "xenergy/embedding.scp", made / "trials", made / "scores")
    assert (made / "scores.sources").read_text().split("\n")[0] == head
    done = run("steps/extract.py", "--vad", "energy", decided, made / "exp", made / "xenergy")
    assert "3 of them from an earlier run" in done.stdout


@pytest.mark.slow
def test_changed_decisions_are_noticed(made, decided, run, tmp_path):
    from rawnext.kaldi.ark import write_vectors

    (tmp_path / "data").mkdir()
    (tmp_path / "data/wav.scp").write_text((decided / "wav.scp").read_text())
    words = ["steps/extract.py", "--vad", "scp", tmp_path / "data", made / "exp", tmp_path / "x"]
    waves = {source.utt: load_wave(source) for source in read_sources(decided)}
    frames = {utt: speech_frames(wave, "energy") for utt, wave in waves.items()}

    def decide():
        write_vectors(tmp_path / "a.ark", tmp_path / "data/vad.scp", frames.items(), one_dim=False)

    decide()
    run(*words)
    first = read_vectors(tmp_path / "x/embedding.1.scp")["b1"]
    frames["b1"][:150] = True
    decide()
    run(*words)
    assert not np.array_equal(read_vectors(tmp_path / "x/embedding.1.scp")["b1"], first)
    frames["b1"] = frames["b1"][:-9]
    decide()
    assert "vad.scp: b1: " in run(*words, status=1).stderr


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["energy", "scp"])
def test_too_little_speech_is_one_line_or_skipped(made, decided, run, tmp_path, kind):
    from rawnext.kaldi.ark import write_vectors

    silence = np.random.default_rng(1).normal(0, 1e-5, 16000)
    silence[:480] = 0.3 * np.sin(np.arange(480))
    soundfile.write(tmp_path / "s.wav", silence, 16000)
    (tmp_path / "data").mkdir()
    (tmp_path / "data/wav.scp").write_text((decided / "wav.scp").read_text() + f"c1 {tmp_path}/s.wav\n")
    if kind == "scp":
        decisions = [(source.utt, speech_frames(load_wave(source), "energy"))
                     for source in read_sources(tmp_path / "data")]
        write_vectors(tmp_path / "a.ark", tmp_path / "data/vad.scp", decisions, one_dim=False)
    words = ["steps/extract.sh", "--nj", "1", "--vad", kind]
    end = [tmp_path / "data", made / "exp", tmp_path / "x"]
    err = run(*words, *end, status=1).stderr
    assert f"c1: {tmp_path}/s.wav: 0.0" in err and "s of audio with speech; at least 0.1 s; --min-duration" in err
    done = run(*words, "--min-duration", "0.1", *end)
    assert "skipped 1 of 4 utterances, shorter than 0.1 s of speech" in done.stderr
    assert list(read_vectors(tmp_path / "x/embedding.scp")) == ["a1", "a2", "b1"]


def test_one_json_object_for_each_utterance(decided, run, tmp_path):
    done = run(sys.executable, "steps/compute_vad.py", "--vad", "silero", "--json", decided, tmp_path)
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    for row, source in zip(rows, read_sources(decided)):
        wave = load_wave(source)
        assert row["utt"] == source.utt and row["seconds"] == pytest.approx(len(wave) / 16000, abs=0.01)
        assert row["speech"] == pytest.approx(len(select(wave, speech_frames(wave, "silero"))) / 16000, abs=0.02)
    done = run(sys.executable, "steps/vad_segments.py", "--json", decided, tmp_path / "segments")
    assert json.loads(done.stdout).keys() == {"segments", "seconds", "without_speech"}


@pytest.mark.parametrize(("words", "why"), [
    (["--vad-proportion-threshold", "2"], "--vad options: want a mean scale"),
    (["--num-jobs", "9"], "fewer utterances")])
def test_bad_options_are_one_line(decided, run, tmp_path, words, why):
    err = run(sys.executable, "steps/compute_vad.py", *words, decided, tmp_path, status=1).stderr
    assert why in err and "Traceback" not in err


def test_segments_state_the_channel_where_it_is_needed(run, tmp_path):
    """Of a recording with several channels, which are refused without it; not of others, where Kaldi refuses it."""
    wave = np.zeros((16000, 2))
    wave[4000:12000, 0] = np.random.default_rng(0).normal(0, 0.1, 8000)
    for name, samples in (("stereo", wave), ("mono", wave[:, 0])):
        soundfile.write(tmp_path / f"{name}.wav", samples, 16000)
    for name, segments in (("whole", ""), ("parts", "mono-1 mono 0.1 0.9\nstereo-1 stereo 0.1 0.9 0\n")):
        data = tmp_path / name
        data.mkdir()
        (data / "wav.scp").write_text("".join(f"{name} {tmp_path}/{name}.wav\n" for name in ("mono", "stereo")))
        if segments:
            (data / "segments").write_text(segments)
        run("steps/vad.sh", "--nj", "1", "--segments", tmp_path / f"{name}_speech", data)
        columns = {source.utt[:4]: line.split()[4:] for source, line in zip(
            read_sources(tmp_path / f"{name}_speech"), (tmp_path / f"{name}_speech/segments").read_text().splitlines())}
        assert columns == {"mono": [], "ster": ["0"]}
        assert len([load_wave(source) for source in read_sources(tmp_path / f"{name}_speech")]) == 2
