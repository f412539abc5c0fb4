#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Look for what makes a trial list wrong or unfair; all is well if it prints one line.

  utils/lint_trials.py --train data/train data/vox1_test/trials_O

Errors (exit code 1): lines in another form, utterances or models that the data directory has not, labels that
contradict utt2spk, targets or nontargets only. Warnings: the original VoxCeleb1 lists, speakers that are trained on,
trials of an utterance with itself, pairs that stand twice (also swapped), one speaker with most of the targets, a data
directory of which most stands in no trial. One line for each kind, with the first place of it: `file:line: why`.
The enroll side may be models, in lines `model utt utt ...` of TRIALS.enroll. More: docs/howto/trials.md
"""

import argparse
import statistics
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from validate_data_dir import Faults, read_models, read_rows

# trials and targets of the first published list -> its name, trials of the cleaned one (VoxCeleb's web page)
ORIGINALS = {(37_720, 18_860): ("O", 37_611), (581_480, 290_743): ("E", 579_818), (552_536, 276_270): ("H", 550_894)}
MOST = 10  # times the median speaker's target trials
KINDS = {"target\n": True, "nontarget\n": False}


class Findings:
    """What was found, by kind: how often, and where first."""

    def __init__(self, path: Path):
        self.path = path
        self.first: dict[str, tuple[str, int, str]] = {}
        self.count: Counter[str] = Counter()

    def add(self, kind: str, level: str, line: int, why: str) -> None:
        """level: error or warning.   line: 0 for the list as a whole."""
        self.first.setdefault(kind, (level, line, why))
        self.count[kind] += 1

    def lines(self) -> Iterator[str]:
        for kind, (level, line, why) in sorted(self.first.items(), key=lambda item: item[1][:2]):
            more = f" (and {self.count[kind] - 1} more)" if self.count[kind] > 1 else ""
            text = f"{self.path}{f':{line}' if line else ''}: {level}: {why}{more}"
            yield "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)

    def num(self, level: str) -> int:
        return sum(self.count[kind] for kind, first in self.first.items() if first[0] == level)


class Ids:
    """What a list may name: places of utterances, then of models or (Kaldi's lists) speakers. spks: whose each is."""

    def __init__(self, folders: list[Path], table: Path):
        faults = Faults()
        utt2spk = {utt: spk for folder in folders
                   for _, (utt, spk) in read_rows(folder / "utt2spk", faults, num_fields=2, num_ids=2)}
        self.models = read_models(table, set(utt2spk), faults) if table.exists() else {}
        faults.exit_if_any()
        self.spks = list(utt2spk.values())
        self.test = {utt: place for place, utt in enumerate(utt2spk)}
        if self.models:
            self.spks += [utt2spk[utts[0]] for utts in self.models.values()]
            self.enroll = {model: place for place, model in enumerate(self.models, len(self.test))}
            self.sources = "utt2spk", table.name
        else:
            self.enroll = {spk: place for place, spk in enumerate(dict.fromkeys(self.spks), len(self.test))} | self.test
            self.spks += dict.fromkeys(self.spks)
            self.sources = "utt2spk", "utt2spk"
        for model, utts in self.models.items():
            if len({utt2spk[utt] for utt in utts}) > 1:
                sys.exit(f"{table}: {model} has utterances of several speakers")

    def why(self, line: str) -> tuple[str, str]:
        """The kind of fault of a line that could not be read, and what it is."""
        words = line.split()
        if len(words) != 3 or words[2] not in ("target", "nontarget"):
            return "form", (f"expected `enroll test target|nontarget`, got {line[:60].strip()!r}; "
                            "local/convert_trials.py makes it of other forms")
        if line != " ".join(words) + "\n":
            return "spaces", "fields must be separated by one space, and the line end in a newline"
        if words[1] not in self.test:
            return "missing test", f"{words[1]} is not in {self.sources[0]}"
        return "missing enroll", f"{words[0]} is not in {self.sources[1]}"


class Counts:
    """What is in the list: trials by kind, target trials by speaker, and which ids stand in it."""

    def __init__(self, ids: Ids):
        self.num = self.num_target = 0
        self.by_spk: Counter[str] = Counter()
        self.seen = bytearray(len(ids.spks))

    def spks(self, ids: Ids) -> set[str]:
        return {spk for spk, seen in zip(ids.spks, self.seen) if seen}


def scan(path: Path, ids: Ids, found: Findings) -> Counts:
    """Read the list once, line by line; a trial takes the memory of one number."""
    counts, size, pairs = Counts(ids), len(ids.spks), set[int]()
    enroll_places, test_places, spks, seen, by_spk = ids.enroll, ids.test, ids.spks, counts.seen, counts.by_spk
    models = {place: {ids.test[utt] for utt in ids.models[model]} for model, place in ids.enroll.items()} if (
        ids.models) else {}
    with open(path, encoding="utf-8", errors="surrogateescape", newline="\n") as file:
        for number, line in enumerate(file, 1):
            try:
                enroll, test, kind = line.split(" ")
                first, second, is_target = enroll_places[enroll], test_places[test], KINDS[kind]
            except (ValueError, KeyError):
                what, why = ids.why(line)
                found.add(what, "error", number, why)
                continue
            counts.num += 1
            seen[first] = seen[second] = 1
            spk = spks[first]
            if (spk == spks[second]) != is_target:
                found.add("label", "error", number, f"{enroll} {test} is {kind.strip()}, but in utt2spk they are of "
                                                    f"{spk} and {spks[second]}")
            if is_target:
                by_spk[spk] += 1
            if first == second or (models and second in models[first]):
                found.add("self", "warning", number, f"{enroll} {test}: an utterance meets itself")
            pair = first * size + second if first < second else second * size + first
            if pair in pairs:
                found.add("twice", "warning", number, f"{enroll} {test} stood before, in this or the other order")
            pairs.add(pair)
    counts.num_target = by_spk.total()
    return counts


def judge(counts: Counts, ids: Ids, train: Path | None, found: Findings) -> None:
    """What shows only in the list as a whole."""
    if counts.num_target in (0, counts.num):
        found.add("class", "error", 0, f"{counts.num_target} of {counts.num} trials are target: both kinds are needed")
    original = ORIGINALS.get((counts.num, counts.num_target))
    if original and "original" not in found.path.name:
        found.add("original", "warning", 0, f"is the original list VoxCeleb1-{original[0]}, with wrong labels; results "
                                            f"are published on the cleaned one, of {original[1]} trials")
    if train and (both := sorted(counts.spks(ids) & train_speakers(train))):
        found.add("train", "warning", 0, f"{len(both)} of its speakers are in {train} too ({both[0]}, ...)")
    if counts.by_spk:
        (spk, most), median = counts.by_spk.most_common(1)[0], statistics.median(counts.by_spk.values())
        if most > MOST * median:
            found.add("balance", "warning", 0, f"{most} of {counts.num_target} target trials are of {spk}, {median:g} "
                                               "of the median speaker")
    unused = len(ids.test) - used_utts(counts, ids)
    if 2 * unused > len(ids.test):
        found.add("unused", "warning", 0, f"{unused} of the {len(ids.test)} utterances of the data directory stand in "
                                          "no trial")


def used_utts(counts: Counts, ids: Ids) -> int:
    """How many utterances the trials need, those of models among them."""
    used = bytearray(counts.seen[:len(ids.test)])
    for model, utts in ids.models.items():
        if counts.seen[ids.enroll[model]]:
            for utt in utts:
                used[ids.test[utt]] = 1
    return sum(used)


def train_speakers(folder: Path) -> set[str]:
    try:
        with open(folder / "spk2utt", encoding="utf-8", errors="surrogateescape") as file:
            return {line.split(None, 1)[0] for line in file if line.strip()}
    except OSError as error:
        sys.exit(f"{folder / 'spk2utt'}: cannot be read: {error.strerror}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", type=Path, help="data directory of training; its speakers should not be tested")
    parser.add_argument("--test", type=Path, action="append",
                        help="data directory of the trials (several: --test A --test B); default: where the list is")
    parser.add_argument("trials", type=Path)
    options = parser.parse_args()
    path = options.trials
    if not path.is_file():
        sys.exit(f"{path}: no such file")
    near = [folder for folder in path.absolute().parents[:2] if (folder / "utt2spk").exists()]
    ids = Ids(options.test or near[:1] or [path.parent], path.with_name(f"{path.name}.enroll"))
    found = Findings(path)
    counts = scan(path, ids, found)
    judge(counts, ids, options.train, found)
    for line in found.lines():
        print(line, file=sys.stderr)
    print(f"lint_trials.py: {path}: {counts.num} trials, {counts.num_target} of them target, of "
          f"{used_utts(counts, ids)} of {len(ids.test)} utterances and {len(counts.spks(ids))} speakers: "
          f"{found.num('error')} errors, {found.num('warning')} warnings")
    sys.exit(1 if found.num("error") else 0)


if __name__ == "__main__":
    main()
