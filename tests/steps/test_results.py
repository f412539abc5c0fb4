# SPDX-License-Identifier: Apache-2.0
"""steps/evaluate.py and steps/results.py: from scores to stamped figures and tables."""

import hashlib
import json
import os
import subprocess
import sys

import numpy as np
import pytest
from sklearn.metrics import roc_curve

from rawnext.files import write_lines
from rawnext.results.rows import OFFICIAL_TRIALS, order, read_paper, row_sha256
from rawnext.results.tables import headline, lowest, result_table

pytestmark = pytest.mark.usefixtures("forked_programs")

CONFIG = "model: {name: rawnext}\nlosses: [{name: aam}, {name: ge2e}]\npaper: RawNeXt AAM aug\n"


class Experiment:
    """A folder with an experiment, a trial list `trials` and the three programs."""

    def __init__(self, root, folder):
        self.root, self.folder, self.exp = root, folder, folder / "exp" / "x"
        self.exp.mkdir(parents=True)
        (self.exp / "config.yaml").write_text(CONFIG)
        rng = np.random.default_rng(0)
        self.is_target = rng.random(200) < 0.1
        self.pairs = [f"a{i % 20} b{i}" for i in range(200)]
        self.score = rng.normal(size=200) + 2.0 * self.is_target
        self.write("trials", (f"{p} {'target' if y else 'nontarget'}" for p, y in zip(self.pairs, self.is_target)))

    def write(self, name, lines):
        write_lines(self.folder / name, lines)

    def run(self, program, *args, **environment):
        return subprocess.run([sys.executable, self.root / "steps" / program, *args], cwd=self.folder,
                              capture_output=True, text=True, env={**os.environ, **environment})

    def evaluate(self, scores="exp/x/scores/cosine/O", trials="trials", order=None, **options):
        if order is None:
            order = range(200)
        if not (self.folder / scores).exists():
            self.write(scores, (f"{self.pairs[i]} {self.score[i]:.6f}" for i in order))
        options = {"list": "O", "data-set": "vox1", "protocol": "paper", "duration": "full", **options}
        return self.run("evaluate.py", "--exp", "exp/x", *(x for k, v in options.items() for x in (f"--{k}", v)),
                        scores, trials, RAWNEXT_COMMAND="./run.sh  --stage 3")


@pytest.fixture
def experiment(root, tmp_path):
    return Experiment(root, tmp_path)


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_evaluation_holds_figures_and_stamps(experiment):
    (experiment.exp / "train_info.json").write_text('{"num_params": 123, "seconds": 4.5}')
    done = experiment.evaluate(duration="2.0", backend="asnorm")
    assert (done.returncode, done.stderr) == (0, "")
    row = json.loads((experiment.exp / "scores" / "cosine" / "O.json").read_text())

    fpr, tpr, _ = roc_curve(experiment.is_target, experiment.score.round(6), drop_intermediate=False)
    place = np.argmin(abs(fpr - (1 - tpr)))
    assert row["eer"] == pytest.approx(50 * (fpr[place] + 1 - tpr[place]))
    for p, name in ((0.01, "min_dcf_01"), (0.05, "min_dcf_05")):
        assert row[name] == pytest.approx(np.min(p * (1 - tpr) + (1 - p) * fpr) / p)
    assert row["min_dcf_01"] != row["min_dcf_05"]
    assert f"EER {row['eer']:.2f} %" in done.stdout

    date = row.pop("date")
    assert date.startswith("20") and date.endswith("+00:00")
    assert row.pop("row_sha256") == row_sha256(row | {"date": date}) and row.pop("commit") and row.pop("hardware")
    assert {k: v for k, v in row.items() if k[:3] not in ("eer", "min")} == {
        "list": "O", "data_set": "vox1", "trials": "trials", "trials_sha256": digest(experiment.folder / "trials"),
        "num_trials": 200, "num_target": int(experiment.is_target.sum()), "protocol": "paper", "duration": "2",
        "crop": "test side, centre", "enroll": ".", "backend": "asnorm", "config": "exp/x/config.yaml",
        "config_sha256": digest(experiment.exp / "config.yaml"), "train": {"num_params": 123, "seconds": 4.5},
        "command": "./run.sh  --stage 3", "scores_sha256": digest(experiment.exp / "scores" / "cosine" / "O")}


