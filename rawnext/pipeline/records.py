# SPDX-License-Identifier: Apache-2.0
"""Which commands need not run again: EXP/made/ has a record of each, with its command line, its inputs and its outputs.

An output is up to date if the record has the same command, and every input and output has the content that it had.
Contents are compared by SHA-256, but a file whose size, times and inode are those of the record is not read again.
"""

import functools
import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rawnext.errors import InputError, warn
from rawnext.files import write_lines
from rawnext.identity import arks_of, versions
from rawnext.stamp import ROOT, sha256

# What an input or output may be besides a file:
CODE = "code"  # the source of rawnext/ and steps/
AUDIO = "audio:"  # AUDIO + data directory: size and time of every file in its wav.scp, and of those its commands name
EMBEDDINGS = "embeddings:"  # EMBEDDINGS + folder: embedding.scp, its archives in the folder, the speakers' embeddings
CONTENT = "content:"  # CONTENT + data directory: as AUDIO, with the content of the files in place of their times
Identity = list[Any] | None  # [status, SHA-256]; None: there is no such file


class Task(NamedTuple):
    """A command, the files it reads and writes.

    command: its words, without what does not change its outputs.   inputs, outputs: files, or CODE, AUDIO, CONTENT,
    EMBEDDINGS; an input may be missing. The record is named after the first output.   stale: files made from earlier
    outputs, which are deleted before the command runs.
    """

    command: tuple[str, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    stale: tuple[str, ...] = ()


class Pending(NamedTuple):
    """A task that is to be done, with the identities of its inputs before it began, and its record's file.

    spoilt: an output is there with another content than the command wrote.
    """

    task: Task
    inputs: dict[str, Identity]
    record: Path
    spoilt: bool = False


def status_of(path: str) -> list[Any] | None:
    """Size, times and inode of a file, or of each file of EMBEDDINGS; None if it is missing."""
    if path.startswith(EMBEDDINGS):
        files = embedding_files(path.removeprefix(EMBEDDINGS))
        return [[file, status_of(file)] for file in files] if files else None
    try:
        status = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]


@functools.cache
def identity(path: str) -> Identity:
    """Status and content of an input; each is read once in a process."""
    if path == CODE:
        return [None, code()]
    if path.startswith((AUDIO, CONTENT)):
        return [None, audio(path.partition(":")[2], path.startswith(CONTENT))]
    status = status_of(path)
    if status is not None and path.startswith(EMBEDDINGS):
        return [status, [(now := identity(file)) and now[1] for file, _ in status]]
    return None if status is None else [status, sha256(path)]


def embedding_files(folder: str) -> list[str]:
    """An embedding.scp, the archives that it names, and the speakers' mean embeddings if there are such; none if it
    names archives of another folder, although this one has them, as after a copy or move."""
    names = [f"{folder}/{name}" for name in ("embedding.scp", "spk_embedding.scp", "spk_embedding.ark", "num_utts.ark")]
    found = [path for path in names if os.path.exists(path)]
    arks = [ark for path in found[:2] if path.endswith(".scp") for ark in arks_of(path)]
    own = {str(ark): f"{folder}/{ark.name}" for ark in arks if os.path.exists(f"{folder}/{ark.name}")}
    if names[0] not in found or any(os.path.realpath(ark) != os.path.realpath(path) for ark, path in own.items()):
        return []
    return list(dict.fromkeys([names[0], *(own.get(str(ark), str(ark)) for ark in arks), *found]))


def code() -> str:
    """SHA-256 over the source of the library and of the steps."""
    digest = hashlib.sha256()
    for path in sorted(path for top in ("rawnext", "steps") for path in (ROOT / top).rglob("*")
                       if path.suffix in (".py", ".jinja", ".css", ".js")):
        digest.update(f"{path.relative_to(ROOT)} {path.stat().st_size}\n".encode() + path.read_bytes())
    return digest.hexdigest()


def audio(data_dir: str, checksum: bool) -> str:
    """SHA-256 over path, size and time of each line of wav.scp; warns of commands, whose output may also change.

    Args: checksum: the files' content in place of their times.
    """
    digest, path, pipes = hashlib.sha256(), Path(data_dir) / "wav.scp", 0
    try:
        with open(path, encoding="utf-8") as file:
            for line in file:
                source = line.partition(" ")[2].strip()
                pipes += source.endswith("|")
                digest.update(f"{line}{versions(source, checksum)}\n".encode())
    except OSError:
        return ""
    if pipes:
        warn(path, f"{pipes} recordings come from commands: a change of the files that they name is noticed, any other "
                   "change of their output is not (--stage N --again true makes a stage's files again)")
    return digest.hexdigest()


