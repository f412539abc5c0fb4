# SPDX-License-Identifier: Apache-2.0
"""`rawnext serve`: only for this machine by default; errors are reported before it listens."""

import sys

import pytest
from tiny_model import calibrate, write_experiment

from rawnext.cli.main import main
from rawnext.errors import InputError

server = pytest.importorskip("rawnext.serve.server", reason="no starlette: pip install -e '.[dev]'")


@pytest.fixture(scope="module")
def exp(tmp_path_factory):
    return str(calibrate(write_experiment(tmp_path_factory.mktemp("exp"))))


def test_host_port_and_limits_reach_the_server(exp, monkeypatch):
    served = []

    def serve(app, sock, host, browser):
        names = next(part.args[0] for part in app.user_middleware)
        service = next(route.endpoint.__self__ for route in app.routes if route.path == "/verify")
        served.append((sock.getsockname()[0], host, browser, names, service))

    monkeypatch.setattr(server, "serve", serve)
    main(["serve", "-m", exp, "--port", "0"])
    main(["serve", "-m", exp, "--port", "0", "--host", "0.0.0.0", "--no-browser", "--prior", "0.1", "--seconds", "5",
          "--megabytes", "2"])
    (at, host, browser, names, service), (at2, host2, browser2, names2, service2) = served
    assert (at, host, browser, names) == ("127.0.0.1", "127.0.0.1", True, {"localhost", "127.0.0.1"})
    assert (at2, host2, browser2) == ("0.0.0.0", "0.0.0.0", False) and names < names2 | {"127.0.0.1"}
    assert (service.limits.seconds, service.limits.megabytes, service.at.prior) == (120, 25, 0.5)
    assert (service2.limits.seconds, service2.limits.megabytes, service2.at.prior) == (5, 2, 0.1)
    assert service.judge.why == "" and service.extractor.embedding_dim == 8


@pytest.mark.parametrize(("words", "why"), [
    (["--seconds", "0"], "--megabytes and --seconds: expected"), (["--seconds", "nan"], "expected 0.01 to 1000 MB"),
    (["--megabytes", "inf"], "expected 0.01 to 1000 MB"), (["--prior", "2"], "want 0 < prior < 1"),
    (["--origin", "voice"], "--origin: expected"), (["-m", "no"], "^no/"), (["--port", "-1"], "cannot listen at")])
def test_invalid_options_are_refused(exp, words, why):
    with pytest.raises(InputError, match=why):
        main(["serve", "-m", exp, "--port", "0", "--no-browser", *words])


def test_missing_starlette_is_reported(exp, monkeypatch):
    for name in [name for name in sys.modules if name.startswith(("rawnext.serve", "starlette."))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "starlette", None)
    with pytest.raises(InputError, match=r"^starlette: is not installed: pip install 'rawnext\[serve\]'"):
        main(["serve", "-m", exp])
