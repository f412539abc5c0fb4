# SPDX-License-Identifier: Apache-2.0
"""The command line that every job launcher shares: `[options] [JOB=1:N] log/x.JOB.log command args...`

Kaldi's contract (run.pl, queue.pl, slurm.pl): what the words mean, how they become one line of bash, the frame that
a log gets, and the messages and exit codes at the end. Each front door (run.py) only adds where the jobs run.
Exit codes: 0 all jobs succeeded, 1 a job failed, 2 stopped by a signal, 255 the command line makes no sense.
"""

import difflib
import os
import re
import signal
import sys
import time
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

PICKS = ("all", "failed", "incomplete")
# option -> smallest value
NUMBERS = {"--gpu": 0, "--num-threads": 1, "--num-nodes": 1, "--max-jobs-run": 1, "-tc": 1}
TEXTS = ("--mem", "--time", "--pick", "--config")
TAIL_LINES = 12
PROGRAM = Path(sys.argv[0]).name


class Refused(Exception):
    """The launcher gives up, for a reason of one line and with this exit code."""

    def __init__(self, why: str, code: int = 255):
        super().__init__(why)
        self.code = code


@dataclass
class Request:
    """One command line, read.

    `given` holds the options with two dashes as the user gave them, by their names in a config file (num_threads: "2");
    `other` those with one dash, which only a scheduler knows, each with its values.
    """

    log: str = ""
    command: str = ""
    name: str | None = None  # what JOB is called in this command line
    start: int = 1
    end: int = 1
    mem: str | None = None
    gpu: int = 0
    time: str | None = None
    num_threads: int | None = None
    num_nodes: int = 1
    max_jobs_run: int | None = None
    pick: str = "all"
    config: str | None = None
    given: dict[str, str] = field(default_factory=dict)
    other: list[list[str]] = field(default_factory=list)

    @property
    def jobs(self) -> range:
        return range(self.start, self.end + 1)

    def for_job(self, text: str, job: int | str) -> str:
        return text.replace(self.name, str(job)) if self.name else text

    def log_of(self, job: int) -> Path:
        return Path(self.for_job(self.log, job))

    def command_of(self, job: int) -> str:
        return self.for_job(self.command, job)


def say(message: str) -> None:
    print(f"{PROGRAM}: {message}", file=sys.stderr)


def quote(args: list[str]) -> str:
    """One line of bash from arguments, by Kaldi's rule.

    An argument without white space passes bare, so that `\\|` and `\\>` become a pipe and a redirection; any other
    is put in double quotes (bash still expands $x in it), or in single quotes if it holds a double quote itself.
    """
    words = []
    for arg in args:
        if re.fullmatch(r"\S+", arg, re.ASCII):
            words.append(arg)
        elif '"' in arg:
            words.append("'" + arg.replace("'", "'\\''") + "'")
        else:
            words.append(f'"{arg}"')
    return " ".join(words)


def parse(argv: list[str]) -> Request:
    """Read a command line.

    Raises: Refused: it makes no sense (255), or jobs that run side by side share one log file (1).
    """
    words, request = deque(argv), Request()
    while words:
        if words[0].startswith("-"):
            _take_option(words, request)
        elif not _take_range(words[0], request):
            break
        else:
            words.popleft()
    if len(words) < 2:
        raise Refused(f"usage: {PROGRAM} [options] [JOB=1:N] log/x.JOB.log command args...   ({PROGRAM} --help)")
    request.log = words.popleft()
    request.command = quote(list(words))
    if len(request.jobs) > 1 and request.for_job(request.log, "") == request.log:
        raise Refused("you are trying to run a parallel job but you are putting the output into just one log file "
                      f"({request.log})", 1)
    return request


def _take_option(words: deque[str], request: Request) -> None:
    """Take an option and its values from the front of the line."""
    option = words.popleft()
    num_values = {"-V": 0, "-pe": 2}.get(option, 1)
    if len(words) < num_values:
        raise Refused(f"option {option} lacks its value")
    values = [words.popleft() for _ in range(num_values)]
    attribute = "max_jobs_run" if option == "-tc" else option.lstrip("-").replace("-", "_")
    if option in NUMBERS:
        number = int(values[0]) if re.fullmatch(r"[0-9]+", values[0]) else -1
        if number < NUMBERS[option]:
            raise Refused(f"{option} takes a whole number from {NUMBERS[option]}, got '{values[0]}'")
        if attribute == "max_jobs_run":
            number = min(number, request.max_jobs_run or number)
        setattr(request, attribute, number)
    elif option in TEXTS:
        if option == "--pick" and values[0] not in PICKS:
            raise Refused(f"--pick takes {', '.join(PICKS)}, got '{values[0]}'")
        setattr(request, attribute, values[0])
    else:
        _warn_of_slip(option, values)
        if not option.startswith("--"):
            request.other.append([option, *values])
    if (option.startswith("--") or option == "-tc") and option not in ("--pick", "--config"):
        request.given[attribute] = str(getattr(request, attribute, values[0]))


def _warn_of_slip(option: str, values: list[str]) -> None:
    """Other options belong to other launchers and must pass; say so only where it smells of a mistake."""
    close = difflib.get_close_matches(option, [*NUMBERS, *TEXTS], n=1, cutoff=0.8)
    if close:
        say(f"warning: unknown option {option}; did you mean {close[0]}?")
    if values and values[0].startswith("--"):
        say(f"warning: {values[0]} is taken as the value of {option}")


