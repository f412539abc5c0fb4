# SPDX-License-Identifier: Apache-2.0
"""Speakers of a trial list: evaluate.py's intervals and costs of LLRs, paired_test.py, compare.py --test."""

import contextlib
import io
import json
import re
import runpy
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from page_commands import example

from rawnext.files import write_lines
from rawnext.scoring.bootstrap import bootstrap, interval
from rawnext.scoring.metrics import EER_DEFINITIONS, act_dcf, cllr, eer, eer_of, min_cllr

NUM_SPEAKERS = 12


class Recipe:
    """data/test with trials and speakers; experiments a and b, of which b is better."""

    def __init__(self, root, folder):
        self.root, self.folder = root, folder
        rng = np.random.default_rng(0)
        utts = [f"s{s:02}-u{u}" for s in range(NUM_SPEAKERS) for u in range(4)]
        pairs = [(a, b) for a in utts for b in utts if a < b]
        pairs = [pairs[i] for i in rng.permutation(len(pairs))[:600]]
        self.pairs = pairs + [(f"s{s:02}-u0", f"s{s:02}-u1") for s in range(NUM_SPEAKERS)
                              if (f"s{s:02}-u0", f"s{s:02}-u1") not in pairs]
        self.is_target = np.array([a[:3] == b[:3] for a, b in self.pairs])
        self.speakers = np.array([[int(utt[1:3]) for utt in pair] for pair in self.pairs]).T
        level = rng.normal(size=NUM_SPEAKERS)[self.speakers].sum(axis=0)
        noise = rng.normal(size=len(self.pairs))
        self.scores = {"a": noise + level / 2 + 1.5 * self.is_target,
                       "b": noise + level / 2 + 3.0 * self.is_target}
        self.write("data/test/utt2spk", (f"{utt} {utt[:3]}" for utt in utts))
        self.write("data/test/trials", (f"{a} {b} {'target' if y else 'nontarget'}"
                                        for (a, b), y in zip(self.pairs, self.is_target)))
        for name, scores in self.scores.items():
            scores[:] = scores.round(6)
            self.write(f"exp/{name}/scores/cosine/trials", (f"{a} {b} {s}" for (a, b), s in zip(self.pairs, scores)))
            (folder / "exp" / name / "config.yaml").write_text("{}\n")

    def write(self, name, lines):
        write_lines(self.folder / name, lines)

    def run(self, program, *args):
        """In this process, which is a second faster than a new one."""
        done = SimpleNamespace(returncode=0, stdout=io.StringIO(), stderr=io.StringIO())
        with (contextlib.redirect_stdout(done.stdout), contextlib.redirect_stderr(done.stderr),
              pytest.MonkeyPatch.context() as patch):
            patch.chdir(self.folder)
            patch.setattr(sys, "argv", [program, *args])
            try:
                runpy.run_path(str(self.root / "steps" / program), run_name="__main__")
            except SystemExit as end:
                done.returncode = end.code
        done.stdout, done.stderr = done.stdout.getvalue(), done.stderr.getvalue()
        return done

    def evaluate(self, name="a", *more):
        done = self.run("evaluate.py", "--exp", f"exp/{name}", "--list", "trials", "--data-set", "test", "--protocol",
                        "native", *more, f"exp/{name}/scores/cosine/trials", "data/test/trials")
        path = self.folder / "exp" / name / "scores" / "cosine" / "trials.json"
        return done, json.loads(path.read_text()) if path.exists() else None

    def sides(self, name):
        return self.scores[name][self.is_target], self.scores[name][~self.is_target]


@pytest.fixture
def recipe(root, tmp_path):
    return Recipe(root, tmp_path)


@pytest.fixture(scope="module")
def evaluated(root, tmp_path_factory):
    """Both experiments through evaluate.py, b as log-likelihood ratios and by Kaldi's EER."""
    recipe = Recipe(root, tmp_path_factory.mktemp("evaluated"))
    recipe.a = recipe.evaluate("a")
    recipe.b = recipe.evaluate("b", "--llr", "--eer-definition", "kaldi")
    return recipe


def test_rows_hold_intervals_over_the_speakers(evaluated):
    done, row = evaluated.a
    assert (done.returncode, done.stderr) == (0, "")
    expected = interval(*bootstrap([evaluated.scores["a"]], evaluated.is_target, evaluated.speakers, [eer_of]))
    assert row["eer_interval"] == pytest.approx((100 * expected).ravel().tolist())
    assert row["num_speakers"] == NUM_SPEAKERS and row["eer_definition"] == "mean"
    assert {name for name in row if name.endswith("_interval")} == {
        "eer_interval", "min_dcf_01_interval", "min_dcf_05_interval"}
    for name in ("eer", "min_dcf_01", "min_dcf_05"):
        low, high = row[f"{name}_interval"]
        assert 0 <= low <= row[name] <= high and low < high
    assert "EER {:.2f} % [{:.1f}, {:.1f}]".format(row["eer"], *row["eer_interval"]) in done.stdout
    assert "cllr" not in row and "Cllr" not in done.stdout


