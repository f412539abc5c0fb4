# SPDX-License-Identifier: Apache-2.0
"""Models at addresses, from a server on this machine: downloaded once, checked, and nothing is left after an error."""

import contextlib
import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
import threading
import time
import types
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import soundfile
from corpus import voice
from safetensors.torch import save
from tiny_model import write_experiment

from rawnext import Extractor
from rawnext import download as module
from rawnext.cli.main import main
from rawnext.config import model_folder
from rawnext.errors import InputError
from rawnext.training import checkpoint

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Name -> content of an exported model."""
    exp = write_experiment(tmp_path_factory.mktemp("exp"))
    return {"config.yaml": (exp / "config.yaml").read_bytes(),
            "model.safetensors": save(checkpoint.load(exp / "model.pt")["model"]), "README.md": b"card"}


def tar(members, mode="w:gz"):
    """A tar archive of (name, content) or TarInfo."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


@pytest.fixture
def server(monkeypatch):
    """Serves `server.files`, path -> content or (status, headers, content); counts its requests."""
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            found.requests.append(self.path)
            answer = found.files.get(self.path.partition("?")[0], (404, {}, b""))
            status, headers, content = answer if isinstance(answer, tuple) else (200, {}, answer)
            self.send_response(status)
            for name, value in {"Content-Length": str(len(content)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            with contextlib.suppress(OSError):  # a client that has seen enough
                self.wfile.write(content if self.command == "GET" else b"")

        do_HEAD = do_GET

        def log_message(self, *_):
            pass

    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        found = types.SimpleNamespace(files={}, requests=[], url=f"http://127.0.0.1:{http.server_port}")
        threading.Thread(target=http.serve_forever, args=(0.01,), daemon=True).start()
        yield found
        http.shutdown()


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("RAWNEXT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def pin(url, content):
    return f"{url}#sha256={hashlib.sha256(content).hexdigest()}"


@pytest.mark.parametrize("top", ["", "release/"])
def test_an_archive_is_downloaded_once(server, cache, files, top, tmp_path, monkeypatch, capsys):
    """To a folder named by its sha256; the second time, there need be no server."""
    content = tar({top + name: data for name, data in files.items()})
    server.files = {"/m.tar.gz": content, "/moved": (302, {"Location": "/m.tar.gz"}, b"")}
    address = pin(f"{server.url}/moved", content)
    extractor = Extractor.from_pretrained(address, "cpu")
    assert extractor.folder == cache / hashlib.sha256(content).hexdigest() and [*cache.iterdir()] == [extractor.folder]
    assert {path.name: path.read_bytes() for path in extractor.folder.iterdir()} == files
    monkeypatch.setattr("urllib.request.build_opener", None)
    monkeypatch.chdir(tmp_path)
    soundfile.write("a.wav", voice(0, 0, 1), 16000)
    monkeypatch.setenv("RAWNEXT_MODEL", address.replace("sha256=", "SHA256=").upper().replace("HTTP:", "http:"))
    main(["embed", "a.wav"])  # the upper-case digest is the same one
    monkeypatch.setenv("RAWNEXT_MODEL", "")
    main(["embed", "-m", str(extractor.folder), "a.wav"])
    one, other = capsys.readouterr().out.splitlines()
    assert one == other and server.requests == ["/moved", "/m.tar.gz"]


def test_what_a_killed_download_left_is_deleted(server, cache, files):
    """By a later download, a day after; a younger one may be another process's."""
    content = tar(files)
    server.files = {"/m.tar.gz": content}
    for name, age in ((".new.old", 90000), (".new.young", 3600)):
        (cache / name / "content").mkdir(parents=True)
        os.utime(cache / name, (time.time() - age,) * 2)
    folder = module.download(pin(f"{server.url}/m.tar.gz", content))
    assert {*cache.iterdir()} == {folder, cache / ".new.young"}


def test_every_command_takes_an_address(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    soundfile.write("a.wav", voice(0, 0, 1), 16000)
    (tmp_path / "trials").write_text("a.wav a.wav\n")
    (tmp_path / "g.scp").write_text("anna g.ark:5\n")
    for words in (["embed", "a.wav"], ["verify", "a.wav", "a.wav"], ["enroll", "-g", "g.ark,g.scp", "anna", "a.wav"],
                  ["identify", "-g", "g.ark,g.scp", "a.wav"], ["diarize", "a.wav"], ["serve", "--port", "0"],
                  ["score", "trials", ".", "-o", "scores"], ["info"], ["export", "--safetensors", "again"]):
        model = ["http://example.org/m.tar#sha256=" + "0" * 64]
        with pytest.raises(InputError, match=r"^http://example.org/m.tar: want an address that begins with https"):
            main(words + (["-m"] if words[0] not in ("info", "export") else []) + model)


@pytest.mark.parametrize("case", ["404", "other file", "cut off", "no server", "traversal", "link", "not a tar",
                                  "damaged", "no model", "pickle", "too large", "bomb", "redirected",
                                  "redirected to a file"])
def test_errors_are_one_line_and_leave_nothing(server, cache, files, monkeypatch, case):
    content, why = tar(files), "cannot be downloaded: "
    monkeypatch.setattr(module, "MODEL_BYTES", 3 << 20)
    if case == "traversal":
        content, why = tar({**files, "../evil": b"evil"}), "cannot be unpacked: .*outside"
    elif case == "not a tar":
        content, why = b"<html>" * 999, "cannot be unpacked: "
    elif case == "damaged":
        content, why = content[:-20], "cannot be unpacked: "
    elif case == "no model":
        content, why = tar({"a/config.yaml": files["config.yaml"], "b/model.safetensors": b"x"}), "is not a model: "
    elif case == "pickle":
        content, why = tar({"config.yaml": files["config.yaml"], "model.pt": b"x"}), "is not a model: "
    elif case == "too large":
        content, why = bytes(4 << 20), "is larger than 3 MiB"
    elif case == "bomb":
        content, why = tar({**files, "zeros": bytes(4 << 20)}), "cannot be unpacked: it has more than 3 MiB"
    elif case == "link":
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as archive:
            info = tarfile.TarInfo("calibration")
            info.type, info.linkname = tarfile.SYMTYPE, "/etc"
            archive.addfile(info)
        content, why = buffer.getvalue(), "cannot be unpacked: .*absolute"
    server.files = {"/m.tar.gz": content}
    address = pin(f"{server.url}/m.tar.gz", content)
    if case == "404":
        address, why = address.replace("m.tar", "n.tar"), "cannot be downloaded: .*404"
    elif case == "other file":
        server.files["/m.tar.gz"], why = tar(files, "w"), "is another file: its sha256 is "
    elif case == "cut off":
        server.files["/m.tar.gz"] = (200, {"Content-Length": str(len(content) + 9)}, content)
    elif case == "no server":
        address, why = address.replace(server.url, "http://localhost:9"), "cannot be downloaded: .*refused"
    elif case.startswith("redirected"):
        target = "file:///etc/hostname" if case.endswith("file") else "http://example.org/m.tar.gz"
        server.files["/m.tar.gz"] = (302, {"Location": target}, b"")
        why = "want an address that begins with https://|cannot be downloaded: .*not allowed"
    with pytest.raises(InputError, match=rf"^\w+://[^ ]+: ({why})") as caught:
        model_folder(address)
    assert "\n" not in str(caught.value) and not [*cache.rglob("*")]


@pytest.mark.parametrize(("address", "why"), [
    ("https://example.org/m.tar.gz", "needs the sha256"),
    ("https://example.org/m.tar.gz#sha256=12", "needs the sha256"),
    ("https://example.org/m.tar.gz#md5=" + "0" * 64, "needs the sha256"),
    ("http://example.org/m.tar.gz#sha256=" + "0" * 64, "begins with https://"),
    ("http://localhost.example.org/m.tar.gz#sha256=" + "0" * 64, "begins with https://"),
    ("https://[/m.tar.gz#sha256=" + "0" * 64, "Invalid IPv6"), ("https:///m#sha256=" + "0" * 64, "no host"),
    ("https://localhost:x/m#sha256=" + "0" * 64, "cannot be downloaded")])
def test_addresses_that_are_refused(cache, address, why):
    with pytest.raises(InputError, match=why) as caught:
        model_folder(address)
    assert "\n" not in str(caught.value) and not [*cache.rglob("*")]


def test_an_empty_name_is_no_model(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    soundfile.write("a.wav", voice(0, 0, 1), 16000)
    with pytest.raises(InputError, match="config.yaml: no such file"):
        main(["embed", "-m", "", "a.wav"])


def test_the_cache_is_where_users_expect_it(monkeypatch):
    for name, value, folder in (("HOME", "/home/a", "/home/a/.cache/rawnext"), ("XDG_CACHE_HOME", "/c", "/c/rawnext"),
                                ("RAWNEXT_CACHE", "/r", "/r")):
        if name == "HOME":
            monkeypatch.delenv("RAWNEXT_CACHE", raising=False)
            monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
        monkeypatch.setenv(name, value)
        assert str(module.cache()) == folder


@pytest.mark.parametrize(("name", "repository", "revision"), [("hf:a/b", "a/b", None), ("hf:a/b@v1", "a/b", "v1")])
def test_a_model_of_the_hub(monkeypatch, tmp_path, files, name, repository, revision):
    """The library is called for the files of a model alone; whatever it raises is one line."""
    def snapshot_download(*words, **options):
        assert words == (repository,) and options == {"revision": revision, "allow_patterns": module.FILES}
        if isinstance(answer, Exception):
            raise answer
        return str(answer)

    monkeypatch.setitem(sys.modules, "huggingface_hub", types.SimpleNamespace(snapshot_download=snapshot_download))
    for path, content in files.items():
        (tmp_path / path).write_bytes(content)
    answer = tmp_path
    assert model_folder(name) == tmp_path
    answer = ValueError("no such\nrepository")
    with pytest.raises(InputError, match=f"^{name}: cannot be downloaded: no such repository$"):
        model_folder(name)
    answer = tmp_path
    (tmp_path / "config.yaml").unlink()
    with pytest.raises(InputError, match=f"^{name}: is not a model"):
        model_folder(name)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(InputError, match=rf"^{name}: needs huggingface_hub: pip install 'rawnext\[hub\]'$"):
        model_folder(name)


@pytest.mark.slow
def test_the_hubs_library_downloads_the_files_of_a_model(server, files, tmp_path, root):
    """huggingface_hub itself, with a hub on this machine, then without any."""
    pytest.importorskip("huggingface_hub")
    files = {**files, "model.pt": b"pickle", "calibration/cosine/native/model.json": b"{}"}
    tree = [{"type": "file", "path": name, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
            for name, content in files.items()]
    about = b'{"id": "a/b", "sha": "%s", "siblings": [%s]}' % (
        COMMIT.encode(), b", ".join(b'{"rfilename": "%s"}' % name.encode() for name in files))
    server.files = {"/api/models/a/b": about, "/api/models/a/b/revision/main": about,
                    f"/api/models/a/b/tree/{COMMIT}": json.dumps(tree).encode(),
                    **{f"/a/b/resolve/{COMMIT}/{name}": (
                        200, {"ETag": f'"{hashlib.sha1(content).hexdigest()}"', "X-Repo-Commit": COMMIT}, content)
                       for name, content in files.items()}}
    server.files = {path: answer if isinstance(answer, tuple) else (200, {"Content-Type": "application/json"}, answer)
                    for path, answer in server.files.items()}
    env = {**os.environ, "HF_HOME": str(tmp_path / "hub"), "HF_ENDPOINT": server.url,
           "PYTHONPATH": os.pathsep.join([str(root), *sys.path])}
    program = "from rawnext.config import model_folder\nprint(model_folder('hf:a/b'))"

    def call(**more):
        return subprocess.run([sys.executable, "-c", program], env={**env, **more}, capture_output=True, text=True)

    done = call()
    assert done.returncode == 0, done.stderr
    folder = module.Path(done.stdout.strip())
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert found == {"config.yaml", "model.safetensors", "calibration/cosine/native/model.json"}
    assert all((folder / name).read_bytes() == files[name] for name in found)
    assert call(HF_ENDPOINT="http://127.0.0.1:9").stdout == done.stdout, "without a hub"
    assert call(HF_HUB_OFFLINE="1").stdout == done.stdout
    for more in ({"HF_HUB_OFFLINE": "1"}, {"HF_ENDPOINT": "http://127.0.0.1:9"}):
        lost = call(HF_HOME=str(tmp_path / "empty"), **more)
        assert lost.stderr.splitlines()[-1].startswith("rawnext.errors.InputError: hf:a/b: cannot be downloaded: ")
