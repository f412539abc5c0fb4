#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Draw a balanced list of target and nontarget trials from a data directory's utt2spk.

  utils/make_trials.py --seed 1 data/dev data/dev/trials/dev
  utils/make_trials.py --enroll-utts 3 --different-session data/dev data/dev/trials_3utt

Each target trial comes with nontarget trials of the same enrollment utterance. If there is a spk2gender, every second
nontarget trial is of the same gender (all of them with --same-gender). No pair of utterances appears twice, in either
order. The same seed and data give the same list.

With --enroll-utts N, trials enroll models of N utterances, named SPK-m001, ...; OUT_TRIALS.enroll has their lines
`model utt utt ...`. Models take half of each speaker's utterances; test utterances are from the other half.
"""

import argparse
import itertools
import random
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from data_tables import Faults, group_by_speaker, read_rows, read_utt2spk
from trial_pairs import ModelPairs, Pair, UttPairs, share

from rawnext.errors import ArgumentParser, run_main
from rawnext.files import write_lines

Trial = tuple[str, str, tuple[str, ...]]  # enroll, test of the target trial, tests of the nontarget trials


class Speakers:
    """Utterances by speaker, their sessions (none: each utterance its own), and speakers by gender ("" if unknown)."""

    def __init__(self, folder: Path, by_session: bool = False):
        """Read utt2spk, spk2gender if it exists, and utt2session if by_session; a fault ends the program."""
        faults = Faults()
        utt2spk = read_utt2spk(folder, faults)
        self.spk2utt = group_by_speaker(utt2spk)
        self.utt2session = self._read(folder / "utt2session", utt2spk, faults) if by_session else {}
        genders = folder / "spk2gender"
        spk2gender = self._read(genders, self.spk2utt, faults) if genders.exists() else {}
        self.gender = {spk: spk2gender.get(spk, "") for spk in self.spk2utt}
        self.by_gender: dict[str, list[str]] = {}
        for spk, gender in self.gender.items():
            self.by_gender.setdefault(gender, []).append(spk)
        if len(self.spk2utt) == 1:
            faults.add(folder / "utt2spk", None, "has only one speaker: there are no nontarget trials")
        elif self.spk2utt and max(len(self.groups(spk)) for spk in self.spk2utt) < 2:
            where, what = ("utt2session", "sessions") if by_session else ("utt2spk", "utterances")
            faults.add(folder / where, None, f"no speaker has two {what}: there are no target trials")
        faults.exit_if_any()

    @staticmethod
    def _read(path: Path, keys: Iterable[str], faults: Faults) -> dict[str, str]:
        table = {key: value for _, (key, value) in read_rows(path, faults, num_fields=2)}
        if table and (lacking := set(keys) - table.keys()):
            faults.add(path, None, f"{min(lacking)} of utt2spk is missing")
        return table

    def groups(self, spk: str) -> list[list[str]]:
        """A speaker's utterances by session."""
        groups: dict[str, list[str]] = {}
        for utt in self.spk2utt[spk]:
            groups.setdefault(self.utt2session.get(utt, utt), []).append(utt)
        return list(groups.values())

    def impostors(self, spk: str, same_gender: bool) -> list[str]:
        """All speakers of this speaker's gender (including the speaker), or those of the other gender."""
        own = self.gender[spk]
        if same_gender:
            return self.by_gender[own]
        return next((spks for gender, spks in self.by_gender.items() if gender != own), [])


class Drawer:
    """Draws the trials of all speakers. pairs: the possible target trials of each speaker."""

    def __init__(self, speakers: Speakers, pairs: dict[str, UttPairs] | dict[str, ModelPairs], rng: random.Random):
        self.speakers, self.pairs, self.rng = speakers, pairs, rng
        self.used: set[frozenset[str]] = set()

    def targets(self, spk: str, num: int) -> Iterator[Pair]:
        """Different target trials of one speaker, in a random order; utterances change sides at random."""
        for number in self.rng.sample(range(len(self.pairs[spk])), num):
            pair = list(self.pairs[spk][number])
            if self.pairs[spk].can_swap:
                self.rng.shuffle(pair)
            yield pair[0], pair[1]

    def nontarget(self, enroll: str, spk: str, impostors: list[str]) -> str | None:
        """An utterance of an impostor other than `spk` that is not yet paired with `enroll`; None if none is left."""
        for _ in range(20 if impostors else 0):
            other = self.rng.choice(impostors)
            test = self.rng.choice(self.pairs[other].tests)
            if other != spk and frozenset((enroll, test)) not in self.used:
                return test
        # nearly all are used, so the set is small: search all of it
        left = [test for other in impostors if other != spk for test in self.pairs[other].tests
                if frozenset((enroll, test)) not in self.used]
        return self.rng.choice(left) if left else None

    def trials(self, nums: Iterable[int], num_nontargets: int, same_gender: bool) -> Iterator[Trial]:
        """Trials sorted by speaker and enrollment utterance. nums: target trials of each speaker.

        A target trial has no nontarget trials, (), if too few of them are left.
        """
        turn = itertools.cycle([True] if same_gender else [True, False])
        for (spk, pairs), num in zip(self.pairs.items(), nums):
            impostors = {same: self.speakers.impostors(spk, same) for same in (True, False)}
            trials = []
            for pair in self.targets(spk, num):
                sides, tests = [pair, pair[::-1]] if pairs.can_swap else [pair], list[str]()
                for wish in itertools.islice(turn, num_nontargets):
                    for same, side in itertools.product([wish] if same_gender else [wish, not wish], sides):
                        if other := self.nontarget(side[0], spk, impostors[same]):
                            self.used.add(frozenset((side[0], other)))
                            sides, tests = [side], [*tests, other]
                            break
                trials.append((*sides[0], tuple(tests) if len(tests) == num_nontargets else ()))
            yield from sorted(trials)


