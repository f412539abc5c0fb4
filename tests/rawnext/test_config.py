# SPDX-License-Identifier: Apache-2.0
import time

import pytest

from rawnext.config import load_config, save_config
from rawnext.errors import InputError


def write(tmp_path, text, name="a.yaml"):
    (tmp_path / name).write_text(text)
    return tmp_path / name


def test_later_files_win_and_types_convert(tmp_path):
    one = write(tmp_path, "optim: {lr: 2e-4, clip_norm: 5}\nseed: 7\n")
    two = write(tmp_path, "optim: {lr: 1e-3}\nmodel: {name: resnext, embedding_dim: 64}\n", "b.yaml")
    config = load_config([one, two], ["batch.speakers=32"])
    assert (config.optim.lr, config.optim.clip_norm, config.seed, config.batch.speakers) == (1e-3, 5.0, 7, 32)
    assert config.model == {"name": "resnext", "embedding_dim": 64}


def test_a_model_is_replaced_whole_but_its_options_can_be_set(tmp_path):
    one = write(tmp_path, "model: {name: rawnext, gate: false}\n")
    two = write(tmp_path, "model: {name: resnext}\n", "b.yaml")
    assert load_config([one, two]).model == {"name": "resnext"}
    assert load_config([one], ["model.up=false"]).model == {"name": "rawnext", "gate": False, "up": False}
    for wrong in (["model.name=resnext", "model=[a]"], ["augment=[]", "augment.0.ops=1"], ["optim=3", "optim.lr=1"]):
        with pytest.raises(InputError, match="--set"):
            load_config([one], wrong)
    overrides = ["model.name=resnext", "model.embedding_dim=64"]
    for each in (overrides, overrides[::-1]):
        assert load_config([one], each).model == {"name": "resnext", "embedding_dim": 64}


@pytest.mark.parametrize(("text", "line", "why"), [
    ("seed: 1\noptim:\n  learning_rate: 1\n", 3, "unknown key 'optim.learning_rate'"),
    ("optim: {lrr: 1}\n", 1, "mean 'lr'"), ("bach: {speakers: 3}\n", 1, "mean 'batch'"),
    ("batch: {speakers: many}\n", 1, "speakers"),
    ("optim: {lr: -1}\n", None, "optim.lr"),
    ("crop: {samples: 100}\n", None, "crop.samples"), ("- a\n", None, "key: value"), ("1\n", None, "key: value"),
    ("a: [\n", 2, "not YAML")])
def test_faults_name_file_line_and_key(tmp_path, text, line, why):
    path = write(tmp_path, text)
    with pytest.raises(InputError) as caught:
        load_config([path])
    assert str(caught.value).startswith(f"{path}:{line}: " if line else f"{path}: ")
    assert why in str(caught.value)


def test_missing_file_and_bad_override(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        load_config([tmp_path / "none.yaml"])
    with pytest.raises(InputError, match="key=value"):
        load_config([], ["seed"])


@pytest.mark.parametrize("opening", ["[", "{", "[{", "{a: [", "!!seq ["])
def test_nested_brackets_are_refused_at_once(tmp_path, opening):
    """PyYAML took 4 s for 3,000 of them, and hours for a file of 1 MB."""
    (tmp_path / "c.yaml").write_text("seed: " + opening * (1_000_000 // len(opening)))
    started = time.process_time()
    with pytest.raises(InputError, match="c.yaml: not YAML"):
        load_config([tmp_path / "c.yaml"])
    with pytest.raises(InputError, match="^--set: want key=value"):
        load_config([], ["seed=" + opening * 9000])
    assert time.process_time() - started < 3


def test_saved_config_is_read_back(tmp_path):
    config = load_config([], ["seed=3", "losses=[{name: aam, margin: 0.1}]"])
    save_config(config, tmp_path / "config.yaml")
    assert load_config([tmp_path / "config.yaml"]) == config


def test_anchors_and_references_to_other_values(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("losses: [&aam {name: aam}]\ntrain: {epochs: 7, keep: '${train.epochs}'}\n")
    assert load_config([path]).train.keep == 7
    path.write_text("train: {keep: '${train.epoch}'}\n")
    with pytest.raises(InputError, match=r"c\.yaml: .*train\.epoch"):
        load_config([path])
