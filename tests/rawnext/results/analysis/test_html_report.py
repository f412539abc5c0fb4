# SPDX-License-Identifier: Apache-2.0
"""The page of an experiment: one self-contained file that lists its missing parts and escapes all text."""

import itertools
import os
import re
import subprocess
import sys
from fnmatch import fnmatch
from html.parser import HTMLParser
from urllib.parse import unquote
from xml.etree import ElementTree

import pytest
import report_experiment as small
from programs import forking

from rawnext.errors import InputError
from rawnext.files import write_lines
from rawnext.results.analysis.html_report import PAGE, report_page

VOID = {"meta", "link", "img", "br"}


class Page(HTMLParser):
    """All elements (name, attributes, own text); checks that every element is closed in order."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.open = [], []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs), []))
        if tag not in VOID:
            self.open.append((tag, self.elements[-1][2]))

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs), []))

    def handle_endtag(self, tag):
        assert self.open.pop()[0] == tag

    def handle_data(self, data):
        if self.open:
            self.open[-1][1].append(data)

    def all(self, tag):
        return [(attrs, "".join(text)) for name, attrs, text in self.elements if name == tag]

    def texts(self, tag):
        return [" ".join(text.split()) for _, text in self.all(tag)]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report") / "data" / "test"
    return folder, small.write_data(folder)


@pytest.fixture
def exp(data, tmp_path):
    small.write_experiment(tmp_path / "rawnext", *data, 0)
    return tmp_path / "rawnext"


def page_of(*exps, root, **options):
    text, lacks = report_page(exps, root / "conf" / "paper.tsv", **options)
    return text, Page(text), lacks


@pytest.fixture(scope="module")
def full(data, tmp_path_factory, root):
    """A page of two systems with all parts."""
    folder = tmp_path_factory.mktemp("full")
    one, two = folder / "rawnext", folder / "resnext"
    interval = {"eer_interval": [14.1, 17.2], "num_speakers": 4}
    small.write_experiment(one, *data, 0, durations=("full", "2", "1"), backends=("cosine", "cosine+cal"),
                           cllr=0.31, min_cllr=0.22, **interval)
    small.write_experiment(two, *data, 1, durations=("full", "1"))
    small.write_training(one)
    write_lines(one / "analysis" / "branch_variation.tsv", ["seconds\tlow\thigh", "1\t0.5\t-0.25"])
    (one / "analysis" / "branch_variation.png").write_bytes(b"\x89PNG")
    return page_of(one, two, root=root, num_errors=3)


def test_one_file_without_outside_resources(full):
    text, page, lacks = full
    assert lacks == []
    for _, attributes, _ in page.elements:
        for name in ("src", "href", "srcset", "action", "data", "poster", "xlink:href"):
            assert attributes.get(name, "#").startswith(("#", "data:")), attributes
    rest = re.sub(r'"data:[^"]*"', "", text)
    assert not re.search(r"@import|url\(|https?:|//[a-z]", rest)
    policy = next(attributes["content"] for attributes, _ in page.all("meta") if "content" in attributes)
    assert policy.startswith("default-src 'none'") and "http" not in policy


def test_accessibility(full):
    _, page, _ = full
    levels = [int(tag[1]) for tag, _, _ in page.elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1 and levels.count(1) == 1 and all(b <= a + 1 for a, b in itertools.pairwise(levels))
    assert len(page.all("caption")) == len(page.all("table")) == 4
    assert all(attributes.get("alt") for attributes, _ in page.all("img"))
    assert all(attributes.get("aria-label") or "aria-hidden" in attributes for attributes, _ in page.all("svg"))
    assert all(attributes.get("aria-label") for attributes, _ in page.all("audio"))
    assert all(attributes["scope"] == "col" for attributes, _ in page.all("th"))
    ids = [attributes["id"] for _, attributes, _ in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert all(attributes["href"][1:] in ids for attributes, _ in page.all("a"))


def test_one_table_has_a_column_for_each_back_end(full):
    _, page, _ = full
    assert page.texts("button")[:5] == ["list", "duration", "rawnext, cosine", "rawnext, cosine+cal", "resnext, cosine"]
    cells = [(attributes.get("data-sort"), text) for attributes, text in page.all("td")]
    ours = ("15.5", "15.50 [14.1, 17.2]")
    assert cells[:10] == [(None, "trials of test"), ("1000000000.0", "full"), ours, ours, ("16.5", "16.50"),
                          (None, "trials of test"), ("2.0", "2 s"), ours, ours, (None, "")]


def test_figures_are_in_the_table(full):
    _, page, _ = full
    assert page.texts("button")[5:18] == [
        "system", "list", "data set", "protocol", "backend", "duration", "EER %", "minDCF(0.01)",
        "minDCF(0.05)", "Cllr", "minimum Cllr", "trials", "targets"]
    cells = [(attributes.get("data-sort"), text) for attributes, text in page.all("td")]
    assert cells[15:28] == [
        (None, "rawnext"), (None, "trials"), (None, "test"), (None, "native"), (None, "cosine"),
        ("1000000000.0", "full"), ("15.5", "15.50 [14.10, 17.20]"),
        ("0.9", "0.900"), ("0.8", "0.800"), ("0.31", "0.310"), ("0.22", "0.220"),
        ("400", "400"), ("100", "100")]
    assert (None, "c0ffee") in cells and ("0.5", "0.5") in cells  # results.tsv's columns; the branches
    said = " ".join(page.texts("p"))
    assert "95 % interval by a bootstrap over the test speakers (4 of them)" in said
    assert "EER: mean of both error rates at the threshold where they are closest." in said


def test_headline_comes_first(full):
    _, page, _ = full
    assert [(tag, "".join(text)) for tag, _, text in page.elements if tag in ("h2", "p", "table")][1:4] == [
        ("h2", "Results"), ("p", "rawnext: EER 15.50 % [14.1, 17.2] on trials of test, protocol native, cosine, full"),
        ("p", "resnext: EER 16.50 % on trials of test, protocol native, cosine, full")]


def test_figures_hold_the_curves(full):
    """DET of both systems at all durations: its words and its text."""
    _, page, _ = full
    pictures = [attributes for attributes, _ in page.all("img") if attributes["src"].startswith("data:image/svg+xml,")]
    labels = [f"{name}, {d}: EER {eer} %" for name, eer in (("rawnext", "15.50"), ("resnext", "16.50"))
              for d in ("full", "2 s", "1 s") if (name, d) != ("resnext", "2 s")]
    det = next(x for x in pictures if x["alt"].startswith("DET curves."))
    drawn = ElementTree.fromstring(unquote(det["src"].partition(",")[2]))
    for label in labels:
        assert label in det["alt"] and label in [text.strip() for text in drawn.itertext()]
    assert len(pictures) == len(page.all("figure"))


def test_stamps_of_each_system(full):
    _, page, _ = full
    said = page.texts("dd")
    for text in ("./run.sh --name x", "c0ffee", "a CPU", "epochs 3"):
        assert said.count(text) == 2  # one for each system
    assert any("400 trials, 100 target" in text and "sha256 ab12" in text for text in said)


def test_parts_and_charts(full):
    _, page, _ = full
    assert page.texts("h2") == ["Results", "EER against duration", "Scores", "Calibration", "Training",
                                "Activation of the branches", "The worst errors", "Where the figures come from"]
    titles = page.texts("figcaption")
    assert titles.count("DET") == 2 and titles.count("rawnext, calibration") == 2  # only the first has LLRs
    assert titles.count("rawnext, 1 s") == 2 and titles.count("resnext, 1 s") == 1
    assert {"training loss", "validation EER (%)", "trials of test, cosine"} <= set(titles)


def test_errors_are_of_the_first_system_at_full_and_shortest(full):
    _, page, _ = full
    keys = [attributes["data-key"] for attributes, _ in page.all("div") if "data-key" in attributes]
    assert keys[2:] == ["full, highest nontarget scores", "full, lowest target scores",
                        "1 s, highest nontarget scores", "1 s, lowest target scores"]
    assert len(page.all("article")) == 12 and len(page.all("audio")) == 24
    text = " ".join(page.texts("p"))
    assert "the middle 1.00 s of 1.60 s" in text or "the middle 1.00 s of 2.50 s" in text


def test_missing_parts_are_left_out_and_listed(exp, root):
    small.change(exp, enroll=None)
    text, page, lacks = page_of(exp, root=root)
    assert [lack.split(":")[0] for lack in lacks] == ["errors to listen to", "training curves", "calibration",
                                                      "activation of the branches"]
    assert page.texts("h2") == ["Results", "EER against duration", "Scores", "Where the figures come from"]
    assert page.texts("li")[-4:] == lacks and "95 %" not in text
    assert "audio" not in {tag for tag, _, _ in page.elements}


def test_errors_can_be_left_out_or_of_another_list(data, tmp_path, root):
    small.write_experiment(tmp_path / "x", *data, 0, backends=("cosine", "plda"))
    _, page, lacks = page_of(tmp_path / "x", root=root, num_errors=0)
    assert not page.all("article") and lacks[0] == "errors to listen to: --errors 10 shows them"
    _, page, _ = page_of(tmp_path / "x", root=root, num_errors=1, errors_in="trials test native plda")
    assert len(page.all("article")) == 4 and any("protocol native, plda. The sound" in text for text in page.texts("p"))
    with pytest.raises(InputError, match="has no 'trials test native pldo'; did you mean 'trials test native plda'"):
        page_of(tmp_path / "x", root=root, errors_in="trials test native pldo")


def test_first_utterance_of_a_model_is_played(data, exp, root, tmp_path):
    folder, trials = data
    models = {f"m-{a}": (a, b) for a, b, _ in trials if a < b}
    for path in [exp / "scores" / "cosine_full", exp / "scores" / "cosine_1"]:
        lines = [line.split() for line in path.read_text().splitlines()]
        write_lines(path, (f"m-{a} {b} {s}" for a, b, s in lines if f"m-{a}" in models))
    write_lines(tmp_path / "list", (f"m-{a} {b} {'target' if same else 'nontarget'}" for a, b, same in trials
                                    if f"m-{a}" in models))
    write_lines(tmp_path / "list.enroll", (f"{model} {' '.join(utts)}" for model, utts in models.items()))
    write_lines(tmp_path / "wav.scp", (folder / "wav.scp").read_text().splitlines())
    small.change(exp, trials=str(tmp_path / "list"))
    _, page, _ = page_of(exp, root=root, num_errors=2)
    assert len(page.all("audio")) == 16
    assert any(re.fullmatch(r"speaker , .*; the first of the 2 utterances of m-s\d-\d", text)
               for text in page.texts("p"))


def test_missing_audio_does_not_stop_the_page(exp, root, tmp_path):
    small.change(exp, enroll=str(tmp_path / "gone"))
    _, page, lacks = page_of(exp, root=root, num_errors=1)
    assert len(page.all("audio")) == 4 and "errors to listen to" not in str(lacks)
    assert sum("gone/wav.scp: no such file" in text for text in page.texts("p")) == 4


HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)> $\\frac{"


def test_text_is_never_markup(data, tmp_path, root):
    folder, trials = data
    odd = "a<b>&amp;{{7*7}}"  # characters allowed in an id
    exp = tmp_path / "<i>&x"
    small.write_experiment(exp, folder, [(odd, b, same) for _, b, same in trials[:20]], 0)
    write_lines(tmp_path / "list", (f"{odd} {b} {'target' if same else 'nontarget'}" for _, b, same in trials[:20]))
    small.change(exp, trials=str(tmp_path / "list"), list=HOSTILE, backend=HOSTILE, command=HOSTILE, hardware=HOSTILE,
                 enroll=HOSTILE, train={HOSTILE: HOSTILE})
    write_lines(exp / "config.yaml", ["model: {name: '<script>alert(1)</script>'}"])
    write_lines(exp / "analysis" / "branch_variation.tsv", [HOSTILE, HOSTILE])
    _, page, _ = page_of(exp, root=root, num_errors=1)
    names = [tag for tag, _, _ in page.elements]
    assert names.count("script") == 1 and not {"b", "i"} & set(names)
    assert all(attributes["src"].startswith("data:") for attributes, _ in page.all("img"))
    assert not any(name.startswith("on") for _, attributes, _ in page.elements for name in attributes)
    clean = " ".join(HOSTILE.split())
    assert page.texts("h1") == ["<i>&x"] and clean in page.texts("td") and clean in page.texts("dd")
    assert odd in page.texts("span")


def test_same_names_become_paths_and_same_folders_are_an_error(data, tmp_path, root):
    for name in ("a/x", "b/x"):
        small.write_experiment(tmp_path / name, *data, 0)
    _, page, _ = page_of(tmp_path / "a/x", tmp_path / "b/x", root=root, num_errors=0)
    assert page.texts("h1") == [f"{tmp_path}/a/x, {tmp_path}/b/x"]
    with pytest.raises(InputError, match="named twice"):
        page_of(tmp_path / "a/x", tmp_path / "a/../a/x", root=root)


def test_an_installed_package_has_the_page(root):
    """Every file of the page is package data."""
    declared = re.search(r'"rawnext.results.analysis" = \["(.*)"\]', (root / "pyproject.toml").read_text()).group(1)
    assert len(list(PAGE.iterdir())) == 3
    assert all(fnmatch(str(path.relative_to(PAGE.parent)), declared) for path in PAGE.iterdir())


# --- steps/report.py

def run(root, *args):
    return subprocess.run([sys.executable, root / "steps" / "report.py", *map(str, args)], capture_output=True,
                          text=True, env=forking({**os.environ, "PYTHONPATH": str(root)}))


def test_program_prints_size_and_missing_parts(root, exp):
    done = run(root, "--errors", "1", exp)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert len(lines) == 4 and lines[0].startswith(f"{exp}/report.html: without training curves: ")
    assert lines[-1] == f"{exp}/report.html: {(exp / 'report.html').stat().st_size / 1e6:.1f} MB"


def test_errors_are_one_line(root, exp, tmp_path):
    write_lines(exp / "train.tsv", ["epoch\tloss\tacc\tlr\teer_dev", "1\t2"])
    done = run(root, exp)
    assert (done.returncode, done.stderr) == (1, f"report.py: {exp}/train.tsv:2: expected 5 columns, got 2\n")
    assert not (exp / "report.html").exists()
    with pytest.raises(InputError, match="none/config.yaml: no such file"):
        page_of(tmp_path / "none", root=root)
    assert "want 0 to 100, got 101" in run(root, "--errors", "101", exp).stderr
