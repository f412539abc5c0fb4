# SPDX-License-Identifier: Apache-2.0
"""Galleries, calibrations, train_info, evaluations and exported weights that others made: an answer or one line, in
little time and memory. A FIFO, a device or a folder in place of any file is one line too."""

import copy
import functools
import json
import os
import resource
import struct
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from fuzzing import answer, damaged, fuzz
from hypothesis import example, given
from hypothesis import strategies as st
from safetensors.torch import save_file
from tiny_model import OPTIONS, calibrate, inform, write_experiment

from rawnext import Extractor, files
from rawnext.cli.main import main
from rawnext.config import load_config, split_name
from rawnext.errors import InputError, run_main
from rawnext.export.release import export_safetensors
from rawnext.files import read_json, read_lines, write_lines
from rawnext.inference.extract import load_model
from rawnext.models import MODELS
from rawnext.results.rows import read_row
from rawnext.results.tables import notes, tables
from rawnext.scoring.decision import MODEL_PATH, Operating, read_judge
from rawnext.scoring.gallery import Gallery
from rawnext.scoring.kaldi_models import read_vector
from rawnext.stamp import sha256
from rawnext.training import checkpoint

ODD_JSON = [b"1e999", b"-1e999", b"NaN", b"Infinity", b"1" + b"0" * 400, b"1" * 5000, b"1e308", b"-1", b"0", b"null",
            b"true", b'""', b'"\\u001b[2J\\u009b31m\\u202e"', b'"' + b"x" * 300 + b'"', b"[]", b"{}",
            b"[" * 20000 + b"]" * 20000, b'{"a":' * 20000 + b"1" + b"}" * 20000, b"[[1.0]]", b'"1"', b"1.5"]
ESCAPES = b'{"commit": "\\u001b[2J", "\\u001b]0;x": ["\\u009b"]}'
VECTORS = np.random.default_rng(0).standard_normal((3, 8)).astype(np.float32)


@st.composite
def tampered(draw, value) -> bytes:
    """JSON in which one value, at any depth, is replaced by an odd one; or a damaged file."""
    if draw(st.integers(0, 4)) == 0:
        return draw(damaged(json.dumps(value).encode()))
    value = copy.deepcopy(value)

    def places(part):
        for key in part if isinstance(part, dict) else range(len(part)):
            yield part, key
            if isinstance(part[key], dict | list):
                yield from places(part[key])

    found = list(places(value))
    part, key = found[draw(st.integers(0, len(found) - 1))]
    part[key] = "MARK"
    return json.dumps(value).encode().replace(b'"MARK"', draw(st.sampled_from(ODD_JSON)))


@pytest.fixture(autouse=True)
def _short_wait(monkeypatch):
    monkeypatch.setattr(files, "FIFO_S", 0.3)


