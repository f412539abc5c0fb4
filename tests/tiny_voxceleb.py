# SPDX-License-Identifier: Apache-2.0
"""Corpora of a few seconds in the folders of VoxCeleb, MUSAN and RIRS_NOISES, and options of egs/voxceleb for them."""

import itertools
from pathlib import Path

import soundfile
from corpus import RATE, voice

CONF = """
model: {name: rawnext, channels: [8, 8, 16, 16, 16, 16], cardinality: 8, embedding_dim: 8, blocks: [1, 1, 1, 1],
  dla: false, quiet_init: true}
batch: {speakers: 4}
crop: {samples: 4375, short_from: 1600}
augment: [{ops: [noise]}, {ops: [reverb, babble]}]
train: {epochs: 2, log_every: 1}
paper: RawNeXt softmax
"""


def write(path: Path, *what) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, voice(*what), RATE)


def write_corpora(top: Path) -> Path:
    """VoxCeleb1, VoxCeleb2 (as wav), MUSAN and RIRS_NOISES in miniature."""
    for s in range(8):
        part = "test" if s == 7 else "dev"
        for u in range(4):
            write(top / f"vox2/{part}/wav/id{s:05d}/-video{u // 2}/0000{u}.wav", s, u, 0.8)
    files = []
    for s in range(4):
        part = "dev" if s == 3 else "test"
        for u in range(3):
            files.append(f"id1000{s}/video_{u}/00001.wav")
            write(top / f"vox1/vox1_{part}_wav/wav/{files[-1]}", 20 + s, u, 1.3)
    pairs = [f"{int(a[:7] == b[:7])} {a} {b}\n" for a, b in itertools.combinations(files, 2)]
    lists = {"list_test_all2.txt": pairs, "list_test_hard2.txt": pairs,
             "veri_test2.txt": [p for p in pairs if "id10003" not in p]}
    for name, lines in lists.items():
        (top / "vox1" / name).write_text("".join(lines))
        (top / "vox1" / name.replace("2", "")).write_text("".join(lines + lines[:1]))
    for kind in ("noise", "music", "speech"):
        write(top / f"musan/{kind}/some/{kind}-some-0000.wav", 40, len(kind), 0.6)
    write(top / "rirs/simulated_rirs/smallroom/Room001/Room001-00001.wav", 50, 0, 0.1)
    return top


def options(folder: Path, corpora: Path) -> list[str]:
    """Options of run.sh for a tiny network on these corpora, in this folder."""
    folder.mkdir(exist_ok=True)
    (folder / "tiny.yaml").write_text(CONF)
    places = [(f"--{name}", str(corpora / name)) for name in ("vox1", "vox2", "musan", "rirs")]
    return [*itertools.chain(*places), "--conf", "tiny.yaml", "--name", "tiny", "--dev-speakers", "2", "--nj", "1",
            "--num-workers", "0", "--num-threads", "1", "--ngpu", "0", "--backends", "cosine", "--durations", "2"]
