# SPDX-License-Identifier: Apache-2.0
"""The index of a manifest gives the manifest's table, and is not used for another manifest."""

import json
import os
import pickle
import random
import shutil

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rawnext.data import cuts
from rawnext.data.cuts import CutTable, read_index, scan_cuts
from rawnext.data.manifest import Utterance, make_cut, write_data_dir
from rawnext.errors import InputError

NAMES = [(f"é{i % 3}-{'x' * i}{i}", f"é{i % 3}") for i in range(12)]


@pytest.fixture
def data(tmp_path):
    write_data_dir([Utterance(utt, spk, "/a.wav", 16000 + i, 16000, 1) for i, (utt, spk) in enumerate(NAMES)],
                   tmp_path / "data")
    return tmp_path / "data"


def facts(table):
    return [(table.utts[i], str(table.speakers[table.speaker_of[i]]), int(table.offsets[i])) for i in range(len(table))]


def arrays(index):
    return {name: array.tolist() for name, array in index.items()}


def scanned(data):
    (data / "cuts.npz").unlink()
    return facts(CutTable(data))


def rewrite(data, old, new):
    manifest = data / "cuts.jsonl"
    manifest.write_text(manifest.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")


def test_index_gives_the_table_of_the_manifest(data, monkeypatch):
    with monkeypatch.context() as patch:
        patch.delattr(cuts, "scan_cuts")
        table = CutTable(data)
        assert [table[i].utt for i in range(12)] == list(table.utts) == sorted(utt for utt, _ in NAMES)
        assert table.speaker_of.dtype == np.int64 and table.speakers.tolist() == ["é0", "é1", "é2"]
    assert facts(table) == facts(pickle.loads(pickle.dumps(table))) == scanned(data)


IDS = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"], exclude_characters="\"'\\/-."), min_size=1,
              max_size=50)


@given(names=st.lists(st.tuples(IDS, st.sampled_from(["a", "b#", "ü"])), min_size=1))
def test_scan_agrees_with_json(tmp_path_factory, names):
    """For any ids, with and without JSON escapes."""
    path = tmp_path_factory.mktemp("scan") / "cuts.jsonl"
    lines = [json.dumps(make_cut(Utterance(utt, spk, "/a.wav", 16000, 16000, 1), None), ensure_ascii=i % 2 > 0)
             .encode() + b"\n" for i, (utt, spk) in enumerate(names)]
    path.write_bytes(b"".join(lines))
    found = scan_cuts(path)
    assert [utt.decode() for utt in found["utts"]] == [utt for utt, _ in names]
    assert found["speakers"][found["speaker_of"]].tolist() == [spk for _, spk in names]
    assert found["offsets"].tolist() == [sum(map(len, lines[:i])) for i in range(len(lines))]


@pytest.mark.parametrize("change", [
    lambda data: rewrite(data, '"é1"', '"é2"'),  # as many bytes as before
    lambda data: rewrite(data, '"start": 0.0', '"start": 0'),
    lambda data: os.utime(data / "cuts.jsonl"),
    lambda data: shutil.copy(data / "cuts.jsonl", data / "x") and os.replace(data / "x", data / "cuts.jsonl"),
])
def test_index_of_a_changed_manifest_is_not_used(data, change):
    os.utime(data / "cuts.jsonl", ns=(0, 0))
    cuts.write_index(data)
    before = facts(CutTable(data))
    change(data)
    assert read_index(data) is None
    table = facts(CutTable(data))
    assert table == scanned(data)
    assert [utt for utt, _, _ in table] == [utt for utt, _, _ in before]


@pytest.mark.parametrize("damage", [lambda raw: b"", lambda raw: raw[:-1], lambda raw: raw[: len(raw) // 2],
                                    lambda raw: raw[:200] + bytes([raw[200] ^ 1]) + raw[201:], lambda raw: b"no zip",
                                    lambda raw: pickle.dumps({"utts": 1})])
def test_damaged_index_is_not_used(data, damage):
    good = facts(CutTable(data))
    (data / "cuts.npz").write_bytes(damage((data / "cuts.npz").read_bytes()))
    assert facts(CutTable(data)) == good


def test_flipped_bits_never_change_the_table(data):
    """Whichever byte of the index is damaged, it is refused or gives the same table."""
    good = arrays(read_index(data))
    raw, rng = (data / "cuts.npz").read_bytes(), random.Random(0)
    for place in range(0, len(raw), 4):
        damaged = bytearray(raw)
        damaged[place] ^= rng.randrange(1, 256)
        (data / "cuts.npz").write_bytes(damaged)
        assert (index := read_index(data)) is None or arrays(index) == good, place


def test_index_without_manifest_is_refused(data):
    (data / "cuts.jsonl").unlink()
    with pytest.raises(InputError, match="no such manifest"):
        CutTable(data)


def test_manifest_changed_while_open_is_detected(data):
    """A table that is open while its manifest changes returns no wrong cut."""
    table = CutTable(data)
    rewrite(data, '"id": "é0-0"', '"id": "é0-9"')
    with pytest.raises(InputError, match=r"cuts.jsonl:1: the cut é0-0 is no longer on this line"):
        table[0]
    assert table[1].utt == table.utts[1]
    (data / "cuts.jsonl").write_text("{\n" * 5000)
    with pytest.raises(InputError, match=r"cuts.jsonl:12: the cut .* is no longer"):
        pickle.loads(pickle.dumps(table))[11]


@pytest.mark.parametrize("line", ['[]', '1', '{"id": 1, "supervisions": [{"speaker": "a"}]}',
                                  '{"id": "a", "supervisions": [{"speaker": null}]}', '{"id": "a"'])
def test_line_that_is_not_a_cut_is_refused(data, line):
    rewrite(data, "\n", f"\n{line}\n")
    with pytest.raises(InputError, match=r"cuts.jsonl:2: not a lhotse cut"):
        CutTable(data)
