# SPDX-License-Identifier: Apache-2.0
"""steps/fit_lda.py on a corpus that is too small for its statistics."""

import subprocess
import sys

import pytest
from corpus import write_corpus

pytestmark = pytest.mark.usefixtures("forked_programs")


@pytest.mark.parametrize(("options", "status", "line"), [
    ("model.embedding_dim=5", 0, "fit_lda.py: WARNING: data: 24 utterances of 6 speakers are too few for LDA of 160 "
     "dimensions: want 166 different ones; its within-speaker variance is known in 18 directions only"),
    ("model.embedding_dim=5 model.bands=9", 0, None),
    ("model.embedding_dim=6", 1, "fit_lda.py: data: LDA of 6 speakers and 160 dimensions cannot have 6 directions "
     "(model.embedding_dim: 6)")])
def test_what_is_too_small_is_named(root, tmp_path, options, status, line):
    write_corpus(tmp_path / "data", seconds=0.3)
    (tmp_path / "c.yaml").write_text("model: {name: mel_stats}\n")
    done = subprocess.run([sys.executable, root / "steps/fit_lda.py", "--config", "c.yaml", "--set", options, "--train",
                           "data", "--device", "cpu", "exp"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == status and (tmp_path / "exp/model.pt").exists() == (status == 0)
    assert line in done.stderr.splitlines() if line else "WARNING:" not in done.stderr
