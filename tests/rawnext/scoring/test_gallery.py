# SPDX-License-Identifier: Apache-2.0
"""A gallery: adding later equals enrolling at once; damaged files and other models are refused."""

import json
import os
from pathlib import Path

import kaldi_native_io
import numpy as np
import pytest

from rawnext.errors import InputError
from rawnext.scoring.calibration import Calibration
from rawnext.scoring.decision import Judge, Operating
from rawnext.scoring.gallery import Gallery

X = np.random.default_rng(0).standard_normal((9, 8)).astype(np.float32)


JUDGE = Judge(Calibration(np.array([5.0]), -2.0, np.zeros(0), np.zeros(0)), [])  # LLR = 5 cosine - 2


@pytest.fixture
def paths(tmp_path):
    return tmp_path / "g.ark", tmp_path / "g.scp"


def test_adding_later_equals_enrolling_at_once(paths):
    gallery = Gallery(paths, "model")
    gallery.enroll("anna", X[:2], 3.0)
    gallery.enroll("bert", X[5:6], 2.0)
    gallery.save()
    again = Gallery(paths, "model")
    assert again.enroll("anna", X[2:5], 4.5, add=True)[1:3] == (5, 7.5)
    again.enroll("bert", X[6:7], 1.0)  # replaces
    again.save()
    last = Gallery(paths, "model")
    units = X / np.linalg.norm(X, axis=1, keepdims=True)
    assert np.allclose(last.speakers["anna"].mean, units[:5].mean(0), atol=1e-6)
    assert np.allclose(last.speakers["bert"].mean, units[6], atol=1e-6) and last.speakers["bert"][1:3] == (1, 1.0)
    assert last.speakers["anna"].norm == pytest.approx(np.linalg.norm(X[:5], axis=1).mean(), rel=1e-4)
    mean = units[:5].mean(0)
    expected = np.column_stack([units @ mean / np.linalg.norm(mean), units @ units[6]])
    assert np.allclose(last.scores(X), expected, atol=1e-6)
    with kaldi_native_io.SequentialFloatVectorReader(f"scp:{paths[1]}") as reader:
        assert [key for key, _ in reader] == ["anna", "bert"]


def test_invalid_enrolments_and_other_models_are_refused(paths):
    gallery = Gallery(paths, "model")
    with pytest.raises(InputError, match="anna is not enrolled"):
        gallery.enroll("anna", X, 1.0, add=True)
    with pytest.raises(InputError, match="cannot be an id"):
        gallery.enroll("an na", X, 1.0)
    gallery.enroll("anna", X, 1.0)
    gallery.save()
    with pytest.raises(InputError, match="made with another model"):
        Gallery(paths, "other")


@pytest.mark.parametrize(("change", "why"), [
    (lambda ark, scp, about: about.unlink(), "no such file; a gallery needs it"),
    (lambda ark, scp, about: about.write_text("{}"), "is not a gallery"),
    (lambda ark, scp, about: about.write_text("["), "is not a gallery"),
    (lambda ark, scp, about: about.write_text(about.read_text().replace("anna", "bert")), "does not match"),
    (lambda ark, scp, about: about.write_text(about.read_text().replace('utts": 9', 'utts": "x"')), "is not a gallery"),
    (lambda ark, scp, about: ark.write_bytes(ark.read_bytes()[:-1] + b"\1"), "does not match"),
    (lambda ark, scp, about: scp.unlink(), "g.scp: no such file")])
def test_damaged_gallery_is_refused(paths, change, why):
    gallery = Gallery(paths, "model")
    gallery.enroll("anna", X, 1.0)
    gallery.save()
    assert json.loads(gallery.json.read_text())["speakers"] == {"anna": {"utts": 9, "seconds": 1.0, "norm": 2.58587}}
    change(*paths, gallery.json)
    with pytest.raises(InputError, match=why):
        Gallery(paths, "model")


