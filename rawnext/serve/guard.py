# SPDX-License-Identifier: Apache-2.0
"""Protection of the server: refuses pages of other origins, and limits request bodies while they arrive."""

import asyncio
import contextlib
import ipaddress
import re
from collections.abc import Collection
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from rawnext.errors import InputError

BODY_S = 30.0  # time-out for a body
HEADERS = {
    "Content-Security-Policy": "default-src 'self'; media-src blob:; img-src data:; object-src 'none'; "
                               "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "microphone=(self), camera=(), geolocation=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class Guard:
    """Refuses requests meant for other sites, and adds HEADERS to every response.

    names: host names of the server, in addition to IP addresses. A page of another site can make a browser send
    requests here, but it cannot hide its Origin; with DNS rebinding its own name appears as the Host.
    origin: the page's address behind a proxy, such as https://voice.example.org; empty: none.
    """

    def __init__(self, app: ASGIApp, names: Collection[str], origin: str = ""):
        self.app, self.names, self.origin = app, names, origin

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        why = refusal(Headers(scope=scope), self.names, self.origin)
        app = JSONResponse({"error": why}, 403) if why else self.app
        await app(scope, receive, send_with_headers)


def check_origin(text: str) -> str:
    """SCHEME://HOST[:PORT] as browsers send it.   Raises: InputError: it has another form."""
    found = re.fullmatch(r"(https?)://([a-z0-9.-]+|\[[0-9a-f:.]+\])(?::(\d{1,5}))?/?", text.lower(), re.ASCII)
    if not found:
        raise InputError("--origin", None, f"expected an address such as https://voice.example.org, got {text[:80]!r}")
    scheme, host, port = found.groups()
    return f"{scheme}://{host}" + ("" if port in (None, {"http": "80", "https": "443"}[scheme]) else f":{port}")


def refusal(headers: Headers, names: Collection[str], public: str = "") -> str:
    """Why a request with these headers is refused; empty if it is accepted.   names, public: see Guard."""
    host, origin = headers.get("host", ""), headers.get("origin")
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        name = ""
    if name not in names and not address_of(name) and name != urlsplit(public).hostname:
        return ("this server does not have that name; open it by its address, or start it with --host NAME, "
                "or behind a proxy with --origin ADDRESS")
    if origin is not None and origin not in (f"http://{host}", public or None):
        return "this request comes from a page of another origin"
    return ""


def address_of(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The IP address that a host's name is, if any."""
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(name)
    return None


async def read_body(request: Request, max_bytes: int, seconds: float = BODY_S) -> bytearray:
    """The body of a request; never keeps more than max_bytes.

    Raises: HTTPException: it is larger, does not arrive in time, or is incomplete.
    """
    too_large = HTTPException(413, f"larger than {max_bytes / 1e6:g} MB")
    if int(request.headers.get("content-length", 0)) > max_bytes:
        raise too_large
    body = bytearray()

    async def read() -> None:
        async for chunk in request.stream():
            body.extend(chunk)
            if len(body) > max_bytes:
                raise too_large

    try:
        await asyncio.wait_for(read(), seconds)
    except TimeoutError:
        raise HTTPException(408, f"did not arrive within {seconds:g} s") from None
    except ClientDisconnect:
        raise HTTPException(400, "incomplete request") from None
    return body
