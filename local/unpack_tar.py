#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Unpack a downloaded tar archive (plain or compressed) into a folder, which appears only when it is complete.

  local/unpack_tar.py data/speechocean762.tar.gz data/unpacked

Names and links that leave the folder, and devices, are refused (tarfile's filter "data", PEP 706).
"""

import argparse
import lzma
import os
import shutil
import tarfile
import zlib
from pathlib import Path

from rawnext.errors import InputError, run_main

DAMAGE = (tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, ValueError, OSError)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("archive", type=Path)
    parser.add_argument("folder", type=Path, help="must not exist")
    options = parser.parse_args()
    if not hasattr(tarfile, "data_filter"):
        raise InputError(options.archive, None, "this Python cannot unpack safely; use 3.10.12, 3.11.4, or later")
    if options.folder.exists():
        raise InputError(options.folder, None, "exists already")
    temporary = options.folder.with_name(f".{options.folder.name}.{os.getpid()}.tmp")
    try:
        with tarfile.open(options.archive) as tar:
            tar.extractall(temporary, filter="data")
            while tar.fileobj and tar.fileobj.read(1 << 20):  # the checksum comes last
                pass
        os.replace(temporary, options.folder)
    except DAMAGE as error:
        why = getattr(error, "strerror", None) or " ".join(str(error).split()) or type(error).__name__
        raise InputError(options.archive, None, f"cannot be unpacked: {why}") from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


if __name__ == "__main__":
    run_main(main)
