#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Check a trial list for errors and unfair trials; a good list prints only a summary.

  utils/lint_trials.py --train data/train data/vox1_test/trials_O

Errors (exit code 1): malformed lines, utterances or models missing from the data directory, labels that contradict
utt2spk, only targets or only nontargets. Warnings: the original VoxCeleb1 lists, training speakers, trials of an
utterance with itself, repeated pairs (also swapped), one speaker with most of the targets, a data directory mostly
unused. Each kind is one line with its first place, `file:line: why`. The enroll side may be models, listed in
TRIALS.enroll as `model utt utt ...`. See docs/howto/trials.md.
"""

import statistics
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from data_tables import Faults, check_cuts, read_models, read_utt2spk

from rawnext.errors import ArgumentParser, printable, run_main

# (trials, targets) of the first published list -> its name, trials of the cleaned one (VoxCeleb's web page)
ORIGINALS = {(37_720, 18_860): ("O", 37_611), (581_480, 290_743): ("E", 579_818), (552_536, 276_270): ("H", 550_894)}
MOST = 10  # times the median speaker's target trials
KINDS = {"target\n": True, "nontarget\n": False}


class Findings:
    """Findings by kind: their number and the first one."""

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
            yield printable(f"{self.path}{f':{line}' if line else ''}: {level}: {why}{more}")

    def num(self, level: str) -> int:
        return sum(self.count[kind] for kind, first in self.first.items() if first[0] == level)


class Ids:
    """Ids that a list may contain, numbered: utterances, then models or (in Kaldi's lists) speakers.

    test, enroll: id -> number.   spks: the speaker of each number.
    """

    def __init__(self, folders: list[Path], table: Path, faults: Faults):
        utt2spk = {utt: spk for folder in folders for utt, spk in read_utt2spk(folder, faults).items()}
        self.models = read_models(table, utt2spk, faults) if table.exists() else {}
        faults.exit_if_any()
        for model, utts in self.models.items():
            if len({utt2spk[utt] for utt in utts}) > 1:
                sys.exit(f"{table}: {model} has utterances of several speakers")
        self.test = {utt: number for number, utt in enumerate(utt2spk)}
        model2spk = {model: utt2spk[utts[0]] for model, utts in self.models.items()}
        groups = model2spk or {spk: spk for spk in utt2spk.values()}
        self.enroll = {group: number for number, group in enumerate(groups, len(self.test))}
        if not self.models:
            self.enroll |= self.test
        self.enroll_source = table.name if self.models else "utt2spk"
        self.spks = [*utt2spk.values(), *groups.values()]

    def why(self, line: str) -> tuple[str, str]:
        """The kind of error in an unreadable line, and its description."""
        words = line.split()
        if len(words) != 3 or words[2] not in ("target", "nontarget"):
            return "form", (f"expected `enroll test target|nontarget`, got {line[:60].strip()!r}; "
                            "local/convert_trials.py converts other forms")
        if line != " ".join(words) + "\n":
            return "spaces", "fields must be separated by one space, and the line must end in a newline"
        if words[1] not in self.test:
            return "missing test", f"{words[1]} is not in utt2spk"
        return "missing enroll", f"{words[0]} is not in {self.enroll_source}"


class Counts:
    """What a list contains: trials, target trials by speaker, its speakers, and the number of its utterances."""

    def __init__(self, path: Path, ids: Ids, found: Findings):
        """Read the list once, line by line; each trial takes the memory of one number."""
        self.num, self.targets = 0, Counter[str]()
        size, spks, pairs, seen = len(ids.spks), ids.spks, set[int](), bytearray(len(ids.spks))
        models = {ids.enroll[model]: {ids.test[utt] for utt in utts} for model, utts in ids.models.items()}
        with open(path, encoding="utf-8", errors="surrogateescape", newline="\n") as file:
            for number, line in enumerate(file, 1):
                try:
                    enroll, test, kind = line.split(" ")
                    first, second, is_target = ids.enroll[enroll], ids.test[test], KINDS[kind]
                except (ValueError, KeyError):
                    what, why = ids.why(line)
                    found.add(what, "error", number, why)
                    continue
                self.num += 1
                seen[first] = seen[second] = 1
                spk = spks[first]
                if (spk == spks[second]) != is_target:
                    found.add("label", "error", number, f"{enroll} {test} is {kind.strip()}, but their speakers in "
                                                        f"utt2spk are {spk} and {spks[second]}")
                if is_target:
                    self.targets[spk] += 1
                if first == second or second in models.get(first, ()):
                    found.add("self", "warning", number, f"{enroll} {test}: an utterance is compared with itself")
                pair = first * size + second if first < second else second * size + first
                if pair in pairs:
                    found.add("twice", "warning", number, f"{enroll} {test} repeats a pair, in this or swapped order")
                pairs.add(pair)
        self.num_target = self.targets.total()
        self.spks = {spk for spk, is_in in zip(spks, seen) if is_in}
        for model, utts in models.items():
            if seen[model]:
                for utt in utts:
                    seen[utt] = 1
        self.num_utts = sum(seen[:len(ids.test)])


def judge(counts: Counts, ids: Ids, train: Path | None, train_spks: set[str], found: Findings) -> None:
    """Add the findings about the list as a whole."""
    if counts.num_target in (0, counts.num):
        found.add("class", "error", 0, f"{counts.num_target} of {counts.num} trials are target: both kinds are needed")
    original = ORIGINALS.get((counts.num, counts.num_target))
    if original and "original" not in found.path.name:
        found.add("original", "warning", 0, f"is the original list VoxCeleb1-{original[0]}, which has wrong labels; "
                                            f"results are published on the cleaned list of {original[1]} trials")
    if both := sorted(counts.spks & train_spks):
        found.add("train", "warning", 0, f"{len(both)} of its speakers are also in {train} ({both[0]}, ...)")
    if counts.targets:
        (spk, most), median = counts.targets.most_common(1)[0], statistics.median(counts.targets.values())
        if most > MOST * median:
            found.add("balance", "warning", 0, f"speaker {spk} has {most} of {counts.num_target} target trials, the "
                                               f"median speaker has {median:g}")
    unused = len(ids.test) - counts.num_utts
    if 2 * unused > len(ids.test):
        found.add("unused", "warning", 0, f"{unused} of {len(ids.test)} utterances of the data directory are unused")


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--train", type=Path, help="training data directory; its speakers should not be tested")
    parser.add_argument("--test", type=Path, action="append",
                        help="data directory of the trials (several: --test A --test B); default: that of the list")
    parser.add_argument("trials", type=Path, help="trial list to check")
    options = parser.parse_args()
    path = options.trials
    if not path.is_file():
        sys.exit(f"{path}: no such file")
    near = [folder for folder in path.absolute().parents[:2] if (folder / "utt2spk").exists()]
    faults = Faults()
    train_spks: set[str] = set()
    if options.train:
        utt2spk = read_utt2spk(options.train, faults)
        check_cuts(options.train, utt2spk, faults)
        train_spks = set(utt2spk.values())
    ids = Ids(options.test or near[:1] or [path.parent], path.with_name(f"{path.name}.enroll"), faults)
    found = Findings(path)
    counts = Counts(path, ids, found)
    judge(counts, ids, options.train, train_spks, found)
    for line in found.lines():
        print(line, file=sys.stderr)
    print(f"lint_trials.py: {path}: {counts.num} trials, {counts.num_target} target, {counts.num_utts} of "
          f"{len(ids.test)} utterances, {len(counts.spks)} speakers: "
          f"{found.num('error')} errors, {found.num('warning')} warnings")
    sys.exit(1 if found.num("error") else 0)


if __name__ == "__main__":
    run_main(main)
