# SPDX-License-Identifier: Apache-2.0
"""One rule for the ids of utterances and speakers: valid ones work in all stages, others stop at stage 1."""

import os
import subprocess
import sys
import unicodedata

import kaldi_native_io
import numpy as np
import pytest
import soundfile
from corpus import voice
from fuzzing import utils_module
from programs import forking

from rawnext.config import Config, save_config, split_name
from rawnext.data.cuts import CutTable
from rawnext.data.manifest import Utterance, write_data_dir
from rawnext.data.wav import read_sources
from rawnext.errors import InputError
from rawnext.kaldi.ark import read_matrix, write_vectors
from rawnext.kaldi.tables import read_scores, read_table, read_trials
from rawnext.kaldi.words import check_id
from rawnext.models import MODELS
from rawnext.training import checkpoint

GOOD = ["id00012-_raOc3-IRsw", "id10001/1zcIwhmdeo4/00001.wav", "a..b", "...", "ä", "é", "e\u0301", "貓", "Ωμέγα",
        "a|b", "$(x)", "`x`", "a;b", "a&b", "*", "[0:3]", "a:5", "#a", "~a", "a,b", "%s", "{0}", "x" * 200,
        "貓" * 66, "|", "target", "0", "nan"]
BAD = ["a b", "a\tb", "a\nb", "a\rb", "a\0b", "a\u00a0b", "a\u3000b", "a\u2028b", "a\ufeffb", "a\u200bb",
       "a\x1b[2Jb", "\ud800", "../a", "a/../b", "a/..", "..", "/a", "-a", "'a", 'a"', "a\\b", "", " ", "x" * 201,
       "貓" * 67, "x" * 300]


def is_good(text):
    try:
        return check_id(text, "x") == text
    except InputError:
        return False


@pytest.mark.parametrize(("texts", "good"), [(GOOD, True), (BAD, False)])
def test_valid_ids_are_accepted_and_others_refused(texts, good):
    assert [text for text in texts if is_good(text) != good] == []


def test_valid_id_cannot_leave_a_folder(tmp_path):
    for text in GOOD:
        assert os.path.realpath(tmp_path / text).startswith(f"{tmp_path}/")


def utterances(folder, ids):
    """A speaker of two utterances for each id."""
    for i in (1, 2):
        soundfile.write(folder / f"{i}.wav", voice(0, i, 0.3), 16000)
    return [Utterance(f"{spk}-{i}", spk, str(folder / f"{i}.wav"), 4800, 16000, 1) for spk in ids for i in (1, 2)]


def run(root, program, *arguments):
    return subprocess.run([sys.executable, root / program, *map(str, arguments)], capture_output=True, text=True,
                          env=forking({**os.environ, "PYTHONPATH": str(root)}), timeout=100)


# two sets, because one speaker's id that begins another's could break the order by speaker
SETS = [[text for text in GOOD if text not in ("a:5", "x" * 200, "貓" * 66)], ["a:5", "b" * 198]]


@pytest.mark.slow
@pytest.mark.parametrize("ids", SETS, ids=["odd", "long"])
def test_valid_ids_pass_all_stages(root, tmp_path, ids):
    """Corpus -> data directory -> trials -> embeddings -> scores, read by this project and by Kaldi's own reader."""
    data, exp, out = tmp_path / "data", tmp_path / "exp", tmp_path / "out"
    all_utts = utterances(tmp_path, ids)
    write_data_dir(all_utts, data)
    utts = sorted((u.utt for u in all_utts), key=str.encode)
    done = run(root, "utils/validate_data_dir.py", data)
    assert done.returncode == 0, done.stderr
    assert list(CutTable(data).utts) == list(read_table(data / "utt2spk", one_word=True)) == utts
    assert [source.utt for source in read_sources(data)] == utts
    done = run(root, "utils/make_trials.py", data, data / "trials")
    assert done.returncode == 0, done.stderr
    trials = read_trials(data / "trials")
    assert set(trials.enroll) | set(trials.test) == set(utts)
    assert all((enroll[:-2] == test[:-2]) == is_target for enroll, test, is_target in zip(*trials))

    exp.mkdir()
    model = {"name": "rawnext", "channels": [8, 8, 8, 8, 8, 8], "cardinality": 8, "embedding_dim": 8}
    save_config(Config(model=model), exp / "config.yaml")
    checkpoint.save(exp / "model.pt", {"model": MODELS.build(*split_name(model)).state_dict()})
    command = 'cd "$0" && exec steps/extract.sh --nj 2 "$@"'
    done = subprocess.run(["bash", "-c", command, root, data, exp, out], capture_output=True, text=True, timeout=200,
                          env=forking())
    assert done.returncode == 0, done.stdout + done.stderr
    with kaldi_native_io.SequentialFloatVectorReader(f"scp:{out}/embedding.scp") as reader:
        kaldis = {key: np.array(value) for key, value in reader}
    keys, matrix = read_matrix(out / "embedding.scp")
    assert keys == list(kaldis) == utts and np.array_equal(matrix, np.stack(list(kaldis.values())))
    with kaldi_native_io.SequentialFloatVectorReader(f"scp:{out}/spk_embedding.scp") as reader:
        assert [key for key, _ in reader] == sorted(ids, key=str.encode)
    scp = out / "embedding.scp"
    done = run(root, "steps/score.py", "--enroll", scp, "--test", scp, data / "trials", tmp_path / "scores")
    assert done.returncode == 0, done.stderr
    assert read_scores(tmp_path / "scores")[:2] == (trials.enroll, trials.test)
    expected = {"1.wav", "2.wav", "data", "exp", "out", "scores", "scores.sources"}
    assert {path.name for path in tmp_path.iterdir()} == expected, "something was written elsewhere"


