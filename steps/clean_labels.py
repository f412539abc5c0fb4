#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Find utterances with a doubtful speaker label, from the embeddings of a data directory.

steps/clean_labels.py --share 0.01 data/train exp/x/embeddings/train_native/embedding.scp labels

Writes OUT_DIR/labels.tsv, a line for each utterance: the cosine of its embedding to the mean of its speaker's other
sessions (utt2session; without it, other utterances), the nearest other speaker and the cosine to that one's mean. The
lowest cosine is first; utterances of speakers with one session have none and are last. With --threshold or --share,
OUT_DIR/utt_list has the utterances to keep, for utils/subset_data_dir.py --utt-list. OUT_DIR/page.html plays the first
utterances and one of each speaker that agrees best with the label.
"""

import html
from pathlib import Path

import numpy as np

from rawnext.errors import ArgumentParser, InputError, run_main
from rawnext.files import write_lines
from rawnext.kaldi.tables import read_table
from rawnext.scoring.embeddings import read_side
from rawnext.scoring.labels import label_agreement

HEAD = """<!DOCTYPE html><html lang="en"><meta charset="utf-8"><title>Doubtful speaker labels</title>
<style>body {font-family: sans-serif; max-width: 60em; margin: 1em auto} div {display: inline-block; width: 49%}</style>
<h1>Doubtful speaker labels</h1>"""


def page(data_dir: str, doubtful: list[list[str]], typical: dict[str, str]) -> list[str]:
    """Lines of HTML that play utterances. doubtful: lines of labels.tsv.   typical: spk -> an utterance of it."""
    from rawnext.results.analysis.error_browser import clip

    def player(title: str, utt: str) -> str:
        heard = clip(data_dir, utt, 0.0)
        play = html.escape(heard.fault) if heard.fault else f'<audio controls src="{heard.sound}"></audio>'
        return f"<div><p>{html.escape(f'{title}: {utt}')}</p>{play}</div>"

    lines = [HEAD]
    for utt, spk, own, nearest, other in doubtful:
        title = f"{utt}: cosine {own} to {spk}, {other} to {nearest}"
        lines += [f"<h2>{html.escape(title)}</h2>", player("doubtful", utt),
                  *(player(f"typical of {name}", typical[name]) for name in (spk, nearest))]
    return [*lines, "</html>"]


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    limit = parser.add_mutually_exclusive_group()
    limit.add_argument("--threshold", type=float, help="keep utterances with a cosine from this one on")
    limit.add_argument("--share", type=float, help="drop this share (0 to 1) of the utterances that have a cosine")
    parser.add_argument("--players", type=int, default=20, help="utterances on the page (default %(default)s; 0: none)")
    parser.add_argument("data_dir", type=Path, help="with utt2spk, wav.scp for the page, and utt2session if known")
    parser.add_argument("embeddings", metavar="SCP", help="embeddings of its utterances")
    parser.add_argument("out_dir", type=Path)
    args = parser.parse_args()
    if args.players < 0 or not 0 <= (args.share or 0) < 1 or not -1 <= (args.threshold or 0) <= 1:
        parser.error("want --players from 0, --share from 0 to below 1 and --threshold from -1 to 1")
    table = args.data_dir / "utt2spk"
    utt2spk = read_table(table, one_word=True)
    sessions = args.data_dir / "utt2session"
    utt2session = read_table(sessions, optional=True)
    keys, x, _, _ = read_side(args.embeddings, wanted=utt2spk)
    if missing := next(iter(utt2spk.keys() - set(keys)), ""):
        raise InputError(args.embeddings, None, f"has no embedding of {missing}, which is in {table}")
    if utt2session and (missing := next((utt for utt in keys if utt not in utt2session), "")):
        raise InputError(sessions, None, f"{missing} is missing")
    names, speaker = np.unique([utt2spk[utt] for utt in keys], return_inverse=True)
    if len(names) < 2:
        raise InputError(table, None, "has one speaker; want 2 or more")
    _, session = np.unique([utt2session.get(utt, utt) for utt in keys], return_inverse=True)
    found = label_agreement(x, speaker, session)

    order = np.argsort(found.own, kind="stable")  # NaN last
    num = int(np.isfinite(found.own).sum())
    drop = 0 if args.threshold is None else int((found.own < args.threshold).sum())
    drop = drop if args.share is None else round(args.share * num)
    own = ["" if np.isnan(value) else f"{value:.4f}" for value in found.own]
    rows = [[keys[i], names[speaker[i]], own[i], names[found.nearest[i]], f"{found.other[i]:.4f}"] for i in order]
    for name in ("utt_list", "page.html"):  # of other options
        (args.out_dir / name).unlink(missing_ok=True)
    write_lines(args.out_dir / "labels.tsv", ("\t".join(row) for row in [
        ["utt", "spk", "cosine", "nearest_other_spk", "its_cosine"], *rows]))
    if args.threshold is not None or args.share is not None:
        write_lines(args.out_dir / "utt_list", sorted(keys[i] for i in order[drop:]))
        print(f"{drop} of {len(keys)} utterances dropped, {len(keys) - num} have no cosine and are kept")
    if args.players:
        typical = {row[1]: row[0] for row in rows}  # the last, without a cosine or with the highest
        doubtful = rows[: min(args.players, num)]
        write_lines(args.out_dir / "page.html", page(str(args.data_dir), doubtful, typical))


if __name__ == "__main__":
    run_main(main)
