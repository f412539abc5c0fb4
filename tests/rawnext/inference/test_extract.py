# SPDX-License-Identifier: Apache-2.0
import os
import subprocess

import kaldi_native_io
import numpy as np
import pytest
import soundfile
import torch
from corpus import voice, write_corpus
from tiny_model import write_experiment

from rawnext.config import Extract
from rawnext.inference import extract as module
from rawnext.inference.extract import (
    CPU_BATCH_SAMPLES,
    batches_by_length,
    buffered,
    centre_crop,
    embed_all,
    embed_native,
    load_model,
    segments,
)
from rawnext.kaldi.ark import read_vectors
from rawnext.models.features import pre_emphasis
from rawnext.training import checkpoint

pytestmark = pytest.mark.usefixtures("forked_programs")


@pytest.fixture(scope="module")
def exp(tmp_path_factory):
    return write_experiment(tmp_path_factory.mktemp("exp"))


@pytest.fixture(scope="module")
def model(exp):
    return load_model(exp, torch.device("cpu"))[0]


def test_segments_equal_released_code(parity):
    z = np.load(parity / "pipeline.npz")
    found = [name for name in z.files if name.startswith("wav_")]
    assert found
    for name in found:
        signal = pre_emphasis(torch.from_numpy(z[name])[None])[0][0]
        for seconds in (0, 1, 2, 5):
            key = f"eval_{name[4:]}_{f'{seconds}s' if seconds else 'full'}"
            parts = segments(signal, Extract(), seconds * 16000).numpy()
            shape = z[f"{key}/shape"]
            if len(parts) == 1:  # the released code computes all of them, though they are equal
                assert np.ptp(z[f"{key}/first"], axis=0).max() == 0
                parts = np.repeat(parts, shape[0], axis=0)
            assert parts.shape == (shape[0], shape[-1])
            assert np.abs(parts[:, :4] - z[f"{key}/first"]).max() < 1e-6
            assert np.abs(parts[:, -4:] - z[f"{key}/last"]).max() < 1e-6
            assert np.allclose(parts.astype(np.float64).sum(1), z[f"{key}/sum"], atol=1e-3)
            assert np.allclose(np.square(parts, dtype=np.float64).sum(1), z[f"{key}/energy"], rtol=1e-5)


def test_centre_crop():
    assert centre_crop(np.arange(10), 4).tolist() == [3, 4, 5, 6]
    assert centre_crop(np.arange(3), 4).tolist() == [0, 1, 2]


def test_batches_are_complete_and_bounded():
    lengths = np.random.default_rng(0).integers(1, 100, 200).tolist()
    batches = list(batches_by_length(lengths, 300))
    assert sorted(i for batch in batches for i in batch) == list(range(200))
    assert all(len(batch) == 1 or len(batch) * max(lengths[i] for i in batch) <= 300 for batch in batches)


def test_native_batches_equal_single_utterances(model):
    waves = [voice(i, 0, s) for i, s in enumerate((0.1, 2.2, 0.7, 1.51, 4.0))]
    for wave, embedding in zip(waves, embed_native(model, waves)):
        with torch.inference_mode():
            alone = model(torch.from_numpy(wave)[None])[0].numpy()
        assert np.abs(embedding - alone).max() < 1e-4 * np.abs(alone).max()


def test_batches_on_a_cpu_fit_its_caches(model):
    shapes = []
    hook = model.register_forward_hook(lambda module, given, result: shapes.append(given[0].shape))
    embed_native(model, [np.ones(30000, np.float32)] * 17)
    hook.remove()
    assert [shape[0] for shape in shapes] == [7, 7, 3]
    assert 7 * 30000 <= CPU_BATCH_SAMPLES < 8 * 30000


def test_paper_protocol_is_the_mean_of_ten_segments(model):
    wave = voice(0, 0, 5)
    with torch.inference_mode():
        parts = segments(model.frontend(torch.from_numpy(wave)[None])[0][0], Extract())
        expected = torch.cat([model.embed(part[None]) for part in parts]).mean(0).numpy()
        short = model.embed(segments(model.frontend(torch.from_numpy(wave[:9000])[None])[0][0], Extract()))[0].numpy()
    (_, long), (_, tiled) = embed_all(model, [("a", wave), ("b", wave[:9000])], "paper", Extract())
    assert parts.shape == (10, 59049)
    assert np.abs(long - expected).max() < 1e-4 * np.abs(expected).max()
    assert np.abs(tiled - short).max() < 1e-4 * np.abs(short).max()


