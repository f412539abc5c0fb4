# SPDX-License-Identifier: Apache-2.0
"""steps/compare.py: tables of several systems; cells without a measurement are empty."""

import json
import subprocess
import sys

from programs import forking

from rawnext.files import write_lines


def evaluation(exp, data_set, duration, eer, **train):
    row = {"list": "trials", "data_set": data_set, "protocol": "native", "backend": "cosine", "duration": duration,
           "trials": "data/test/trials", "trials_sha256": "ab", "num_trials": 8, "num_target": 4, "eer": eer,
           "min_dcf_01": 1.0, "min_dcf_05": eer / 100, "commit": "abc", "hardware": "a CPU",
           "command": f"run.sh --name {exp.name}", "train": train}
    write_lines(exp / "scores" / "cosine" / data_set / f"{duration}.json", [json.dumps(row)])


def run(root, *args):
    return subprocess.run([sys.executable, root / "steps/compare.py", *map(str, args)], capture_output=True, text=True,
                          env=forking({"PYTHONPATH": str(root), "PATH": ""}))


def test_tables(root, tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    counts = {"num_params": 1234567, "gmacs": 0.262, "steps": 1128, "epochs": 24, "seconds": 480, "processes": 1,
              "num_threads": 2, "hardware": "CPU, 2 cores", "commit": "abc"}
    evaluation(one, "test", "full", 6.0, **counts)
    evaluation(one, "test", "1", 8.125, **counts)
    evaluation(one, "test_noisy", "full", 28.0, **counts)
    evaluation(two, "test", "full", 7.0)
    done = run(root, "--out", tmp_path / "c.md", two, one)
    assert done.returncode == 0, done.stderr
    lines = (tmp_path / "c.md").read_text().splitlines()
    assert done.stdout.splitlines() == lines
    place = lines.index("### test, trials (native, cosine)")
    assert lines[place + 2:place + 6] == [
        "| system | parameters | GMACs | EER % full | EER % 1 s | minDCF full | minDCF 1 s |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
        "| two |  |  | 7.00 |  | 0.070 |  |",
        "| one | 1,234,567 | 0.262 | 6.00 | 8.12 | 0.060 | 0.081 |"]
    noisy = lines.index("### test_noisy, trials (native, cosine)")
    assert lines[noisy + 4].startswith("| one |") and not lines[noisy + 5]
    assert "| one | 1,128 | 24 | 20 | 1 x 2 |  |  | CPU, 2 cores | abc |" in lines
    assert "run.sh --name one" in lines and "- Evaluated on: a CPU" in lines


def test_an_experiment_without_results(root, tmp_path):
    done = run(root, tmp_path / "none")
    assert done.returncode == 1 and "holds no evaluation" in done.stderr and done.stderr.count("\n") == 1
