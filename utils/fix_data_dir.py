#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Sort a data directory's tables and keep the utterances that all of them have, as Kaldi's utils/fix_data_dir.sh.

  utils/fix_data_dir.py data/train

Considers utt2spk, wav.scp, segments, reco2dur, spk2gender, utt2dur, utt2num_frames, utt2lang, text, feats.scp and other
tables of utterances and speakers, and writes spk2utt; the old tables go to DATA_DIR/.backup. Of lines with one key the
first is kept. cuts.jsonl is removed if it differs from the tables; steps/make_cuts.py makes it again.
"""

import shutil
import sys
from pathlib import Path

from data_tables import Faults, check_cuts, group_by_speaker, properties, read_text

from rawnext.errors import ArgumentParser, run_main
from rawnext.files import UTT_TABLES, write_lines


def read(path: Path) -> dict[str, str]:
    """key -> the rest of its line, of a table in any order; lines without a value are left out and counted."""
    table: dict[str, str] = {}
    lines = [line.strip().replace("\t", " ", 1).partition(" ") for line in read_text(path).split("\n") if line.strip()]
    for key, _, rest in lines:
        if rest.strip():
            table.setdefault(key, rest.strip())
    if len(table) < len(lines):
        print(f"fix_data_dir.py: {path}: left out {len(lines) - len(table)} of {len(lines)} lines, which have no value "
              "or the key of an earlier one", file=sys.stderr)
    return table


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("data_dir", type=Path)
    folder = parser.parse_args().data_dir
    for name in ("utt2spk", "wav.scp"):
        if not (folder / name).is_file():
            sys.exit(f"fix_data_dir.py: {folder / name}: no such file")
    others = properties(folder)
    names = [name for name in (*UTT_TABLES, "wav.scp", "reco2dur", *others) if (folder / name).exists()]
    tables = {name: read(folder / name) for name in names}
    utts = set.intersection(*(set(tables[name]) for name in UTT_TABLES if name in tables))
    recording = {utt: tables["segments"][utt].split()[0] if "segments" in tables else utt for utt in utts}
    utts = {utt for utt in utts if recording[utt] in tables["wav.scp"]}
    if not utts:
        sys.exit(f"fix_data_dir.py: {folder}: no utterance is in all of {', '.join(names)}")
    used = {recording[utt] for utt in utts}
    spk2utt = group_by_speaker({utt: tables["utt2spk"][utt] for utt in sorted(utts)})
    kept = {**dict.fromkeys(UTT_TABLES, utts), "wav.scp": used, "reco2dur": used,
            **{name: set(spk2utt) if name.startswith("spk2") else utts for name in others}}
    (folder / ".backup").mkdir(exist_ok=True)
    for name in names:
        shutil.copy2(folder / name, folder / ".backup" / name)
        write_lines(folder / name, (f"{key} {rest}" for key, rest in sorted(tables[name].items()) if key in kept[name]))
    write_lines(folder / "spk2utt", (f"{spk} {' '.join(its)}" for spk, its in sorted(spk2utt.items())))
    faults = Faults()
    check_cuts(folder, {utt: tables["utt2spk"][utt] for utt in utts}, faults)
    if faults.found:
        for name in ("cuts.jsonl", "cuts.npz"):
            (folder / name).unlink(missing_ok=True)
        print(f"fix_data_dir.py: {folder}/cuts.jsonl had other utterances or audio and was removed; steps/make_cuts.py "
              "makes it", file=sys.stderr)
    print(f"fix_data_dir.py: kept {len(utts)} of {len(tables['utt2spk'])} utterances of {folder}", file=sys.stderr)


if __name__ == "__main__":
    run_main(main)