def is_same(path: str, then: Identity) -> bool:
    """Has this file the content that the record has?"""
    if then and then[0] is not None and status_of(path) == then[0]:
        return True
    now = identity(path)
    return (now and now[1]) == (then and then[1])


def read_record(path: Path) -> dict[str, Any]:
    """A record; empty if there is none, or it is damaged."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    parts = ("inputs", "outputs", "command")
    return record if isinstance(record, dict) and all(part in record for part in parts) else {}


def up_to_date(task: Task, record: dict[str, Any]) -> bool:
    return bool(record and record["command"] == list(task.command)
                and record["inputs"].keys() == set(task.inputs) and record["outputs"].keys() == set(task.outputs)
                and all(is_same(path, then) for path, then in record["outputs"].items())
                and all(is_same(path, then) for path, then in record["inputs"].items()))


def pending(exp: Path, tasks: Iterable[Task], again: bool = False) -> list[Pending]:
    """The tasks that are not up to date, or all of them."""
    found = []
    for task in tasks:
        first = task.outputs[0]
        if first.startswith(EMBEDDINGS):
            first = f"{first.removeprefix(EMBEDDINGS)}/embedding.scp"
        record = exp / "made" / os.path.relpath(first, exp)
        then = read_record(record)
        if again or not up_to_date(task, then):
            made = [(path, then["outputs"][path]) for path in task.outputs if path in then.get("outputs", {})]
            spoilt = any(identity(path) and not is_same(path, was) for path, was in made)
            found.append(Pending(task, {path: identity(path) for path in task.inputs}, record, spoilt))
    return found


def begin(item: Pending, begun: bool) -> None:
    """Record the inputs of a command that continues its earlier work, before its first run.

    Args: begun: there is earlier work, such as checkpoints.
    Raises: InputError: the audio has changed since that was begun.
    """
    then = read_record(item.record).get("inputs", {}) if begun else {}
    for path, now in item.inputs.items():
        if path.startswith((AUDIO, CONTENT)) and path in then and then[path] != now:
            raise InputError(path.partition(":")[2], None,
                             f"its audio has changed since the training of {item.task.outputs[0]} began; --stage 3 "
                             f"--again true trains again; to keep the model, or train it further, delete {item.record}")
    if not then:
        write_record(item, item.inputs, {})


def write_record(item: Pending, inputs: dict[str, Identity], outputs: dict[str, Identity]) -> None:
    record = {"command": item.task.command, "inputs": inputs, "outputs": outputs}
    write_lines(item.record, [json.dumps(record, indent=1, ensure_ascii=False)])


def finish(item: Pending) -> str:
    """Record that a task has been done.

    Returns: a warning if its command has left the first output as it was, and the inputs are others than those that it
        was made from; empty otherwise.
    Raises: InputError: an output is missing.
    """
    task, then = item.task, read_record(item.record)
    first = task.outputs[0]
    if missing := [path for path in task.outputs if status_of(path) is None]:
        raise InputError(missing[0], None, "was not written")
    if then and then["outputs"].get(first) is not None and status_of(first) == then["outputs"][first][0]:
        changed = [path for path, now in item.inputs.items() if path in then["inputs"]  # AUDIO became CONTENT
                   and (now and now[1]) != ((old := then["inputs"][path]) and old[1])]
        if changed or then["command"] != list(task.command):
            return f"{first} was kept, but {changed[0] if changed else 'its options'} changed since it was made"
    identity.cache_clear()
    write_record(item, item.inputs, {path: identity(path) for path in task.outputs})
    return ""


def write_pending(path: Path, items: Sequence[Pending]) -> None:
    write_lines(path, (json.dumps([*item[:2], str(item.record), item.spoilt], ensure_ascii=False) for item in items))


def read_pending(path: Path) -> list[Pending]:
    """Raises: InputError: it is missing, or not what write_pending writes."""
    try:
        lines = map(json.loads, path.read_text(encoding="utf-8").splitlines())
        return [Pending(Task(*map(tuple, task)), inputs, Path(record), spoilt)
                for task, inputs, record, spoilt in lines]
    except (OSError, ValueError, TypeError) as error:
        raise InputError(path, None, f"not a list of tasks: {error}") from None