def _take_range(word: str, request: Request) -> bool:
    """JOB=1:N or JOB=N; the name can be any identifier."""
    match = re.fullmatch(r"([A-Za-z_]\w*)=([0-9]+)(?::([0-9]+))?", word, re.ASCII)
    if not match:
        if re.fullmatch(r"\w+=([0-9:]*|[^/]*:[^/]*)", word):
            raise Refused(f"invalid job range '{word}', expected JOB=1:N (is the number of jobs empty?)")
        return False
    start, end = int(match[2]), int(match[3] or match[2])
    if not 1 <= start <= end:
        raise Refused(f"invalid job range '{word}', expected 1 <= start <= end")
    if request.name:
        raise Refused(f"two job ranges, the second is '{word}'")
    request.name, request.start, request.end = match[1], start, end
    return True


def date() -> str:
    return time.strftime("%a %b %e %H:%M:%S %Z %Y")


def head(command: str) -> bytes:
    """What stands above a job's output."""
    return os.fsencode(f"# {command}\n# Started at {date()}\n#\n")


def foot(returncode: int, seconds: int, threads: int) -> bytes:
    """What stands below a job's output. returncode: as subprocess gives it, negative for a signal."""
    status = f"code {returncode}" if returncode >= 0 else f"code 0; signal {-returncode}"
    return os.fsencode(f"# Accounting: time={seconds} threads={threads}\n"
                       f"# Ended ({status}) at {date()}, elapsed time {seconds} seconds\n")


def append(log: Path, text: bytes) -> None:
    """Write at the end of a log.

    Raises: Refused: it cannot be written (any more: a full disk, as a rule).
    """
    try:
        with open(log, "ab") as output:
            output.write(text)
    except OSError as error:
        raise Refused(f"cannot write {log}: {error.strerror}", 1) from None


def last_state(log: Path) -> str:
    """How the job that wrote this log ended: succeeded, failed or incomplete (killed, running, or never run).

    run.py writes `# Ended`, a job on a cluster `# Finished`; there a job may be started again in the same log.
    """
    state = "incomplete"
    try:
        with open(log, "rb") as file:
            for line in file:
                if line.startswith(b"# Started at "):
                    state = "incomplete"
                elif line.startswith((b"# Ended (code ", b"# Finished at ")) and line.endswith(b"\n"):
                    good = line.startswith(b"# Ended (code 0)") or line.endswith(b" with status 0\n")
                    state = "succeeded" if good else "failed"
    except FileNotFoundError:
        return "incomplete"
    return state


def has_end(log: Path) -> bool:
    """Does the log's last line tell that its job ended, for better or worse? Reads no more than its tail."""
    try:
        last = tail(log, 1)
    except OSError:
        return False
    return bool(last) and last[0].startswith(("# Ended (code ", "# Finished at "))


def select(request: Request) -> tuple[list[int], set[int]]:
    """Jobs to run under --pick, and those that failed before and are not run again (they still count as failed)."""
    if request.pick == "all":
        return list(request.jobs), set()
    states = {job: last_state(request.log_of(job)) for job in request.jobs}
    wanted = ("incomplete",) if request.pick == "incomplete" else ("incomplete", "failed")
    todo = [job for job, state in states.items() if state in wanted]
    return todo, {job for job, state in states.items() if state == "failed"} - set(todo)


def empty_logs(request: Request, todo: list[int]) -> None:
    """Make the folders and empty the old logs, so that --pick never takes an old end for one of this run.

    Raises: Refused: a log cannot be written; better known before any job starts.
    """
    for log in map(request.log_of, todo):
        try:
            log.parent.mkdir(parents=True, exist_ok=True)
            open(log, "wb").close()
        except OSError as error:
            raise Refused(f"cannot write {error.filename}: {error.strerror}", 1) from None


def tail(log: Path, num_lines: int = TAIL_LINES) -> list[str]:
    """The last lines of a log, however long it is."""
    with open(log, "rb") as file:
        file.seek(max(0, log.stat().st_size - 16384))
        return file.read().decode(errors="replace").splitlines()[-num_lines:]


def report(request: Request, failed: set[int]) -> int:
    """Say which jobs failed, show the end of the first one's log, and return the exit code."""
    if not failed:
        return 0
    first = request.log_of(min(failed))
    if len(request.jobs) == 1:
        say(f"job failed, log is in {first}")
        if "JOB" in str(first):
            say("probably you forgot to put JOB=1:$nj in your script.")
    else:
        say(f"{len(failed)} / {len(request.jobs)} failed, log is in {request.for_job(request.log, '*')}")
    if first.is_file() and (lines := tail(first)):  # not /dev/stdout
        say(f"{first} ends with:")
        print(*(f"  {line}" for line in lines), sep="\n", file=sys.stderr)
    return 1


def front_door(usage: str | None, run: Callable[[Request, list[int]], set[int]],
               claim: Callable[[Request], AbstractContextManager[object]] = nullcontext,
               several_nodes: bool = False) -> int:
    """A launcher's main: read the command line, run the jobs, report.

    Args:
        usage: what --help prints.
        run: (request, jobs) -> those that failed.
        claim: checks the request before any log is touched, and holds for its jobs what must be theirs alone.
        several_nodes: can this launcher start one command on several nodes?
    Returns: the exit code.
    """
    if sys.argv[1:2] in (["-h"], ["--help"]):
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `... --help | head` may close our output
        print(usage)
        return 0
    try:
        request = parse(sys.argv[1:])
        if request.num_nodes > 1 and not several_nodes:
            raise Refused(f"--num-nodes {request.num_nodes}: {PROGRAM} starts a job on one node; use slurm.py")
        with claim(request):
            todo, failed = select(request)
            empty_logs(request, todo)
            return report(request, failed | run(request, todo))
    except Refused as why:
        say(str(why))
        return why.code
