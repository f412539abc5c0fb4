# SPDX-License-Identifier: Apache-2.0
import dataclasses

import pytest
import yaml

from rawnext.config import Config, load_config
from rawnext.errors import InputError
from rawnext.training.system import load_system


@pytest.mark.parametrize(("text", "why"), [
    ("model: {name: rawnxt}\n", "mean 'rawnext'"), ("model: {name: rawnext, gates: no}\n", "mean 'gate'"),
    ("losses: [{name: aam, margins: 1}]\n", "mean 'margin'"), ("losses: [{weight: 1}]\n", "no name"),
    ("losses: [{name: aam, weight: -1}]\n", "weight"), ("augment: [{ops: [nois]}]\n", "mean 'noise'"),
    ("augment: [{op: [noise]}]\n", "unknown key 'op'"), ("augment: [{ops: noise}]\n", "want ops"),
    ("optim: {lr: -1}\n", "optim.lr"),
    ("train: {compiled: true}\ncrop: {start_samples: 30000}\n", "train.compiled: not with growing crops"),
    ("train: {accumulate: 3}\n", "a divisor of batch.speakers 160, got 3"),
    ("train: {accumulate: 2}\nlosses: [{name: aam}, {name: ge2e}]\n", "accumulate 2: loss ge2e compares all"),
    ("train: {save_minutes: 0}\n", "train.save_minutes: above 0"),
    ("train: {timeout_minutes: 0}\n", "train.timeout_minutes: above 0")])
def test_unknown_names_are_reported_with_the_file_and_the_nearest_name(tmp_path, text, why):
    path = tmp_path / "a.yaml"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        load_system([path])
    assert str(caught.value).startswith(f"{path}: ")
    assert why in str(caught.value)


def test_the_schema_alone_does_not_need_the_registries():
    assert load_config([], ["losses=[{name: of_another_version}]"]).losses == [{"name": "of_another_version"}]


def test_shipped_files_load_and_restate_no_default(root):
    defaults = dataclasses.asdict(Config())
    for path in sorted((root / "conf").rglob("*.yaml")):
        load_system([path])
        for key, value in yaml.safe_load(path.read_text()).items():
            for name, number in value.items() if isinstance(value, dict) and key != "model" else [(None, value)]:
                default = defaults[key][name] if name else defaults[key]
                assert str(number) != str(default), f"{path}: {key} {name or ''} restates its default"
