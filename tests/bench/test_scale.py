# SPDX-License-Identifier: Apache-2.0
"""The scale benchmark runs end to end, and its bounds can fail it."""

import importlib.util
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def scale(root):
    spec = importlib.util.spec_from_file_location("scale", root / "bench" / "scale.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# The program with a single task, in its own process, since a large parent would count in its children's peaks.
ALONE = """
import shlex
import sys
sys.path.insert(0, "bench")
import scale
code = sys.argv.pop(1)
command = shlex.join([sys.executable, "-c", code]).replace("UTTS", "{utts}")
scale.TASKS = [scale.Task("mine", "of a test", command)]
scale.main()
"""


def gate(root, code, *options):
    return subprocess.run([sys.executable, "-c", ALONE, code, "--utts", "4000", "--start", "0.1", *options], cwd=root,
                          capture_output=True, text=True)


def test_every_task_of_a_small_corpus(root, tmp_path):
    done = subprocess.run([root / "bench/scale.py", "--utts", "4000", "--speakers", "300", "--ranks", "1", "--start",
                           "0", "--fractions", "1", "--repeat", "1", "--dir", tmp_path], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rows = [line.split(" | ") for line in done.stdout.splitlines() if line.startswith("| ")]
    assert rows[0][2:4] == ["CPU s, 4,000", "wall s"] and len(rows) == 19
    table = {row[0].strip("| "): row for row in rows[1:]}
    assert all(float(row[3]) > 0 and 0.005 < float(row[4]) < 1 for row in table.values())
    assert table["table"][6].startswith("4,000 cuts, ")
    assert table["scp"][6].startswith("4,000 lines")
    assert table["eval_read"][6].startswith("545 x 512")
    assert not list(tmp_path.iterdir())


# uses the given CPU seconds, on a machine of any speed and under any load
BURN = "import time\nwhile time.process_time() < {}: pass"


def test_linear_and_small_passes(root):
    done = gate(root, BURN.format("UTTS / 3000"), "--repeat", "1")
    assert done.returncode == 0, done.stderr
    assert float(done.stdout.splitlines()[-1].split(" | ")[8]) == pytest.approx(1, abs=0.24)


def test_quadratic_time_is_caught(root):
    done = gate(root, BURN.format("(UTTS / 3000) ** 2"), "--repeat", "1")
    assert done.returncode == 1
    assert "scale.py: mine grows as utts^" in done.stderr and "the bound is 1.25" in done.stderr


def test_too_much_memory_is_caught(root):
    command = ("x = b'x' * 90000 * UTTS", "--fractions", "1", "--repeat", "1")   # without growth
    done = gate(root, *command, "--max-gib", "0.25")
    assert done.returncode == 1
    assert "scale.py: mine needs 0.3" in done.stderr
    assert gate(root, *command, "--max-gib", "0.5").returncode == 0


def test_a_failing_task_is_named(root):
    done = gate(root, "raise SystemExit(3)")
    assert done.returncode == 1 and "scale.py: exit status 3: " in done.stderr


@given(start=st.floats(0.01, 1), rate=st.floats(1, 100), power=st.floats(0.5, 3))
def test_growth_is_the_exponent(scale, start, rate, power):
    sizes = [11_000, 275_000, 550_000, 1_100_000]
    seconds = [start + rate * ((n - sizes[0]) / 1e6) ** power for n in sizes]
    assert scale.growth(sizes, seconds) == pytest.approx(power, abs=1e-6)


def test_too_little_work_has_no_growth(scale):
    assert scale.growth([1, 10, 100], [0.1, 0.2, 0.5]) is None
    assert scale.growth([1, 10, 100], [2.0, 2.1, 3.9]) is None, "less than the noise of the start"
    assert scale.growth([1, 100], [2.0, 9.0]) is None
