# SPDX-License-Identifier: Apache-2.0
"""A corpus of a few seconds for tests: speakers differ in pitch and resonances, utterances in melody."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile

RATE = 16000


def voice(speaker: int, utt: int, seconds: float) -> np.ndarray:
    """(T,) float32: pulses at the speaker's pitch through its resonances, with some noise."""
    rng = np.random.default_rng([speaker, utt])
    time = np.arange(round(seconds * RATE)) / RATE
    pitch = 90 + 17 * speaker + 8 * np.sin(2 * np.pi * (1 + utt % 3) * time + rng.uniform(0, 6))
    phase = 2 * np.pi * np.cumsum(pitch) / RATE
    wave = sum(np.sin(k * phase) / (1 + ((k * 120 - 500 - 90 * speaker) / 200) ** 2) for k in range(1, 20))
    return (0.05 * wave + 0.003 * rng.standard_normal(len(time))).astype(np.float32)


def integer_voice(speaker: int, utt: int, seconds: float) -> np.ndarray:
    """(T,) float32: pulses through three resonances, with some noise. Computed from integers only, so that every
    machine gets the same samples; each is a 16-bit value over 32,768."""
    time = np.arange(round(seconds * RATE), dtype=np.int64)
    period = 66 + 11 * speaker + abs(time // 800 % 8 - 4) * (1 + utt % 3)   # of the pitch, in samples
    phase = (time + 37 * utt) % period
    wave = np.zeros_like(time)
    for k, step in enumerate((5 + speaker % 4, 13 + 2 * (speaker % 5), 29 + 3 * (speaker % 3))):
        triangle = abs(phase * step % 256 - 128) - 64
        wave += triangle * (period - phase) * 16 // (period * (k + 1))
    loudness = 4 + abs((time // 160 + 13 * utt) % 40 - 20)
    noise = ((time + 7919 * utt + 104729 * speaker) * 1103515245 + 12345 & 0x7FFFFFFF) >> 24   # 0...127
    return ((wave * loudness // 8 + noise - 64) / 32768).astype(np.float32)


def by_ffmpeg(wave, rate, path, *options):
    """Write a file in a format that soundfile does not support."""
    command = ["ffmpeg", "-v", "error", "-y", "-f", "f32le", "-ar", str(rate), "-ac", str(wave.ndim), "-i", "pipe:0",
               *options, f"file:{path}"]
    subprocess.run(command, input=wave.T.astype("<f4").tobytes() if wave.ndim == 1 else wave.astype("<f4").tobytes(),
                   check=True)
    return path


def write_corpus(folder: Path, num_speakers: int = 6, num_utts: int = 4, seconds: float = 1.3,
                 kind: str = "wav", voice: Callable[[int, int, float], np.ndarray] = voice) -> Path:
    """A data directory `folder` (cuts.jsonl, wav.scp, utt2spk, spk2utt, trials) with its audio in folder/audio."""
    from lhotse import AudioSource, MonoCut, Recording, SupervisionSegment

    (folder / "audio").mkdir(parents=True, exist_ok=True)
    cuts, tables = [], {"wav.scp": [], "utt2spk": [], "spk2utt": []}
    for s in range(num_speakers):
        spk, utts = f"s{s:02d}", []
        for u in range(num_utts):
            utt, wave = f"{spk}-u{u}", voice(s, u, seconds + 0.1 * u)
            path = folder / "audio" / f"{utt}.{kind}"
            soundfile.write(path, wave, RATE)
            recording = Recording(utt, [AudioSource("file", [0], str(path))], RATE, len(wave), len(wave) / RATE, [0])
            segment = SupervisionSegment(utt, utt, 0, recording.duration, 0, speaker=spk)
            cuts.append(json.dumps(MonoCut(utt, 0, recording.duration, 0, [segment], recording=recording).to_dict()))
            tables["wav.scp"].append(f"{utt} {path}")
            tables["utt2spk"].append(f"{utt} {spk}")
            utts.append(utt)
        tables["spk2utt"].append(f"{spk} {' '.join(utts)}")
    tables["cuts.jsonl"] = cuts
    tables["trials"] = [f"s{s:02d}-u0 s{t:02d}-u1 {'target' if s == t else 'nontarget'}"
                        for s in range(num_speakers) for t in range(num_speakers)]
    for name, lines in tables.items():
        (folder / name).write_text("".join(f"{line}\n" for line in lines))
    return folder
