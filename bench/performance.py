#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Speed of training, input, extraction, scoring and start-up, as ratios of programs that are timed alternately.

bench/performance.py [training input_pipeline extraction scoring startup]

Prints the machine, a table of ratios, a table of the cost as work grows, and notes (docs/explanation/performance.md).
With a GPU the training part also measures bf16 and torch.compile. Each part is a module of bench/ and runs in its own
process.
"""

import argparse
import importlib
import json
import subprocess
import sys

PARTS = ("training", "input_pipeline", "extraction", "scoring", "startup")


def measure(part: str) -> None:
    """Print a part's rows as JSON."""
    module = importlib.import_module(f"bench.{part}")
    print(json.dumps({name: getattr(module, name, list)() for name in ("rows", "growth_rows", "notes")}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json-of", choices=PARTS, help=argparse.SUPPRESS)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)} (default: all)")
    args = parser.parse_args()
    if args.json_of:
        return measure(args.json_of)
    if unknown := set(args.parts) - set(PARTS):
        parser.error(f"no part {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")

    from bench.timing import Growth, Ratio, growth_table, ratio_table
    from rawnext.stamp import stamp

    found = {}
    for part in args.parts or PARTS:
        print(f"performance.py: {part}", file=sys.stderr)
        done = subprocess.run([sys.executable, __file__, "--json-of", part], stdout=subprocess.PIPE, text=True)
        if done.returncode:
            sys.exit(f"performance.py: {part} failed, exit status {done.returncode}")
        found[part] = json.loads(done.stdout.splitlines()[-1])
    facts = stamp()
    print(f"{facts['hardware']}, {facts['date'][:10]}, commit {facts['commit']}\n")
    print(*ratio_table(Ratio(*row) for part in found.values() for row in part["rows"]), "", sep="\n")
    print(*growth_table(Growth(*row) for part in found.values() for row in part["growth_rows"]), sep="\n")
    for name, part in found.items():
        print(*(f"\n{name}: {line}" for line in part["notes"]), sep="", end="")
    print()


if __name__ == "__main__":
    main()