def test_gpu_batches_of_both_protocols_equal_single_utterances(model, monkeypatch):
    """The batches of a GPU, on this CPU: several utterances share segments' batches, and pieces of one are averaged."""
    waves = [(f"u{i}", voice(i, 0, seconds)) for i, seconds in enumerate((5, 0.4, 1.3, 9, 4, 6))]
    expected = {protocol: [vector for wave in waves for _, vector in embed_all(model, [wave], protocol, Extract())]
                for protocol in ("paper", "native")}
    monkeypatch.setattr(module, "is_gpu", lambda device: True)
    monkeypatch.setattr(module, "GPU_BATCH_SAMPLES", 30 * 59049)
    encode, shapes = model.encode, []
    monkeypatch.setattr(model, "encode", lambda x, lengths: [shapes.append(tuple(x.shape)), encode(x, lengths)][1])
    for protocol, wanted in (("paper", [(22, 59049), (20, 59049)]), ("native", [(6, 143999)])):
        found = list(embed_all(model, waves, protocol, Extract()))
        assert shapes == wanted and [utt for utt, _ in found] == [utt for utt, _ in waves]
        shapes.clear()
        for (_, vector), alone in zip(found, expected[protocol]):
            assert np.abs(vector - alone).max() < 1e-5 * np.abs(alone).max()


def test_long_utterances_are_the_mean_of_equal_pieces(model):
    wave = voice(2, 0, 2.5)
    pieces = [embed_native(model, [piece])[0] for piece in (wave[:13334], wave[13334:26667], wave[26667:])]
    found = embed_native(model, [wave[:16000], wave, wave[:9000]], longest=16000)
    assert np.abs(found[1] - np.mean(pieces, axis=0)).max() < 1e-6 * np.abs(found[1]).max()
    assert np.abs(found[1] - embed_native(model, [wave])[0]).max() > 1e-3 * np.abs(found[1]).max()
    assert np.abs(found[2] - embed_native(model, [wave[:9000]])[0]).max() < 1e-6 * np.abs(found[2]).max()


def test_long_utterances_are_read_few_at_a_time():
    items = [(f"u{i}", np.empty(samples)) for i, samples in enumerate((10, 10, 90, 10, 50, 60, 10, 10, 10))]
    names = [[int(name[1:]) for name, _ in part] for part in buffered(items, 100, 4)]
    assert names == [[0, 1, 2], [3], [4, 5], [6, 7], [8]]  # chunks u0...u3 and u4...u7: a resumed run is equal
    assert [len(part) for part in buffered(items, 100)] == [3, 3, 3]


def test_order_and_duration(model):
    waves = [(f"u{i}", voice(i, 0, 0.5 + 0.3 * (i % 3))) for i in range(7)]
    cut = dict(embed_all(model, waves, "native", Extract(), duration=0.4, chunk=3))
    assert list(cut) == [utt for utt, _ in waves]
    expected = embed_native(model, [centre_crop(waves[4][1], 6400)])[0]
    assert np.abs(cut["u4"] - expected).max() < 1e-4 * np.abs(expected).max()


def extract(root, *args):
    return subprocess.run(["bash", "-c", 'cd "$0" && exec steps/extract.sh "$@"', str(root), *map(str, args)],
                          capture_output=True, text=True, timeout=120)


