#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Speed of training, input, extraction, scoring and start-up, as ratios of programs that are timed alternately.

bench/performance.py [training input_pipeline extraction scoring startup]

Prints the machine and, for each part, a table of ratios, a table of the cost as work grows, and notes
(docs/explanation/performance.md). Each part is a module of bench/ and runs in its own process. bench/gpu.sh measures
training and extraction on a GPU.
"""

import argparse
import subprocess
import sys

from rawnext.stamp import stamp

PARTS = ("training", "input_pipeline", "extraction", "scoring", "startup")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)} (default: all)")
    parts = parser.parse_args().parts
    if unknown := set(parts) - set(PARTS):
        parser.error(f"no part {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    facts = stamp()
    print(f"{facts['hardware']}, {facts['date'][:10]}, commit {facts['commit']}", flush=True)
    for part in parts or PARTS:
        code = f"from bench import timing, {part}; timing.print_part({part})"
        if status := subprocess.run([sys.executable, "-c", code]).returncode:
            sys.exit(f"performance.py: {part} failed, exit status {status}")


if __name__ == "__main__":
    main()
