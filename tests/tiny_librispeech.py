# SPDX-License-Identifier: Apache-2.0
"""A corpus of a few seconds in the folders of LibriSpeech."""

import soundfile
from corpus import RATE, voice


def write_librispeech(top, speakers=("19", "103", "1034"), num_utts=2):
    """A part of LibriSpeech; returns the folder."""
    lines = [";ID |SEX|SUBSET|MINUTES|NAME"]
    for number, spk in enumerate(speakers):
        lines.append(f"{spk}   | {'FM'[number % 2]} | train-clean-100  | 25.03 | A Name")
        for u in range(num_utts):
            path = top / f"train-clean-100/{spk}/198/{spk}-198-{u:04d}.flac"
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, voice(int(spk), u, 0.6), RATE)
    (top / "SPEAKERS.TXT").write_text("".join(f"{line}\n" for line in lines))
    return top
