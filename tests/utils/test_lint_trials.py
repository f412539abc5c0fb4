# SPDX-License-Identifier: Apache-2.0
"""utils/lint_trials.py: no findings for a good list; each fault is found, with its place."""

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

GOOD = ["a-1 a-2 target", "a-1 b-1 nontarget", "b-1 b-2 target", "c-1 a-1 nontarget", "c-1 c-2 target"]


@pytest.fixture
def data(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "utt2spk").write_text("".join(f"{spk}-{i} {spk}\n" for spk in "abc" for i in range(1, 4)))
    (tmp_path / "train").mkdir()
    (tmp_path / "train/utt2spk").write_text("x-1 x\ny-1 y\ny-2 y\n")
    return folder


@pytest.fixture
def lint(root, data, monkeypatch, capsys):
    """Run the program on these lines: (exit code, findings, summary)."""
    monkeypatch.syspath_prepend(root / "utils")
    import lint_trials

    def call(lines, *options, name="trials"):
        text = lines if isinstance(lines, str) else "".join(f"{line}\n" for line in lines)
        (data / name).write_text(text)
        monkeypatch.chdir(data.parent)
        monkeypatch.setattr(sys, "argv", ["lint_trials.py", *map(str, options), f"data/{name}"])
        with pytest.raises(SystemExit) as ended:
            lint_trials.main()
        out, err = capsys.readouterr()
        if isinstance(ended.value.code, str):
            err += ended.value.code
        return ended.value.code, err.splitlines(), out

    return call


def test_a_good_list_has_no_findings(lint):
    assert lint(GOOD, "--train", "train") == (0, [], (
        "lint_trials.py: data/trials: 5 trials, 3 target, 6 of 9 utterances, 3 speakers: "
        "0 errors, 0 warnings\n"))


@pytest.mark.parametrize(("line", "found"), [
    ("a-2 b-1 target", "6: error: a-2 b-1 is target, but their speakers in utt2spk are a and b"),
    ("c-3 c-1 nontarget", "6: error: c-3 c-1 is nontarget, but their speakers in utt2spk are c and c"),
    ("a-9 b-1 nontarget", "6: error: a-9 is not in utt2spk"),
    ("a-1 b-9 nontarget", "6: error: b-9 is not in utt2spk"),
    ("1 a-1 a-2", "6: error: expected `enroll test target|nontarget`, got '1 a-1 a-2'; local/convert_trials.py"),
    ("a-1,a-2,1", "6: error: expected `enroll test target|nontarget`, got 'a-1,a-2,1'; local/convert_trials.py"),
    ("", "6: error: expected `enroll test target|nontarget`, got ''"),
    ("a-1  b-2 nontarget", "6: error: fields must be separated by one space"),
    ("a-1 b-2 nontarget\r", "6: error: fields must be separated by one space"),
    ("a-1 \x1b[2J nontarget", "6: error: \\x1b[2J is not in utt2spk"),
    ("b-3 b-3 target", "6: warning: b-3 b-3: an utterance is compared with itself"),
    ("a-1 a-2 target", "6: warning: a-1 a-2 repeats a pair"),
    ("b-1 a-1 nontarget", "6: warning: b-1 a-1 repeats a pair, in this or swapped order")])
def test_a_faulty_line_is_one_finding(lint, line, found):
    code, lines, summary = lint([*GOOD, line])
    assert len(lines) == 1 and lines[0].startswith(f"data/trials:{found}")
    assert code == ("error" in found)
    assert summary.endswith("1 errors, 0 warnings\n" if code else "0 errors, 1 warnings\n")


def test_findings_of_one_kind_are_counted_in_one_line(lint):
    code, lines, summary = lint([*GOOD, "a-2 a-2 target", "a-1 b-3 target", "b-2 b-2 target", "a-2 a-2 target"])
    assert code == 1 and lines == [
        "data/trials:7: error: a-1 b-3 is target, but their speakers in utt2spk are a and b",
        "data/trials:6: warning: a-2 a-2: an utterance is compared with itself (and 2 more)",
        "data/trials:9: warning: a-2 a-2 repeats a pair, in this or swapped order"]
    assert summary.endswith("1 errors, 4 warnings\n")


def test_a_missing_newline_at_the_end_is_an_error(lint):
    code, lines, _ = lint("\n".join(GOOD))
    assert code == 1 and lines == ["data/trials:5: error: fields must be separated by one space, and the line must end "
                                   "in a newline"]


@pytest.mark.parametrize("kind", ["target", "nontarget"])
def test_a_list_of_one_class_is_an_error(lint, kind):
    lines = [line for line in GOOD if line.split()[2] == kind]
    code, found, _ = lint(lines)
    num = 3 if kind == "target" else 0
    why = f"{num} of {len(lines)} trials are target: both kinds are needed"
    assert code == 1 and found[0] == f"data/trials: error: {why}"
    assert lint([])[0] == 1


def test_training_speakers_are_a_warning(lint, data):
    (data.parent / "train/utt2spk").write_text("x1 a\nx2 b\nx3 z\n")
    assert lint(GOOD, "--train", "train")[:2] == (0, [
        "data/trials: warning: 2 of its speakers are also in train (a, ...)"])
    assert lint(["c-1 c-2 target", "c-1 a-1 nontarget"], "--train", "train")[1] == [
        "data/trials: warning: 1 of its speakers are also in train (a, ...)",
        "data/trials: warning: 6 of 9 utterances of the data directory are unused"]
    assert "none/utt2spk: no such file" in lint(GOOD, "--train", "none")[1][-1]


