# SPDX-License-Identifier: Apache-2.0
"""Diarization: windows, groups, turns; the same by parts of a recording and by the whole; real voices told apart."""

import runpy
import tracemalloc
from itertools import pairwise

import numpy as np
import pytest
import soundfile
from scipy.spatial.distance import pdist

from rawnext.data.media import file_source
from rawnext.data.vad import regions, speech_frames
from rawnext.data.wav import load_blocks, load_wave
from rawnext.errors import InputError
from rawnext.inference.clustering import Options, cluster
from rawnext.inference.diarization import Windows, cut_windows, diarize, speakers_of, speech_windows, turns_of
from rawnext.inference.extractor import Extractor
from rawnext.scoring.der import diarization_errors

PACK = "egs/mini/pack/speechocean762/audio"


@pytest.fixture(scope="module")
def mix(root):
    return runpy.run_path(str(root / "bench/mix_conversations.py"))


@pytest.fixture(scope="module")
def talk(root, mix):
    """A conversation of two real speakers, and its turns."""
    voices = {spk: [mix["trimmed"](soundfile.read(path, dtype="float32")[0])
                    for path in sorted((root / PACK / spk).glob("*.ogg"))] for spk in ("0036", "0575")}
    return mix["conversation"]("talk", voices, 8, 0.0, np.random.default_rng(0))


def test_windows_cover_the_speech_once():
    spans, times = speech_windows(np.array([[0.5, 4.0], [5.0, 5.4], [6.0, 7.5]]), 24000, 12000)
    assert spans.tolist() == [[8000, 32000], [20000, 44000], [32000, 56000], [40000, 64000], [80000, 86400],
                              [96000, 120000]]
    assert times.tolist() == [[0.5, 1.625], [1.625, 2.375], [2.375, 3.0], [3.0, 4.0], [5.0, 5.4], [6.0, 7.5]]
    assert [len(part) for part in speech_windows(np.empty((0, 2)), 24000, 12000)] == [0, 0]


@pytest.mark.parametrize("size", [999, 16000, 10**6])
def test_windows_do_not_depend_on_the_parts_of_a_recording(size):
    wave = np.arange(160_000, dtype=np.float32)
    spans, _ = speech_windows(np.array([[0.5, 4.0], [5.0, 5.4], [9.0, 10.005]]), 24000, 12000)  # to after the end
    found = [piece for part in cut_windows((wave[i:i + size] for i in range(0, len(wave), size)), spans)
             for piece in part]
    assert len(found) == len(spans)
    for piece, (start, end) in zip(found, spans):
        assert np.array_equal(piece, wave[start:end])


def groups(rng, sizes, noise=0.3):
    centres = rng.standard_normal((len(sizes), 16))
    truth = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
    return centres[truth] + noise * rng.standard_normal((len(truth), 16)), truth


@pytest.mark.parametrize("sizes", [[9], [7, 5], [20, 3, 11, 6]])
def test_groups_and_their_number_are_found(sizes):
    x, truth = groups(np.random.default_rng(1), sizes)
    labels = cluster(x, Options(threshold=0.5))
    assert len(set(zip(labels.tolist(), truth.tolist()))) == len(sizes) == labels.max() + 1
    assert labels[0] == 0 and all(labels[i] <= labels[:i].max() + 1 for i in range(1, len(labels)))
    assert cluster(x, Options(threshold=0.5, max_speakers=1)).max() == 0
    assert cluster(x, Options(num_speakers=3)).max() == 2
    assert cluster(x[:1], Options()).tolist() == [0] and len(cluster(x[:0], Options())) == 0


def test_llrs_take_the_place_of_cosines():
    x, _ = groups(np.random.default_rng(1), [7, 5])
    expected = cluster(x, Options(threshold=0.5))
    assert expected.max() == 1
    assert (cluster(x, Options(), lambda x: 20 * (0.5 - pdist(x, "cosine"))) == expected).all()
    near = np.random.default_rng(2).uniform(0, 0.01, 66)
    for llr, options, num in ((0.1, Options(), 1), (-0.1, Options(), 10), (0.1, Options(threshold=0.2), 10),
                              (-0.1, Options(max_speakers=3), 3), (-0.1, Options(threshold=-1.5), 1)):
        assert cluster(x, options, lambda x, llr=llr: llr + near).max() + 1 == num, (llr, options)


