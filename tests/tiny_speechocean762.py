# SPDX-License-Identifier: Apache-2.0
"""A corpus of a few seconds in the folders of speechocean762."""

from pathlib import Path

import soundfile
from corpus import RATE, voice

SPEAKERS = {"train": ("0001", "0005", "0006", "0009"), "test": ("0003", "0024", "0092")}


def write_corpus(top: Path, seconds: float = 0.6, num_utts: int = 3) -> Path:
    """speechocean762 in miniature: its tables have tabs, its utt ids do not begin with their speakers' ids."""
    for part, speakers in SPEAKERS.items():
        tables: dict[str, list[str]] = {"wav.scp": [], "utt2spk": [], "spk2gender": []}
        for number, spk in enumerate(speakers):
            for u in range(num_utts):
                utt = f"0{spk}{u:04d}"
                path = top / "WAVE" / f"SPEAKER{spk}" / f"{utt}.WAV"
                path.parent.mkdir(parents=True, exist_ok=True)
                soundfile.write(path, voice(int(spk), u, seconds), RATE)
                tables["wav.scp"].append(f"{utt}\tWAVE/SPEAKER{spk}/{utt}.WAV")
                tables["utt2spk"].append(f"{utt}\t{spk}")
            tables["spk2gender"].append(f"{spk}\t{'mf'[number % 2]}")
        (top / part).mkdir()
        for name, lines in tables.items():
            (top / part / name).write_text("".join(f"{line}\n" for line in lines))
    return top
