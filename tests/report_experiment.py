# SPDX-License-Identifier: Apache-2.0
"""A small evaluated experiment with audio, for the tests of its page."""

import json
from pathlib import Path

import numpy as np
import soundfile

from rawnext.files import write_lines

RATE = 16000
SECONDS = (0.4, 1.0, 1.6, 2.5, 12.0)   # of the utterances


def utt(speaker: int, place: int) -> str:
    return f"s{speaker}-{place}"


def write_data(folder: Path) -> list[tuple[str, str, bool]]:
    """data/test: four speakers, each a tone of (speaker + 1) kHz in noise at every length; returns its trials."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True)
    scp = []
    for speaker in range(4):
        for place, seconds in enumerate(SECONDS):
            time = np.arange(round(RATE * seconds)) / RATE
            wave = 0.3 * np.sin(2000 * np.pi * (speaker + 1) * time) + 0.01 * rng.normal(size=len(time))
            soundfile.write(folder / f"{utt(speaker, place)}.wav", wave, RATE)
            scp.append(utt(speaker, place))
    write_lines(folder / "wav.scp", (f"{name} {folder / name}.wav" for name in scp))
    write_lines(folder / "utt2spk", (f"{name} {name[:2]}" for name in scp))
    trials = [(a, b, a[:2] == b[:2]) for a in scp for b in scp]
    write_lines(folder / "trials", (f"{a} {b} {'target' if same else 'nontarget'}" for a, b, same in trials))
    return trials


def write_experiment(exp: Path, data: Path, trials: list[tuple[str, str, bool]], seed: int, *,
                     durations=("full", "1"), backends=("cosine",), **more) -> None:
    """exp with an evaluation for each duration and backend.   more: further columns of each."""
    rng = np.random.default_rng(seed)
    write_lines(exp / "config.yaml", ["model: {name: rawnext}", "losses: [{name: softmax}]"])
    for backend in backends:
        for duration in durations:
            scores = exp / "scores" / f"{backend.strip('<>')}_{duration}"
            values = rng.normal(size=len(trials)) + [2.0 * same for _, _, same in trials]
            write_lines(scores, (f"{a} {b} {value:.6f}" for (a, b, _), value in zip(trials, values)))
            row = {"list": "trials", "data_set": "test", "trials": str(data / "trials"), "trials_sha256": "ab12",
                   "num_trials": len(trials), "num_target": sum(same for _, _, same in trials), "protocol": "native",
                   "duration": duration, "crop": "none", "enroll": str(data), "backend": backend, "eer": 15.5 + seed,
                   "min_dcf_01": 0.9, "min_dcf_05": 0.8, "commit": "c0ffee", "command": "./run.sh --name x",
                   "hardware": "a CPU", "date": "2026-01-02T03:04:05+00:00", "train": {"epochs": 3}, **more}
            write_lines(f"{scores}.json", [json.dumps(row)])


def write_training(exp: Path) -> None:
    write_lines(exp / "train.tsv", ["epoch\tloss\tacc\tlr\teer_dev",
                                    *(f"{i}\t{4 / i}\t{1 - 1 / i}\t{10.0 ** -i}\t{30 / i}" for i in range(1, 6))])


def change(exp: Path, **columns) -> None:
    """Set columns of all evaluations; None removes one."""
    for path in (exp / "scores").glob("*.json"):
        row = {**json.loads(path.read_text()), **columns}
        write_lines(path, [json.dumps({name: value for name, value in row.items() if value is not None})])
