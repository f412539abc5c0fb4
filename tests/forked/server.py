# SPDX-License-Identifier: Apache-2.0
"""Imports the large packages, then runs each program that it is asked for in a fork: server.py SOCKET.

It ends when its standard input does. tests/forked/sitecustomize.py is the client.
"""

import array
import atexit
import contextlib
import importlib
import marshal
import os
import runpy
import select
import signal
import socket
import sys
import threading

LARGE = ("torch", "torchaudio", "torch.distributed.run", "torch.distributed.launcher.api", "torch.utils.tensorboard",
         "torch.utils.flop_counter", "torch._dynamo", "lhotse", "soundfile", "kaldiio", "omegaconf", "scipy.fft",
         "scipy.linalg", "scipy.optimize", "scipy.signal", "scipy.special", "scipy.stats", "matplotlib.pyplot",
         "matplotlib.backends.backend_agg", "jinja2", "PIL.Image", "tqdm", "yaml")


def serve(path: str) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)
        listening.listen(64)
        print("ready", flush=True)
        while True:
            ready, _, _ = select.select([listening, sys.stdin], [], [], 1)
            if sys.stdin in ready:
                return
            if listening in ready:
                connection, _ = listening.accept()
                if os.fork() == 0:
                    listening.close()
                    supervise(connection)
                connection.close()
            with contextlib.suppress(ChildProcessError):    # count the time of those that ended
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass


def supervise(connection: socket.socket) -> None:
    """Fork the program, pass signals to it, report its exit status; if the client dies, kill it. Does not return."""
    head, control, _, _ = connection.recvmsg(4, socket.CMSG_SPACE(12))
    files = array.array("i")
    files.frombytes(control[0][2][:12])
    length, request = int.from_bytes(head, "little"), b""
    while len(request) < length:
        request += connection.recv(length - len(request))
    pid = os.fork()
    if pid == 0:
        connection.close()
        run(files, *marshal.loads(request))
    for number in files:
        os.close(number)
    connection.sendall(pid.to_bytes(4, "little"))
    ended = os.pidfd_open(pid)
    while True:
        ready, _, _ = select.select([connection, ended], [], [])
        if ended in ready:
            status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            with contextlib.suppress(OSError):
                connection.sendall(status.to_bytes(4, "little", signed=True))
            os._exit(0)
        numbers = connection.recv(16)
        for number in numbers or [signal.SIGKILL]:
            os.kill(pid, number)
        if not numbers:
            os.waitpid(pid, 0)
            os._exit(0)


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


if __name__ == "__main__":
    for name in LARGE:
        importlib.import_module(name)
    serve(sys.argv[1])
