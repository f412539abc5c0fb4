# SPDX-License-Identifier: Apache-2.0
"""The interface shared by run.py, slurm.py and sge.py: `[options] [JOB=1:N] log/x.JOB.log command args...`

It follows Kaldi's run.pl, queue.pl and slurm.pl in its options, its quoting of the command, the first and last lines of
a log, and its messages. Each launcher adds only how the jobs are run.
Exit codes: 0 all jobs succeeded, 1 a job failed, 2 stopped by a signal, 255 wrong command line.
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

USAGE = """  --pick all|failed|incomplete   which jobs to run, according to their old logs: all (default), those that
                                 failed or did not finish, or only those that did not finish

JOB (or any other identifier) is replaced by 1, 2, ..., N in the command and in the name of the log.
Exit code: 0 if all jobs succeeded, 1 if a job failed, 255 for a wrong command line, 2 after a signal."""
PICKS = ("all", "failed", "incomplete")
# option -> minimum
NUMBER_OPTIONS = {"--gpu": 0, "--num-threads": 1, "--num-nodes": 1, "--max-jobs-run": 1, "-tc": 1}
TEXT_OPTIONS = ("--mem", "--time", "--pick", "--config")
TAIL_LINES = 12
PROGRAM = Path(sys.argv[0]).name


class LauncherError(Exception):
    """The launcher cannot go on: a message of one line, and the exit code."""

    def __init__(self, message: str, code: int = 255):
        super().__init__(message)
        self.code = code


@dataclass
class Request:
    """A parsed command line.

    `long_options` maps the options with two dashes, as a config file calls them, to their values (num_threads: "2").
    `short_options` lists the options with one dash, each with its values; they are passed to the scheduler.
    """

    log: str = ""
    command: str = ""
    name: str | None = None  # JOB, or the identifier used in its place
    start: int = 1
    end: int = 1
    gpu: int = 0
    num_threads: int | None = None
    num_nodes: int = 1
    max_jobs_run: int | None = None
    pick: str = "all"
    config: str | None = None
    long_options: dict[str, str] = field(default_factory=dict)
    short_options: list[list[str]] = field(default_factory=list)

    @property
    def jobs(self) -> range:
        return range(self.start, self.end + 1)

    def substitute(self, text: str, job: int | str) -> str:
        return text.replace(self.name, str(job)) if self.name else text

    def log_path(self, job: int) -> Path:
        return Path(self.substitute(self.log, job))

    def job_command(self, job: int) -> str:
        return self.substitute(self.command, job)


def print_message(message: str) -> None:
    print(f"{PROGRAM}: {message}", file=sys.stderr)


def quote(args: list[str]) -> str:
    """Join arguments to a bash command, with Kaldi's quoting rule.

    An argument without white space is not quoted, so `\\|` and `\\>` become a pipe and a redirection. Others get double
    quotes (bash still expands $x in them), or single quotes if they contain a double quote.
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
    """Parse a command line.

    Raises: LauncherError: it is wrong (code 255), or several jobs share one log (code 1).
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
        raise LauncherError(f"usage: {PROGRAM} [options] [JOB=1:N] log/x.JOB.log command args...   ({PROGRAM} --help)")
    request.log = words.popleft()
    request.command = quote(list(words))
    if len(request.jobs) > 1 and request.substitute(request.log, "") == request.log:
        raise LauncherError("you are trying to run a parallel job but you are putting the output into just one log "
                            f"file ({request.log})", 1)
    return request


def _take_option(words: deque[str], request: Request) -> None:
    """Remove an option and its values from the front of `words` and store them in the request."""
    option = words.popleft()
    num_values = {"-V": 0, "-pe": 2}.get(option, 1)
    if len(words) < num_values:
        raise LauncherError(f"option {option} needs a value")
    values = [words.popleft() for _ in range(num_values)]
    attribute = "max_jobs_run" if option == "-tc" else option.lstrip("-").replace("-", "_")
    if option in NUMBER_OPTIONS:
        number = int(values[0]) if re.fullmatch(r"[0-9]+", values[0]) else -1
        if number < NUMBER_OPTIONS[option]:
            raise LauncherError(f"{option} must be an integer >= {NUMBER_OPTIONS[option]}, got '{values[0]}'")
        if attribute == "max_jobs_run":
            number = min(number, request.max_jobs_run or number)
        setattr(request, attribute, number)
    elif option in TEXT_OPTIONS:
        if option == "--pick" and values[0] not in PICKS:
            raise LauncherError(f"--pick must be one of {', '.join(PICKS)}, got '{values[0]}'")
        if option in ("--pick", "--config"):
            setattr(request, attribute, values[0])
    else:
        _warn_if_misspelled(option, values)
        if not option.startswith("--"):
            request.short_options.append([option, *values])
    if (option.startswith("--") or option == "-tc") and option not in ("--pick", "--config"):
        request.long_options[attribute] = str(getattr(request, attribute, values[0]))


def _warn_if_misspelled(option: str, values: list[str]) -> None:
    """Warn about an unknown option that looks misspelled; others may belong to another launcher and are accepted."""
    close = difflib.get_close_matches(option, [*NUMBER_OPTIONS, *TEXT_OPTIONS], n=1, cutoff=0.8)
    if close:
        print_message(f"warning: unknown option {option}; did you mean {close[0]}?")
    if values and values[0].startswith("--"):
        print_message(f"warning: {values[0]} is used as the value of {option}")


def _take_range(word: str, request: Request) -> bool:
    """Store a job range, JOB=1:N or JOB=N with any identifier for JOB. Returns: False if the word is not a range."""
    match = re.fullmatch(r"([A-Za-z_]\w*)=([0-9]+)(?::([0-9]+))?", word, re.ASCII)
    if not match:
        if re.fullmatch(r"\w+=([0-9:]*|[^/]*:[^/]*)", word):
            raise LauncherError(f"invalid job range '{word}', expected JOB=1:N (is a shell variable empty?)")
        return False
    start, end = int(match[2]), int(match[3] or match[2])
    if not 1 <= start <= end:
        raise LauncherError(f"invalid job range '{word}', expected 1 <= start <= end")
    if request.name:
        raise LauncherError(f"more than one job range: '{word}'")
    request.name, request.start, request.end = match[1], start, end
    return True


def date() -> str:
    return time.strftime("%a %b %e %H:%M:%S %Z %Y")


def log_header(command: str) -> bytes:
    """The first lines of a job's log."""
    return os.fsencode(f"# {command}\n# Started at {date()}\n#\n")