def test_turns_join_windows_without_a_pause():
    windows = Windows(np.array([[0, 1], [1, 2], [2, 3], [4, 5], [5, 6.0]]), np.eye(5))
    turns = turns_of("r", windows, np.array([0, 0, 1, 1, 0]), {1: "anna"})
    assert [turn[1:] for turn in turns] == [(0, 2, "speaker1"), (2, 3, "anna"), (4, 5, "anna"), (5, 6, "speaker1")]


def test_speakers_are_means_of_unit_vectors_with_the_mean_length_of_the_windows():
    windows = Windows(np.array([[0, 1], [1, 2], [2, 3], [4, 5], [5, 6.0]]), np.diag([1.0, 1, 2, 4, 1]))
    means, seconds = speakers_of(windows, np.array([0, 0, 1, 1, 0]))
    assert seconds.tolist() == [3, 2] and np.allclose(means[1], [0, 0, 3 / 2 ** 0.5, 3 / 2 ** 0.5, 0])


@pytest.mark.parametrize("options", [Options(window=0.05), Options(shift=2.0), Options(num_speakers=-1),
                                     Options(max_speakers=0), Options(threshold=float("nan"))])
def test_impossible_options_are_one_line(options):
    with pytest.raises(InputError, match="--window and --shift|--num-speakers"):
        options.check()


def test_two_real_speakers_are_told_apart(talk, tmp_path):
    wave, reference = talk
    soundfile.write(tmp_path / "talk.wav", wave, 16000)
    model = Extractor.from_pretrained(device="cpu", warn=False).model
    source = file_source(tmp_path / "talk.wav")
    for speech, limit in (("energy", 0.25), (np.array([turn[1:3] for turn in reference]), 0.15)):
        windows, labels = diarize(model, source, speech, Options(num_speakers=2))
        errors = diarization_errors(reference, turns_of("talk", windows, labels), collar=0.25)
        one = diarization_errors(reference, turns_of("talk", windows, 0 * labels), collar=0.25)
        assert sum(errors[1:]) < limit * errors.total and sum(errors[1:]) < 0.6 * sum(one[1:]), (errors, one)


def test_conversations_have_the_turns_that_they_state(talk, mix):
    wave, turns = talk
    assert [a.speaker != b.speaker for a, b in pairwise(turns)] == [True] * 7
    assert all(0.2 <= b.start - a.end <= 1 for a, b in pairwise(turns))
    found = regions(speech_frames(wave, "energy"), join_s=0.9)
    spoken = sum(turn.end - turn.start for turn in turns)
    assert (found[:, 1] - found[:, 0]).sum() == pytest.approx(spoken, rel=0.25)
    overlapping = mix["conversation"]("x", {"a": [wave[:32000]], "b": [wave[32000:64000]]}, 20, 1.0,
                                      np.random.default_rng(0))[1]
    assert all(b.start <= a.end for a, b in pairwise(overlapping))


@pytest.mark.parametrize(("kind", "rate"), [("wav", 16000), ("flac", 44100)])
def test_a_recording_in_parts_is_the_recording(tmp_path, kind, rate):
    wave = 0.1 * np.random.default_rng(0).standard_normal(3 * rate + 17)
    soundfile.write(tmp_path / f"a.{kind}", wave, rate)
    source = file_source(tmp_path / f"a.{kind}")
    parts = list(load_blocks(source, 9000))
    assert all(len(part) == 9000 for part in parts[:-1])
    assert np.allclose(np.concatenate(parts), load_wave(source), atol=1e-4)


def test_a_long_recording_takes_the_memory_of_a_part(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.tile(np.random.default_rng(0).standard_normal(16000) / 9, 600), 16000)
    tracemalloc.start()
    total = sum(map(len, load_blocks(file_source(tmp_path / "a.wav"))))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert total == 9_600_000 and peak < 3 * 4 * 960_000 + 8e6, peak


def test_speech_in_the_last_frame_alone_is_no_window(tmp_path):
    """A frame of the voice activity may end after the recording, which leaves less than a model can embed."""
    soundfile.write(tmp_path / "a.wav", np.random.default_rng(0).normal(0, 0.1, 16000), 16000)
    model = Extractor.from_pretrained(device="cpu").model
    windows, labels = diarize(model, file_source(tmp_path / "a.wav"), np.array([[0.905, 1.005]]), Options())
    assert windows.x.shape == (0, model.embedding_dim) and len(windows.times) == len(labels) == 0
