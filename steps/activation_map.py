#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Draw where in an utterance a trained network with two-dimensional maps (a ResNet34, for example) finds its speaker.

steps/activation_map.py exp/dtdy data/vox1 id10270-5r0dWxy17C8-00001 map.png

The reference is the mean embedding of the --enroll utterances, or by default of the speaker's other utterances (the
first 20 in utt2spk). The program prints the utterance's cosine with it, then the cosine without the tenth of its frames
that are most active in the map, then without as many other frames. If the second is not the lowest, do not trust the
picture.
"""

from pathlib import Path

from rawnext.errors import ArgumentParser, InputError, as_input_error, run_main
from rawnext.kaldi.tables import read_table
from rawnext.log import setup_log

MOST_OTHERS = 20  # utterances of the speaker in the reference
TICKS_HZ = (250, 500, 1000, 2000, 4000, 7000)


def others_of(utt: str, data_dir: Path) -> list[str]:
    """Other utterances of the same speaker."""
    table = data_dir / "utt2spk"
    speaker_of = read_table(table, one_word=True)
    if utt not in speaker_of:
        raise InputError(table, None, f"has no utt {utt!r}")
    others = [other for other, spk in speaker_of.items() if spk == speaker_of[utt] and other != utt]
    if not others:
        raise InputError(table, None, f"{speaker_of[utt]} has no other utt than {utt}; name some with --enroll")
    return others[:MOST_OTHERS]


def read_waves(utts: list[str], data_dir: Path, allow_pipes: bool) -> list:
    """Waveforms (T,) of these utterances."""
    from rawnext.data.wav import check_sources, load_wave, read_sources

    sources = {source.utt: source for source in read_sources(data_dir, allow_pipes)}
    if missing := [utt for utt in utts if utt not in sources]:
        raise InputError(data_dir / "wav.scp", None, f"has no utt {missing[0]!r}")
    wanted = [sources[utt] for utt in utts]
    check_sources(wanted)
    return [load_wave(source) for source in wanted]


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--enroll", metavar="UTT[,UTT...]", help="utterances of the reference, in the data directory")
    parser.add_argument("--time-only", action="store_true",
                        help="average gradients over frequency only: each frame has its own channel weights")
    parser.add_argument("--allow-pipes", action="store_true",
                        help="run wav.scp's commands `... |`; only if you trust them")
    parser.add_argument("exp_dir", type=Path, help="experiment, or exported model")
    parser.add_argument("data_dir", type=Path, help="data directory with wav.scp and utt2spk")
    parser.add_argument("utt", help="utterance to draw")
    parser.add_argument("out", type=Path, help="output file, .png or .pdf")
    args = parser.parse_args()
    if args.out.suffix not in (".png", ".pdf"):
        parser.error(f"{args.out}: want .png or .pdf")
    setup_log()
    enroll = args.enroll.split(",") if args.enroll else others_of(args.utt, args.data_dir)
    samples, *enroll_samples = read_waves([args.utt, *enroll], args.data_dir, args.allow_pipes)

    import numpy as np
    import torch

    from rawnext.dist import choose_device
    from rawnext.inference.extract import embed_native, load_model
    from rawnext.models.base import SpeakerModel
    from rawnext.models.features import HOP, SAMPLE_RATE
    from rawnext.results.analysis.activation import activation_map, band_of, check_map, energies, log_mel, masked_scores
    from rawnext.results.analysis.plots import plot_activation

    device = choose_device("auto")
    model, _ = load_model(args.exp_dir, device)
    assert isinstance(model, SpeakerModel)
    with as_input_error(args.exp_dir / "config.yaml"):
        check_map(model)
    model.requires_grad_(False)  # layers before the map need no gradient: saves memory
    reference = torch.from_numpy(np.mean(embed_native(model, enroll_samples), axis=0)).to(device)
    wave = torch.from_numpy(samples).to(device)
    activation = activation_map(model, wave, reference, args.time_only)
    whole, most, others = masked_scores(model, wave, reference, activation)

    bands = {hz: band_of(hz, log_mel(model)) for hz in TICKS_HZ}
    ticks = {hz: band for hz, band in bands.items() if 0 <= band <= len(activation) - 1}
    title = (f"{args.utt}: cosine {whole:.2f} with {len(enroll)} utterance{'s' * (len(enroll) > 1)} of reference\n"
             "speaker activation map, a reconstruction (Grad-CAM of the cosine)")
    plot_activation(samples, energies(model, wave).cpu().numpy(), activation.cpu().numpy(), SAMPLE_RATE, HOP, ticks,
                    title, args.out)
    print(f"activation_map.py: {args.out}; cosine {whole:.3f}, without the most active tenth {most:.3f}, "
          f"without others {others:.3f}")


if __name__ == "__main__":
    run_main(main)
