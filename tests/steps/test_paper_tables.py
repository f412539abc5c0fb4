# SPDX-License-Identifier: Apache-2.0
"""steps/paper_tables.py: the paper's tables, ours below each row; cells without a measurement are empty."""

import csv
import json
import subprocess
import sys

import pytest

from rawnext.files import write_lines
from rawnext.results.rows import read_tsv

pytestmark = pytest.mark.usefixtures("forked_programs")

DATA_SET = {"O": "vox1_test", "E": "vox1", "H": "vox1"}
TRIALS = {"O": 37_611, "E": 579_818, "H": 550_894}


def experiment(exp, paper, figures, **options):
    """figures: (list, duration) -> (EER, minDCF at 0.01)."""
    write_lines(exp / "config.yaml", [f"paper: {paper}"])
    for (name, duration), (eer, cost) in figures.items():
        row = {"list": name, "data_set": DATA_SET[name], "protocol": "paper", "backend": "cosine", "duration": duration,
               "trials": "t", "trials_sha256": "ab", "num_trials": TRIALS[name], "num_target": 4, "eer": eer,
               "min_dcf_01": cost, "min_dcf_05": 0.9, **options}
        where = exp / "scores" / row["backend"] / row["data_set"]
        write_lines(where / f"{name}_{row['protocol']}_{duration}.json", [json.dumps(row)])


@pytest.fixture
def run(root, tmp_path):
    def run(table, *args):
        done = subprocess.run([sys.executable, root / "steps/paper_tables.py", "--table", table, "--out", "T", *args],
                              cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        markdown = (tmp_path / "T.md").read_text()
        assert done.stdout == markdown
        with open(tmp_path / "T.tsv", encoding="utf-8") as file:
            lines = list(csv.DictReader(file, delimiter="\t"))
        in_markdown = [line for line in markdown.splitlines() if line.startswith("| ")][2:]
        assert [[cell.strip() for cell in line[1:-1].split("|")] for line in in_markdown] == [
            list(line.values()) for line in lines]
        return lines, markdown, done.stderr

    return run


def test_table_4_has_seven_rows_and_ours_below_each(run, tmp_path, root):
    experiment(tmp_path / "exp/resnext", "ResNeXt softmax", {("O", "full"): (2.5, 0.2), ("O", "1"): (7.0, 0.9)})
    experiment(tmp_path / "exp/five", "Table 4 row 5", {("O", "5"): (2.0, 0.2)})
    experiment(tmp_path / "exp/seed2", "Table 4 row 5", {("O", "5"): (2.125, 0.2)})
    lines, markdown, said = run("4", "exp/five", "exp/resnext", "exp/seed2")
    assert [line["system"] for line in lines if line["source"] == "paper"] == [f"Table 4 row {n}" for n in range(1, 8)]
    marks = ["".join(letter for letter in "DEGU" if line[letter]) for line in lines if line["source"] == "paper"]
    assert marks == ["", "D", "E", "DE", "DEG", "DEU", "DEGU"]
    titles = [f"EER % {d}" for d in ("1 s", "2 s", "5 s", "full")]
    assert [[line["source"], *(line[title] for title in titles)] for line in lines[:4]] == [
        ["paper", "6.12", "3.68", "2.45", "2.16"], ["exp/resnext", "7.00", "", "", "2.50"],
        ["paper", "4.82", "2.98", "2.08", "1.93"], ["", "", "", "", ""]]
    assert [(line["source"], line["EER % 5 s"]) for line in lines[8:11]] == [
        ("paper", "2.08"), ("exp/five", "2.00"), ("exp/seed2", "2.12")]
    assert not said and "not the paper's" not in markdown and "†" not in markdown
    published = [line for line in read_tsv(root / "conf/paper.tsv") if line["table"] == "Table 4"]
    shown = {cell for line in lines if line["source"] == "paper" for cell in line.values()}
    assert {line["eer"] for line in published} <= shown


def test_tables_2_and_3(run, tmp_path):
    figures = {(name, "full"): (i + 1.25, 0.5 + i / 10) for i, name in enumerate("OEH")}
    experiment(tmp_path / "exp/aam", "RawNeXt AAM aug", figures)
    experiment(tmp_path / "exp/mine", "''", {("O", "full"): (3.0, 0.3)})
    lines, markdown, said = run("3", "exp/mine", "exp/aam")
    assert list(lines[0]) == ["system", "input", "loss", "pooling", "source",
                              *(f"{name} {what}" for name in "OEH" for what in ("EER %", "minDCF"))]
    place = next(i for i, line in enumerate(lines) if line["system"] == "RawNeXt AAM aug")
    assert list(lines[place].values())[4:] == ["paper", "1.29", "0.142", "1.17", "0.138", "2.28", "0.236"]
    assert list(lines[place + 1].values())[4:] == ["exp/aam", "1.25", "0.500", "2.25", "0.600", "3.25", "0.700"]
    assert "exp/mine belongs to no row of Table 3" in said
    assert lines[2]["O minDCF"] == "0.077 †" and "does not state P_target" in markdown
    lines, _, said = run("2", "RawNet2 softmax=exp/mine", "exp/aam")
    assert (len(lines), said) == (14, "")
    by = {line["source"]: line for line in lines}
    assert (by["exp/mine"]["EER % full"], by["exp/mine"]["minDCF full"]) == ("3.00", "0.300")
    assert (by["exp/aam"]["EER % full"], by["exp/aam"]["EER % 1 s"]) == ("1.25", "")


def test_choice_of_protocol_backend_and_list(run, tmp_path):
    experiment(tmp_path / "exp/x", "Table 4 row 7", {("O", "full"): (1.0, 0.1)})
    experiment(tmp_path / "exp/x", "Table 4 row 7", {("O", "full"): (2.0, 0.1)}, protocol="native")
    experiment(tmp_path / "exp/x", "Table 4 row 7", {("O", "full"): (3.0, 0.1)}, backend="plda")
    experiment(tmp_path / "exp/x", "Table 4 row 7", {("H", "full"): (4.0, 0.1)}, protocol="native")
    for options, eer in (((), "1.00"), (("--protocol", "native"), "2.00"), (("--backend", "plda"), "3.00"),
                         (("--protocol", "native", "--list", "O=H"), "4.00")):
        lines, markdown, _ = run("4", *options, "exp/x")
        assert lines[-1]["EER % full"] == eer
    assert "it has 550,894 trials, the paper's O has 37,611" in markdown
    assert run("4", "2=exp/x")[0][3]["EER % full"] == "1.00", "a row by its number"


def test_errors_are_one_line(root, tmp_path):
    experiment(tmp_path / "exp/x", "Table 4 row 7", {("O", "full"): (1.0, 0.1)})
    experiment(tmp_path / "exp/x", "Table 4 row 7", {("O", "full"): (1.0, 0.1)}, data_set="other")
    write_lines(tmp_path / "empty/config.yaml", ["paper: Table 4 row 7"])
    for argument, why in (("RawNeXt softmx=exp/x", "has no row 'RawNeXt softmx'; did you mean 'RawNeXt softmax'?"),
                          ("exp/x", "exp/x: other and vox1_test both have a list for O; name one by --data-set"),
                          ("none", "no such file"), ("empty", "holds no evaluation")):
        done = subprocess.run([sys.executable, root / "steps/paper_tables.py", "--table", "4", argument], cwd=tmp_path,
                              capture_output=True, text=True)
        assert (done.returncode, done.stderr.count("\n")) == (1, 1) and why in done.stderr, done.stderr
