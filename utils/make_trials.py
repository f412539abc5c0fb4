#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Draw a balanced list of target and nontarget trials from a data directory's utt2spk.

  utils/make_trials.py --seed 1 data/dev data/dev/trials/dev

Each target trial comes with a nontarget trial of the same enrollment utterance. If there is a spk2gender, every other
nontarget trial is of the same gender (all of them with --same-gender). No pair of utterances stands twice, in
whichever order. The same seed and data give the same list.
"""

import argparse
import itertools
import math
import os
import random
import sys
from collections.abc import Iterator
from pathlib import Path

from validate_data_dir import Faults, read_rows

Pair = tuple[str, str]
Trial = tuple[str, str, str]  # enroll, test of the target trial, test of the nontarget trial


class Speakers:
    """Utterances by speaker, and speakers by gender (all of gender "" if none is known)."""

    def __init__(self, spk2utt: dict[str, list[str]], spk2gender: dict[str, str]):
        self.spk2utt = spk2utt
        self.gender = {spk: spk2gender.get(spk, "") for spk in spk2utt}
        self.by_gender: dict[str, list[str]] = {}
        for spk in spk2utt:
            self.by_gender.setdefault(self.gender[spk], []).append(spk)

    def impostors(self, spk: str, same_gender: bool) -> list[str]:
        """All speakers of this speaker's gender (itself among them), or those of the other gender."""
        own = self.gender[spk]
        if same_gender:
            return self.by_gender[own]
        return next((spks for gender, spks in self.by_gender.items() if gender != own), [])


def read_speakers(folder: Path) -> Speakers:
    """Read utt2spk and, if there, spk2gender; a fault ends the program."""
    faults = Faults()
    spk2utt: dict[str, list[str]] = {}
    for _, (utt, spk) in read_rows(folder / "utt2spk", faults, num_fields=2, num_ids=2):
        spk2utt.setdefault(spk, []).append(utt)
    spk2gender = {}
    if (folder / "spk2gender").exists():
        rows = read_rows(folder / "spk2gender", faults, num_fields=2)
        spk2gender = {spk: gender for _, (spk, gender) in rows}
        if lacking := spk2utt.keys() - spk2gender.keys():
            faults.add(folder / "spk2gender", None, f"{min(lacking)} of utt2spk is missing")
    if len(spk2utt) == 1:
        faults.add(folder / "utt2spk", None, "has one speaker only: there are no nontarget trials")
    elif spk2utt and max(map(len, spk2utt.values())) < 2:
        faults.add(folder / "utt2spk", None, "no speaker has two utterances: there are no target trials")
    faults.exit_if_any()
    return Speakers(spk2utt, spk2gender)


def draw_targets(utts: list[str], most: int, rng: random.Random) -> Iterator[Pair]:
    """Up to `most` different pairs of one speaker's utterances, each in a random order."""
    num_pairs = math.comb(len(utts), 2)
    for index in rng.sample(range(num_pairs), min(most, num_pairs)):
        # the pairs (0, 1), (0, 2), (1, 2), (0, 3), ... have the numbers 0, 1, 2, 3, ...
        second = (1 + math.isqrt(1 + 8 * index)) // 2
        pair = [utts[index - math.comb(second, 2)], utts[second]]
        rng.shuffle(pair)
        yield pair[0], pair[1]


def draw_nontarget(enroll: str, spk: str, impostors: list[str], speakers: Speakers, used: set[frozenset[str]],
                   rng: random.Random) -> str | None:
    """An utterance of an impostor other than `spk` that was not yet paired with `enroll`, or None if there is none."""
    for _ in range(20 if impostors else 0):
        other = rng.choice(impostors)
        test = rng.choice(speakers.spk2utt[other])
        if other != spk and frozenset((enroll, test)) not in used:
            return test
    # nearly all are used, which takes a small set: look at every one
    left = [test for other in impostors if other != spk for test in speakers.spk2utt[other]
            if frozenset((enroll, test)) not in used]
    return rng.choice(left) if left else None


def make_trials(speakers: Speakers, most: int, same_gender: bool, rng: random.Random) -> Iterator[Trial]:
    """Trials by speaker and enrollment utterance; a target trial without a nontarget one left to go with it has ""."""
    used: set[frozenset[str]] = set()
    turn = itertools.cycle([True] if same_gender else [True, False])
    for spk, utts in speakers.spk2utt.items():
        impostors = {same: speakers.impostors(spk, same) for same in (True, False)}
        trials = []
        for pair in draw_targets(utts, most, rng):
            wish, trial = next(turn), (*pair, "")
            for same, (enroll, test) in itertools.product([wish] if same_gender else [wish, not wish],
                                                          [pair, pair[::-1]]):
                if other := draw_nontarget(enroll, spk, impostors[same], speakers, used, rng):
                    used.add(frozenset((enroll, other)))
                    trial = enroll, test, other
                    break
            trials.append(trial)
        yield from sorted(trials)


def write_trials(path: Path, trials: list[Trial]) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "w", encoding="utf-8") as file:
            for enroll, test, other in trials:
                file.write(f"{enroll} {test} target\n{enroll} {other} nontarget\n")
        os.replace(temporary, path)
    except OSError as error:
        sys.exit(f"{path}: cannot be written: {error.strerror}")
    finally:
        temporary.unlink(missing_ok=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1, help="default: 1")
    parser.add_argument("--targets-per-speaker", type=int, default=160, help="at most; default: 160")
    parser.add_argument("--same-gender", action="store_true", help="only nontarget trials of one gender")
    parser.add_argument("data_dir", type=Path)
    parser.add_argument("out_trials", type=Path)
    options = parser.parse_args()
    if options.targets_per_speaker < 1:
        parser.error("--targets-per-speaker must be at least 1")
    speakers = read_speakers(options.data_dir)
    if options.same_gender and "" in speakers.by_gender:
        sys.exit(f"{options.data_dir / 'spk2gender'}: no such file, --same-gender needs it")
    rng = random.Random(options.seed)
    drawn = list(make_trials(speakers, options.targets_per_speaker, options.same_gender, rng))
    trials = [trial for trial in drawn if trial[2]]
    if not trials:
        sys.exit(f"{options.data_dir / 'spk2gender'}: no gender has two speakers: there are no nontarget trials")
    write_trials(options.out_trials, trials)
    if len(trials) < len(drawn):
        print(f"make_trials.py: {len(drawn) - len(trials)} target trials left out, no nontarget trial is left to go "
              "with them", file=sys.stderr)
    print(f"make_trials.py: wrote {options.out_trials}: {len(trials)} target and {len(trials)} nontarget trials of "
          f"{len(speakers.spk2utt)} speakers", file=sys.stderr)


if __name__ == "__main__":
    main()
