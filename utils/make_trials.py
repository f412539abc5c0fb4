#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Draw a balanced list of target and nontarget trials from a data directory's utt2spk.

  utils/make_trials.py --seed 1 data/dev data/dev/trials/dev
  utils/make_trials.py --enroll-utts 3 --different-session data/dev data/dev/trials_3utt

Each target trial comes with nontarget trials of the same enrollment utterance. If there is a spk2gender, every other
nontarget trial is of the same gender (all of them with --same-gender). No pair of utterances stands twice, in
whichever order. The same seed and data give the same list.

With --enroll-utts N the enroll side is of models of N utterances, SPK-m001, ...; OUT_TRIALS.enroll says which, in lines
`model utt utt ...`. Half of each speaker's utterances go there, and the test side is of the others only.
"""

import argparse
import itertools
import os
import random
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from trial_pairs import ModelPairs, Pair, UttPairs, share
from validate_data_dir import Faults, read_rows

Trial = tuple[str, str, tuple[str, ...]]  # enroll, test of the target trial, tests of the nontarget trials


class Speakers:
    """Utterances by speaker, their sessions (none: each utterance its own), and speakers by gender ("" if unknown)."""

    def __init__(self, spk2utt: dict[str, list[str]], utt2session: dict[str, str], spk2gender: dict[str, str]):
        self.spk2utt, self.utt2session = spk2utt, utt2session
        self.gender = {spk: spk2gender.get(spk, "") for spk in spk2utt}
        self.by_gender: dict[str, list[str]] = {}
        for spk in spk2utt:
            self.by_gender.setdefault(self.gender[spk], []).append(spk)

    def groups(self, spk: str) -> list[list[str]]:
        """A speaker's utterances by session."""
        groups: dict[str, list[str]] = {}
        for utt in self.spk2utt[spk]:
            groups.setdefault(self.utt2session.get(utt, utt), []).append(utt)
        return list(groups.values())

    def impostors(self, spk: str, same_gender: bool) -> list[str]:
        """All speakers of this speaker's gender (itself among them), or those of the other gender."""
        own = self.gender[spk]
        if same_gender:
            return self.by_gender[own]
        return next((spks for gender, spks in self.by_gender.items() if gender != own), [])


def read_speakers(folder: Path, by_session: bool = False) -> Speakers:
    """Read utt2spk, if there spk2gender, and utt2session if by_session; a fault ends the program."""
    faults = Faults()
    utt2spk = {utt: spk for _, (utt, spk) in read_rows(folder / "utt2spk", faults, num_fields=2, num_ids=2)}
    tables = {}
    for name, wanted, keys in (("spk2gender", (folder / "spk2gender").exists(), utt2spk.values()),
                               ("utt2session", by_session, utt2spk)):
        rows = read_rows(folder / name, faults, num_fields=2) if wanted else []
        tables[name] = {key: value for _, (key, value) in rows}
        if rows and (lacking := set(keys) - tables[name].keys()):
            faults.add(folder / name, None, f"{min(lacking)} of utt2spk is missing")
    spk2utt: dict[str, list[str]] = {}
    for utt, spk in utt2spk.items():
        spk2utt.setdefault(spk, []).append(utt)
    speakers = Speakers(spk2utt, tables["utt2session"], tables["spk2gender"])
    if len(spk2utt) == 1:
        faults.add(folder / "utt2spk", None, "has one speaker only: there are no nontarget trials")
    elif spk2utt and max(len(speakers.groups(spk)) for spk in spk2utt) < 2:
        where, what = ("utt2session", "sessions") if by_session else ("utt2spk", "utterances")
        faults.add(folder / where, None, f"no speaker has two {what}: there are no target trials")
    faults.exit_if_any()
    return speakers


class Drawer:
    """Draws the trials of all speakers; pairs: each speaker's possible target trials."""

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
        """An utterance of an impostor other than `spk` that was not yet paired with `enroll`, or None if none is."""
        for _ in range(20 if impostors else 0):
            other = self.rng.choice(impostors)
            test = self.rng.choice(self.pairs[other].tests)
            if other != spk and frozenset((enroll, test)) not in self.used:
                return test
        # nearly all are used, which takes a small set: look at every one
        left = [test for other in impostors if other != spk for test in self.pairs[other].tests
                if frozenset((enroll, test)) not in self.used]
        return self.rng.choice(left) if left else None

    def trials(self, nums: Iterable[int], num_nontargets: int, same_gender: bool) -> Iterator[Trial]:
        """By speaker and enrollment utterance, so many targets of each speaker; a target without all of its
        nontarget trials, as too few are left, has ()."""
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