def log_footer(returncode: int, seconds: int, threads: int) -> bytes:
    """The last lines of a job's log. returncode: as in subprocess, negative for a signal."""
    status = f"code {returncode}" if returncode >= 0 else f"code 0; signal {-returncode}"
    return os.fsencode(f"# Accounting: time={seconds} threads={threads}\n"
                       f"# Ended ({status}) at {date()}, elapsed time {seconds} seconds\n")


def append_to_log(log: Path, text: bytes) -> None:
    """Append to a log. Raises: LauncherError: it cannot be written."""
    try:
        with open(log, "ab") as output:
            output.write(text)
    except OSError as error:
        raise LauncherError(f"cannot write {log}: {error.strerror}", 1) from None


def job_state(log: Path) -> str:
    """The state of the job that wrote this log: succeeded, failed or incomplete (killed, running or never run).

    The last line is `# Ended` from run.py and `# Finished` from cluster_job.sh. A requeued job appends to its log.
    """
    state = "incomplete"
    try:
        with open(log, "rb") as file:
            for line in file:
                if line.startswith(b"# Started at "):
                    state = "incomplete"
                elif line.startswith((b"# Ended (code ", b"# Finished at ")) and line.endswith(b"\n"):
                    succeeded = line.startswith(b"# Ended (code 0)") or line.endswith(b" with status 0\n")
                    state = "succeeded" if succeeded else "failed"
    except FileNotFoundError:
        pass
    return state


def has_ended(log: Path) -> bool:
    """Whether the last line of the log shows that its job ended. Reads only the tail of the log."""
    try:
        last = tail(log, 1)
    except OSError:
        return False
    return bool(last) and last[0].startswith(("# Ended (code ", "# Finished at "))


def select_jobs(request: Request) -> tuple[list[int], set[int]]:
    """The jobs to run under --pick, and the failed jobs that are not run again, which still count as failed."""
    if request.pick == "all":
        return list(request.jobs), set()
    states = {job: job_state(request.log_path(job)) for job in request.jobs}
    wanted = ("incomplete",) if request.pick == "incomplete" else ("incomplete", "failed")
    todo = [job for job, state in states.items() if state in wanted]
    return todo, {job for job, state in states.items() if state == "failed"} - set(todo)


def empty_logs(request: Request, todo: list[int]) -> None:
    """Make the folders of the logs and empty the logs, so that --pick cannot mistake an old result for a new one.

    Raises: LauncherError: a log cannot be written. No job has started then.
    """
    for log in map(request.log_path, todo):
        try:
            log.parent.mkdir(parents=True, exist_ok=True)
            open(log, "wb").close()
        except OSError as error:
            raise LauncherError(f"cannot write {error.filename}: {error.strerror}", 1) from None


def tail(log: Path, num_lines: int = TAIL_LINES) -> list[str]:
    """The last lines of a log; reads at most its last 16 KiB."""
    with open(log, "rb") as file:
        file.seek(max(0, log.stat().st_size - 16384))
        return file.read().decode(errors="replace").splitlines()[-num_lines:]


def report(request: Request, failed: set[int]) -> int:
    """Print which jobs failed and the end of the first failed log. Returns: the exit code."""
    if not failed:
        return 0
    first = request.log_path(min(failed))
    if len(request.jobs) == 1:
        print_message(f"job failed, log is in {first}")
        if "JOB" in str(first):
            print_message("probably you forgot to put JOB=1:$nj in your script.")
    else:
        print_message(f"{len(failed)} / {len(request.jobs)} failed, log is in {request.substitute(request.log, '*')}")
    if first.is_file() and (lines := tail(first)):  # not /dev/stdout
        print_message(f"{first} ends with:")
        print(*(f"  {line}" for line in lines), sep="\n", file=sys.stderr)
    return 1


def launcher_main(usage: str | None, run: Callable[[Request, list[int]], set[int]],
               claim: Callable[[Request], AbstractContextManager[object]] = nullcontext,
               several_nodes: bool = False) -> int:
    """The main function of a launcher: parse the command line, run the jobs, report failures.

    Args:
        usage: the text for --help, before USAGE.
        run: (request, job numbers) -> the numbers of the jobs that failed.
        claim: a context manager that checks the request before any log is emptied and locks its jobs.
        several_nodes: whether this launcher supports --num-nodes > 1.
    Returns: the exit code.
    """
    if sys.argv[1:2] in (["-h"], ["--help"]):
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `... --help | head` closes the pipe early
        print(usage, USAGE, sep="\n")
        return 0
    try:
        request = parse(sys.argv[1:])
        if request.num_nodes > 1 and not several_nodes:
            raise LauncherError(f"--num-nodes {request.num_nodes}: {PROGRAM} runs a job on one node only; use slurm.py")
        with claim(request):
            todo, failed = select_jobs(request)
            empty_logs(request, todo)
            return report(request, failed | run(request, todo))
    except LauncherError as error:
        print_message(str(error))
        return error.code