def test_unicode_normal_forms_are_different_ids(tmp_path):
    """Ids are bytes, as in Kaldi: neither form is changed into the other."""
    ids = [unicodedata.normalize(form, "é") for form in ("NFC", "NFD")]
    assert ids[0] != ids[1]
    write_data_dir(utterances(tmp_path, ids), tmp_path / "data")
    assert set(read_table(tmp_path / "data" / "spk2utt")) == set(ids) == set(CutTable(tmp_path / "data").speakers)


@pytest.mark.parametrize("bad", BAD, ids=ascii)
def test_bad_ids_stop_at_stage_1(tmp_path, bad):
    """In one line, with nothing written; archives refuse them too."""
    with pytest.raises(InputError, match="cannot be an id") as caught:
        write_data_dir([Utterance(f"{bad}-1", bad, "/a.wav", 16000, 16000, 1)], tmp_path / "data")
    assert "\n" not in str(caught.value) and str(caught.value).isprintable() and not (tmp_path / "data").exists()
    with pytest.raises(InputError):
        write_vectors(tmp_path / "x.ark", tmp_path / "x.scp", [(bad, np.ones(2))])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("bad", [text for text in BAD if text.strip() and not {"\ud800", "\n"} & set(text)], ids=ascii)
def test_bad_ids_in_foreign_lists_are_reported_with_their_line(root, tmp_path, capsys, bad):
    """Every reader names the table and its line."""
    raw = {"utt2spk": f"a-1 a\na-2 a\n{bad} {bad}\n", "spk2utt": f"a a-1 a-2\n{bad} {bad}\n",
           "wav.scp": f"a-1 /x\na-2 /x\n{bad} /x\n", "trials": f"a-1 a-2 target\na-1 {bad} nontarget\n",
           "scores": f"a-1 a-2 1.5\n{bad} a-1 1\n"}
    for name, text in raw.items():
        (tmp_path / name).write_bytes(text.encode())
    faults = utils_module("validate_data_dir").validate(tmp_path).found
    assert any(line.startswith(f"{tmp_path}/utt2spk:3: ") for line in faults[tmp_path / "utt2spk"])
    with pytest.raises(SystemExit):
        utils_module("make_trials").Speakers(tmp_path)
    assert f"{tmp_path}/utt2spk:3: " in capsys.readouterr().err
    readers = [(read_trials, "trials"), (read_scores, "scores"), (lambda path: read_table(path, True), "utt2spk")]
    if len(bad.split()) == 1:  # otherwise the second word is read as the value, which may be anything
        readers += [(read_table, "spk2utt"), (read_table, "wav.scp")]
    for read, name in readers:
        number = raw[name].count("\n", 0, raw[name].index(bad)) + 1
        with pytest.raises(InputError) as caught:
            read(tmp_path / name)
        assert str(caught.value).startswith(f"{tmp_path}/{name}:{number}: ") and "\n" not in str(caught.value)
        if name == "wav.scp":
            with pytest.raises(InputError, match=r"wav.scp:3: "):
                read_sources(tmp_path)