def test_order_of_scores_does_not_matter(experiment):
    first = experiment.evaluate("in_order")
    second = experiment.evaluate("mixed", order=np.random.default_rng(1).permutation(200))
    assert first.returncode == second.returncode == 0, second.stderr
    a, b = (json.loads((experiment.folder / f"{name}.json").read_text()) for name in ("in_order", "mixed"))
    assert a.pop("date") <= b.pop("date") and a.pop("scores_sha256") != b.pop("scores_sha256")
    assert a.pop("row_sha256") != b.pop("row_sha256")
    assert a == b and a["crop"] == "none"


def test_commit_names_this_checkout(experiment, root):
    if not (root / ".git").exists():
        pytest.skip("not a checkout")
    experiment.evaluate()
    commit = json.loads((experiment.exp / "scores/cosine/O.json").read_text())["commit"]
    short = subprocess.run(["git", "-C", root, "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    assert commit.removesuffix("-dirty") == short.stdout.strip()


@pytest.mark.parametrize("spoil, message", [
    (lambda x: x.write("scores", [f"{p} 1.0" for p in x.pairs[:-1]]), "trials:200: a19 b199 has no score in scores"),
    (lambda x: x.write("scores", [f"{p} 1.0" for p in [*x.pairs, "a0 b1"]]), "scores:201: a0 b1 is not in trials"),
    (lambda x: x.write("scores", [f"{p} 1.0" for p in x.pairs] + ["a0 b0 2.0"]),
     "scores:201: a0 b0 has two different scores"),
    (lambda x: x.write("scores", [f"{p} nan" for p in x.pairs]), "scores:1: not a score: 'nan'"),
    (lambda x: x.write("trials", [f"{p} target" for p in x.pairs]), "trials: has no nontarget trial"),
    (lambda x: (x.folder / "trials").unlink(), "trials: no such file"),
    (lambda x: (x.exp / "config.yaml").unlink(), "exp/x/config.yaml: no such file"),
    (lambda x: (x.exp / "train_info.json").write_text("{"), "exp/x/train_info.json: is not JSON"),
])
def test_bad_scores_are_one_line_and_leave_nothing(experiment, spoil, message):
    spoil(experiment)
    done = experiment.evaluate("scores")
    assert (done.returncode, done.stderr) == (1, f"evaluate.py: {message}\n")
    assert not (experiment.folder / "scores.json").exists()


@pytest.mark.parametrize("duration", ["0", "-1", "long", "inf"])
def test_impossible_durations_are_refused(experiment, duration):
    done = experiment.evaluate(duration=duration)
    assert done.returncode == 2 and f"expected full or seconds, got '{duration}'" in done.stderr


# --- tables

@pytest.fixture(scope="module")
def results(root, tmp_path_factory):
    """An experiment with list O at two durations and protocols, and another list; and what results.py printed."""
    x = Experiment(root, tmp_path_factory.mktemp("results"))
    x.evaluate("exp/x/scores/cosine/O")
    x.evaluate("exp/x/scores/cosine/O_2s", duration="2")
    x.evaluate("exp/x/scores/native/O", protocol="native")
    x.evaluate("exp/x/scores/cosine/mine", **{"list": "mine", "data-set": "own"}, duration="3.5")
    x.done = x.run("results.py", "exp/x")
    assert (x.done.returncode, x.done.stderr) == (0, "")
    x.page = (x.exp / "RESULTS.md").read_text()
    x.eer = f"{json.loads((x.exp / 'scores/cosine/O.json').read_text())['eer']:.2f}"
    return x


def section(page, title):
    """Cells of the table below a heading."""
    lines = page.split(f"## {title}\n")[1].split("## ")[0].splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]


def test_one_table_has_our_figures_and_the_papers(results):
    """A line for each list and duration that was measured; no column is empty; the paper's figures are in italics."""
    header, _, *lines = section(results.page, "EER %")
    eer = results.eer
    assert header == ["list", "duration", "cosine, paper", "cosine, native", "*published*"]
    assert lines == [["O of vox1", "full", eer, eer, "*1.29*"], ["O of vox1", "2 s", eer, "", "*2.34*"],
                     ["mine of own", "3.5 s", eer, "", ""]]
    assert [line[-1] for line in section(results.page, "minDCF, P_target 0.01")[2:]] == ["*0.142*", "", ""]
    assert section(results.page, "minDCF, P_target 0.05")[0] == header[:-1]
    titles = [line for line in results.page.splitlines() if line.startswith("## ")]
    assert titles[0] == "## EER %" and results.page.index("*Published*, in italics") < results.page.index(titles[1])


def test_the_papers_figures_are_not_those_of_a_copy_of_its_list():
    row = {"list": "O", "data_set": "vox1", "protocol": "native", "backend": "cosine", "duration": "full", "eer": 2.0}
    table = result_table([row, {**row, "data_set": "vox1_noisy"}],
                         [{"list": "O", "duration": "full", "eer": "1.29"}], "eer")
    assert table[1:] == [["O of vox1", "full", "2.00", "*1.29*"], ["O of vox1_noisy", "full", "2.00", ""]]


def test_page_reports_the_origin_of_figures(results):
    headline = f"**EER {results.eer} % on O of vox1, protocol paper, cosine, full**"
    assert results.page.startswith(f"# x: rawnext with aam + ge2e\n\n{headline}\n\n## EER %\n")
    assert "## Where the figures come from\n\n```\n./run.sh  --stage 3\n```\n" in results.page
    for text in (digest(results.folder / "trials"), digest(results.exp / "config.yaml"), "segments of 59,049 samples",
                 "whole utterance at its own length",
                 "*Published*, in italics: RawNeXt AAM aug, as published (Table 2, Table 3)"):
        assert text in results.page


def test_lists_that_are_not_the_papers_are_named(results):
    for text in (results.page, results.done.stdout):
        assert "List O of vox1 is not the paper's: it has 200 trials, the paper's O has 37,611." in text
        assert "List mine of own is not the paper's: it has 200 trials, the paper has no such list." in text


def test_printed_table_is_aligned(results):
    lines = results.done.stdout.splitlines()
    assert lines[0] == f"EER {results.eer} % on O of vox1, protocol paper, cosine, full" and lines[1] == ""
    assert lines[2] == "EER %" and lines[3].split()[:2] == ["list", "duration"]
    place = lines[3].index("*published*") + len("*published*")
    assert lines[4][:place].endswith("*1.29*") and lines[5][:place].endswith("*2.34*")


def test_tsv_has_a_row_for_each_evaluation_with_all_stamps(results):
    header, *lines = [line.split("\t") for line in (results.exp / "results.tsv").read_text().splitlines()]
    assert len(lines) == 4 and all(len(line) == len(header) for line in lines)
    row = dict(zip(header, lines[1]))
    written = json.loads((results.exp / "scores/cosine/O_2s.json").read_text())
    assert row["scores"] == "exp/x/scores/cosine/O_2s"
    assert row["command"] == "./run.sh --stage 3"  # one line, whatever the white space
    for name in set(written) - {"train", "command", "row_sha256"}:
        assert row[name] == str(written[name])


def official(results, tmp_path, name, num, paper="''"):
    """A page whose one list has `num` trials, by changing the number in its evaluation."""
    folder = tmp_path / "x" / "scores"
    folder.mkdir(parents=True)
    (tmp_path / "x" / "config.yaml").write_text(f"paper: {paper}\n")
    row = json.loads((results.exp / "scores/cosine/O.json").read_text()) | {"list": name, "num_trials": num}
    (folder / "O.json").write_text(json.dumps({**row, "row_sha256": row_sha256(row)}))
    done = results.run("results.py", tmp_path / "x")
    assert done.returncode == 0, done.stderr
    return (tmp_path / "x" / "RESULTS.md").read_text()


@pytest.mark.parametrize("name", OFFICIAL_TRIALS)
def test_official_lists_have_no_note(results, tmp_path, name):
    assert "not the paper's" not in official(results, tmp_path, name, OFFICIAL_TRIALS[name], "RawNeXt softmax")


def test_without_a_paper_there_are_no_paper_rows(results, tmp_path):
    page = official(results, tmp_path, "own", 10)
    assert page.startswith("# x\n") and "*published*" not in page and "not the paper's" not in page


@pytest.mark.parametrize("spoil, message", [
    (lambda x: (x / "scores/O.json").unlink(), "scores: holds no evaluation; run steps/evaluate.py first"),
    (lambda x: (x / "scores/O.json").write_text("[]"),
     "scores/O.json: has no 'list': not written by steps/evaluate.py"),
    (lambda x: (x / "scores/O.json").write_text("{"), "scores/O.json: is not JSON"),
    (lambda x: (x / "scores/P.json").write_text((x / "scores/O.json").read_text()),
     "scores/P.json: evaluates O vox1 paper cosine full, and so does {exp}/scores/O.json; delete one"),
    (lambda x: (x / "config.yaml").unlink(), "config.yaml: no such file"),
])
def test_bad_experiments_are_one_line(results, tmp_path, spoil, message):
    official(results, tmp_path, "O", 10)
    exp = tmp_path / "x"
    (exp / "RESULTS.md").unlink()
    spoil(exp)
    done = results.run("results.py", exp)
    assert (done.returncode, done.stderr) == (1, f"results.py: {exp}/{message.format(exp=exp)}\n")
    assert not (exp / "RESULTS.md").exists()


def test_unknown_paper_system_is_reported(results, tmp_path):
    official(results, tmp_path, "O", 10)
    (tmp_path / "x" / "config.yaml").write_text("paper: RawNeXt softmx\n")
    done = results.run("results.py", tmp_path / "x")
    assert done.returncode == 1
    assert "paper.tsv: has no system 'RawNeXt softmx'; did you mean 'RawNeXt softmax'?" in done.stderr


# --- conf/paper.tsv

def test_published_figures_agree_with_themselves(root):
    """Numbers that occur in two tables of the paper are equal, and all are valid rates."""
    path = root / "conf" / "paper.tsv"

    def eers(system):
        return {(line["list"], line["duration"]): line["eer"] for line in read_paper(path, system)}

    assert eers("ResNeXt softmax") == eers("Table 4 row 1")
    assert eers("RawNeXt softmax") == eers("Table 4 row 7")
    systems = {line.split("\t")[0] for line in path.read_text().splitlines()[1:]}
    assert {f"Table 4 row {i}" for i in range(1, 8)} | {"RawNeXt AAM+AP", "RawNeXt AAM aug"} <= systems
    for system in systems:
        found = {}
        for line in read_paper(path, system):
            assert line["list"] in OFFICIAL_TRIALS and line["duration"] in ("full", "5", "2", "1")
            figures = tuple(line[name] for name in ("eer", "mindcf01", "mindcf05"))
            assert found.setdefault((line["list"], line["duration"]), figures) == figures
            assert 0 < float(line["eer"]) < 10 and all(0 < float(x) < 1 for x in figures[1:] if x)
        shorter = [float(found["O", d][0]) for d in ("full", "5", "2", "1") if ("O", d) in found]
        assert shorter == sorted(shorter)


def test_headline_is_the_row_of_cosine_not_the_lowest():
    row = {"list": "O", "data_set": "x", "protocol": "native", "duration": "full", "eer_interval": None}
    rows = [{**row, "backend": "asnorm", "eer": 4.0}, {**row, "backend": "cosine", "eer": 5.0},
            {**row, "backend": "cosine", "duration": "2", "eer": 3.0}]
    assert headline(rows) == "EER 5.00 % on O of x, protocol native, cosine, full"
    assert lowest(rows) == ("The lowest of 2, optimistic because it was chosen on this list: "
                            "EER 4.00 % on O of x, protocol native, asnorm, full.")
    assert headline(rows[:1]) == "EER 4.00 % on O of x, protocol native, asnorm, full" and lowest(rows[:1]) == ""


def test_headline_is_of_the_plain_list_of_clean_speech():
    row = {"protocol": "native", "duration": "full", "backend": "cosine"}
    places = [("hard", "test"), ("trials", "test_noisy"), ("trials", "test"), ("trials, enroll side cut", "test")]
    rows = sorted(({**row, "list": name, "data_set": data, "eer": place} for place, (name, data) in enumerate(places)),
                  key=order)
    assert headline(rows) == "EER 2.00 % on trials of test, protocol native, cosine, full"
