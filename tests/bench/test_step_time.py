# SPDX-License-Identifier: Apache-2.0
"""bench/step_time.py measures each system that it is given."""

import re
import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow


def test_two_systems(root, tmp_path):
    for name, channels in (("narrow", 8), ("wide", 64)):
        (tmp_path / f"{name}.yaml").write_text(f"model: {{name: resnext, channels: [{', '.join([str(channels)] * 6)}], "
                                               "cardinality: 8}\nbatch: {speakers: 2}\ncrop: {samples: 9000}\n")
    done = subprocess.run([sys.executable, root / "bench/step_time.py", "--rounds", "2", tmp_path / "narrow.yaml",
                           tmp_path / "wide.yaml"], capture_output=True, text=True,
                          env={"PYTHONPATH": str(root), "PATH": ""})
    assert done.returncode == 1 and "short_from" in done.stderr and "Traceback" not in done.stderr
    for path in tmp_path.glob("*.yaml"):
        path.write_text(path.read_text().replace("9000", "9000, short_from: 0"))
    done = subprocess.run(done.args, capture_output=True, text=True, env={"PYTHONPATH": str(root), "PATH": ""})
    assert done.returncode == 0, done.stderr
    rows = re.findall(r"^\| \S+/(\w+)\.yaml \| ([\d,]+) \| ([\d.]+) \| 4 x 9000 \| ([\d.]+) \|$", done.stdout, re.M)
    assert [row[0] for row in rows] == ["narrow", "wide"]
    assert float(rows[0][2]) < float(rows[1][2]) and float(rows[0][3]) < float(rows[1][3])