def test_cuts_of_speakers_that_the_tables_do_not_have_are_errors(lint, data):
    """Training reads cuts.jsonl: a speaker that was removed from the tables alone is still trained on."""
    (data.parent / "train/utt2spk").write_text("z1 z\n")
    (data.parent / "train/cuts.jsonl").write_text("".join(
        f'{{"id": "{utt}", "supervisions": [{{"speaker": "{utt[0]}"}}]}}\n' for utt in ("a1", "z1")))
    code, lines = lint(GOOD, "--train", "train")[:2]
    assert code == 1 and lines == ["train/cuts.jsonl:1: a1 of a: it is not in utt2spk; steps/make_cuts.py train makes "
                                   "cuts.jsonl again"]


def test_one_speaker_with_most_targets_is_a_warning(lint, data):
    (data / "utt2spk").write_text("".join(f"{spk}-{i:02} {spk}\n" for spk in "abc" for i in range(12)))
    rest = ["b-01 b-02 target", "c-01 c-02 target", *(f"b-{i:02} c-{i:02} nontarget" for i in range(12))]
    why = "data/trials: warning: speaker a has 11 of 13 target trials, the median speaker has 1"
    for num, found in ((10, []), (11, [why])):
        targets = [f"a-00 a-{i:02} target" for i in range(1, num + 1)]
        assert lint(targets + rest)[:2] == (0, found)


def write_official(data: Path, num: int, num_target: int) -> list[str]:
    """Trials of two speakers without repeated pairs."""
    half = range(400)
    (data / "utt2spk").write_text("".join(f"{spk}-{i:03} {spk}\n" for spk in "ab" for i in half))
    targets = (f"{spk}-{i:03} {spk}-{j:03} target" for spk in "ab" for i in half for j in range(i))
    nontargets = (f"a-{i:03} b-{j:03} nontarget" for i in half for j in half)
    return [next(targets) for _ in range(num_target)] + [next(nontargets) for _ in range(num - num_target)]


def test_the_original_voxceleb_list_is_a_warning(lint, data):
    original = write_official(data, 37_720, 18_860)
    code, found, _ = lint(original)
    assert code == 0 and found == ["data/trials: warning: is the original list VoxCeleb1-O, which has wrong "
                                   "labels; results are published on the cleaned list of 37611 trials"]
    assert lint(original, name="trials_O_original")[1] == []        # its name shows that it is known
    assert lint(write_official(data, 37_611, 18_802))[1] == []
    assert lint(original[:-1])[1] == []


def test_models_are_checked_with_their_table(lint, data):
    table = data / "trials.enroll"
    table.write_text("a-m1 a-1 a-2\nb-m1 b-1\n")
    code, found, summary = lint(["a-m1 a-3 target", "a-m1 b-3 nontarget", "b-m1 b-2 target"])
    assert (code, found) == (0, []) and "6 of 9 utterances, 2 speakers" in summary
    for line, why in (("a-1 a-2 target", "error: a-1 is not in trials.enroll"),
                      ("a-m1 a-m1 target", "error: a-m1 is not in utt2spk"),
                      ("b-m1 a-3 target", "error: b-m1 a-3 is target, but their speakers in utt2spk are b and a"),
                      ("a-m1 a-2 target", "warning: a-m1 a-2: an utterance is compared with itself")):
        found = lint(["a-m1 a-3 target", "a-m1 b-3 nontarget", "b-m1 c-1 nontarget", line])[1]
        assert found == [f"data/trials:4: {why}"]
    for text, why in (("a-m1 a-1 z\n", "trials.enroll:1: z is not in utt2spk"),
                      ("a-m1 a-1 a-1\n", "trials.enroll:1: a-m1 has an utterance twice"),
                      ("a-1 a-1\n", "trials.enroll:1: a-1 is also an utterance"),
                      ("m a-1 b-1\n", "trials.enroll: m has utterances of several speakers")):
        table.write_text(text)
        code, found, summary = lint(GOOD)
        assert code and found[0].endswith(why) and not summary


def test_an_enrollment_can_be_a_speaker(lint):
    assert lint(["a a-1 target", "a b-1 nontarget", "b b-2 target", "b c-1 nontarget", "c c-2 target"])[:2] == (0, [])


def test_utterances_are_looked_up_in_the_given_data_directories(lint, data, tmp_path):
    (data / "trials").mkdir()
    assert lint(GOOD, name="trials/x")[:2] == (0, [])
    (tmp_path / "more").mkdir()
    (tmp_path / "more/utt2spk").write_text("n-1 a\n")
    mixed = [*GOOD, "n-1 a-3 target"]
    assert lint(mixed, "--test", "data", "--test", "more", name="x")[:2] == (0, [])
    assert lint(mixed, name="x")[1] == ["data/x:6: error: n-1 is not in utt2spk"]
    assert lint(GOOD, "--test", "none", name="x")[1] == ["none/utt2spk: no such file"]


def test_lists_of_make_trials_have_no_findings(root, tmp_path):
    """With and without models and sessions."""
    rng = random.Random(1)
    utts = [(f"{spk:02}-{i:03}", spk) for spk in range(12) for i in range(rng.randint(20, 60))]
    (tmp_path / "utt2spk").write_text("".join(f"{utt} {spk:02}\n" for utt, spk in utts))
    (tmp_path / "utt2session").write_text("".join(f"{utt} {utt[-3:-1]}\n" for utt, _ in utts))
    for options in ([], ["--enroll-utts", "3", "--different-session"]):
        for command in (["make_trials.py", *options, tmp_path, tmp_path / "trials"],
                        ["lint_trials.py", tmp_path / "trials"]):
            done = subprocess.run([sys.executable, root / "utils" / command[0], *command[1:]], capture_output=True,
                                  text=True, env=os.environ)
            assert done.returncode == 0, done.stderr
        assert done.stderr == "" and "0 errors, 0 warnings" in done.stdout
