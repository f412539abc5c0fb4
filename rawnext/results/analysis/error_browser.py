# SPDX-License-Identifier: Apache-2.0
"""The worst errors of an evaluation: waveform, spectrogram and sound of both utterances."""

import base64
import io
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import soundfile
from PIL import Image

from rawnext.data.cuts import SAMPLE_RATE, centre_crop
from rawnext.data.wav import Source, load_wave, read_sources
from rawnext.errors import InputError
from rawnext.kaldi.tables import Trials, read_enroll_map, read_table
from rawnext.results.analysis.curves import Curves
from rawnext.results.rows import label_of, seconds, title_of

KINDS = ("highest nontarget scores: different speakers accepted as the same",
         "lowest target scores: the same speaker rejected as different")
HEARD_S = 10          # longer speech is cut to its first seconds
MP3_LEVEL = 0.8       # libsndfile's scale, 0 to 1
WAVE_COLUMNS = 180
IMAGE_COLUMNS, IMAGE_ROWS = 320, 96
WINDOW = 400          # samples of a spectrum
RANGE_DB = 70         # of a spectrogram, below its maximum


class Clip(NamedTuple):
    """One utterance of an error.   fault: why it cannot be played (then the rest is empty).

    heard: the part of the utterance in the sound.   sound, picture: data URIs.   wave: SVG path in 180 x 64.
    """

    utt: str
    spk: str
    heard: str
    sound: str
    picture: str
    wave: str
    fault: str


class Error(NamedTuple):
    """A trial on the wrong side of the threshold.   rank: 1 is the worst."""

    rank: int
    score: float
    enroll: Clip
    test: Clip


def worst(trials: Trials, scores: np.ndarray, num: int) -> tuple[list[int], list[int]]:
    """Positions (from 0) of the highest nontarget and the lowest target trials, worst first, at most num of each."""
    nontarget, target = np.flatnonzero(~trials.is_target), np.flatnonzero(trials.is_target)
    return (nontarget[np.argsort(-scores[nontarget], kind="stable")[:num]].tolist(),
            target[np.argsort(scores[target], kind="stable")[:num]].tolist())


def errors(curves: Curves, trials: Trials, scores: np.ndarray, num: int) -> list[dict[str, Any]]:
    """The lists of an evaluation's worst errors, one of each kind; the sound is the input of the embedding.

    The enroll side is in the directory named by the row's `enroll`, the test side in the folder of the trials. For a
    model of several utterances (TRIALS.enroll) the first one is played.
    """
    row, duration = curves.row, label_of(curves.row["duration"])
    models = read_enroll_map(f"{row['trials']}.enroll") if Path(f"{row['trials']}.enroll").exists() else {}
    test_dir = str(Path(row["trials"]).parent)
    cut = 0.0 if row["duration"] == "full" else seconds(row["duration"])

    def enrolled(name: str) -> Clip:
        utts = models.get(name, [name])
        first = clip(row["enroll"], utts[0], 0.0)
        if name not in models or first.fault:
            return first
        return first._replace(heard=f"{first.heard}; the first of the {len(utts)} utterances of {name}")

    def listed(lines: list[int]) -> list[Error]:
        return [Error(rank, float(scores[i]), enrolled(trials.enroll[i]), clip(test_dir, trials.test[i], cut))
                for rank, i in enumerate(lines, 1)]

    return [{"key": f"{duration}, {kind.split(':')[0]}", "what": f"{curves.system}, {title_of(row)}",
             "kind": kind, "duration": duration, "threshold": curves.marks[0][1], "errors": listed(lines)}
            for kind, lines in zip(KINDS, worst(trials, scores, num))]


@lru_cache(maxsize=4)
def directory(data_dir: str) -> tuple[dict[str, Source], dict[str, str]]:
    """utt -> its audio, and utt -> spk, of a data directory."""
    return ({source.utt: source for source in read_sources(data_dir)},
            read_table(Path(data_dir) / "utt2spk", one_word=True, optional=True))


@lru_cache(maxsize=1024)
def clip(data_dir: str, utt: str, cut_s: float) -> Clip:
    """Args: cut_s: seconds around the middle to which the utterance was cut; 0: not cut."""
    try:
        sources, speakers = directory(data_dir)
        if utt not in sources:
            raise InputError(data_dir, None, f"has no utt {utt!r}")
        whole = load_wave(sources[utt])
    except InputError as error:
        return Clip(utt, "", "", "", "", "", str(error))
    wave = centre_crop(whole, round(cut_s * SAMPLE_RATE)) if cut_s else whole
    heard = wave[:HEARD_S * SAMPLE_RATE]
    return Clip(utt, speakers.get(utt, ""), part(*(len(w) / SAMPLE_RATE for w in (whole, wave, heard))), sound(heard),
                picture(heard), outline(heard), "")


def part(whole: float, given: float, heard: float) -> str:
    """The part of an utterance that is played; all in seconds."""
    words = f"{whole:.2f} s" if given == whole else f"the middle {given:.2f} s of {whole:.2f} s"
    return words if heard == given else f"{words}; only its first {heard:g} s are played"


def sound(wave: np.ndarray) -> str:
    """(T,) at 16 kHz as a data URI of MP3: Chromium refuses Ogg Vorbis of less than about half a second."""
    buffer = io.BytesIO()
    soundfile.write(buffer, wave, SAMPLE_RATE, format="MP3", compression_level=MP3_LEVEL)
    return data_uri("audio/mpeg", buffer.getvalue())


def picture(wave: np.ndarray) -> str:
    """Spectrogram of (T,) as a data URI: 0 to 8 kHz upwards, dark is loud."""
    hop = max(SAMPLE_RATE // 100, len(wave) // IMAGE_COLUMNS)
    wave = np.pad(wave, (0, max(0, WINDOW - len(wave))))
    frames = np.lib.stride_tricks.sliding_window_view(wave, WINDOW)[::hop] * np.hanning(WINDOW)
    level = 10 * np.log10(np.abs(np.fft.rfft(frames, 512)).T ** 2 + 1e-9)
    grey = 255 * (level.max() - level).clip(0, RANGE_DB) / RANGE_DB
    image = Image.fromarray(grey[::-1].astype(np.uint8)).resize((min(IMAGE_COLUMNS, grey.shape[1]), IMAGE_ROWS))
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=40)
    return data_uri("image/webp", buffer.getvalue())


def outline(wave: np.ndarray) -> str:
    """SVG path around the waveform (T,), 180 wide and 64 high; the largest sample reaches the edge."""
    edges = np.linspace(0, len(wave), min(len(wave), WAVE_COLUMNS) + 1, dtype=int)[:-1]
    scale = 31 / max(float(np.abs(wave).max()), 1e-9)
    high = np.round(32 - scale * np.maximum.reduceat(wave, edges)).astype(int)
    low = np.round(33 - scale * np.minimum.reduceat(wave, edges)).astype(int)  # one lower: silence is a visible line
    around = [*enumerate(high), *reversed(list(enumerate(low)))]
    return f"M{'L'.join(f'{x},{y}' for x, y in around)}Z"


def data_uri(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
