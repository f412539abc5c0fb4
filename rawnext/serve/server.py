# SPDX-License-Identifier: Apache-2.0
"""The server process: its socket, its messages, and the browser that it opens."""

import asyncio
import contextlib
import socket
import sys
import threading
import webbrowser

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol, h11

from rawnext.errors import InputError
from rawnext.serve.guard import address_of

MAX_CONNECTIONS = 64
HEAD_S = 10.0  # time-out for the headers of a request
WARNING = """rawnext: warning: everyone who can reach {host} can use this page without a password, and audio crosses the
network unencrypted; browsers allow the microphone only for pages of their own machine"""


class Impatient(H11Protocol):
    """Closes a connection if the headers of a request, or a body that was refused, take longer than HEAD_S."""

    waiting: asyncio.TimerHandle | None = None

    def watch(self) -> None:
        if h11.IDLE is not self.conn.their_state and h11.DONE is not self.conn.our_state:
            self.stop()
        elif self.waiting is None and not self.transport.is_closing():
            self.waiting = self.loop.call_later(HEAD_S, self.transport.close)

    def stop(self) -> None:
        if self.waiting:
            self.waiting.cancel()
        self.waiting = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.watch()

    def handle_events(self) -> None:
        super().handle_events()
        self.watch()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.stop()


def make_server(app: ASGIApp) -> uvicorn.Server:
    return uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False, server_header=False,
                                         http=Impatient, ws="none", lifespan="off", proxy_headers=False,
                                         limit_concurrency=MAX_CONNECTIONS, timeout_graceful_shutdown=3))


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