def test_rows_of_llrs_hold_their_costs(evaluated):
    done, row = evaluated.b
    sides = evaluated.sides("b")
    assert row["eer"] == pytest.approx(100 * eer(*sides, "kaldi")) and row["eer_definition"] == "kaldi"
    for name, value in (("act_dcf_01", act_dcf(*sides, 0.01)), ("act_dcf_05", act_dcf(*sides, 0.05)),
                        ("cllr", cllr(*sides)), ("min_cllr", min_cllr(*sides))):
        assert row[name] == pytest.approx(value) and row[f"{name}_interval"][0] <= value <= row[f"{name}_interval"][1]
    assert f"Cllr {row['cllr']:.3f}" in done.stdout


def test_tables_show_and_explain_intervals(evaluated):
    done = evaluated.run("results.py", "exp/a")
    page = (evaluated.folder / "exp/a/RESULTS.md").read_text()
    cell = "{:.2f} [{:.1f}, {:.1f}]".format(evaluated.a[1]["eer"], *evaluated.a[1]["eer_interval"])
    for text in (done.stdout, page):
        assert cell in text and text.count("bootstrap over the test speakers (12 of them)") == 1
        assert "Cllr" not in text and "by the definition" not in text
    assert f"- EER: {EER_DEFINITIONS['mean']}.\n" in page


def test_tables_show_costs_of_llrs_and_another_definition(evaluated):
    done = evaluated.run("results.py", "exp/b")
    page = (evaluated.folder / "exp/b/RESULTS.md").read_text()
    row = evaluated.b[1]
    for title, name in (("actual DCF, P_target 0.01", "act_dcf_01"), ("Cllr", "cllr"), ("minimum Cllr", "min_cllr")):
        table = page.split(f"## {title}\n")[1].split("##")[0]
        assert f"| {row[name]:.3f} |" in table
    for text in (page, done.stdout):
        assert f"EER by the definition `kaldi`: {EER_DEFINITIONS['kaldi']}." in text
    assert f"- EER: {EER_DEFINITIONS['kaldi']}.\n" in page and EER_DEFINITIONS["mean"] not in page


def test_compared_with_the_first_system(evaluated):
    done = evaluated.run("compare.py", "--test", "exp/a", "exp/b")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    header = next(line for line in lines if line.startswith("| system | parameters"))
    assert header.endswith("| EER % full | minDCF full | Cllr full |")
    assert next(line for line in lines if line.startswith("| a |")).endswith("|  |")
    place = lines.index("| EER % minus that of a | full |")
    assert re.fullmatch(r"\| b \| -\d+\.\d\d \[-.*, -.*\], p (< )?0\.0\d* \|", lines[place + 2]), lines[place + 2]
    assert sum("bootstrap over the test speakers" in line for line in lines) == 1
    plain = evaluated.run("compare.py", "exp/a", "exp/b").stdout
    assert "minus that of" not in plain


def test_paired_test_of_files(recipe):
    paths = [f"exp/{name}/scores/cosine/trials" for name in "ab"]
    done = recipe.run("paired_test.py", "--llr", *paths, "data/test/trials")
    assert done.returncode == 0, done.stderr
    lines = {line[:16].strip(): line[16:].split() for line in done.stdout.splitlines()[4:]}
    assert list(lines) == ["EER %", "minDCF(0.01)", "minDCF(0.05)", "actual DCF(0.01)", "actual DCF(0.05)", "Cllr",
                           "minimum Cllr"]
    rates = [100 * eer(*recipe.sides(name)) for name in "ab"]
    assert lines["EER %"][:3] == [f"{rates[0]:.3f}", f"{rates[1]:.3f}", f"{rates[0] - rates[1]:+.2f}"]
    assert lines["EER %"][-3:] == ["p", "<", "0.01"] or float(lines["EER %"][-1]) < 0.05
    swapped = recipe.run("paired_test.py", *paths[::-1], "data/test/trials").stdout.splitlines()[4].split()
    assert swapped[4] == f"{rates[1] - rates[0]:+.2f}" and swapped[-1] == lines["EER %"][-1]
    same = recipe.run("paired_test.py", paths[0], paths[0], "data/test/trials").stdout.splitlines()[4]
    assert same.endswith("+0.00 [+0.00, +0.00], p 1")


def without(path):
    return [line for line in path.read_text().splitlines() if not line.startswith("s00-")]


