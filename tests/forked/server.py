# SPDX-License-Identifier: Apache-2.0
"""Imports the large packages and the project, then runs each program that it is asked for in a fork: server.py SOCKET.

It ends when its standard input does. tests/forked/sitecustomize.py is the client.
"""

import array
import atexit
import contextlib
import ctypes
import gc
import importlib
import inspect
import marshal
import os
import pkgutil
import runpy
import select
import signal
import socket
import sys
import tempfile
import threading
import traceback
import weakref
from typing import NamedTuple

LARGE = ("torch", "torch.distributed.run", "torch.distributed.launcher.api", "torch.utils.tensorboard",
         "torch.utils.flop_counter", "torch._dynamo", "lhotse", "soundfile", "kaldiio", "omegaconf", "scipy.fft",
         "scipy.linalg", "scipy.optimize", "scipy.signal", "scipy.special", "scipy.stats", "matplotlib.pyplot",
         "matplotlib.backends.backend_agg", "jinja2", "PIL.Image", "tqdm", "yaml")


def import_packages() -> None:
    """Import the large packages and the project, so that forks of this process need not."""
    gc.disable()
    for name in LARGE:
        importlib.import_module(name)
    for module in pkgutil.walk_packages(importlib.import_module("rawnext").__path__, "rawnext."):
        if not module.name.startswith("rawnext.serve"):    # its packages may be missing
            importlib.import_module(module.name)
    gc.enable()
    gc.freeze()    # a collection in a fork would copy the memory of all these packages, which takes 0.3 s
    use_large_pages()