def anna_free(folder):
    """Whether no file in the folder has the name anna, nor the mean of her embeddings."""
    mean = Gallery.enroll(Gallery((folder / "none.ark", folder / "none.scp"), "model"), "anna", X[:2], 1.0).mean
    return not any(b"anna" in content or mean.astype(np.float32).tobytes()[:12] in content
                   for content in (path.read_bytes() for path in folder.rglob("*") if path.is_file()))


def filled(paths):
    gallery = Gallery(paths, "model")
    gallery.enroll("anna", X[:2], 1.0)
    gallery.enroll("bert", X[5:6], 2.0)
    gallery.save()
    return gallery


def test_nothing_of_a_removed_speaker_remains_on_disk(paths, tmp_path):
    filled(paths)
    for name in (".g.ark.123.tmp", ".g.scp.7.tmp", ".g.ark.123.0.new", ".g.json.99.tmp"):  # of killed programs
        (tmp_path / name).write_bytes(paths[0].read_bytes())
    (tmp_path / ".g.ark.0x_1.tmp").mkdir()
    (tmp_path / ".g.ark.0x_1.tmp/ark").write_bytes(paths[0].read_bytes())
    (tmp_path / ".g.ark2.5.tmp").write_bytes(b"of another file")
    assert not anna_free(tmp_path)
    with pytest.raises(InputError, match="carl is not enrolled; nobody was removed"):
        Gallery(paths, None).remove(["anna", "carl"])
    assert list(Gallery(paths, None).speakers) == ["anna", "bert"]
    Gallery(paths, None).remove(["anna", "anna"])
    assert anna_free(tmp_path) and list(Gallery(paths, "model").speakers) == ["bert"]
    assert sorted(path.name for path in tmp_path.iterdir()) == [".g.ark2.5.tmp", "g.ark", "g.json", "g.scp"]
    Gallery(paths, None).remove(["bert"])
    assert [path.name for path in tmp_path.iterdir()] == [".g.ark2.5.tmp"] and not Gallery(paths, "other").speakers


@pytest.mark.parametrize("names", [["anna"], ["anna", "bert"]])
@pytest.mark.parametrize("writes", range(7))
def test_a_removal_that_was_killed_can_be_repeated(paths, tmp_path, monkeypatch, names, writes):
    """After each number of renames and deletions the gallery can be read, and a second removal leaves nothing."""
    gallery, done = filled(paths), []

    def limited(method):
        def call(*args, **options):
            if len(done) == writes:
                raise KeyboardInterrupt
            done.append(method)
            return method(*args, **options)
        return call

    with monkeypatch.context() as patch:
        patch.setattr("os.replace", limited(os.replace))
        patch.setattr("pathlib.Path.unlink", limited(Path.unlink))
        try:
            gallery.remove(names)
        except KeyboardInterrupt:
            assert len(done) == writes
    again = Gallery(paths, None)
    assert again.speakers.keys() in ({"anna", "bert"}, {"anna", "bert"} - {*names})
    try:
        again.remove(names)
    except InputError as error:
        assert "is not enrolled" in str(error)  # they had been removed already
    assert anna_free(tmp_path) and Gallery(paths, None).speakers.keys() == {"anna", "bert"} - {*names}


def test_each_name_is_given_once_and_only_above_the_threshold(paths):
    gallery = Gallery(paths, "model")
    for row, name in enumerate(("anna", "bert", "carl")):
        gallery.enroll(name, np.eye(8)[row:row + 1], 2.0)
    x = np.eye(8)[[1, 0, 0, 5]] + 0.3 * np.eye(8)[[2, 3, 1, 6]]  # bert, anna, anna again and less, nobody
    x[2, 7] = 0.5
    assert gallery.name(x, np.full(4, 9.0), JUDGE, 0.0) == {0: "bert", 1: "anna"}
    assert gallery.name(x, np.full(4, 9.0), JUDGE, 9.0) == {}


def test_voice_activity_detection_is_part_of_the_identity(paths):
    gallery = Gallery(paths, "model vad=energy")
    gallery.enroll("anna", X[:2], 3.0)
    gallery.save()
    with pytest.raises(InputError, match=r"model model with voice activity detection \(energy\); enroll again with "
                                         "this one, model without"):
        Gallery(paths, "model")
    assert list(Gallery(paths, "model", any_vad=True).speakers) == ["anna"]
    with pytest.raises(InputError, match="another model, model"):
        Gallery(paths, "other", any_vad=True)


