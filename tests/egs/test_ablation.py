# SPDX-License-Identifier: Apache-2.0
"""egs/voxceleb/run_ablation.sh: which rows it hands to run.sh, and what it prints; run.sh itself has its own tests."""

import json
import subprocess

import pytest
from page_commands import example
from recipe import place_recipe

ROW = {"list": "O", "data_set": "vox1_test", "protocol": "paper", "backend": "cosine", "duration": "full",
       "trials": "t", "trials_sha256": "ab", "num_trials": 37611, "num_target": 4,
       "eer": 1.75, "min_dcf_01": 0.1, "min_dcf_05": 0.1}
STUB = f"""#!/usr/bin/env bash
echo "$*" >> calls
while (( $# )); do declare "${{1#--}}=$2" 2> /dev/null || true; shift 2; done
[ -n "${{name:-}}" ] || exit 0
mkdir -p "exp/$name/scores"
cp "$conf" "exp/$name/config.yaml"
echo '{json.dumps(ROW)}' > "exp/$name/scores/O.json"
touch "exp/$name/RESULTS.md"
"""


@pytest.fixture
def ablation(root, tmp_path):
    """Run it with a run.sh that only writes down how it was called; gives these lines back."""
    env = place_recipe(root, "voxceleb", tmp_path)
    (tmp_path / "run_ablation.sh").symlink_to(root / "egs/voxceleb/run_ablation.sh")
    (tmp_path / "run.sh").unlink()
    (tmp_path / "run.sh").write_text(STUB)
    (tmp_path / "run.sh").chmod(0o755)

    def run(*words):
        done = subprocess.run(["./run_ablation.sh", *words], cwd=tmp_path, env=env, capture_output=True, text=True)
        calls = tmp_path / "calls"
        lines = calls.read_text().splitlines() if calls.exists() else []
        calls.unlink(missing_ok=True)
        return done, lines

    return run


def test_seven_rows_once_and_the_table(root, ablation, tmp_path):
    _, *words = example(root, "docs/howto/paper_tables.md", "./run_ablation.sh")
    done, calls = ablation(*words)
    assert done.returncode == 0, done.stderr
    corpora = " ".join(words[1:])
    assert calls[0] == f"{corpora} --stage 0 --stop-stage 2" and corpora.startswith("--vox1 /corpora/")
    rows = [f"--conf conf/{conf}.yaml --name {name}" for conf, name in (
        ("resnext", "resnext"), *((f"ablation/{n}", f"ablation_{n}") for n in range(2, 7)), ("rawnext", "rawnext"))]
    assert calls[1:] == [f"{corpora} --stage 3 --stop-stage 9 {row}" for row in rows]
    lines = (tmp_path / "exp/TABLE4.md").read_text().splitlines()
    assert len([line for line in lines if line.endswith("| 1.75 |") and "| exp/" in line]) == 7
    assert len([line for line in lines if "| paper |" in line]) == 7

    done, calls = ablation("--stage", "3")
    assert (done.returncode, calls) == (0, []) and done.stderr.count("finished before") == 7
    (tmp_path / "exp/ablation_3/RESULTS.md").unlink()
    assert len(ablation("--stage", "3", "--rows", "1 2")[1]) == 0
    assert ablation("--stage", "3")[1] == [f"--stage 3 --stop-stage 9 {rows[2]}"]
    assert ablation("--stage", "8", "--rows", "1 7")[1] == [f"--stage 8 --stop-stage 9 {rows[i]}" for i in (0, 6)]


def test_only_the_data_and_mistakes(ablation):
    done, calls = ablation("--stage", "1", "--stop-stage", "1")
    assert (done.returncode, calls) == (0, ["--stage 1 --stop-stage 1"])
    done, calls = ablation("--rows", "1 8")
    assert (done.returncode, calls) == (1, []) and "Table 4 has no row 8" in done.stderr
