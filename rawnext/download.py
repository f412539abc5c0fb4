# SPDX-License-Identifier: Apache-2.0
"""Models at an address: an https archive with its sha256, or a repository of the Hugging Face Hub."""

import contextlib
import hashlib
import lzma
import os
import re
import shutil
import tarfile
import tempfile
import time
import urllib.request
import zlib
from collections.abc import Iterator
from http.client import HTTPException
from pathlib import Path
from urllib.error import URLError
from urllib.parse import urlsplit

from rawnext.errors import InputError
from rawnext.files import writable

NEEDED = ("config.yaml", "model.safetensors")  # the files of an exported model
FILES = [*NEEDED, "train_info.json", "calibration/*.json", "calibration/*.npy"]
MODEL_BYTES = 1 << 30  # of an archive, and of its content
TIMEOUT_S = 30
ABANDONED_S = 86400  # age of an unfinished download whose process was killed
LOOPBACK = ("localhost", "127.0.0.1", "::1")
DAMAGE = (tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, ValueError, OSError)


def download(address: str) -> Path:
    """The folder of the model at an address, which is downloaded unless it is in the cache.

    Args: address: https://HOST/ARCHIVE#sha256=HEX, a tar archive of an exported model, plain or compressed; or
        hf:OWNER/NAME or hf:OWNER/NAME@REVISION, a repository of the Hugging Face Hub.
    Raises: InputError: there is no such file, no connection or no sha256; the file is another one, damaged, too large
        or no model; or huggingface_hub is not installed.
    """
    return from_hub(address) if address.startswith("hf:") else from_web(address)


def from_hub(address: str) -> Path:
    """See download. The library has a cache of its own, which it uses without a connection too."""
    repository, _, revision = address.removeprefix("hf:").partition("@")
    try:
        from huggingface_hub import snapshot_download
    except ImportError:
        raise InputError(address, None, "needs huggingface_hub: pip install 'rawnext[hub]'") from None
    try:
        folder = Path(snapshot_download(repository, revision=revision or None, allow_patterns=FILES))
    except Exception as error:  # the library's, and those of its HTTP client, have no common type
        why = " ".join(str(error).split())
        raise InputError(address, None, f"cannot be downloaded: {why[:300] or type(error).__name__}") from None
    return model_in(folder, address)


def from_web(address: str) -> Path:
    """See download. The folder in the cache has the name of the archive's sha256."""
    url, _, fragment = address.partition("#")
    pinned = re.fullmatch(r"sha256=([0-9a-f]{64})", fragment.lower())
    if not pinned:
        raise InputError(address, None, "needs the sha256 of the file at its end: #sha256=64 hexadecimal digits")
    folder = cache() / pinned[1]
    if folder.is_dir():
        return folder
    for left in folder.parent.glob(".new.*"):
        with contextlib.suppress(FileNotFoundError):  # another process has finished with it
            if left.stat().st_mtime < time.time() - ABANDONED_S:
                shutil.rmtree(left, ignore_errors=True)
    with writable(folder), tempfile.TemporaryDirectory(prefix=".new.", dir=folder.parent) as temporary:
        archive, digest = Path(temporary) / "archive", hashlib.sha256()
        with open(archive, "wb") as file:
            for block in blocks(url):
                file.write(block)
                digest.update(block)
        if digest.hexdigest() != pinned[1]:
            raise InputError(url, None, f"is another file: its sha256 is {digest.hexdigest()}")
        try:
            unpack(archive, Path(temporary) / "content", MODEL_BYTES)
        except InputError as error:
            raise InputError(url, None, error.why) from None
        found = model_in(Path(temporary) / "content", url)
        try:
            os.rename(found, folder)
        except OSError:
            if not folder.is_dir():  # otherwise another process was first
                raise
    return folder


def cache() -> Path:
    """The folder of downloaded archives: $RAWNEXT_CACHE, or rawnext in the user's cache, as XDG defines it."""
    of_user = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(os.environ.get("RAWNEXT_CACHE") or Path(of_user) / "rawnext")


def model_in(folder: Path, address: str) -> Path:
    """The folder itself, or its only folder, whichever has a model.   Raises: InputError: neither."""
    for path in (folder, *(path for path in folder.iterdir() if path.is_dir())):
        if all((path / name).is_file() for name in NEEDED):
            return path
    raise InputError(address, None, f"is not a model: there is no folder with {' and '.join(NEEDED)}")


def blocks(url: str) -> Iterator[bytes]:
    """The content of a file at an address.   Raises: InputError: it cannot be had, or is larger than MODEL_BYTES."""
    total = 0
    try:
        check_scheme(url)
        with urllib.request.build_opener(Redirects).open(url, timeout=TIMEOUT_S) as response:
            while block := response.read(1 << 20):
                total += len(block)
                if total > MODEL_BYTES:
                    raise InputError(url, None, f"is larger than {MODEL_BYTES >> 20} MiB")
                yield block
            if response.length:
                raise InputError(url, None, f"cannot be downloaded: {response.length} bytes are missing at its end")
    except (OSError, HTTPException, ValueError) as error:
        why = error.reason if type(error) is URLError else error  # the text of an HTTPError has its number
        raise InputError(url, None, f"cannot be downloaded: {why}") from None


class Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirections to addresses that check_scheme accepts."""

    def redirect_request(self, req, fp, code, msg, headers, newurl):
        check_scheme(newurl)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def check_scheme(url: str) -> None:
    """Raise InputError unless an address is encrypted or of this machine."""
    parts = urlsplit(url)
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in LOOPBACK):
        raise InputError(url, None, "want an address that begins with https://")


def unpack(archive: Path, folder: Path, most_bytes: int = 0) -> None:
    """Unpack a tar archive, plain or compressed, into a new folder, which appears only when it is complete.

    Names and links that leave the folder, and devices, are refused (tarfile's filter "data", PEP 706).
    Args: most_bytes: limit of the content; 0: none.
    Raises: InputError: the archive is damaged, too large or refused.
    """
    if not hasattr(tarfile, "data_filter"):
        raise InputError(archive, None, "this Python cannot unpack safely; use 3.11.4 or later")
    if archive.exists() and not archive.is_file():  # a FIFO would be waited for
        raise InputError(archive, None, "not a file")
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    try:
        with tarfile.open(archive) as tar:
            total = 0
            for member in tar if most_bytes else ():  # each header is read before the content that follows it
                total += member.size
                if total > most_bytes:
                    raise ValueError(f"it has more than {most_bytes >> 20} MiB")
            tar.extractall(temporary, filter="data")
            while tar.fileobj and tar.fileobj.read(1 << 20):  # the checksum comes last
                pass
        os.replace(temporary, folder)
    except DAMAGE as error:
        why = getattr(error, "strerror", None) or " ".join(str(error).split()) or type(error).__name__
        raise InputError(archive, None, f"cannot be unpacked: {why}") from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
