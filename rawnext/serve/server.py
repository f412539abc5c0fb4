# SPDX-License-Identifier: Apache-2.0
"""The server process: its socket, its messages, and the browser that it opens."""

import contextlib
import socket
import sys
import threading
import webbrowser

import uvicorn
from starlette.types import ASGIApp

from rawnext.errors import InputError
from rawnext.serve.guard import address_of

MAX_CONNECTIONS = 64
WARNING = """rawnext: warning: everyone who can reach {host} can use this page without a password, and audio crosses the
network unencrypted; browsers allow the microphone only for pages of their own machine"""


def make_server(app: ASGIApp) -> uvicorn.Server:
    return uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False, server_header=False, http="h11",
                                         ws="none", lifespan="off", limit_concurrency=MAX_CONNECTIONS,
                                         timeout_graceful_shutdown=3))


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens at a name or address; port 0 takes a free one.   Raises: InputError: it cannot."""
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server((address[0], port), family=family)  # getaddrinfo makes 70000 another port
    except (OSError, OverflowError) as error:
        why = getattr(error, "strerror", None) or error
        raise InputError("--host and --port", None, f"cannot listen at {host}, port {port}: {why}") from None


def is_loopback(host: str) -> bool:
    address = address_of(host)
    return address.is_loopback if address else host == "localhost"


def names_of(host: str) -> set[str]:
    """Host names, in addition to addresses, of a server at this host."""
    return {"localhost", host.lower()} | (set() if is_loopback(host) else {socket.gethostname().lower()})


def serve(app: ASGIApp, sock: socket.socket, host: str, browser: bool) -> None:
    """Serve until Ctrl-C; a browser opened before the server is ready waits, because the socket listens."""
    if not is_loopback(host):
        print(WARNING.format(host=host), file=sys.stderr)
    url = f"http://{f'[{host}]' if ':' in host else host}:{sock.getsockname()[1]}/"
    print(f"rawnext: {url} (press Ctrl-C to stop)", flush=True)
    if browser:  # in a thread: some browsers return only when they are closed
        threading.Thread(target=webbrowser.open, args=[url], daemon=True).start()
    with contextlib.suppress(KeyboardInterrupt):
        make_server(app).run([sock])
