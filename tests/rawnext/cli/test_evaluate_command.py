# SPDX-License-Identifier: Apache-2.0
"""`rawnext eval`: figures of the library for every form of scores and trials; what is wrong is one line."""

import json

import numpy as np
import pytest

from rawnext.cli.main import main
from rawnext.errors import InputError
from rawnext.scoring import metrics
from rawnext.scoring.bootstrap import bootstrap, interval

RNG = np.random.default_rng(0)
PAIRS = [(f"s{a}-{i}", f"s{b}-9") for a in range(12) for b in range(12) for i in range(3)]
TARGET = np.array([a.split("-")[0] == b.split("-")[0] for a, b in PAIRS])
LLR = RNG.normal(size=len(PAIRS)) * 2 + np.where(TARGET, 2, -2)


@pytest.fixture(autouse=True)
def work(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    labels = np.where(TARGET, "target", "nontarget")
    write("trials", [f"{a} {b} {y}" for (a, b), y in zip(PAIRS, labels)])
    write("trials.vox", [f"{int(y)} {a} {b}" for (a, b), y in zip(PAIRS, TARGET)])
    write("trials.csv", ["enroll,test,label", *(f"{a},{b},{int(y)}" for (a, b), y in zip(PAIRS, TARGET))])
    scored = [f"{a} {b} {s!r}" for (a, b), s in zip(PAIRS, LLR.tolist())]
    write("scores", RNG.permutation(scored))
    write("in_order", map(repr, LLR.tolist()))
    write("labelled", [f"{s!r} {y}" for s, y in zip(LLR.tolist(), labels)])
    write("utt2spk", [f"{utt} {utt.split('-')[0]}" for utt in sorted({utt for pair in PAIRS for utt in pair})])


def write(path, lines):
    with open(path, "w") as file:
        file.writelines(f"{line}\n" for line in lines)


def evaluated(capsys, *words):
    main(["eval", *words, "--json"])
    return json.loads(capsys.readouterr().out)


def test_every_measure_and_its_interval(capsys):
    row = evaluated(capsys, "scores", "trials", "--llr", "--p-target", "0.2", "--c-fa", "3")
    sides = LLR[TARGET], LLR[~TARGET]
    at = {"p_target": 0.2, "c_miss": 1.0, "c_fa": 3.0}
    expected = {"eer": 100 * metrics.eer(*sides), "min_dcf_01": metrics.min_dcf(*sides, 0.01),
                "min_dcf_05": metrics.min_dcf(*sides, 0.05), "act_dcf_01": metrics.act_dcf(*sides, 0.01),
                "act_dcf_05": metrics.act_dcf(*sides, 0.05), "cllr": metrics.cllr(*sides),
                "min_cllr": metrics.min_cllr(*sides), "min_dcf": metrics.min_dcf(*sides, **at),
                "act_dcf": metrics.act_dcf(*sides, **at)}
    assert {name: row[name] for name in [*expected, *at]} == pytest.approx(expected | at)
    assert (row["num_trials"], row["num_target"], row["num_speakers"]) == (432, 36, 12)
    assert all(row[f"{name}_interval"][0] < value < row[f"{name}_interval"][1] for name, value in expected.items())
    speakers = np.array([[int(utt.split("-")[0][1:]) for utt in pair] for pair in PAIRS]).T
    order = np.argsort([f"s{n}" for n in range(12)]).argsort()  # speakers are numbered by their names
    estimate, samples = bootstrap([LLR], TARGET, order[speakers], [lambda det: metrics.act_dcf_of(det, **at)])
    assert row["act_dcf_interval"] == pytest.approx(interval(estimate, samples)[:, 0, 0].tolist())


def test_all_forms_of_scores_and_trials_give_the_same_figures(capsys):
    expected = evaluated(capsys, "scores", "trials", "--llr")
    for scores, trials in (("in_order", "trials"), ("scores", "trials.vox"), ("in_order", "trials.csv")):
        assert evaluated(capsys, scores, trials, "--llr") == {**expected, "scores": scores, "trials": trials}
    labelled = evaluated(capsys, "labelled", "--llr")
    assert "utt2spk" in labelled["interval_note"] and "eer_interval" not in labelled
    assert all(labelled[name] == expected[name] for name in ("eer", "min_dcf_05", "cllr", "min_cllr", "num_target"))


def test_text_has_the_figures_and_scores_that_are_no_llrs_have_no_actual_cost(capsys):
    main(["eval", "scores", "trials", "--p-target", "0.001"])
    out = capsys.readouterr().out
    assert "  432, of them 36 target; 12 speakers\n" in out and "minimum Cllr" in out
    assert "EER    " in out and " %  [" in out and "minDCF(0.001; 1, 1)  " in out
    assert "actual" not in out and "\nCllr" not in out
    write("scores", [f"{a} {b} {-s!r}" for (a, b), s in zip(PAIRS, LLR.tolist())])
    main(["eval", "scores", "trials"])
    assert "WARNING: scores: the EER is above 50 %" in capsys.readouterr().err


@pytest.mark.parametrize(("words", "why"), [
    (["scores"], "scores:1: expected 2 columns, got 3; with `enroll test score`, name the trial list too"),
    (["short", "trials"], "short: has 431 scores, but trials has 432 trials"),
    (["missing", "trials"], "trials:432: s11-2 s11-9 has no score in missing"),
    (["nan", "trials"], "nan:2: not a score: 'nan'"), (["one_kind"], "one_kind: has no nontarget trial"),
    (["label"], "label:1: expected `score label`"), (["scores", "label"], "label:1: expected "),
    (["scores", "trials", "--p-target", "1"], "--p-target, --c-miss and --c-fa: p_target must be between 0 and 1"),
    (["scores", "trials", "--p-target", "0.1", "--c-fa", "inf"], "costs must be finite and greater than 0"),
    (["scores", "trials", "--c-fa", "2"], "need --p-target"), (["labelled", "--utt2spk", "utt2spk"], "needs TRIALS"),
    (["scores", "trials", "--utt2spk", "none"], "none: no such file")])
def test_what_is_wrong_is_one_line(words, why):
    write("short", map(repr, LLR.tolist()[:-1]))
    write("missing", [f"{a} {b} {s!r}" for (a, b), s in zip(PAIRS, LLR.tolist())][:-1])
    write("nan", ["1.5", "nan"])
    write("one_kind", ["1.5 target", "2 1"])
    write("label", ["1.5 same"])
    with pytest.raises(InputError) as error:
        main(["eval", *words])
    assert why in str(error.value)
