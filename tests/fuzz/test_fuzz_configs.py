# SPDX-License-Identifier: Apache-2.0
"""Configurations give a system that can be written and read back, or one line; so do the launchers' files."""

from dataclasses import asdict

import pytest
from fuzzing import answer, damaged, fuzz, utils_module
from hypothesis import example, given
from hypothesis import strategies as st

from rawnext.config import save_config
from rawnext.training.system import load_system

YAML = b"""model: {name: rawnext, channels: [8, 8, 16, 16, 16, 16], embedding_dim: 8}
losses: [{name: aam, weight: 0.5}, {name: angular_prototypical}]
augment: [{ops: []}, {ops: [reverb, noise], weight: 2}]
optim: {lr: 1e-3, schedule: cyclical}
train:
  epochs: 3
seed: 7
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("configs")


@pytest.mark.slow
@fuzz(60)
@given(raw=damaged(YAML, b"seed: 1\n"))
@example(raw=b"seed: ${nope}\n")
@example(raw=b"seed: ${oc.env:HOME}\n")
@example(raw=b"seed: ${seed}\n")
@example(raw=b"a: &a [x]\nseed: *a\n")
@example(raw=b"losses: &a [*a]\n")
@example(raw=b"model: ${nope}\n")
@example(raw=b"seed: ${\n")
@example(raw=b"!!python/object/apply:os.system [true]\n")
@example(raw=b"seed: !!python/object/apply:os.getpid []\n")
@example(raw=b"seed: " + b"[" * 3000 + b"\n")
@example(raw=b"seed: 1\nseed: 2\n")
@example(raw=b"model: 3\n")
@example(raw=b"losses: 3\n")
@example(raw=b"losses: [3]\n")
@example(raw=b"augment: [{ops: 3}]\n")
@example(raw=b"augment: [{ops: [[1]]}]\n")
@example(raw=b"optim: {lr: .nan}\n")
@example(raw=b"train: {epochs: 1e999}\n")
@example(raw=b"model: {name: ???}\n")
@example(raw=b"batch: ???\n")
@example(raw=b"seed: ???\n")
@example(raw=b"1: 2\n")
@example(raw=b"? [1, 2]\n: 3\n")
@example(raw=b"batch: null\n")
@example(raw=b"seed: 2001-99-99\n")
def test_damaged_yaml(folder, raw):
    path = folder / "c.yaml"
    path.write_bytes(raw)
    config = answer(lambda: load_system([path]), path)
    if config is not None:
        save_config(config, folder / "again.yaml")
        assert asdict(load_system([folder / "again.yaml"])) == asdict(config)


@pytest.mark.slow
@fuzz(120)
@given(words=st.lists(st.sampled_from(["seed", "optim", "lr", "model", "name", "losses", "=", ".", "[", "]", "{", "}",
                                       ":", "1", "1e-3", "-", ",", "'", '"', "${", "???", " ", "0", "null", "\n", "é"]),
                      max_size=9))
def test_arbitrary_overrides(words):
    answer(lambda: load_system([], ["".join(words)]), "--set")


CONF = b"""# a comment
command sbatch --export=PATH --no-kill  # another
option mem=* --mem=$0
option num_threads=* --cpus-per-task=$0
option num_threads=1
option gpu=* --gres=gpu:$0 "--comment=a b"
option gpu=0
default gpu=0
"""


@fuzz(150)
@given(raw=damaged(CONF), value=st.sampled_from(["4G", "a b", "'", '"', "\\", "$0", "$(x)", ""]))
@example(raw=b"command sbatch 'x\n", value="4G")
def test_damaged_launcher_files(folder, raw, value):
    jobs, conf = utils_module("jobs"), utils_module("launcher_conf")
    path = folder / "slurm.conf"
    path.write_bytes(raw)
    request = jobs.parse(["--mem", value, "x.log", "true"])
    try:
        words = conf.submit_command(conf.read_conf(str(path), str(path)), request)
    except jobs.LauncherError as why:
        assert str(why) and "\n" not in str(why)
    else:
        assert words
