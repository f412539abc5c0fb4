# SPDX-License-Identifier: Apache-2.0
"""cuts.jsonl: any lines give cuts of audio files or one line; lhotse runs and fetches nothing."""

import json
from copy import deepcopy

import pytest
import soundfile
from corpus import voice
from fuzzing import answer, damaged, fuzz
from hypothesis import given
from hypothesis import strategies as st

from rawnext.data.cuts import CutTable, scan_cuts
from rawnext.data.manifest import Utterance, make_cut
from rawnext.data.segment import AudioFault, read_segment
from rawnext.errors import InputError
from rawnext.kaldi.words import check_id


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cuts")
    soundfile.write(folder / "a.wav", voice(0, 0, 0.5), 16000)
    return folder


def cut(folder, utt="a-1", rate=16000):
    return make_cut(Utterance(utt, "a", str(folder / "a.wav"), 8000, rate, 1), "m")


def source(folder, **fields):
    changed = cut(folder)
    changed["recording"]["sources"][0].update(fields)
    return changed


@pytest.mark.parametrize("change", [
    {"type": "command", "source": "touch {0}/ran; cat {0}/a.wav"}, {"type": "url", "source": "http://127.0.0.1:9/a.wav"},
    {"type": "memory", "source": "UklGRg=="}, {"type": "shar"}, {"type": ["file"]}, {"type": None}])
def test_sources_other_than_files_are_refused(folder, tmp_path, change):
    """Even if the index is that of a valid manifest."""
    change = {key: value.format(folder) if isinstance(value, str) else value for key, value in change.items()}
    (tmp_path / "cuts.jsonl").write_text(json.dumps(source(folder, **change)) + "\n")
    with pytest.raises(InputError, match=r"cuts.jsonl:1: a-1: not a MonoCut of audio in files"):
        CutTable(tmp_path)
    (tmp_path / "cuts.jsonl").write_text(json.dumps(cut(folder)) + "\n")
    table = CutTable(tmp_path)
    (tmp_path / "cuts.jsonl").write_text(json.dumps(source(folder, **change)) + "\n")
    with pytest.raises(InputError, match=r"cuts.jsonl:1: "):
        table[0]
    assert not (folder / "ran").exists()


def test_file_names_reach_no_shell(folder, tmp_path):
    """lhotse's own choice of a reader would run sph2pipe through a shell."""
    bad = source(folder, source=f"{tmp_path}/a;touch {tmp_path}/ran;.sph")
    (tmp_path / "cuts.jsonl").write_text(json.dumps(bad) + "\n")
    with pytest.raises(AudioFault, match="a-1: "):
        read_segment(CutTable(tmp_path)[0], 0, 100)
    assert not (tmp_path / "ran").exists()


def test_mixed_cuts_are_refused(folder, tmp_path):
    (tmp_path / "cuts.jsonl").write_text(json.dumps({**cut(folder), "type": "MixedCut", "tracks": []}) + "\n")
    with pytest.raises(InputError, match="not a MonoCut"):
        CutTable(tmp_path)


VALUES = st.sampled_from([None, -1, 0, 0.5, 1e308, float("nan"), float("inf"), "", "x", "a/../b", "é", [], [1], {},
                          True, 10**30, "Resample", [{"name": "Resample", "kwargs": {}}]])


@st.composite
def manifests(draw, folder):
    """Lines of cuts with values replaced or bytes damaged."""
    cuts = [cut(folder, f"a-{i}", 8000 if i == 1 else 16000) for i in range(2)]
    for _ in range(draw(st.integers(0, 2))):
        place = cuts[draw(st.integers(0, 1))]
        while isinstance(place, dict | list) and place:
            key = draw(st.sampled_from(sorted(place))) if isinstance(place, dict) else 0
            if draw(st.booleans()) or not isinstance(place[key], dict | list):
                place[key] = deepcopy(draw(VALUES))  # otherwise a later change would alter VALUES
                break
            place = place[key]
    text = "".join(json.dumps(line) + "\n" for line in cuts).encode()
    return draw(damaged(text)) if draw(st.booleans()) else text


@pytest.mark.slow
@fuzz(250)
@given(data=st.data())
def test_damaged_manifests(folder, data):
    path = folder / "cuts.jsonl"
    path.write_bytes(data.draw(manifests(folder)))
    found = answer(lambda: scan_cuts(path), path, 20_000_000)
    if found is None:
        return
    assert all(check_id(utt.decode(), "x") for utt in found["utts"])
    assert all(check_id(spk, "x") for spk in found["speakers"])
    table = CutTable(folder)
    for i in range(len(table)):
        one = answer(lambda i=i: table[i], path)
        if one is not None:
            assert one.utt == table.utts[i]
            assert one.lhotse is None or {source.type for source in one.lhotse.recording.sources} == {"file"}


@pytest.mark.parametrize("line", [b"[" * 100_000, b'{"a":' * 100_000, b"9" * 5000, b"\xff\xfe[\0]\0", b'"\\ud800"'])
def test_lines_that_break_parsers_are_refused(tmp_path, line):
    (tmp_path / "cuts.jsonl").write_bytes(line + b"\n")
    with pytest.raises(InputError, match=r"cuts.jsonl:1: not a lhotse cut"):
        CutTable(tmp_path)
