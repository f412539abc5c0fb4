# SPDX-License-Identifier: Apache-2.0
"""An interrupted archive ends with the bytes of an uninterrupted one, and no finished chunk is computed again."""

import random
import subprocess
import sys
import time

import kaldi_native_io
import kaldiio
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rawnext.errors import InputError
from rawnext.kaldi.journal import whole_entries, write_journal

UTTS = [(f"spk{i // 4}-é{i}", f"/audio/{i}.wav 100") for i in range(11)]
HEAD = ["model abc", "protocol native"]


class Stop(Exception):
    """Simulates a kill."""


class Model:
    """Embeddings that, like real ones, depend slightly on the rest of the batch; records the utterances it embeds."""

    def __init__(self, utts, chunk, stop_at=None, scale=1.0):
        self.utts, self.chunk, self.stop_at, self.scale, self.embedded = utts, chunk, stop_at, scale, []

    def __call__(self, first):
        for i in range(first, len(self.utts)):
            if i == self.stop_at:
                raise Stop
            self.embedded.append(i)
            batch = sum(len(utt) for utt, _ in self.utts[i // self.chunk * self.chunk:][:self.chunk])
            yield self.utts[i][0], self.scale * np.arange(3) + i + batch / 64


def write(folder, model, head=HEAD):
    return write_journal(folder / "embedding.1", head, model.utts, model.chunk, model)


def contents(folder):
    return {name: (folder / f"embedding.1.{name}").read_bytes().replace(str(folder).encode(), b"")
            for name in ("ark", "scp", "sources")}


@pytest.fixture
def uninterrupted(tmp_path):
    write(tmp_path / "uninterrupted", Model(UTTS, 4))
    return contents(tmp_path / "uninterrupted")


def test_kaldi_reads_the_archive_and_kaldiio_writes_the_same_bytes(tmp_path):
    folder = tmp_path / "out"
    assert write(folder, Model(UTTS, 4)) == 0
    expected = {utt: vector.astype(np.float32) for utt, vector in Model(UTTS, 4)(0)}
    with kaldi_native_io.SequentialFloatVectorReader(f"ark:{folder}/embedding.1.ark") as reader:
        read = {key: np.array(value) for key, value in reader}
    assert list(read) == list(expected) and all(np.array_equal(read[key], expected[key]) for key in read)
    with kaldi_native_io.RandomAccessFloatVectorReader(f"scp:{folder}/embedding.1.scp") as reader:
        assert all(np.array_equal(reader[key], expected[key]) for key in expected)
    kaldiio.save_ark(str(tmp_path / "other.ark"), expected)
    assert (tmp_path / "other.ark").read_bytes() == (folder / "embedding.1.ark").read_bytes()


def test_finished_archive_is_not_rewritten(tmp_path, uninterrupted):
    folder = tmp_path / "uninterrupted"
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    model = Model(UTTS, 4)
    assert write(folder, model) == len(UTTS) and model.embedded == []
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 10), st.integers(0, 400)), max_size=4), st.integers(1, 5))
def test_interrupted_archive_ends_with_the_same_bytes(tmp_path_factory, interruptions, chunk):
    folder, whole = tmp_path_factory.mktemp("cut"), tmp_path_factory.mktemp("whole")
    partial, embedded = folder / ".embedding.1.ark.partial", []
    for stop_at, cut in interruptions:
        model = Model(UTTS, chunk, stop_at)
        try:
            write(folder, model)
        except Stop:  # cut: bytes lost in a power failure
            partial.write_bytes(partial.read_bytes()[:max(0, partial.stat().st_size - cut // 10)])
        embedded.append(model.embedded)
    last = Model(UTTS, chunk)
    write(folder, last)
    write(whole, Model(UTTS, chunk))
    assert contents(folder) == contents(whole)
    assert {path.name for path in folder.iterdir()} == {path.name for path in whole.iterdir()}
    if len(interruptions) == 1 and interruptions[0][1] < 10:  # nothing was cut off
        assert len(set(embedded[0]) & set(last.embedded)) < chunk


@pytest.mark.parametrize("state", ["ark, no scp", "old scp", "empty sources", "no sources", "ark cut"])
def test_kill_between_two_files_is_repaired(tmp_path, uninterrupted, state):
    folder, model = tmp_path / "uninterrupted", Model(UTTS, 4)
    path = {name: folder / f"embedding.1.{name}" for name in ("ark", "scp", "sources")}
    if state == "ark, no scp":
        path["scp"].unlink()
    elif state == "old scp":
        path["ark"].rename(folder / ".embedding.1.ark.partial")
    elif state == "empty sources":
        path["sources"].write_text("")
    elif state == "no sources":
        path["sources"].unlink()
    else:
        path["ark"].write_bytes(path["ark"].read_bytes()[:-5])
    write(folder, model)
    assert contents(folder) == uninterrupted
    assert len(model.embedded) == {"ark, no scp": 0, "old scp": 0, "ark cut": 3}.get(state, 11)


def test_other_model_or_options_start_from_scratch(tmp_path, uninterrupted):
    for head in (["model abd", "protocol native"], ["model abc", "protocol native", "more"], ["model abc"]):
        model = Model(UTTS, 4, scale=2.0)
        assert write(tmp_path / "uninterrupted", model, head) == 0 and len(model.embedded) == 11
    assert contents(tmp_path / "uninterrupted")["ark"] != uninterrupted["ark"]


def test_old_scp_is_removed_before_new_work_starts(tmp_path, uninterrupted):
    with pytest.raises(Stop):
        write(tmp_path / "uninterrupted", Model(UTTS, 4, stop_at=9), ["another model"])
    left = {path.name for path in (tmp_path / "uninterrupted").iterdir()}
    assert left == {".embedding.1.ark.partial", "embedding.1.sources"}


def test_changed_source_keeps_the_chunks_before_it(tmp_path, uninterrupted):
    changed = [(utt, source + "0" if i == 6 else source) for i, (utt, source) in enumerate(UTTS)]
    model = Model(changed, 4)
    assert write(tmp_path / "uninterrupted", model) == 4 and model.embedded == list(range(4, 11))


@pytest.mark.parametrize("old, new", [(11, 5), (11, 4), (5, 11), (8, 11), (1, 11)])
def test_changed_utterance_list_gives_the_bytes_of_a_fresh_run(tmp_path, old, new):
    write(tmp_path / "a", Model(UTTS[:old], 4))
    model = Model(UTTS[:new], 4)
    assert write(tmp_path / "a", model) == min(old, new) // 4 * 4
    write(tmp_path / "b", Model(UTTS[:new], 4))
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


@pytest.mark.parametrize("vectors", [[np.ones(2), np.ones(3)], [np.array([1.0, np.nan])], [np.ones((2, 2))]])
def test_invalid_vector_raises_value_error_and_leaves_no_archive(tmp_path, vectors):
    with pytest.raises(ValueError, match="finite numbers"):
        write_journal(tmp_path / "e", [], UTTS[:2], 1, lambda _: zip([utt for utt, _ in UTTS], vectors))
    assert not (tmp_path / "e.ark").exists() and not (tmp_path / "e.scp").exists()


def test_too_few_embeddings_raise_runtime_error(tmp_path):
    with pytest.raises(RuntimeError, match="1 embeddings instead of 11"):
        write_journal(tmp_path / "e", [], UTTS, 1, lambda _: [(UTTS[0][0], np.ones(2))])


def test_folder_that_cannot_be_created_is_an_input_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written: Not a directory"):
        write(tmp_path / "file" / "out", Model(UTTS, 4))


def test_only_whole_float_vectors_with_their_keys_are_kept(tmp_path):
    ark = tmp_path / "x.ark"
    kaldiio.save_ark(str(ark), {"a": np.ones(3, np.float32), "b": np.ones(3), "c": np.ones((2, 2), np.float32)})
    assert len(whole_entries(ark, ["a", "b"])) == 1 and whole_entries(ark, ["b"]) == []
    assert whole_entries(tmp_path / "none", ["a"]) == []
    ark.write_bytes(b"a \0BFV \4\xff\xff\xff\xff" + bytes(100))
    assert whole_entries(ark, ["a"]) == []



SLOW = """
import sys, time
from pathlib import Path
import numpy as np
from rawnext.kaldi.journal import write_journal
folder, pause = Path(sys.argv[1]), float(sys.argv[2])
utts = [(f"u{i:02d}", "x") for i in range(40)]
def embed(first):
    for i in range(first, 40):
        time.sleep(pause)
        print(i, flush=True)
        yield utts[i][0], np.full(50, i)
write_journal(folder / "embedding.1", ["head"], utts, 4, embed)
"""


def test_kills_at_random_moments_leave_the_same_bytes(root, tmp_path):
    command, rng, folder = [sys.executable, "-c", SLOW], random.Random(0), tmp_path / "killed"
    made: list[int] = []
    for _ in range(3):
        with subprocess.Popen([*command, folder, "0.02"], cwd=root, stdout=subprocess.PIPE, text=True) as job:
            made.append(int(job.stdout.readline()))
            time.sleep(rng.uniform(0, 0.25))
            job.kill()
            made += map(int, job.stdout.read().split())
    subprocess.run([*command, folder, "0"], cwd=root, check=True, capture_output=True)
    subprocess.run([*command, tmp_path / "whole", "0"], cwd=root, check=True, capture_output=True)
    assert contents(folder) == contents(tmp_path / "whole")
    assert 3 < len(made) < len(set(made)) + 3 * 5


def test_second_job_waits_for_the_first(root, tmp_path):
    command = [sys.executable, "-c", SLOW, tmp_path / "out"]
    with subprocess.Popen([*command, "0.01"], cwd=root, stdout=subprocess.PIPE, text=True) as first:
        first.stdout.readline()
        second = subprocess.run([*command, "0"], cwd=root, capture_output=True, text=True, timeout=100)
        assert len(first.stdout.read().split()) == 39
    assert (second.returncode, second.stdout) == (0, ""), "it has nothing left to do"
