# SPDX-License-Identifier: Apache-2.0
"""Who speaks when: voice activity, embeddings of sliding windows over the speech, groups of similar windows, turns.

The recording is read twice, a minute at a time: for the voice activity and for the windows.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import numpy as np

from rawnext.data.cuts import SAMPLE_RATE
from rawnext.data.vad import detect, regions
from rawnext.data.wav import LEAST_SAMPLES, Source, load_blocks
from rawnext.inference.clustering import Options, cluster
from rawnext.inference.extract import embed_native
from rawnext.kaldi.rttm import Turn


class Windows(NamedTuple):
    """N windows in the speech of a recording.   times: (N, 2) start and end of what a window represents, in seconds:
    neighbours meet midway between their centres.   x: (N, D) embeddings.
    """

    times: np.ndarray
    x: np.ndarray


def speech_windows(speech: np.ndarray, window: int, shift: int) -> tuple[np.ndarray, np.ndarray]:
    """Windows in stretches of speech.

    Args: speech: (R, 2) seconds.   window, shift: samples at 16 kHz.
    Returns: (N, 2) first sample of each window and the sample after its last, and (N, 2) seconds that it represents. A
        stretch that is shorter than a window is one; another one that does not fill the last window ends with it.
    """
    spans, times = [], []
    for start, end in np.round(speech * SAMPLE_RATE).astype(int):
        length = min(window, end - start)
        starts = np.arange(start, end - length + 1, shift)
        if starts[-1] + length < end:
            starts = np.append(starts, end - length)
        spans.append(np.column_stack([starts, starts + length]))
        middle = (starts[1:] + starts[:-1] + length) / 2
        times.append(np.column_stack([np.append(start, middle), np.append(middle, end)]))
    empty = np.empty((0, 2))
    return np.concatenate([empty.astype(int), *spans]), np.concatenate([empty, *times]) / SAMPLE_RATE


def cut_windows(blocks: Iterable[np.ndarray], spans: np.ndarray) -> Iterator[list[np.ndarray]]:
    """The samples of windows in the order of their ends, read from consecutive parts of a recording.

    Args: spans: (N, 2) as from speech_windows, in ascending order.
    """
    rest, begin, done = np.zeros(0, np.float32), 0, 0
    for block in blocks:
        rest = np.concatenate([rest, block])
        last = int(np.searchsorted(spans[:, 1], begin + len(rest), "right"))
        if last > done:
            yield [rest[start - begin : end - begin] for start, end in spans[done:last]]
        done = last
        keep = int(spans[done, 0]) if done < len(spans) else begin + len(rest)
        if keep > begin:
            rest, begin = rest[max(0, keep - begin):], min(keep, begin + len(rest))
    if done < len(spans) and len(rest):  # the last frame of the voice activity may end after the recording
        tail = [rest[start - begin : end - begin] for start, end in spans[done:]]
        yield [piece for piece in tail if len(piece) >= LEAST_SAMPLES]


def embed_speech(model, blocks: Iterable[np.ndarray], speech: np.ndarray, options: Options) -> Windows:
    """Embeddings of the windows in a recording's speech.

    Args: blocks: its consecutive parts, (T,) float32 at 16 kHz.   speech: (R, 2) seconds, as from regions.
    """
    spans, times = speech_windows(speech, round(options.window * SAMPLE_RATE), round(options.shift * SAMPLE_RATE))
    parts = [embed_native(model, waves) for waves in cut_windows(blocks, spans) if waves] if len(spans) else []
    x = np.concatenate([np.zeros((0, model.embedding_dim), np.float32), *parts])
    return Windows(times[: len(x)], x)


def turns_of(recording: str, windows: Windows, labels: np.ndarray, names: dict[int, str] | None = None) -> list[Turn]:
    """The turns of a recording; consecutive windows of a speaker without a pause between them are one.

    Args: labels: (N,) number of each window's speaker.   names: of some of them; the others are speaker1, ...
    """
    if not len(labels):
        return []
    ends = (labels[1:] != labels[:-1]) | (windows.times[1:, 0] > windows.times[:-1, 1] + 1e-6)
    first, last = np.append(True, ends), np.append(ends, True)
    return [Turn(recording, start, end, (names or {}).get(number, f"speaker{number + 1}"))
            for start, end, number in zip(windows.times[first, 0].tolist(), windows.times[last, 1].tolist(),
                                          labels[first].tolist())]


def diarize(model, source: Source, speech: np.ndarray | str, options: Options,
            llrs: Callable[[np.ndarray], np.ndarray] | None = None) -> tuple[Windows, np.ndarray]:
    """The windows of a recording and the (N,) number of each window's speaker.

    Args: speech: (R, 2) seconds, or the kind of voice activity detection.   llrs: see cluster.
    """
    if isinstance(speech, str):
        speech = regions(detect(load_blocks(source), speech))
    windows = embed_speech(model, load_blocks(source), speech, options)
    return windows, cluster(windows.x, options, llrs)


def speakers_of(windows: Windows, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(S, D) means of the unit vectors of each speaker's windows, of the windows' mean norm; and (S,) seconds."""
    norms = np.linalg.norm(windows.x, axis=1)
    members = [labels == number for number in range(labels.max() + 1)]
    means = np.stack([(windows.x / norms[:, None])[own].mean(axis=0) for own in members])
    means *= np.array([norms[own].mean() for own in members])[:, None] / np.linalg.norm(means, axis=1, keepdims=True)
    return means, np.bincount(labels, np.diff(windows.times, axis=1)[:, 0])
