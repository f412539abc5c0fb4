# SPDX-License-Identifier: Apache-2.0
"""Python imports this at its start: a program of steps/ or local/ then runs in a fork of tests/forked/server.py.

With this folder on PYTHONPATH and the server's socket in RAWNEXT_TEST_SERVER. The server has imported torch and other
large packages, which takes a program up to 2 s. This process passes signals on and exits as the program does.
"""

import os
import sys


def script() -> list[str]:
    """The program that this process would run and its arguments; empty: no program of ours."""
    words = sys.orig_argv[1:]
    while words and words[0] in ("-u", "-B"):
        words = words[1:]
    if not words or words[0].startswith("-"):
        return []
    path = os.path.realpath(words[0])
    ours = path.startswith(tuple(os.path.join(ROOT, folder) + os.sep for folder in ("steps", "local")))
    command = path == os.path.join(os.path.realpath(sys.prefix), "bin/rawnext")
    return words if (ours and path.endswith(".py")) or command else []


def run_there(connection, words: list[str]) -> None:
    """Let the server run the program; does not return."""
    import _socket
    import array
    import marshal
    import signal

    def forward(number: int, frame) -> None:
        try:    # noqa: SIM105 (importing contextlib takes time at each start)
            connection.send(bytes([number]))
        except OSError:    # the program has ended; an exception here would let this process run it again
            pass

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, forward)
    mask = os.umask(0)
    os.umask(mask)
    request = marshal.dumps((words, dict(os.environ), os.getcwd(), mask))
    files = array.array("i", [0, 1, 2]).tobytes()
    connection.sendmsg([len(request).to_bytes(4, "little")], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, files)])
    sent = 0
    while sent < len(request):
        sent += connection.send(request[sent:])
    with open("/proc/self/comm", "wb") as name:    # the program's process id, for tests/programs.py
        name.write(b"%d" % int.from_bytes(connection.recv(4), "little"))
    status = int.from_bytes(connection.recv(4) or (255).to_bytes(4, "little"), "little", signed=True)
    if status < 0:
        if status != -signal.SIGKILL:    # which has no handler to set
            signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    os._exit(status)


ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
if "RAWNEXT_TEST_SERVER" in os.environ and (words := script()):
    import _socket

    connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    try:
        connection.connect(os.environ["RAWNEXT_TEST_SERVER"])
    except OSError:    # no server: the program runs in this process
        pass
    else:
        try:
            run_there(connection, words)
        except BaseException:
            sys.excepthook(*sys.exc_info())
            os._exit(255)    # Python would go on and run the program in this process too
