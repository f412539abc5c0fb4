# SPDX-License-Identifier: Apache-2.0
"""The server as a browser sees it: on a socket, with a model of random weights."""

import contextlib
import http.client
import io
import json
import threading

import pytest
import soundfile
from corpus import voice
from tiny_model import calibrate, write_experiment

from rawnext import Extractor
from rawnext.scoring.decision import Operating, read_judge

pytest.importorskip("starlette", reason="no starlette: pip install -e '.[dev]'")
from rawnext.serve.app import Limits, Service, build_app
from rawnext.serve.server import listen, make_server, names_of


class Client:
    """Requests to 127.0.0.1:port; `url` is the page's."""

    def __init__(self, port):
        self.port, self.url = port, f"http://127.0.0.1:{port}/"

    def ask(self, method, path, body=None, **headers):
        """(status, headers, JSON or bytes).   headers: their names with _ for -."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        with contextlib.closing(connection):
            names = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, body, names)
            answer = connection.getresponse()
            content = answer.read()
        is_json = answer.headers.get_content_type() == "application/json"
        return answer.status, answer.headers, json.loads(content) if is_json else content

    def post(self, path, body):
        """(status, JSON)."""
        status, _, answer = self.ask("POST", path, body if isinstance(body, bytes) else json.dumps(body))
        return status, answer


@contextlib.contextmanager
def serving(service, origin=""):
    """A client of a server in a thread of this process."""
    with listen("127.0.0.1", 0) as sock:
        client = Client(sock.getsockname()[1])
        server = make_server(build_app(service, names_of("127.0.0.1"), origin))
        thread = threading.Thread(target=server.run, args=[[sock]])
        thread.start()
        try:
            yield client
        finally:
            server.should_exit = True
            thread.join(30)
    assert not thread.is_alive()


@pytest.fixture(scope="session", name="serving")
def _serving():
    return serving


@pytest.fixture(scope="session")
def exp(tmp_path_factory):
    return calibrate(write_experiment(tmp_path_factory.mktemp("served") / "tiny"))


@pytest.fixture(scope="session")
def extractor(exp):
    return Extractor.from_pretrained(exp, "cpu")


@pytest.fixture(scope="session")
def client(exp, extractor):
    with serving(Service(extractor, read_judge(exp), Operating(), Limits(megabytes=0.5, seconds=4))) as client:
        yield client


@pytest.fixture(scope="session")
def audio():
    """Bytes of an audio file: a voice of some seconds in a format that soundfile writes."""
    def written(speaker=0, seconds=1.0, rate=16000, kind="WAV", gain=1.0):
        file = io.BytesIO()
        soundfile.write(file, gain * voice(speaker, 0, seconds * rate / 16000), rate, format=kind, subtype="PCM_16")
        return file.getvalue()
    return written
