#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Convert a trial list to lines `enroll test target|nontarget`; utterances are found in wav.scp.

  local/convert_trials.py data/test my_trials.txt data/test/trials

Input formats, detected by the first line: `1|0 file file` (VoxCeleb), `enroll test LABEL` with 1|0, target|nontarget
or tgt|imp, and CSV (commas, semicolons or tabs) with a header line: one of enroll, left or path; one of test, right or
path_other; one of label, target or same. An utterance is named by its utt id or by the last parts of its file's path;
the ending (.wav) is ignored.
"""

import logging
import os
from collections.abc import Iterable
from pathlib import Path

from rawnext.errors import ArgumentParser, InputError, run_main
from rawnext.kaldi.tables import read_table, write_trial_list
from rawnext.kaldi.trial_forms import read_trial_list
from rawnext.log import setup_log

log = logging.getLogger(__name__)


def parts_of(name: str) -> tuple[str, ...]:
    """The parts of a path; the last one without its ending."""
    return tuple(os.path.splitext(os.path.normpath(name))[0].strip("/").split("/"))


def find_utts(names: Iterable[str], data_dir: Path) -> dict[str, str]:
    """Name -> utt, for names that are in a data directory.

    Raises: InputError: a name matches two utterances.
    """
    if (data_dir / "segments").exists():  # files are not utterances then
        return {name: name for name in read_table(data_dir / "segments").keys() & set(names)}
    scp = data_dir / "wav.scp"
    paths = read_table(scp)
    found, wanted = {}, dict[tuple[str, ...], list[str]]()
    for name in names:
        if name in paths:
            found[name] = name
        else:
            wanted.setdefault(parts_of(name), []).append(name)
    lengths = {len(parts) for parts in wanted}
    for line, (utt, path) in enumerate(paths.items() if wanted else (), 1):
        parts = parts_of(path)
        for length in lengths:
            for name in wanted.get(parts[-length:], ()):
                if found.setdefault(name, utt) != utt:
                    raise InputError(scp, line, f"{name} in the list matches {found[name]} and {utt}")
    return found


def convert_map(path: Path, data_dir: Path) -> dict[str, list[str]]:
    """Read a table `model utt utt ...`; utterances may be given as files."""
    models = {model: line.split() for model, line in read_table(path).items()}
    utts = find_utts({name for names in models.values() for name in names}, data_dir)
    for line, (model, names) in enumerate(models.items(), 1):
        if lacking := [name for name in names if name not in utts]:
            raise InputError(path, line, f"{lacking[0]} is not in {data_dir}/wav.scp")
        models[model] = [utts[name] for name in names]
        if len(set(models[model])) < len(names):
            raise InputError(path, line, f"{model} has an utterance twice")
    return models


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--columns", default="", metavar="ENROLL,TEST,LABEL",
                        help="columns of a CSV: names, or numbers from 1")
    parser.add_argument("--target-is-0", action="store_true", help="label 0 means the same speaker, 1 different ones")
    parser.add_argument("--enroll-map", type=Path, metavar="FILE",
                        help="lines `model utt utt ...` (or files) for the enroll side; becomes OUT_TRIALS.enroll")
    parser.add_argument("data_dir", type=Path)
    parser.add_argument("list", type=Path)
    parser.add_argument("out_trials", type=Path)
    args = parser.parse_args()
    setup_log()
    named = read_trial_list(args.list, args.columns, args.target_is_0)
    utts = find_utts(named.lines, args.data_dir)
    models = convert_map(args.enroll_map, args.data_dir) if args.enroll_map else {}
    where = f"{args.data_dir}/wav.scp{f' or {args.enroll_map}' if args.enroll_map else ''}"
    trials = named.renamed(utts, where, {model: model for model in models} if args.enroll_map else None)
    write_trial_list(args.out_trials, trials, models)
    log.info("%s: %d trials, %d target", args.out_trials, len(trials.enroll), sum(trials.is_target))


if __name__ == "__main__":
    run_main(main)
