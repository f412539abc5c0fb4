# SPDX-License-Identifier: Apache-2.0
"""Where the server listens, what it prints, and when it opens the browser."""

import http.client
import socket
import time
import webbrowser
from urllib.parse import urlsplit

import pytest
import uvicorn
from starlette.responses import PlainTextResponse

from rawnext.errors import InputError
from rawnext.serve import server


@pytest.mark.parametrize(("host", "loopback"), [
    ("127.0.0.1", True), ("127.1.2.3", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("::", False),
    ("192.168.0.2", False), ("example.org", False), ("localhost.example.org", False)])
def test_loopback_hosts_are_recognised(host, loopback):
    assert server.is_loopback(host) == loopback
    assert "localhost" in server.names_of(host)


def test_unavailable_addresses_are_refused():
    with server.listen("127.0.0.1", 0) as sock:
        port = sock.getsockname()[1]
        with pytest.raises(InputError, match=f"--host and --port: cannot listen at 127.0.0.1, port {port}: .*in use"):
            server.listen("127.0.0.1", port)
    for host, port in (("no such host", 0), ("127.0.0.1", 70000), ("192.0.2.1", 0)):
        with pytest.raises(InputError, match="^--host and --port: cannot listen at"):
            server.listen(host, port)


@pytest.mark.parametrize(("host", "url"), [("127.0.0.1", "http://127.0.0.1:{}/"), ("0.0.0.0", "http://0.0.0.0:{}/")])
def test_browser_is_opened_after_the_server_listens(host, url, monkeypatch, capsys):
    """The browser is opened once the page is available; here it is a request, after which the server ends."""
    seen, servers, make = [], [], server.make_server
    monkeypatch.setattr(server, "make_server", lambda app: servers.append(make(app)) or servers[0])

    def open_browser(address):
        try:
            client = http.client.HTTPConnection(urlsplit(address).netloc, timeout=10)
            client.request("GET", "/")
            seen.extend([address, client.getresponse().read()])
        finally:
            servers[0].should_exit = True

    monkeypatch.setattr(webbrowser, "open", open_browser)
    with server.listen(host, 0) as sock:
        port = sock.getsockname()[1]
        server.serve(PlainTextResponse("page"), sock, host, browser=True)
    out, err = capsys.readouterr()
    assert seen == [url.format(port), b"page"] and url.format(port) in out and servers[0].config.access_log is False
    assert ("rawnext: warning: everyone who can reach" in err) == (host == "0.0.0.0")


def test_no_browser_and_clean_end_on_ctrl_c(monkeypatch, capsys):
    opened = []
    monkeypatch.setattr(webbrowser, "open", opened.append)

    async def main_loop(self):
        raise KeyboardInterrupt

    monkeypatch.setattr(uvicorn.Server, "main_loop", main_loop)
    with server.listen("127.0.0.1", 0) as sock:
        server.serve(PlainTextResponse("page"), sock, "127.0.0.1", browser=False)
    assert capsys.readouterr().out.endswith("(press Ctrl-C to stop)\n") and opened == []


def slowly(port, head):
    """Send `head`, then a byte every 50 ms.   Returns: (the answer, seconds until the connection was closed)."""
    answer, begin = b"", time.monotonic()
    with socket.create_connection(("127.0.0.1", port), timeout=0.05) as connection:
        connection.sendall(head)
        while time.monotonic() < begin + 10:
            try:
                if not (more := connection.recv(1 << 16)):
                    break
                answer += more
            except TimeoutError:
                connection.sendall(b"a")
            except ConnectionError:
                break
    return answer, time.monotonic() - begin


def test_slow_headers_and_bodies_after_an_answer_are_cut_off(monkeypatch, client):
    monkeypatch.setattr(server, "HEAD_S", 0.5)
    get = b"GET /about HTTP/1.1\r\nHost: localhost\r\n"
    answer, seconds = slowly(client.port, get)
    assert not answer and 0.4 < seconds < 4
    answer, seconds = slowly(client.port, get + b"\r\n" + get)   # a second request on the same connection
    assert answer.startswith(b"HTTP/1.1 200") and seconds < 4
    big = b"POST /embed HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99000000\r\n\r\n"
    answer, seconds = slowly(client.port, big)
    assert answer.startswith(b"HTTP/1.1 413") and seconds < 4
    for _ in range(3):   # a connection that is kept
        assert client.ask("GET", "/about")[0] == 200


def test_bodies_may_take_longer_than_headers(monkeypatch, client, audio):
    monkeypatch.setattr(server, "HEAD_S", 0.2)
    body = audio()
    with socket.create_connection(("127.0.0.1", client.port), timeout=30) as connection:
        connection.sendall(b"POST /embed HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body))
        for part in (body[:500], body[500:]):
            time.sleep(0.3)
            connection.sendall(part)
        assert connection.recv(100).startswith(b"HTTP/1.1 200")