def test_the_mean_length_of_a_speakers_embeddings_is_kept(paths):
    """A calibration may need it, and the mean of unit vectors does not have it."""
    judge = Judge(Calibration(np.array([5.0, -0.25]), -2.0, np.array([0.0]), np.array([9.0])), ["norm_lower"])
    x = np.eye(8, dtype=np.float32)
    gallery = Gallery(paths, "model")
    gallery.enroll("anna", x[:1] * 2, 1.0)
    gallery.enroll("anna", x[[0, 0]] * 5, 2.0, add=True)   # lengths 2, 5, 5: mean 4
    gallery.save()
    again = Gallery(paths, "model")
    llrs, _ = again.llrs(np.stack([x[0] * 9, x[1] * 3]), np.ones(2), judge)
    assert llrs[:, 0] == pytest.approx([5 - 2 - 4 / 4, -2 - 3 / 4])


def test_a_gallery_without_lengths_is_used_unless_a_measure_needs_them(paths):
    gallery = Gallery(paths, "model")
    gallery.enroll("anna", X[:1], 1.0)
    gallery.save()
    about = json.loads(gallery.json.read_text())
    del about["speakers"]["anna"]["norm"]
    gallery.json.write_text(json.dumps(about))
    old = Gallery(paths, "model")
    llrs, _ = old.llrs(X[1:2], np.ones(1), JUDGE)
    assert np.isfinite(llrs).all()
    old.enroll("anna", X[2:3], 1.0, add=True)
    old.enroll("bert", X[3:4], 1.0)
    old.save()
    speakers = json.loads(gallery.json.read_text())["speakers"]
    assert "norm" in speakers["bert"] and "norm" not in speakers["anna"]
    with pytest.raises(InputError, match="has no norm of the embeddings of anna; enroll again"):
        Gallery(paths, "model").llrs(X[1:2], np.ones(1), JUDGE._replace(names=["norm_lower"]))


@pytest.mark.parametrize("norm", [0, -1, "inf", None, "x", []])
def test_a_wrong_length_is_no_gallery(paths, norm):
    gallery = Gallery(paths, "model")
    gallery.enroll("anna", X[:1], 1.0)
    gallery.save()
    about = json.loads(gallery.json.read_text())
    about["speakers"]["anna"]["norm"] = norm
    gallery.json.write_text(json.dumps(about))
    with pytest.raises(InputError, match="is not a gallery"):
        Gallery(paths, "model")


@pytest.mark.parametrize("cohort", [None, np.random.default_rng(3).standard_normal((20, 8))])
def test_llrs_are_those_of_decisions_on_pairs(paths, cohort):
    names = ["inverse_duration", "norm_higher",
             *([] if cohort is None else ["cohort_mean_lower", "cohort_mean_higher"])]
    weights, low, high = [5.0, -0.25, 0.5, -1.0, 2.0], [0.5, 0, -1, -1], [4.0, 9, 1, 1]
    num = len(names)
    judge = Judge(Calibration(np.array(weights[:num + 1]), -2.0, np.array(low[:num]), np.array(high[:num])), names,
                  cohort=cohort)
    gallery, seconds = Gallery(paths, "model"), np.array([0.2, 3.0, 2.5, 1.0])
    for row, name in enumerate(("anna", "bert", "carl")):
        gallery.enroll(name, X[row:row + 1], 1.5 + row)
    llrs, outside = gallery.llrs(X[4:8], seconds, judge)
    wanted = [[judge.decide(X[column], x, 1.5 + column, second, Operating()) for column in range(3)]
              for x, second in zip(X[4:8], seconds)]
    assert np.allclose(llrs, [[verdict.llr for verdict in row] for row in wanted], atol=1e-5)
    assert outside.tolist() == [[verdict.outside for verdict in row] for row in wanted] and outside.any()