@pytest.fixture(scope="module")
def exp(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tampered")
    return inform(calibrate(write_experiment(folder), fitted_on={"num_trials": 500, "num_target": 100}))


@pytest.fixture(scope="module")
def gallery(exp):
    made = Gallery((exp / "g.ark", exp / "g.scp"), "model")
    made.enroll("anna", VECTORS, 3.0)
    made.enroll("bert", VECTORS[:1], 1.0)
    made.save()
    return made


def is_clean(capsys) -> None:
    """Nothing that was printed can change a terminal."""
    out, err = capsys.readouterr()
    assert all(line.isprintable() for line in (out + err).splitlines())


@fuzz(150)
@given(data=st.data())
def test_tampered_calibrations(exp, data):
    path = exp / MODEL_PATH
    good = path.read_bytes()
    try:
        path.write_bytes(data.draw(tampered(json.loads(good))))
        judge = answer(lambda: read_judge(exp), path, 30_000_000)
        if judge is not None:
            verdict = judge.decide(VECTORS[0], VECTORS[1], 1.0, 2.0, Operating())
            assert judge.why or np.isfinite(verdict.llr)
            assert all(doubt.isprintable() for doubt in judge.doubts)
    finally:
        path.write_bytes(good)


@fuzz(150)
@given(data=st.data())
def test_tampered_galleries(gallery, data):
    good = gallery.json.read_bytes()
    try:
        gallery.json.write_bytes(data.draw(tampered(json.loads(good))))
        found = answer(lambda: Gallery((gallery.ark, gallery.scp), "model"), gallery.json, 30_000_000)
        if found is not None:
            assert np.isfinite(found.scores(VECTORS)).all()
            speaker = found.enroll("anna", VECTORS, 1.0, add=True)
            assert np.isfinite(speaker.mean).all() and 0 < speaker.seconds < np.inf
    finally:
        gallery.json.write_bytes(good)


def test_galleries_of_other_dimensions_and_of_zeros_are_one_line(gallery, tmp_path):
    for name, vectors, why in (("short", VECTORS[:, :5], "5 dimensions, but the model has 8"),
                               ("zero", 0 * VECTORS, "anna is a zero vector")):
        made = Gallery((tmp_path / f"{name}.ark", tmp_path / f"{name}.scp"), "model")
        made.speakers = {"anna": gallery.speakers["anna"]._replace(mean=vectors[0])}
        made.save()
        with pytest.raises(InputError, match=why):
            Gallery((made.ark, made.scp), "model").scores(VECTORS)


loaded = functools.cache(load_model)


@fuzz(30)
@given(data=st.data())
@example(data=None)
def test_tampered_train_info(exp, capsys, monkeypatch, data):
    path = exp / "train_info.json"
    good = path.read_bytes()
    for module in ("inference.extract", "export.release"):
        monkeypatch.setattr(f"rawnext.{module}.load_model", loaded)
    try:
        path.write_bytes(data.draw(tampered(json.loads(good))) if data else ESCAPES)
        out = exp / "release"
        answer(lambda: main(["info", str(exp)]), path)
        answer(lambda: main(["info", str(exp), "--json"]), path)
        is_clean(capsys)
        if answer(lambda: export_safetensors(exp, out, "cc0-1.0") or True, path):
            assert (out / "README.md").read_text().replace("\n", "").isprintable()
    finally:
        path.write_bytes(good)
        for name in ("model.safetensors",):
            (exp / "release" / name).unlink(missing_ok=True)


@fuzz(100)
@given(data=st.data())
def test_tampered_evaluations(exp, data):
    path = exp / "tampered.json"
    row = json.loads((exp / "scores/cosine/vox1/trials_O_full.json").read_text())
    row |= {"eer_interval": [1.0, 2.0], "train": {"epochs": 3}, "num_speakers": 9}
    path.write_bytes(data.draw(tampered(row)))
    found = answer(lambda: read_row(path), path, 30_000_000)
    if found is not None:
        found["scores"] = "x"
        lines = [*notes([found], []), *(cell for _, table in tables([found], []) for line in table for cell in line)]
        assert all(line.isprintable() for line in lines)


# --- models

def in_little_memory(parse, path):
    """`answer` with at most 2 GB more of address space than now."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    old = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + (2 << 30), old[1]))
    try:
        return answer(parse, path)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, old)


@pytest.mark.parametrize("change", [
    *({"embedding_dim": value} for value in (10 ** 9, 10 ** 18, -1, 0, 1e999, float("nan"), "8", None, 9)),
    *({"channels": value} for value in ([8, 8, 16, 16, 16, 10 ** 6], [10 ** 12] * 6, [], [[[8]]])),
    {"cardinality": 10 ** 30}], ids=str)
def test_configured_sizes_that_the_weights_do_not_have_take_no_memory(tmp_path, change):
    exp = write_experiment(tmp_path)
    (exp / "config.yaml").write_text(json.dumps({"model": {**OPTIONS, **change}}))
    assert in_little_memory(lambda: load_model(exp), exp) is None


@pytest.mark.parametrize("model", [
    {"name": "resnet34", "blocks": [3, 4, 6, 10 ** 9]}, {"name": "resnet34", "bands": 10 ** 9},
    {"name": "convmixer", "depth": 10 ** 9}, {"name": "mel_stats", "bands": 10 ** 9}, {"name": "mel_stats", "bands": 0},
    {"name": "ecapa_tdnn", "channels": 10 ** 9}, {"name": "next_tdnn", "blocks": [10 ** 9, 1, 1]},
    {"name": "rawnet2", "embedding_dim": 10 ** 15}, {"name": "mr_rawnet", "embedding_dim": 10 ** 12}], ids=str)
def test_sizes_of_any_model_take_neither_memory_nor_time(tmp_path, model):
    exp = write_experiment(tmp_path)
    (exp / "config.yaml").write_text(json.dumps({"model": model}))
    assert in_little_memory(lambda: load_model(exp), exp) is None


@pytest.mark.parametrize("kind", ["pt", "safetensors"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_refused(tmp_path, kind, value, capsys):
    exp = write_experiment(tmp_path)
    state = checkpoint.load(exp / "model.pt")["model"]
    name = next(name for name, tensor in state.items() if tensor.is_floating_point() and tensor.ndim > 1)
    state[name].view(-1)[0] = value
    (exp / "model.pt").unlink()
    if kind == "pt":
        checkpoint.save(exp / "model.pt", {"model": state})
    else:
        save_file({key: tensor.contiguous() for key, tensor in state.items()}, exp / "model.safetensors")
    with pytest.raises(InputError, match=f"model.{kind}: {name} contains NaN or infinity: not a trained model"):
        load_model(exp)
    with pytest.raises(InputError, match="contains NaN or infinity"):
        main(["info", str(exp)])


def exported(exp: Path, header: bytes, size: int | None = None) -> Path:
    (exp / "model.pt").unlink(missing_ok=True)
    length = struct.pack("<Q", len(header) if size is None else size)
    (exp / "model.safetensors").write_bytes(length + header + bytes(64))
    return exp


TENSOR = {"dtype": "F32", "shape": [2, 8], "data_offsets": [0, 64]}


HEADERS = [b"", b"[" * 100_000, b'{"a":' * 100_000 + b"1" + b"}" * 100_000, b"\xff" * 50,
           *(json.dumps({"a": {**TENSOR, **change}}).encode() for change in (
               {"shape": [1 << 40, 1 << 40]}, {"shape": [10 ** 30]}, {"shape": [-2, -8]}, {"shape": [[2], 8]},
               {"dtype": "F8_E5M2", "shape": [64]}, {"dtype": "X"}, {"data_offsets": [0, 1 << 50]})),
           json.dumps({"\x1b[2J" + "x" * 300: TENSOR}).encode(),
           json.dumps({"a": TENSOR, "__metadata__": {"x": 1}}).encode()]


@pytest.mark.parametrize(("header", "size"), [(b"{}", 1 << 62), (b"{}", 10 ** 9), *((text, None) for text in HEADERS)],
                         ids=range(len(HEADERS) + 2))
def test_tampered_headers_of_weights(tmp_path, header, size):
    exp = exported(write_experiment(tmp_path), header, size)
    assert in_little_memory(lambda: load_model(exp), exp) is None


def test_a_checkpoint_that_states_more_than_it_has_is_refused(tmp_path):
    """A compressed archive, and a tensor of one number that claims to be many."""
    exp = write_experiment(tmp_path)
    with zipfile.ZipFile(exp / "model.pt") as old, zipfile.ZipFile(exp / "x", "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
        new.writestr("archive/data/999", bytes(1 << 26))
    os.replace(exp / "x", exp / "model.pt")
    with pytest.raises(InputError, match=r"model.pt: states more bytes than it has"):
        load_model(exp)
    wide = {**OPTIONS, "embedding_dim": 1 << 30}
    (exp / "config.yaml").write_text(json.dumps({"model": wide}))
    with torch.device("meta"):
        shapes = MODELS.build(*split_name(wide)).state_dict()
    checkpoint.save(exp / "model.pt", {"model": {name: torch.zeros(()).expand(tensor.shape) for name, tensor in
                                                 shapes.items()}})
    with pytest.raises(InputError, match="states more values than it has"):
        load_model(exp)
    assert in_little_memory(lambda: load_model(exp), exp) is None


# --- other things than files

READERS = [lambda path: list(read_lines(path)), read_json, lambda path: load_config([path]), checkpoint.load, sha256,
           read_vector]


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("kind", ["fifo", "folder", "/dev/zero", "/dev/random", "missing", "loop", "x" * 300])
def test_other_things_than_files_are_one_line(tmp_path, reader, kind):
    path = Path(kind) if kind.startswith("/") else tmp_path / kind
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "loop":
        path.symlink_to(path)
    assert answer(lambda: reader(path), path) is None


@pytest.mark.parametrize("name", ["config.yaml", "model.pt", "model.safetensors", "train_info.json", str(MODEL_PATH),
                                  "g.json", "g.scp", "a.wav"])
@pytest.mark.parametrize("kind", ["fifo", "folder", "zero"])
def test_commands_do_not_wait_for_other_things_than_files(tmp_path, monkeypatch, name, kind):
    exp = inform(calibrate(write_experiment(tmp_path)))
    monkeypatch.chdir(tmp_path)
    made = Gallery(("g.ark", "g.scp"), "model")
    made.enroll("anna", VECTORS, 1.0)
    made.save()
    if name == "model.safetensors":
        (exp / "model.pt").unlink()
    Path(name).unlink(missing_ok=True)
    {"fifo": os.mkfifo, "folder": os.mkdir, "zero": lambda path: os.symlink("/dev/zero", path)}[kind](name)
    command = {"g": ["identify", "-g", "g.ark,g.scp", "a.wav"], "a": ["verify", "a.wav", "a.wav"],
               "t": ["export", str(exp), "--safetensors", "out"]}.get(name[0], ["verify", "a.wav", "b.wav"])
    for other in ("a.wav", "b.wav"):
        if not Path(other).exists() and other != name:
            soundfile.write(other, 0.1 * np.random.default_rng(0).standard_normal(9000), 16000)
    model = [] if command[0] == "export" else ["-m", str(exp), "--device", "cpu"]
    if name.startswith("g"):
        fingerprint = Extractor.from_pretrained(exp, "cpu").fingerprint
        monkeypatch.setattr(Gallery, "__init__", patched(Gallery.__init__, fingerprint))
    with pytest.raises(InputError) as caught:
        main([*command, *model])
    assert Path(name).name in str(caught.value) and "\n" not in str(caught.value)


def patched(init, fingerprint):
    """Galleries of any model are read."""
    return lambda self, paths, found: init(self, paths, "model" if found == fingerprint else found)


@pytest.mark.parametrize("command", [
    ["enroll", "-g", "{0}.ark,{0}.scp", "anna", "a.wav"], ["identify", "-g", "{0}.ark,{0}.scp", "a.wav"],
    ["info", "{0}"], ["embed", "a.wav", "-o", "{0}.ark,{0}.scp"], ["verify", "-m", "{0}", "a.wav", "a.wav"],
    ["verify", "{0}", "a.wav"], ["enroll", "-g", "a.ark,a.scp", "{0}", "a.wav"], ["embed", "{0}/x.wav"]])
@pytest.mark.parametrize("name", ["x" * 300, "ä" * 140, "x" * 5000, "x/" * 3000])
def test_long_names_are_one_line(exp, tmp_path, monkeypatch, capsys, command, name):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RAWNEXT_MODEL", str(exp))
    soundfile.write("a.wav", 0.1 * np.random.default_rng(0).standard_normal(9000), 16000)
    monkeypatch.setattr(sys, "argv", ["rawnext", *(word.format(name) for word in command)])
    with pytest.raises(SystemExit) as ended:
        run_main(main)
    assert ended.value.code == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("rawnext: ") and last.isprintable()


def test_names_as_long_as_the_system_allows_can_be_written(tmp_path):
    for name in ("x" * 255, "ä" * 127):
        write_lines(tmp_path / name, ["a"])
        assert (tmp_path / name).read_text() == "a\n"
