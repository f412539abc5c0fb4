#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Unpack a downloaded tar archive (plain or compressed) into a folder, which appears only when it is complete.

  local/unpack_tar.py data/speechocean762.tar.gz data/unpacked

Names and links that leave the folder, and devices, are refused (tarfile's filter "data", PEP 706).
"""

from pathlib import Path

from rawnext.download import unpack
from rawnext.errors import ArgumentParser, InputError, run_main


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("archive", type=Path)
    parser.add_argument("folder", type=Path, help="must not exist")
    options = parser.parse_args()
    if options.folder.exists():
        raise InputError(options.folder, None, "exists already")
    unpack(options.archive, options.folder)


if __name__ == "__main__":
    run_main(main)
