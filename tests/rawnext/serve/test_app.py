# SPDX-License-Identifier: Apache-2.0
"""Responses equal those of the Python interface and the command line; limits hold; nothing is written."""

import contextlib
import io
import json
import shutil
import socket
import sys
import threading
import time
from itertools import pairwise

import numpy as np
import pytest
import soundfile
from corpus import by_ffmpeg, voice

from rawnext import read_audio
from rawnext.cli.main import main
from rawnext.scoring.decision import Judge, Operating
from rawnext.serve.app import COLUMNS, Limits, Service, envelope

needs_ffmpeg = pytest.mark.skipif(not shutil.which("ffmpeg"), reason="no ffmpeg")


@pytest.mark.parametrize(("seconds", "rate", "kind"), [(1.0, 16000, "WAV"), (0.7, 44100, "FLAC"), (2.5, 8000, "AIFF")])
def test_embed_equals_the_extractor(client, extractor, audio, tmp_path, seconds, rate, kind):
    data = audio(1, seconds, rate, kind)
    (tmp_path / "a").write_bytes(data)
    wave, found = read_audio(tmp_path / "a")
    status, answer = client.post("/embed", data)
    assert status == 200 and (answer["rate"], answer["seconds"]) == (found, len(wave) / rate)
    np.testing.assert_allclose(answer["embedding"], extractor.embed(wave, found), rtol=1e-6)
    assert answer["envelope"] == envelope(wave).tolist()


def test_a_channel_and_the_warning_about_it(client, extractor, tmp_path):
    """Speech on the right channel only."""
    path, wave = tmp_path / "a.wav", voice(1, 0, 1.0)
    soundfile.write(path, np.stack([0.001 * voice(2, 0, 1.0), wave], 1), 16000, "FLOAT")
    for channel, query in ((0, "/embed"), (0, "/embed?channel=0"), (1, "/embed?channel=1")):
        status, answer = client.post(query, path.read_bytes())
        assert status == 200
        np.testing.assert_allclose(answer["embedding"], extractor.embed(*read_audio(path, channel)), rtol=1e-5)
        warned = "Channel 0, which is used, is 60 dB below the loudest one, channel 1." in answer["doubts"]
        assert warned == (channel == 0), answer["doubts"]
    for query, why in (("2", "has no channel 2; channels are counted from 0, and it has 2"),
                       ("-1", "expected a channel of 0 or more, got '-1'"), ("a", "got 'a'")):
        status, answer = client.post(f"/embed?channel={query}", path.read_bytes())
        assert status == 422 and why in answer["error"], answer