def write_trials(path: Path, trials: Iterable[Trial], models: dict[str, list[str]]) -> None:
    """Write the list, and the table of its models if it has any."""
    table = path.with_name(f"{path.name}.enroll")
    if models:
        used = sorted({enroll for enroll, _, _ in trials}, key=str.encode)
        write_lines(table, (f"{model} {' '.join(sorted(models[model], key=str.encode))}" for model in used))
    elif table.exists():
        table.unlink()
    write_lines(path, (line for enroll, test, others in trials
                       for line in (f"{enroll} {test} target", *(f"{enroll} {other} nontarget" for other in others))))


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="random seed; default: 1")
    number = parser.add_mutually_exclusive_group()
    number.add_argument("--targets-per-speaker", type=int, default=160, metavar="N",
                        help="maximum number of target trials per speaker; default: 160")
    number.add_argument("--num-targets", type=int, metavar="N", 
                        help="total number of target trials, spread evenly over speakers")
    parser.add_argument("--nontargets", type=int, default=1, metavar="N", 
                        help="nontarget trials per target trial; default: 1")
    parser.add_argument("--same-gender", action="store_true", help="draw nontarget trials within one gender only")
    parser.add_argument("--different-session", action="store_true",
                        help="draw target trials across sessions only, by DATA_DIR/utt2session")
    parser.add_argument("--enroll-utts", type=int, metavar="N", help="utterances per model; default: no models")
    parser.add_argument("data_dir", type=Path, help="data directory to draw from")
    parser.add_argument("out_trials", type=Path, help="trial list to write")
    options = parser.parse_args()
    for name in ("targets_per_speaker", "num_targets", "nontargets", "enroll_utts"):
        if (value := getattr(options, name)) is not None and value < 1:
            parser.error(f"--{name.replace('_', '-')} must be at least 1")
    speakers = Speakers(options.data_dir, options.different_session)
    if options.same_gender and "" in speakers.by_gender:
        sys.exit(f"{options.data_dir / 'spk2gender'}: no such file; --same-gender needs it")
    run(options, speakers, random.Random(options.seed))


def run(options: argparse.Namespace, speakers: Speakers, rng: random.Random) -> None:
    """Draw and write the list, and report its size."""
    models: dict[str, list[str]] = {}
    pairs: dict[str, UttPairs] | dict[str, ModelPairs]
    if size := options.enroll_utts:
        pairs = {spk: ModelPairs(spk, speakers.groups(spk), size, rng) for spk in speakers.spk2utt}
        models = {name: utts for of_spk in pairs.values() for name, utts in of_spk.models.items()}
        if not models:
            sys.exit(f"{options.data_dir / 'utt2spk'}: no speaker has {size} utterances to enroll and others to test")
        if clash := next((utt for utts in speakers.spk2utt.values() for utt in utts if utt in models), None):
            sys.exit(f"{options.data_dir / 'utt2spk'}: {clash} would also be the name of a model")
    else:
        pairs = {spk: UttPairs(speakers.groups(spk)) for spk in speakers.spk2utt}
    most = [len(of_spk) for of_spk in pairs.values()]
    if (wanted := options.num_targets or 0) > sum(most):
        sys.exit(f"{options.data_dir / 'utt2spk'}: {wanted} target trials requested, only {sum(most)} are possible")
    nums = share(wanted, most) if wanted else [min(num, options.targets_per_speaker) for num in most]
    drawn = list(Drawer(speakers, pairs, rng).trials(nums, options.nontargets, options.same_gender))
    trials = [trial for trial in drawn if trial[2]]
    if not trials:
        sys.exit(f"{options.data_dir / 'spk2gender'}: no gender has two speakers: there are no nontarget trials")
    write_trials(options.out_trials, trials, models)
    if len(trials) < len(drawn):
        print(f"make_trials.py: left out {len(drawn) - len(trials)} target trials: too few nontarget trials are left",
              file=sys.stderr)
    print(f"make_trials.py: wrote {options.out_trials}: {len(trials)} target and {len(trials) * options.nontargets} "
          f"nontarget trials of {len(speakers.gender)} speakers", file=sys.stderr)


if __name__ == "__main__":
    run_main(main)
