# SPDX-License-Identifier: Apache-2.0
"""A gallery: adding later equals enrolling at once; damaged files and other models are refused."""

import json

import kaldi_native_io
import numpy as np
import pytest

from rawnext.errors import InputError
from rawnext.scoring.calibration import Calibration
from rawnext.scoring.decision import Judge
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
    assert again.enroll("anna", X[2:5], 4.5, add=True)[1:] == (5, 7.5)
    again.enroll("bert", X[6:7], 1.0)  # replaces
    again.save()
    last = Gallery(paths, "model")
    units = X / np.linalg.norm(X, axis=1, keepdims=True)
    assert np.allclose(last.speakers["anna"].mean, units[:5].mean(0), atol=1e-6)
    assert np.allclose(last.speakers["bert"].mean, units[6], atol=1e-6) and last.speakers["bert"][1:] == (1, 1.0)
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
    assert json.loads(gallery.json.read_text())["speakers"] == {"anna": {"utts": 9, "seconds": 1.0}}
    change(*paths, gallery.json)
    with pytest.raises(InputError, match=why):
        Gallery(paths, "model")


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