def use_large_pages() -> None:
    """Copy this process's memory to pages of 2 MiB, where the system can (Linux 6.1).

    A fork copies the page table of its process: 6 ms of processor time with them, 20 without.
    """
    madvise, collapse, size = ctypes.CDLL(None).madvise, 25, 2 << 20
    madvise.argtypes = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
    with open("/proc/self/maps") as file:
        areas = [line.split() for line in file]
    for span, mode, _, _, _, *path in areas:
        if mode == "rw-p" and path in ([], ["[heap]"]):
            start, end = (int(number, 16) for number in span.split("-"))
            for page in range(-(-start // size) * size, end - size + 1, size):
                madvise(page, size, collapse)


def serve(path: str) -> None:
    """Start a program for each connection, pass signals to it, report its exit status; without its client, kill it."""
    programs: dict[int, Program] = {}   # by the numbers of its connection and of its process's descriptor
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)
        listening.listen(64)
        print("ready", flush=True)
        poll = select.poll()
        for number in (listening.fileno(), sys.stdin.fileno()):
            poll.register(number, select.POLLIN)
        while True:
            # New connections last: they may reuse the number of a descriptor that was closed before them.
            for number in sorted((number for number, _ in poll.poll()), key=listening.fileno().__eq__):
                if number == sys.stdin.fileno():
                    for program in programs.values():
                        os.kill(program.pid, signal.SIGKILL)
                    return
                if number == listening.fileno():
                    if new := start(listening, list(programs)):
                        for opened in new.numbers():
                            programs[opened] = new
                            poll.register(opened, select.POLLIN)
                elif number in programs and programs[number].ended(number):
                    for opened in programs[number].numbers():
                        del programs[opened]
                        poll.unregister(opened)
                        os.close(opened)


def start(listening: socket.socket, others: list[int]) -> "Program | None":
    """Fork the program of the next connection; `others`: descriptors that are not its own. None: the client is gone."""
    connection, _ = listening.accept()
    files = array.array("i")
    try:
        head, control, _, _ = connection.recvmsg(4, socket.CMSG_SPACE(12), socket.MSG_WAITALL)
        files.frombytes(control[0][2][:12])
        words = marshal.loads(connection.recv(int.from_bytes(head, "little"), socket.MSG_WAITALL))
    except (OSError, IndexError, EOFError, ValueError):    # killed before it had sent its request
        connection.close()
        return None
    pid = os.fork()
    if pid == 0:
        for number in (listening.fileno(), connection.fileno(), *others):
            os.close(number)
        run(files, *words)
    for number in files:
        os.close(number)
    with contextlib.suppress(OSError):
        connection.sendall(pid.to_bytes(4, "little"))
    return Program(pid, connection.detach(), os.pidfd_open(pid))


class Program(NamedTuple):
    """A fork that runs a client's program: its process id, and the descriptors of its client and process."""

    pid: int
    connection: int
    process: int

    def numbers(self) -> tuple[int, int]:
        return self.connection, self.process

    def ended(self, number: int) -> bool:
        """Handle what is to be read from one of the two descriptors. Returns: whether the program has ended."""
        if number == self.connection:
            try:
                signals = os.read(number, 16)
            except ConnectionResetError:    # the client was killed before it had read all
                signals = b""
            for each in signals or [signal.SIGKILL]:
                os.kill(self.pid, each)    # until it is waited for, its process id is not another's
            if signals:
                return False
        status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        with contextlib.suppress(OSError):
            os.write(self.connection, status.to_bytes(4, "little", signed=True))
        return True


def run(files, words: list[str], environment: dict[str, str], folder: str, mask: int) -> None:
    """Become the program; does not return."""
    os.setsid()
    for target, source in enumerate(files):
        os.dup2(source, target)
        os.close(source)
    os.chdir(folder)
    os.umask(mask)
    os.environ.clear()
    os.environ.update(environment)
    tempfile.tempdir = None    # TMPDIR may be another
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        mode, errors = "w" if number else "r", "backslashreplace" if number == 2 else "surrogateescape"
        stream = os.fdopen(number, mode, encoding="utf-8", errors=errors, closefd=False)
        if mode == "w":
            stream.reconfigure(line_buffering=number == 2, write_through="PYTHONUNBUFFERED" in environment)
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)
    import torch

    torch.set_num_threads(int(environment.get("OMP_NUM_THREADS", len(os.sched_getaffinity(0)))))
    mine = os.path.dirname(os.path.abspath(__file__))
    more = [path for path in environment.get("PYTHONPATH", "").split(os.pathsep) if path]
    sys.path[:] = [os.path.dirname(os.path.realpath(words[0])), *more, *(path for path in sys.path if path != mine)]
    sys.argv[:] = words
    sys.orig_argv[:] = [sys.executable, *words]
    if "RAWNEXT_TEST_KILL" in environment:
        kill_at(*environment["RAWNEXT_TEST_KILL"].split(":"))
    code = 1
    try:
        runpy.run_path(words[0], run_name="__main__")
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        with contextlib.suppress(BaseException):
            threading._shutdown()
            atexit._run_exitfuncs()
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        os._exit(code & 255)


def kill_at(number: str, folder: str) -> None:
    """Kill this process before its n-th change below a folder: a file opened for writing, a name made or removed."""
    left = int(number)

    def hook(event: str, args: tuple) -> None:
        nonlocal left
        writes = event == "open" and isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        changes = writes or event in ("os.rename", "os.remove", "os.link", "os.mkdir", "os.rmdir")
        if changes and not isinstance(args[0], int) and os.path.abspath(os.fsdecode(args[0])).startswith(folder):
            left -= 1
            if left < 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


def stack(context: int = 1) -> list[inspect.FrameInfo]:
    """The frames of inspect.stack without their source, which torchrun asks for nine times without a use.

    It looks for the source of some frames in all modules: with these large packages it takes a second in all.
    """
    frames = traceback.walk_stack(sys._getframe(1))
    return [inspect.FrameInfo(frame, frame.f_code.co_filename, line, frame.f_code.co_name, None, None)
            for frame, line in frames]


if __name__ == "__main__":
    import_packages()
    for finalizer in list(weakref.finalize._registry):    # thousands of torch's, which take 50 ms at the end of a fork
        finalizer.atexit = False
    atexit.unregister(sys.modules["torch._dynamo.utils"].dump_compile_times)    # 10 ms
    inspect.stack = stack
    serve(sys.argv[1])