def test_kaldi_reads_what_extraction_writes(root, exp, model, tmp_path):
    data = write_corpus(tmp_path / "data", 3, 3)
    (data / "cuts.jsonl").unlink()
    wave, rate = soundfile.read(data / "audio" / "s01-u1.wav", dtype="float32")
    scp = (data / "wav.scp").read_text()
    for utt, kind in (("s01-u0", "flac"), ("s01-u1", "ogg")):
        soundfile.write(data / "audio" / f"{utt}.{kind}", wave, rate)
        scp = scp.replace(f"{utt}.wav", f"{utt}.{kind}")
    (data / "wav.scp").write_text(scp)
    done = extract(root, "--nj", 2, data, exp, tmp_path / "out")
    assert done.returncode == 0, done.stdout + done.stderr
    keys = [line.split()[0] for line in (data / "wav.scp").read_text().splitlines()]
    assert [line.split()[0] for line in (tmp_path / "out" / "embedding.scp").read_text().splitlines()] == keys
    with kaldi_native_io.SequentialFloatVectorReader(f"scp:{tmp_path}/out/embedding.scp") as reader:
        embeddings = {key: np.array(value) for key, value in reader}
    assert list(embeddings) == keys
    for utt, kind in (("s00-u1", "wav"), ("s01-u0", "flac"), ("s01-u1", "ogg")):
        expected = embed_native(model, [soundfile.read(data / "audio" / f"{utt}.{kind}", dtype="float32")[0]])[0]
        assert np.abs(embeddings[utt] - expected).max() < 1e-4 * np.abs(expected).max()
    for job in (1, 2):
        with kaldi_native_io.SequentialFloatVectorReader(f"ark:{tmp_path}/out/embedding.{job}.ark") as reader:
            assert all(np.array_equal(value, embeddings[key]) for key, value in reader)
    with kaldi_native_io.RandomAccessFloatVectorReader(f"scp:{tmp_path}/out/spk_embedding.scp") as reader:
        mean = np.mean([embeddings[f"s01-u{u}"] for u in range(3)], axis=0)
        assert np.allclose(reader["s01"], mean, atol=1e-5)
    with kaldi_native_io.SequentialInt32Reader(f"ark,t:{tmp_path}/out/num_utts.ark") as reader:
        assert dict(reader) == {"s00": 3, "s01": 3, "s02": 3}


def test_segments_of_recordings(root, exp, model, tmp_path):
    data = write_corpus(tmp_path / "data", 2, 1, seconds=2)
    for name in ("utt2spk", "spk2utt", "cuts.jsonl"):
        (data / name).unlink()
    (data / "segments").write_text("a s00-u0 0.25 1.5\nb s00-u0 1.0 -1\n")
    done = extract(root, "--nj", 1, data, exp, tmp_path / "out")
    assert done.returncode == 0, done.stdout + done.stderr
    vectors = read_vectors(tmp_path / "out" / "embedding.scp")
    wave = soundfile.read(data / "audio" / "s00-u0.wav", dtype="float32")[0]
    expected = embed_native(model, [wave[4000:24000], wave[16000:]])
    assert all(np.abs(vectors[k] - e).max() < 1e-4 * np.abs(e).max() for k, e in zip("ab", expected))


def break_file(data, name):
    path = data / "audio" / "s01-u1.wav"
    wave = voice(1, 1, 1)
    if name == "missing":
        path.unlink()
    elif name == "garbage":
        path.write_bytes(b"no audio at all")
    elif name == "empty":
        soundfile.write(path, wave[:0], 16000)
    elif name == "too short":
        soundfile.write(path, wave[:1000], 16000)
    elif name == "nan":
        soundfile.write(path, np.where(np.arange(len(wave)) == 9, np.nan, wave), 16000, subtype="FLOAT")
    elif name == "pipe":
        text = (data / "wav.scp").read_text()
        (data / "wav.scp").write_text(text.replace(str(path), f"cat {path} |"))


@pytest.mark.parametrize(("name", "why"), [
    ("missing", "no such file"), ("garbage", "s01-u1"), ("empty", "no samples"), ("too short", "at least 0.1 s"),
    ("nan", "NaN"), ("pipe", "is a command")])
def test_bad_audio_is_a_one_line_error_without_output(root, exp, tmp_path, name, why):
    data = write_corpus(tmp_path / "data", 2, 2)
    break_file(data, name)
    done = subprocess.run([str(root / "steps" / "extract.py"), data, exp, tmp_path / "out"], capture_output=True,
                              text=True)
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith(f"extract.py: {data}/wav.scp:4: ") and why in last, done.stderr
    assert "Traceback" not in done.stderr
    assert not [path for path in (tmp_path / "out").glob("*") if path.suffix in (".ark", ".scp")]


