# SPDX-License-Identifier: Apache-2.0
"""Checks of every example of the pages without running it: commands, code, configurations, links."""

import ast
import importlib
import re
import subprocess
from pathlib import Path

import pytest
from page_commands import Fault, blocks, check, commands, pages

from rawnext.training.system import load_system

ROOT = Path(__file__).resolve().parents[2]
PAGES = pages(ROOT)
TO_BE_WRITTEN = ("local/foo/prepare_foo.py",)     # written by the reader
NOT_CODE = ("text", "{toctree}", "{eval-rst}", "")


def name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_commands(page):
    """Programs, options, stages, configurations and make targets exist."""
    for block in blocks(page.read_text(encoding="utf-8")):
        if block.language == "bash":
            for command in commands(block.code):
                try:
                    check(command, ROOT, page, block.before)
                except Fault as fault:
                    pytest.fail(f"{name(page)}:{block.line}: {' '.join(command.words)}: {fault}")


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_code(page, tmp_path):
    """Python compiles and its imports exist; YAML is a valid configuration; there are no other languages."""
    for block in blocks(page.read_text(encoding="utf-8")):
        where = f"{name(page)}:{block.line}"
        assert block.language in ("bash", "python", "yaml", *NOT_CODE), where
        if block.language == "python" and page.name != "extending.md":     # test_extending.py runs that page
            for node in ast.walk(ast.parse(block.code)):
                if isinstance(node, ast.ImportFrom):
                    module = importlib.import_module(node.module)
                    assert all(hasattr(module, alias.name) for alias in node.names), where
        if block.language == "yaml" and page.name != "extending.md":
            (tmp_path / "page.yaml").write_text(block.code)
            load_system([tmp_path / "page.yaml"])


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_programs_within_sentences(page):
    """For `steps/foo.py --bar` in a sentence, the program and its options exist."""
    for match in re.finditer(r"`((?:steps|local|utils|bench)/[\w/]+\.(?:py|sh)[^`]*)`", page.read_text()):
        words = match[1].split()
        if words[0] in TO_BE_WRITTEN:
            continue
        try:
            for command in commands(match[1] if words[1:2] == ["--help"] else f"{words[0]} ... {' '.join(words[1:])}"):
                check(command, ROOT, page, "")
        except Fault as fault:
            pytest.fail(f"{name(page)}: {match[1]}: {fault}")


@pytest.mark.parametrize("code, why", [
    ("steps/nothing.py", "no program"), ("steps/score.py ... --no-such a b", "no-such"), ("steps/score.py", "required"),
    ("./run.sh --no-such 1", "no option no_such"), ("./run.sh --stage 11", "no stage 11"), ("make nothing", "target"),
    ("steps/calibrate.py fit ... --no-such", "no option --no-such"), ("a b target", "unknown program"),
    ("cd egs/nothing", "no egs/nothing"), ("cd egs/mini; ./run.sh --vox1 x", "no option vox1"),
])
def test_faults_are_found(code, why):
    with pytest.raises(Fault, match=why):
        for command in commands(code):
            check(command, ROOT, ROOT / "README.md", "")


def test_wrong_configuration_is_found():
    with pytest.raises(Exception, match="optim.lrr"):
        check(next(commands('./run.sh --conf conf/rawnext.yaml --set "optim.lrr=1"')), ROOT, ROOT / "README.md", "")


def slug(heading: str) -> str:
    """The anchor of a heading on GitHub and on the site."""
    return re.sub(r"[^\w\- ]", "", heading.replace("`", "").strip().lower()).replace(" ", "-")


@pytest.mark.parametrize("page", [*PAGES, *sorted(ROOT.glob("egs/*/RESULTS.md"))], ids=name)
def test_links(page):
    """Linked files and headings exist."""
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        path, _, anchor = target.partition("#")
        if path.startswith(("http://", "https://")):
            continue
        file = (page.parent / path).resolve() if path else page
        assert file.exists() and file.is_relative_to(ROOT), f"{name(page)}: {target}"
        if anchor:
            assert anchor in map(slug, re.findall(r"^#+ (.*)$", file.read_text(), re.M)), f"{name(page)}: {target}"


def test_names_of_the_python_page():
    """Every name for autodoc exists and has a docstring."""
    pattern = r"^\.\. auto\w+:: rawnext([\w.]*)\.(\w+)(?:\n   :members: (.*))?"
    found = re.findall(pattern, (ROOT / "docs/reference/python.md").read_text(), re.M)
    assert len(found) > 15
    for module, name, members in found:
        thing = getattr(importlib.import_module(f"rawnext{module}"), name)
        assert all(each.__doc__ for each in (thing, *(getattr(thing, m) for m in members.split(", ") if m))), name


def test_the_readme_quotes_the_results():
    """README's table quotes the results that it names, and README is short."""
    readme, results = (ROOT / "README.md").read_text(), (ROOT / "egs/speechocean762/RESULTS.md").read_text()
    table = results.split("### test, trials (native, cosine)")[1].split("###")[0]
    noisy = results.split("### test_noisy, trials (native, cosine)")[1].split("###")[0]
    rows = re.findall(r"^\| (\w+) \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \|$", readme, re.M)
    assert len(rows) > 3
    for system, *eers in rows:
        for column, place, text in zip((3, 5, 6, 3), (table, table, table, noisy), eers):
            line = next(line for line in place.splitlines() if line.startswith(f"| {system} "))
            assert line.split("|")[column + 1].split()[0] == text, (system, text)
    assert readme.count("\n") < 120


def test_the_site_has_every_page():
    """Every page is in a table of contents: that of docs/index.md, or of a page listed there."""
    listing = subprocess.run(["git", "ls-files", "docs/*.md", "egs/*.md"], cwd=ROOT, capture_output=True, text=True)
    listed, queue = set(), [ROOT / "docs/index.md"]
    for page in queue:
        listed.add(page)
        for block in blocks(page.read_text(encoding="utf-8")):
            if block.language == "{toctree}":
                targets = re.findall(r"^(?:.*<)?([\w./]+)>?$", block.code, re.M)
                queue += {(page.parent / f"{target}.md").resolve() for target in targets} - listed
    assert {ROOT / page for page in listing.stdout.split()} <= listed