@pytest.mark.parametrize("num_samples", [200, COLUMNS, 16007])
def test_envelope_covers_every_sample_once(num_samples):
    wave = voice(0, 0, num_samples / 16000)
    low, high = envelope(wave).T
    columns = min(COLUMNS, num_samples)
    edges = [num_samples * column // columns for column in range(columns + 1)]
    parts = [wave[start:stop] for start, stop in pairwise(edges)]
    np.testing.assert_allclose(low, [part.min() for part in parts], atol=6e-5)
    np.testing.assert_allclose(high, [part.max() for part in parts], atol=6e-5)


def side(client, data):
    _, answer = client.post("/embed", data)
    return {"embedding": answer["embedding"], "seconds": answer["seconds"]}


def test_verify_equals_the_command_line(client, exp, audio, tmp_path, capsys):
    files = {"a.wav": audio(0, 1.0), "b.wav": audio(2, 3.0)}
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    main(["verify", "-m", str(exp), "--device", "cpu", *(str(tmp_path / name) for name in files), "--json"])
    row = json.loads(capsys.readouterr().out)
    enroll, test = (side(client, data) for data in files.values())
    status, answer = client.post("/verify", {"enroll": enroll, "test": test})
    assert status == 200 and answer["same"] == row["same_speaker"] and answer["threshold"] == row["threshold"] == 0
    assert answer["score"] == pytest.approx(row["score"], abs=1e-5) and not answer["outside"]
    assert answer["llr"] == pytest.approx(row["llr"], abs=1e-4)
    assert answer["chance"] == pytest.approx(1 / (1 + np.exp(-answer["llr"])))


def test_no_decision_without_a_calibration(extractor, serving, audio):
    with serving(Service(extractor, Judge(None, [], "none"), Operating(), Limits())) as client:
        one = side(client, audio())
        status, answer = client.post("/verify", {"enroll": one, "test": one})
        assert client.ask("GET", "/about")[2] == {"model": "tiny", "calibrated": False, "megabytes": 25, "seconds": 120}
    assert status == 200 and [answer[key] for key in ("llr", "threshold", "same", "chance")] == [None] * 4
    assert answer["score"] == pytest.approx(1, abs=1e-6) and len(answer["doubts"]) == 2


def faulty(name, audio):
    file = io.BytesIO()
    if name in ("large samples", "0.09998 s"):
        samples, rate = (np.full(16000, 1e20), 16000) if name == "large samples" else (voice(0, 0, 1)[:4409], 44100)
        soundfile.write(file, samples, rate, format="WAV", subtype="DOUBLE")
        return file.getvalue()
    soundfile.write(file, np.full(16000, np.nan if name == "nan" else 0, np.float32), 16000, format="WAV",
                    subtype="FLOAT")
    return {"text": b"no audio", "short": audio(seconds=0.09), "cut off": audio()[:9000],
            "large": audio(seconds=5.3, rate=48000), "long": audio(seconds=4.01),
            "long flac": audio(0, 9, 16000, "FLAC"), "rate": audio(rate=16001)}.get(name, file.getvalue())


@pytest.mark.parametrize(("name", "status", "why"), [
    ("text", 422, "soundfile"),  # with or without ffmpeg
    ("short", 422, "0.090 s of audio; at least 0.1 s"), ("cut off", 422, "cut off: it has"),
    ("silent", 422, "has only zeros"), ("nan", 422, "NaN or infinity"), ("rate", 422, "cannot be resampled"),
    ("large", 413, "larger than 0.5 MB"), ("long", 422, "is longer than 4 s"),
    ("long flac", 422, "is longer than 4 s"), ("large samples", 422, "has samples up to 1"),
    ("0.09998 s", 422, "0.099977 s of audio; at least 0.1 s")])
def test_invalid_audio_is_reported_in_one_line(client, audio, name, status, why):
    found, answer = client.post("/embed", faulty(name, audio))
    assert found == status and set(answer) == {"error"} and why in answer["error"]
    assert "\n" not in answer["error"] and "/proc" not in answer["error"]


@pytest.mark.parametrize("change", [
    {"enroll": None}, {"test": {}}, {"enroll": {"embedding": [1.0], "seconds": 1}},
    {"test": {"embedding": [0] * 8, "seconds": 1}}, {"test": {"embedding": ["a"] * 8, "seconds": 1}},
    {side: {"embedding": [1.0], "seconds": 1} for side in ("enroll", "test")},
    {"test": {"embedding": [1] * 8, "seconds": -1}}, {"test": {"embedding": [1] * 8, "seconds": 0}},
    {"test": {"embedding": [1] * 8, "seconds": "nan"}},
    {"test": {"embedding": [1] * 8, "seconds": 10 ** 400}}])
def test_invalid_pairs_are_refused(client, change):
    good = {"embedding": [1.0] * 8, "seconds": 1.0}
    assert client.post("/verify", {"enroll": good, "test": good})[0] == 200
    for body in ({"enroll": good, "test": good} | change, b"[" * 100000, b"\xff", b"[]"):
        status, answer = client.post("/verify", body)
        assert status == 422 and answer["error"].startswith("expected embedding and seconds")


def test_unknown_paths_and_methods_are_refused(client):
    for method, path, status in (("GET", "/embed", 404), ("POST", "/about", 405), ("GET", "/no", 404),
                                 ("GET", "/../app.py", 404), ("GET", "/%2e%2e/app.py", 404)):
        found, _, answer = client.ask(method, path)
        assert found == status and set(answer) == {"error"}, path


class Slow:
    """An extractor that waits until it is released, and records how many calls wait at once."""

    folder, embedding_dim = "slow", 1

    def __init__(self):
        self.go, self.inside, self.most, self.lock = threading.Event(), 0, 0, threading.Lock()

    def embed_each(self, waves, seconds):
        (name, _, _), = waves
        with self.lock:
            self.inside += 1
            self.most = max(self.most, self.inside)
        self.go.wait(30)
        with self.lock:
            self.inside -= 1
        yield name, np.ones(1)


def test_one_computation_at_a_time_and_a_limited_queue(serving, audio):
    slow, answers = Slow(), []
    service = Service(slow, Judge(None, [], "none"), Operating(), Limits(at_once=3))
    with serving(service) as client:
        threads = [threading.Thread(target=lambda: answers.append(client.post("/embed", audio()))) for _ in range(3)]
        for thread in threads:
            thread.start()
        while not service.slots.locked():
            time.sleep(0.01)
        status, answer = client.post("/embed", audio())
        assert status == 503 and "try again" in answer["error"] and client.ask("GET", "/about")[0] == 200
        slow.go.set()
        for thread in threads:
            thread.join(30)
    assert [status for status, _ in answers] == [200] * 3 and slow.most == 1 and service.slots._value == 3


def test_places_are_counted_before_a_body_is_read(serving, audio):
    """Clients that have not sent their bodies keep others out, up to the time-out for a body."""
    service = Service(Slow(), Judge(None, [], "none"), Operating(), Limits(at_once=2))
    head = b"POST /embed HTTP/1.1\r\nHost: localhost\r\nContent-Length: 20000\r\n\r\n"
    with serving(service) as client, contextlib.ExitStack() as stack:
        for _ in range(2):
            connection = stack.enter_context(socket.create_connection(("127.0.0.1", client.port)))
            connection.sendall(head + bytes(10))
        while not service.slots.locked():
            time.sleep(0.01)
        with socket.create_connection(("127.0.0.1", client.port), timeout=30) as third:
            third.sendall(head)   # and no body
            assert third.recv(100).startswith(b"HTTP/1.1 503")
        stack.close()   # they go: their places are free
        while service.slots.locked():
            time.sleep(0.01)


def test_slow_request_times_out(serving, audio):
    slow = Slow()
    service = Service(slow, Judge(None, [], "none"), Operating(), Limits(wait_s=0.2))
    with serving(service) as client:
        status, answer = client.post("/embed", audio())
        assert status == 503 and "not finished within 0.2 s" in answer["error"] and service.slots._value == 4
        slow.go.set()


def test_internal_error_is_not_shown_to_the_page(serving, audio, caplog):
    class Broken(Slow):
        def embed_each(self, waves, seconds):
            raise ZeroDivisionError("secret")

    with serving(Service(Broken(), Judge(None, [], "none"), Operating(), Limits())) as client:
        assert client.post("/embed", audio()) == (500, {"error": "internal error; the server's terminal shows details"})


written = None  # paths opened for writing, during the test that records them


def watch(event, args):
    if written is not None and event == "open" and isinstance(args[0], str | bytes):
        mode, flags = args[1] or "", args[2]
        if any(sign in mode for sign in "wax+") or flags & 3:
            written.append(args[0])


@needs_ffmpeg
def test_uploads_are_not_written_to_disk(extractor, serving, audio, monkeypatch, tmp_path):
    global written
    m4a = by_ffmpeg(voice(0, 0, 1), 16000, tmp_path / "a.m4a").read_bytes()
    file = io.BytesIO()
    soundfile.write(file, np.tile(voice(0, 0, 1)[:, None], (3, 30)), 16000, format="WAV")
    big = file.getvalue()
    assert len(big) > 2 << 20
    sys.addaudithook(watch)
    with serving(Service(extractor, Judge(None, [], "none"), Operating(), Limits())) as client:
        monkeypatch.setattr(sys.modules[__name__], "written", [])
        statuses = [client.post("/embed", body)[0] for body in (big, m4a, b"text")]
        found, written = written, None
    assert statuses == [200, 200, 422] and set(found) <= {"/dev/null"}
