# SPDX-License-Identifier: Apache-2.0
"""Tasks inside the library that bench/scale.py measures, one per process, on a synthetic corpus without audio.

python bench/scale_tasks.py manifests data/train 1100000 6112

A last output line that begins with `#` is a remark for the table.
"""

import gc
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

WORLD = 8  # ranks of the flagship's training


def names(num_utts: int, num_speakers: int) -> Iterator[tuple[str, str]]:
    """(utt, spk) in the form of VoxCeleb's names; utterances per speaker are skewed, some far above the mean."""
    rng = np.random.default_rng(num_utts)
    inner = np.sort(rng.choice(num_utts - 1, num_speakers - 1, replace=False)) + 1
    for number, count in enumerate(np.diff(inner, prepend=0, append=num_utts).tolist()):
        spk = f"id{number:05d}"
        for i in range(count):
            yield f"{spk}-_v{i // 8:06d}AbC-{i % 8:05d}", spk


def manifests(folder: str, num_utts: int, num_speakers: int) -> None:
    """A data directory."""
    from rawnext.data.manifest import Utterance, write_data_dir

    write_data_dir((Utterance(utt, spk, f"/corpora/VoxCeleb2/dev/flac/{utt.replace('-', '/')}.flac", 130_000, 16000, 1)
                    for utt, spk in names(num_utts, num_speakers)), folder)


def table(folder: str) -> None:
    """Start of every training process: the manifest."""
    import lhotse.serialization  # noqa: F401 (to exclude its 0.2 GiB)

    from rawnext.data.cuts import CutTable

    began = resident()
    print(f"# {len(CutTable(folder)):,} cuts, {resident() - began:.0f} MiB kept")


def epoch(folder: str, rank: int, num: int) -> None:
    """All that steps/train.py does before it reads the first batch, and the same for the following epochs."""
    from rawnext.config import load_config
    from rawnext.data.cuts import CutTable
    from rawnext.training.dataset import EpochDataset
    from rawnext.training.trainer import Trainer  # noqa: F401 (the program imports it)

    config, began = load_config(["conf/rawnext.yaml"]), time.monotonic()
    cuts = CutTable(folder)
    loaded = time.monotonic()
    for number in range(num):
        data = EpochDataset(cuts, config, {}, number, rank, WORLD)
    seconds = (time.monotonic() - loaded) / num
    print(f"# {data.num_steps:,} steps; `CutTable` {loaded - began:.1f} s, batches of an epoch {seconds:.1f} s")


def workers(folder: str, num: int) -> None:
    """Memory that each data worker (a fork) does not share after reading its part of an epoch's ids and some cuts."""
    from rawnext.config import load_config
    from rawnext.data.cuts import CutTable
    from rawnext.training.dataset import EpochDataset

    cuts = CutTable(folder)
    data, own = EpochDataset(cuts, load_config(["conf/rawnext.yaml"]), {}, 0, 0, 1), []
    for worker in range(num):
        reader, writer = os.pipe()
        if not os.fork():
            before = resident("Private_Dirty")
            for i, indices in enumerate(data.batches[worker::num]):
                for index in indices.ravel():
                    assert cuts[index].utt == cuts.utts[index] if i < 5 else cuts.utts[index]
            gc.collect()
            os.write(writer, f"{resident('Private_Dirty') - before}".encode())
            os._exit(0)
        os.wait()
        own.append(float(os.read(reader, 100)))
    print(f"# {max(own):.0f} MiB not shared by each of {num}, {num * max(own):.0f} MiB in all")


def resident(field: str = "Rss") -> float:
    """MiB of this process in memory; Private_Dirty: not shared with another process."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()[1:]
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:")) / 1024


def sources(folder: str) -> None:
    """Start of every extraction job, which reads the whole list and takes its part."""
    from rawnext.data.wav import read_sources

    print(f"# {len(read_sources(folder)):,} utterances")


def embeddings(data: str, out: str, dim: int, num_jobs: int) -> None:
    """Random vectors in the files of the extraction jobs."""
    from rawnext.kaldi.ark import write_vectors
    from rawnext.kaldi.tables import read_table

    utts, rng = list(read_table(Path(data) / "utt2spk")), np.random.default_rng(0)
    for job in range(num_jobs):
        share = utts[len(utts) * job // num_jobs : len(utts) * (job + 1) // num_jobs]
        name = Path(out) / (f"embedding.{job + 1}" if num_jobs > 1 else "embedding")
        write_vectors(f"{name}.ark", f"{name}.scp", ((utt, rng.standard_normal(dim, np.float32)) for utt in share))


def vectors(scp: str) -> None:
    from rawnext.kaldi.ark import read_vectors

    print(f"# {len(read_vectors(scp)):,} lines")


def matrix(scp: str) -> None:
    from rawnext.kaldi.ark import read_matrix

    keys, rows = read_matrix(scp)
    print(f"# {len(keys):,} x {rows.shape[1]}, {rows.nbytes / 2**20:.0f} MiB of numbers")


if __name__ == "__main__":
    globals()[sys.argv[1]](*(int(word) if word.isdecimal() else word for word in sys.argv[2:]))