def test_other_rates_and_stereo_are_converted_with_one_warning(root, exp, model, tmp_path):
    data = write_corpus(tmp_path / "data", 2, 2)
    wave = voice(1, 1, 1)
    soundfile.write(data / "audio" / "s01-u1.wav", np.stack([wave, 0 * wave], 1), 16000, subtype="FLOAT")
    soundfile.write(data / "audio" / "s01-u0.wav", wave[::2], 8000)
    done = subprocess.run([root / "steps" / "extract.py", data, exp, tmp_path / "out"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("resampled") == 1 and done.stderr.count("several channels") == 1
    expected = embed_native(model, [wave])[0]
    found = read_vectors(tmp_path / "out" / "embedding.1.scp")["s01-u1"]
    assert np.abs(found - expected).max() < 1e-4 * np.abs(expected).max()


@pytest.mark.skipif(torch.cuda.is_available(), reason="has a GPU")
def test_a_gpu_that_is_asked_for_and_missing_is_an_error(root, exp, tmp_path):
    data = write_corpus(tmp_path / "data", 2, 2)
    done = subprocess.run([root / "steps/extract.py", "--device", "cuda", data, exp, tmp_path / "out"],
                          capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.startswith("extract.py: --device cuda: no GPU can be used: ")
    assert not list((tmp_path / "out").glob("*.ark"))
    done = extract(root, "--gpu", 1, data, exp, tmp_path / "out")
    assert done.returncode != 0 and "run.py: --gpu 1: only 0 GPU(s) available (none)" in done.stderr


@pytest.mark.slow
def test_fewer_jobs_delete_the_files_of_more_jobs(root, exp, tmp_path):
    data = write_corpus(tmp_path / "data", 2, 2)
    for nj in (3, 1):
        assert extract(root, "--nj", nj, data, exp, tmp_path / "out").returncode == 0
    assert {p.name for p in (tmp_path / "out").glob("embedding.*")} == {"embedding.1.ark", "embedding.1.scp",
                                                                        "embedding.1.sources", "embedding.scp"}
    assert len(read_vectors(tmp_path / "out" / "embedding.scp")) == 4


@pytest.mark.slow
def test_finished_shares_are_kept_until_model_or_audio_change(root, exp, tmp_path):
    data, own_exp, out = write_corpus(tmp_path / "data", 2, 2), tmp_path / "exp", tmp_path / "out"
    own_exp.mkdir()
    for name in ("model.pt", "config.yaml"):
        (own_exp / name).write_bytes((exp / name).read_bytes())
    shares = [out / f"embedding.{job}.{kind}" for job in (1, 2) for kind in ("ark", "scp", "sources")]

    def run(broken_torch=False):
        env = None
        if broken_torch:    # and no fork of a process that has imported it
            (tmp_path / "path").mkdir()
            (tmp_path / "path" / "torch.py").write_text("raise SystemExit('torch was imported')")
            env = {**os.environ, "PYTHONPATH": str(tmp_path / "path")}
        done = subprocess.run(["steps/extract.sh", "--nj", "2", data, own_exp, out], cwd=root, capture_output=True,
                              text=True, timeout=120, env=env)
        assert done.returncode == 0, done.stderr
        states = [(path.stat().st_ino, path.stat().st_mtime_ns, path.read_bytes()) for path in shares]
        return states, (out / "embedding.scp").read_bytes()

    first = run()
    assert run(broken_torch=True) == first
    os.utime(data / "audio" / "s01-u1.wav", (1, 1))  # in the second share
    (states, scp), (old, _) = run(), first
    assert states[:3] == old[:3] and states[3][:2] != old[3][:2] and states[3][2] == old[3][2] and scp == first[1]
    state = checkpoint.load(own_exp / "model.pt")
    state["model"] = {name: value + 0.01 for name, value in state["model"].items()}
    checkpoint.save(own_exp / "model.pt", state)
    states, _ = run()
    assert all(new[2] != before[2] for new, before in zip(states[::3], old[::3]))


def test_commands_run_only_if_allowed(root, exp, tmp_path):
    data = write_corpus(tmp_path / "data", 2, 2)
    assert extract(root, "--nj", 1, data, exp, tmp_path / "files").returncode == 0
    lines = [line.split() for line in (data / "wav.scp").read_text().splitlines()]
    (data / "wav.scp").write_text("".join(f"{utt} cat {path} |\n" for utt, path in lines))
    refused = extract(root, "--nj", 1, data, exp, tmp_path / "pipes")
    assert refused.returncode == 1 and "is a command" in refused.stderr
    done = extract(root, "--nj", 1, "--allow-pipes", "true", data, exp, tmp_path / "pipes")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "pipes/embedding.1.ark").read_bytes() == (tmp_path / "files/embedding.1.ark").read_bytes()
