# SPDX-License-Identifier: Apache-2.0
"""The mini corpus: same bytes always, as many speakers and as long as promised, whole or not at all."""

import hashlib
import importlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from programs import forking

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "local/mini"))
make_mini, mini_files, mini_sounds, mini_voices, mini_espeak, prepare_mini = map(
    importlib.import_module, ["make_mini", "mini_files", "mini_sounds", "mini_voices", "mini_espeak", "prepare_mini"])


BANKS = {"NUM_NOISES": 4, "NUM_SONGS": 2, "NUM_TALKS": 1, "NUM_ROOMS": 3}


def run(monkeypatch, program, *args):
    monkeypatch.setattr(sys, "argv", [program.__name__, *map(str, args)])
    program.main()


def make(monkeypatch, out, nj=1, seed=1, utts=3):
    """A corpus of 3 + 2 speakers with small banks."""
    for name, num in BANKS.items():
        monkeypatch.setattr(make_mini, name, num)
    run(monkeypatch, make_mini, out, "--train-speakers", 3, "--test-speakers", 2, "--utts", utts, "--nj", nj,
        "--seed", seed)
    return out


def digests(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    with pytest.MonkeyPatch.context() as monkeypatch:
        return make(monkeypatch, tmp_path_factory.mktemp("mini") / "corpus")


@pytest.mark.slow
def test_same_bytes_with_any_number_of_processes(corpus, tmp_path, monkeypatch):
    assert digests(make(monkeypatch, tmp_path / "again", nj=3)) == digests(corpus)


def test_other_seed_other_bytes(corpus, tmp_path, monkeypatch):
    one, other = digests(corpus), digests(make(monkeypatch, tmp_path / "other", seed=2, utts=1))
    assert other.keys() < one.keys()
    assert not {digest for name, digest in one.items() if name.endswith((".flac", ".wav"))} & set(other.values())


def test_layout_ids_lengths_and_format(corpus):
    rows = [line.split("\t") for line in (corpus / "speakers.tsv").read_text().splitlines()]
    assert rows[0][:3] == ["spk", "set", "gender"] and len({row[0] for row in rows[1:]}) == 5
    expected = {f"{row[1]}/{row[0]}/{row[0]}-{i:03d}.flac" for row in rows[1:] for i in (1, 2, 3)}
    assert {str(path.relative_to(corpus)) for path in corpus.rglob("*.flac")} == expected
    for path in corpus.rglob("*.flac"):
        info = soundfile.info(path)
        assert (info.samplerate, info.channels, info.subtype) == (16000, 1, "PCM_16")
        assert 1.0 <= info.duration <= 8.0
    banks = ("musan/noise/*", "musan/music/*", "musan/speech/*", "rirs/simulated_rirs/*/*")
    assert [len(list(corpus.glob(f"{bank}/*.wav"))) for bank in banks] == list(BANKS.values())
    assert not list(corpus.parent.glob(".*.tmp"))


def test_no_utterance_is_silent_or_clipped(corpus):
    for path in corpus.rglob("*.flac"):
        wave, _ = soundfile.read(path)
        level = 20 * np.log10(np.sqrt(np.mean(wave ** 2)))
        assert -36 < level < -19 and np.abs(wave).max() < 0.999
        assert min(np.abs(frame).max() for frame in np.array_split(wave, len(wave) // 400)) > 0  # no digital silence


def test_test_speakers_are_unseen():
    train, test = mini_voices.make_speakers("train", 64, 1, 1), mini_voices.make_speakers("test", 20, 65, 1)
    variants = [{speaker.variant for speaker in speakers} for speakers in (train, test)]
    assert not variants[0] & variants[1] and not (variants[0] | variants[1]) & set(mini_voices.BABBLE)
    assert len({speaker.spk for speaker in train + test}) == 84
    for gender, least in (("m", 10), ("f", 6)):
        assert sum(speaker.gender == gender for speaker in test) >= least
    same = [(a, b) for s in (train, test) for a in s for b in s if a.spk < b.spk and a.variant == b.variant]
    assert same and all(a.accent != b.accent and abs(a.warp - b.warp) > 0.02 for a, b in same)


@pytest.mark.slow
def test_every_voice_speaks_and_forgets_what_it_said_before():
    variants = sorted({v for group in mini_voices.VARIANTS.values() for v in group} | set(mini_voices.BABBLE))
    voices = [f"gmw/{mini_voices.ACCENTS[i % 8]}+{variant}" for i, variant in enumerate(variants)]

    def say(voice):
        return mini_espeak.speak("A short one.", voice, 50, 50, 175, 7).tobytes()

    first = {voice: say(voice) for voice in voices}
    assert len(set(first.values())) == len(voices)
    assert [voice for voice in reversed(voices) if say(voice) != first[voice]] == []


def test_utterance_does_not_depend_on_others():
    klatt = mini_voices.Speaker("s", "train", "m", "Reed", "en", 1.02, 50, 50, 170)
    names = [(speaker, f"s-{i}") for speaker in (klatt, klatt._replace(variant="f2")) for i in range(2)]
    once = [mini_files.make_utterance(speaker, utt, 1) for speaker, utt in names]
    again = [mini_files.make_utterance(speaker, utt, 1) for speaker, utt in names[::-1]][::-1]
    assert all(np.array_equal(a, b) for a, b in zip(once, again))


def test_unknown_voice_is_an_error(capfd):
    with pytest.raises(RuntimeError, match="gmw/en\\+nobody"):
        mini_espeak.speak("Hello", "gmw/en+nobody", 50, 50, 175, 1)
    assert "no voice gmw/en+nobody" in capfd.readouterr().err


def test_sentences_vary():
    rng = mini_voices.make_rng(1, "x")
    sentences = [mini_voices.make_sentence(rng) for _ in range(200)]
    assert len(set(sentences)) > 150 and not any(set("{}|") & set(sentence) for sentence in sentences)


@pytest.mark.parametrize("t60_s", [0.1, 0.3, 0.6])
def test_room_decays_in_its_time(t60_s):
    response = mini_sounds.make_room(t60_s, np.random.default_rng(3))
    assert np.abs(response).argmax() == 0 and len(response) <= 8000
    start = int(0.04 * 16000)  # the tail alone
    half = (len(response) - start) // 2
    first, second = (np.mean(part ** 2) for part in (response[start: start + half], response[start + half:]))
    assert 10 * np.log10(first / second) == pytest.approx(60 * half / 16000 / t60_s, rel=0.25)


def test_noise_is_added_at_its_snr_and_a_channel_keeps_the_length():
    rng = np.random.default_rng(1)
    wave = rng.standard_normal(5000)
    for name, noise in mini_sounds.NOISES.items():
        added = mini_sounds.add_noise(wave, noise(5000, rng), 12.0) - wave
        assert 10 * np.log10(np.mean(wave ** 2) / np.mean(added ** 2)) == pytest.approx(12.0), name
    assert mini_sounds.through_channel(wave, rng).shape == wave.shape
    flat = mini_sounds.shape_spectrum(wave, np.array([100.0, 7000.0]), np.array([6.0, 6.0]))
    np.testing.assert_allclose(flat[300:-300], 10 ** 0.3 * wave[300:-300], rtol=1e-3)


@pytest.mark.slow
def test_complete_corpus_is_kept_a_failed_run_keeps_it_too_and_other_arguments_replace_it(tmp_path, monkeypatch):
    def fail(*_):
        raise KeyboardInterrupt

    out = make(monkeypatch, tmp_path / "corpus", utts=1)
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    make(monkeypatch, out, utts=1, nj=2)
    with monkeypatch.context() as broken, pytest.raises(KeyboardInterrupt):
        broken.setattr(make_mini, "make_corpus", fail)
        make(broken, out, utts=2)
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before
    make(monkeypatch, out, utts=2)
    assert len(list(out.rglob("*.flac"))) == 10 and [path.name for path in tmp_path.iterdir()] == ["corpus"]


@pytest.mark.slow
def test_a_killed_run_goes_on_where_it_stopped(corpus, tmp_path, monkeypatch):
    made, write = [], make_mini.write_audio

    def write_some(out, job):
        if len(made) == 7:
            raise KeyboardInterrupt
        made.append(out / job[0])
        return write(out, job)

    class Serial:
        """Of the pool, what make_corpus uses."""
        def __init__(self, _): ...
        def __enter__(self): return self
        def __exit__(self, *_): ...
        def map(self, function, jobs, chunksize): return map(function, jobs)

    monkeypatch.setattr(make_mini, "worker_pool", Serial)
    with monkeypatch.context() as killed, pytest.raises(KeyboardInterrupt):
        killed.setattr(make_mini, "write_audio", write_some)
        make(killed, tmp_path / "corpus")
    growing = tmp_path / ".corpus.partial"
    (growing / "train" / "s001" / ".s001-001.flac.123.tmp").write_text("half")
    before = {path.name: path.stat().st_mtime_ns for path in made}
    out = make(monkeypatch, tmp_path / "corpus")
    assert {path.name: (out / path.relative_to(growing)).stat().st_mtime_ns for path in made} == before
    assert digests(out) == digests(corpus) and [path.name for path in tmp_path.iterdir()] == ["corpus"]


def test_two_at_a_time_are_refused(tmp_path):
    with pytest.raises(PermissionError), make_mini.growing_folder(tmp_path / "other", "x"):
        raise PermissionError(13, "of no file")
    with make_mini.growing_folder(tmp_path / "corpus", "x") as folder:
        (folder / "a").write_text("a")
        with (pytest.raises(make_mini.InputError, match="is being made by another process"),
              make_mini.growing_folder(tmp_path / "corpus", "y")):
            pass
        assert (folder / "a").exists()


@pytest.mark.parametrize(("out", "options", "why"), [
    ("file/corpus", [], "Not a directory"),
    ("file", [], "exists and is not a mini corpus"),
    (".", [], "exists and is not a mini corpus"),
    ("new", ["--utts", "0"], "--utts 0: must be 1 to 999"),
    ("new", ["--seed", "-1"], "--seed -1: must be at least 0"),
])
def test_bad_input_is_one_line(tmp_path, out, options, why):
    (tmp_path / "file").write_text("mine")
    done = subprocess.run([sys.executable, ROOT / "local/mini/make_mini.py", tmp_path / out, *options], text=True,
                          capture_output=True, env=forking({"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}))
    assert done.returncode == 1 and done.stderr.count("\n") == 1 and why in done.stderr
    assert (tmp_path / "file").read_text() == "mine" and not (tmp_path / "new").exists()


def test_prepare_mini(corpus, tmp_path, monkeypatch):
    run(monkeypatch, prepare_mini, corpus, tmp_path, "--dev-speakers", 1)
    speakers = {name: dict(line.split() for line in (tmp_path / name / "spk2gender").read_text().splitlines())
                for name in ("train", "dev", "test")}
    assert [len(speakers[name]) for name in ("train", "dev", "test")] == [2, 1, 2]
    together = {spk: gender for table in speakers.values() for spk, gender in table.items()}
    assert together == {"s001": "m", "s002": "f", "s003": "m", "s004": "m", "s005": "f"}
    for name, utts in (("train", 6), ("dev", 3), ("test", 6)):
        assert len((tmp_path / name / "cuts.jsonl").read_text().splitlines()) == utts
    assert set(speakers["test"]) == {"s004", "s005"}


def test_prepare_mini_names_a_damaged_file(corpus, tmp_path, monkeypatch):
    import shutil

    copy = Path(shutil.copytree(corpus, tmp_path / "copy"))
    (copy / "train/s001/s001-001.flac").write_bytes(b"")
    with pytest.raises(prepare_mini.InputError, match="1 of 9 audio files cannot be read"):
        run(monkeypatch, prepare_mini, copy, tmp_path / "data")
    with pytest.raises(prepare_mini.InputError, match="no such file"):
        run(monkeypatch, prepare_mini, tmp_path, tmp_path / "data")