def write_lines(path: Path, lines: Iterable[str]) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "w", encoding="utf-8") as file:
            file.writelines(f"{line}\n" for line in lines)
        os.replace(temporary, path)
    except OSError as error:
        sys.exit(f"{path}: cannot be written: {error.strerror}")
    finally:
        temporary.unlink(missing_ok=True)


def write_trials(path: Path, trials: Iterable[Trial], models: dict[str, list[str]]) -> None:
    """The list, and beside it the table of its models, if it has any."""
    table = path.with_name(f"{path.name}.enroll")
    if models:
        used = sorted({enroll for enroll, _, _ in trials}, key=str.encode)
        write_lines(table, (f"{model} {' '.join(sorted(models[model], key=str.encode))}" for model in used))
    elif table.exists():
        table.unlink()
    write_lines(path, (line for enroll, test, others in trials
                       for line in (f"{enroll} {test} target", *(f"{enroll} {other} nontarget" for other in others))))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1, help="default: 1")
    number = parser.add_mutually_exclusive_group()
    number.add_argument("--targets-per-speaker", type=int, default=160, help="at most; default: 160")
    number.add_argument("--num-targets", type=int, metavar="N", help="in all, as evenly of the speakers as they allow")
    parser.add_argument("--nontargets", type=int, default=1, metavar="N", help="of each target trial; default: 1")
    parser.add_argument("--same-gender", action="store_true", help="only nontarget trials of one gender")
    parser.add_argument("--different-session", action="store_true",
                        help="only target trials across sessions, by DATA_DIR/utt2session")
    parser.add_argument("--enroll-utts", type=int, metavar="N", help="utterances of a model; default: no models")
    parser.add_argument("data_dir", type=Path)
    parser.add_argument("out_trials", type=Path)
    options = parser.parse_args()
    for name in ("targets_per_speaker", "num_targets", "nontargets", "enroll_utts"):
        if (value := getattr(options, name)) is not None and value < 1:
            parser.error(f"--{name.replace('_', '-')} must be at least 1")
    speakers = read_speakers(options.data_dir, options.different_session)
    if options.same_gender and "" in speakers.by_gender:
        sys.exit(f"{options.data_dir / 'spk2gender'}: no such file, --same-gender needs it")
    run(options, speakers, random.Random(options.seed))


def run(options: argparse.Namespace, speakers: Speakers, rng: random.Random) -> None:
    """Draw and write the list, and say what it is."""
    models: dict[str, list[str]] = {}
    pairs: dict[str, UttPairs] | dict[str, ModelPairs]
    if size := options.enroll_utts:
        pairs = {spk: ModelPairs(spk, speakers.groups(spk), size, rng) for spk in speakers.spk2utt}
        models = {name: utts for of_spk in pairs.values() for name, utts in of_spk.models.items()}
        if not models:
            sys.exit(f"{options.data_dir / 'utt2spk'}: no speaker has {size} utterances to enroll and others to test")
        if clash := next((utt for utts in speakers.spk2utt.values() for utt in utts if utt in models), None):
            sys.exit(f"{options.data_dir / 'utt2spk'}: {clash} would be the name of a model too")
    else:
        pairs = {spk: UttPairs(speakers.groups(spk)) for spk in speakers.spk2utt}
    most = [len(of_spk) for of_spk in pairs.values()]
    if (wanted := options.num_targets or 0) > sum(most):
        sys.exit(f"{options.data_dir / 'utt2spk'}: {wanted} target trials are wanted, there are {sum(most)}")
    nums = share(wanted, most) if wanted else [min(num, options.targets_per_speaker) for num in most]
    drawn = list(Drawer(speakers, pairs, rng).trials(nums, options.nontargets, options.same_gender))
    trials = [trial for trial in drawn if trial[2]]
    if not trials:
        sys.exit(f"{options.data_dir / 'spk2gender'}: no gender has two speakers: there are no nontarget trials")
    write_trials(options.out_trials, trials, models)
    if len(trials) < len(drawn):
        print(f"make_trials.py: {len(drawn) - len(trials)} target trials left out, no nontarget trial is left to go "
              "with them", file=sys.stderr)
    print(f"make_trials.py: wrote {options.out_trials}: {len(trials)} target and {len(trials) * options.nontargets} "
          f"nontarget trials of {len(speakers.gender)} speakers", file=sys.stderr)


if __name__ == "__main__":
    main()