def test_enroll_side_of_another_directory(recipe):
    """Its speakers count, found by --enroll or named."""
    recipe.write("trials", [f"clean_{line}" for line in (recipe.folder / "data/test/trials").read_text().splitlines()])
    scores = recipe.folder / "exp/a/scores/cosine/trials"
    expected = recipe.evaluate()[1]["eer_interval"]
    recipe.write(scores, [f"clean_{line}" for line in scores.read_text().splitlines()])
    (recipe.folder / "trials").rename(recipe.folder / "data/test/trials")
    done, row = recipe.evaluate()
    assert done.returncode == 0 and "eer_interval" not in row
    assert re.fullmatch(r"no intervals: data/test/trials:1: clean_\S+ is not in data/test/utt2spk\n", done.stderr)
    table = (recipe.folder / "data/test/utt2spk").read_text().splitlines()
    recipe.write("data/clean/utt2spk", [f"clean_{line}" for line in table])
    for option in (("--enroll", "data/clean"), ("--enroll-utt2spk", "data/clean/utt2spk")):
        done, row = recipe.evaluate("a", *option)
        assert (done.stderr, row["eer_interval"]) == ("", expected)


def test_models_of_several_utterances_are_their_speakers(recipe):
    trials = recipe.folder / "data/test/trials"
    expected = recipe.evaluate()[1]["eer_interval"]
    for path in (trials, recipe.folder / "exp/a/scores/cosine/trials"):
        recipe.write(path, [f"model_{line}" for line in path.read_text().splitlines()])
    models = sorted({pair[0] for pair in recipe.pairs})
    recipe.write("data/test/trials.enroll", [f"model_{utt} {utt[:3]}-u0 {utt[:3]}-u1" for utt in models])
    done, row = recipe.evaluate()
    assert (done.stderr, row["eer_interval"]) == ("", expected)
    recipe.write("data/test/trials.enroll", [f"model_{models[0]} s00-u0 s01-u0"])
    done, row = recipe.evaluate()
    assert f"data/test/trials.enroll:1: model_{models[0]} has two speakers" in done.stderr
    assert "eer_interval" not in row


@pytest.mark.parametrize("spoil, message", [
    (lambda x: x.write("data/test/utt2spk", without(x.folder / "data/test/utt2spk")),
     r"data/test/trials:\d+: s00-u\d is not in data/test/utt2spk"),
    (lambda x: x.write("data/test/utt2spk", [f"{u} {u}" for u in sorted({u for p in x.pairs for u in p})]),
     r"data/test/trials:\d+: a target trial of s\d\d-u\d and s\d\d-u\d"),
    (lambda x: x.write("data/test/utt2spk", [f"{u} all" for u in sorted({u for p in x.pairs for u in p})]),
     r"data/test/trials:\d+: a nontarget trial within all"),
    (lambda x: x.write("data/test/utt2spk", ["s00-u0"]), "data/test/utt2spk:1: expected 2 columns, got 1"),
])
def test_wrong_speakers_are_an_error_only_if_requested(recipe, spoil, message):
    spoil(recipe)
    done, row = recipe.evaluate("a", "--utt2spk", "data/test/utt2spk")
    assert (done.returncode, row) == (1, None) and re.fullmatch(f"evaluate.py: {message}\n", done.stderr)
    done = recipe.run("paired_test.py", *[f"exp/{n}/scores/cosine/trials" for n in "ab"], "data/test/trials")
    assert done.returncode == 1 and re.fullmatch(f"paired_test.py: {message}\n", done.stderr)
    done, row = recipe.evaluate()
    assert done.returncode == 0 and re.fullmatch(f"no intervals: {message}\n", done.stderr)
    assert "eer" in row and "eer_interval" not in row and "num_speakers" not in row


def test_without_speakers_there_are_no_intervals(recipe):
    (recipe.folder / "data/test/utt2spk").unlink()
    done, row = recipe.evaluate()
    assert (done.returncode, done.stderr) == (0, "") and "eer_interval" not in row
    assert "[" not in done.stdout
    recipe.run("results.py", "exp/a")
    assert "bootstrap" not in (recipe.folder / "exp/a/RESULTS.md").read_text()
    done = recipe.run("paired_test.py", *[f"exp/{n}/scores/cosine/trials" for n in "ab"], "data/test/trials")
    assert (done.returncode, done.stderr) == (1, "paired_test.py: data/test/utt2spk: no such file\n")


def two_speakers(recipe):
    """Only the trials between the first two speakers."""
    for path in ("data/test/trials", *(f"exp/{name}/scores/cosine/trials" for name in "ab")):
        lines = (recipe.folder / path).read_text().splitlines()
        recipe.write(path, [line for line in lines if {utt[:3] for utt in line.split()[:2]} <= {"s00", "s01"}])


