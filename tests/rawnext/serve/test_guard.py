# SPDX-License-Identifier: Apache-2.0
"""Pages of other origins are refused; a body is read no further than its limit."""

import asyncio

import pytest
from starlette.exceptions import HTTPException
from starlette.requests import Request

from rawnext.errors import InputError
from rawnext.scoring.decision import Operating, read_judge
from rawnext.serve.app import Limits, Service
from rawnext.serve.guard import check_origin, read_body


@pytest.mark.parametrize(("host", "origin", "allowed"), [
    ("127.0.0.1:{}", None, True), ("localhost:{}", None, True), ("localhost:{}", "http://localhost:{}", True),
    ("127.0.0.1:{}", "http://127.0.0.1:{}", True), ("[::1]:{}", "http://[::1]:{}", True),
    ("evil.example:{}", None, False), ("evil.example:{}", "http://evil.example:{}", False),
    ("127.0.0.1.evil.example:{}", None, False), ("127.0.0.1:{}", "http://evil.example", False),
    ("127.0.0.1:{}", "null", False), ("127.0.0.1:{}", "http://127.0.0.1:1", False),
    ("127.0.0.1:{}", "https://127.0.0.1:{}", False), ("localhost:{}", "http://127.0.0.1:{}", False),
    ("", None, False), ("[::1", None, False)])
@pytest.mark.parametrize(("method", "path"), [("GET", "/"), ("POST", "/verify")])
def test_other_host_names_and_origins_are_refused(client, host, origin, allowed, method, path):
    headers = {"Host": host.format(client.port)} | ({"Origin": origin.format(client.port)} if origin else {})
    status, _, answer = client.ask(method, path, **headers)
    if allowed:
        assert status == (200 if method == "GET" else 422)
    else:
        why = "another origin" if origin and "evil.example:" not in host else "name"
        assert status == 403 and why in answer["error"]


@pytest.mark.parametrize(("host", "origin", "allowed"), [
    ("voice.example.org", "https://voice.example.org", True), ("voice.example.org", None, True),
    ("127.0.0.1:{}", "https://voice.example.org", True), ("127.0.0.1:{}", "http://127.0.0.1:{}", True),
    ("voice.example.org", "https://evil.example", False), ("evil.example", "https://voice.example.org", False),
    ("voice.example.org", "https://voice.example.org:444", False), ("voice.example.org", "null", False)])
def test_the_origin_of_a_proxy_is_accepted(serving, extractor, exp, host, origin, allowed):
    service = Service(extractor, read_judge(exp), Operating(), Limits())
    with serving(service, check_origin("https://Voice.example.org:443/")) as client:
        headers = {"Host": host.format(client.port)} | ({"Origin": origin.format(client.port)} if origin else {})
        assert (client.ask("GET", "/about", **headers)[0] == 200) == allowed


def test_an_empty_origin_is_another_one(client):
    assert client.ask("GET", "/about", Origin="")[0] == 403


@pytest.mark.parametrize("text", ["voice.example.org", "https://", "https://a/b", "ftp://a", "https://a b", "https://u@a",
                                  "https://a:port", "null", "https://\x1b[2J", "x" * 5000])
def test_other_forms_of_an_origin_are_refused(text):
    with pytest.raises(InputError, match="^--origin: expected an address such as"):
        check_origin(text)
    assert check_origin("http://[::1]:8080") == "http://[::1]:8080"


@pytest.mark.parametrize(("method", "path", "host"), [
    ("GET", "/", "localhost"), ("GET", "/pane.js", "localhost"), ("GET", "/no", "localhost"), ("GET", "/", "evil"),
    ("POST", "/embed", "localhost"), ("OPTIONS", "/embed", "localhost")])
def test_every_response_has_the_security_headers(client, method, path, host):
    _, headers, _ = client.ask(method, path, Host=host)
    policy = headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'self';") and "unsafe" not in policy and "frame-ancestors 'none'" in policy
    assert headers["Cache-Control"] == "no-store" and headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Cross-Origin-Resource-Policy"] == "same-origin" and headers["Referrer-Policy"] == "no-referrer"
    assert not [name for name in headers if name.lower().startswith("access-control") or name.lower() == "server"]


def request(chunks, length=None, delay=0.0):
    """A request whose body comes in chunks (None: the client disconnects), and the list of the chunks read so far."""
    taken, rest = [], list(chunks)

    async def receive():
        await asyncio.sleep(delay)
        taken.append(chunk := rest.pop(0))
        if chunk is None:
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": chunk, "more_body": bool(rest)}

    headers = [] if length is None else [(b"content-length", str(length).encode())]
    return Request({"type": "http", "method": "POST", "headers": headers}, receive), taken


def test_body_within_the_limit_is_read():
    asked, _ = request([b"ab", b"", b"cd"])
    assert asyncio.run(read_body(asked, 4)) == b"abcd"


@pytest.mark.parametrize(("chunks", "options", "status", "num_taken"), [
    ([b"x" * 4] * 9, {}, 413, {3}), ([b"x" * 4] * 9, {"length": 11}, 413, {0}), ([b"x", None], {}, 400, {2}),
    ([b"x"] * 9, {"delay": 0.04}, 408, {0, 1, 2})])   # on a busy machine, fewer than two arrive in time
def test_large_interrupted_and_slow_bodies_are_refused(chunks, options, status, num_taken):
    asked, taken = request(chunks, **options)
    with pytest.raises(HTTPException) as caught:
        asyncio.run(read_body(asked, 10, seconds=0.1))
    assert caught.value.status_code == status and len(taken) in num_taken
