#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Print the versions of all that this project needs and that is installed here, as constraints for pip.

  utils/lock.py > requirements.lock      (or: make lock)

Read from what the packages themselves say they need, from rawnext on, with all of its extras; other packages of the
environment stay out. Local version labels are cut off (2.13.0+cpu is 2.13.0): which build is fetched is the index's.
"""

import argparse
import importlib.metadata
import re
import sys

BESIDE = ("torchaudio",)     # installed by utils/setup_env.sh, for the reason that stands there


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    try:
        lines = locked("rawnext")
    except importlib.metadata.PackageNotFoundError:
        sys.exit("lock.py: rawnext is not installed here; make env, then . ./path.sh")
    print(f"# python {sys.version_info.major}.{sys.version_info.minor}",
          "# what the tests were run with: constraints of utils/setup_env.sh, written by utils/lock.py", *lines,
          sep="\n")


def locked(root: str) -> list[str]:
    """`name==version` of all that `root` needs, sorted by name."""
    found: dict[str, str] = {}
    own = importlib.metadata.metadata(root)
    todo = [(name, ()) for name in BESIDE] + list(needs(root, tuple(own.get_all("Provides-Extra") or ())))
    seen = set()
    while todo:
        name, extras = todo.pop()
        if (name, extras) in seen:
            continue
        seen.add((name, extras))
        try:
            found[name] = importlib.metadata.version(name).split("+")[0]
        except importlib.metadata.PackageNotFoundError:     # of another system or Python
            continue
        if name not in BESIDE:
            todo += needs(name, extras)
    return [f"{name}=={version}" for name, version in sorted(found.items()) if name != root]  # which names its extras


def needs(name: str, extras: tuple[str, ...]) -> list[tuple[str, tuple[str, ...]]]:
    """(package, its extras) of each requirement of a package, of its own extras only those that are wanted."""
    found = []
    for text in importlib.metadata.requires(name) or ():
        match = re.match(r"([\w.-]+)\s*(?:\[([\w.,\s-]*)\])?", text)
        extra = re.search(r"""extra\s*==\s*["']([\w.-]+)["']""", text)
        if match and (not extra or normal(extra[1]) in map(normal, extras)):
            found.append((normal(match[1]), tuple(re.findall(r"[\w.-]+", match[2] or ""))))
    return found


def normal(name: str) -> str:
    """A package's name as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


if __name__ == "__main__":
    main()