def no_errors(recipe):
    for name in "ab":
        recipe.write(f"exp/{name}/scores/cosine/trials", (f"{a} {b} {9 * y + s:.3f}" for (a, b), y, s in zip(
            recipe.pairs, recipe.is_target, np.random.default_rng(ord(name)).random(len(recipe.pairs)))))


def inverted(recipe):
    recipe.write("exp/a/scores/cosine/trials",
                 (f"{a} {b} {-s}" for (a, b), s in zip(recipe.pairs, recipe.scores["a"])))


@pytest.mark.parametrize(("change", "cell", "reason"), [
    (two_speakers, r"\d+\.\d\d", "no interval: 2 speakers with target trials and 1 disjoint pair"),
    (no_errors, r"0\.00 \[0\.0, 45\.9\]", "no errors: the upper end is the bound of Clopper and Pearson for 12"),
    (inverted, r"\d\d\.\d\d \[.*\]", "the EER is above 50 %: target trials score lower than nontarget trials")])
def test_limits_of_figures_are_in_every_output(recipe, change, cell, reason):
    change(recipe)
    done, row = recipe.evaluate()
    assert done.returncode == 0 and reason in row.get("interval_note", "") + row.get("warning", "")
    assert reason in done.stdout + done.stderr and re.search(f"EER {cell.replace(' ', ' % ', 1)}", done.stdout)
    shown = recipe.run("results.py", "exp/a").stdout
    page = (recipe.folder / "exp/a/RESULTS.md").read_text()
    header, line = ((recipe.folder / "exp/a/results.tsv").read_text().splitlines()[n].split("\t") for n in (0, 1))
    assert reason in " ".join(line) and dict(zip(header, line))["eer"] == str(row["eer"])
    assert reason in page.split("##")[0], "the headline, which is also the last line of egs/mini/run.sh"
    for text in (page, shown, recipe.run("compare.py", "exp/a").stdout):
        assert reason.lower()[1:] in text.lower() and re.search(rf"{cell}( \||\n)", text), text
    assert recipe.run("report.py", "--errors", "0", "exp/a").returncode == 0
    assert reason.lower()[1:] in (recipe.folder / "exp/a/report.html").read_text().lower()


def test_conditions_are_in_every_output(recipe, root):
    """By the tables next to the trials and in the directory of the enroll side."""
    speakers = [f"s{s:02}" for s in range(NUM_SPEAKERS)]
    recipe.write("data/test/spk2gender", (f"{spk} {'fm'[place % 2]}" for place, spk in enumerate(speakers)))
    recipe.write("data/test/utt2codec", (f"{spk}-u{u} {('opus', 'mp3')[u % 2]}" for spk in speakers for u in range(4)))
    recipe.write("data/clean/utt2spk", (f"{spk}-u{u} {spk}" for spk in speakers for u in range(4)))
    recipe.write("data/clean/utt2channel", (f"{spk}-u{u} {u // 2}" for spk in speakers for u in range(4)))
    done, row = recipe.evaluate("a", "--enroll", "data/clean")
    assert (done.returncode, done.stderr) == (0, "")
    assert [(one["name"], [group["value"] for group in one["groups"]]) for one in row["conditions"]] == [
        ("channel of the enroll side", ["0", "1"]), ("codec of the test side", ["mp3", "opus"]),
        ("gender", ["f", "m"])], "one spk2gender is enough for both sides"
    assert recipe.run("results.py", "exp/a").returncode == 0
    assert recipe.run("report.py", "--errors", "0", "exp/a").returncode == 0
    page = (recipe.folder / "exp/a/RESULTS.md").read_text()
    cell = f"{row['conditions'][1]['groups'][0]['eer']:.2f}"
    assert "| codec of the test side | mp3 | 12 | " in page and cell in page
    assert "conditions" not in (recipe.folder / "exp/a/results.tsv").read_text().splitlines()[0]
    html = (recipe.folder / "exp/a/report.html").read_text()
    assert '<option>codec of the test side</option>' in html and f">{cell}" in html
    words = example(root, "docs/howto/conditions.md", "steps/evaluate.py --exp exp/a")
    assert recipe.run("evaluate.py", *words[1:]).returncode == 0
    assert len(json.loads((recipe.folder / "exp/a/scores/cosine/trials.json").read_text())["conditions"]) == 2
    done, row = recipe.evaluate("a", "--no-conditions")
    assert done.returncode == 0 and "conditions" not in row and "eer_interval" in row
    recipe.write("data/test/utt2lang", ["s00-u0 en", "s00-u0 de"])
    done, _ = recipe.evaluate("a")
    assert (done.returncode, done.stderr) == (1, "evaluate.py: data/test/utt2lang:2: s00-u0 is listed twice\n")
