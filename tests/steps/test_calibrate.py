# SPDX-License-Identifier: Apache-2.0
"""steps/calibrate.py: from held-out trials to LLR files and thresholds, and every fault of its input in one line."""

import importlib.util
import json
from functools import partial

import numpy as np
import pytest

from rawnext.errors import run_main
from rawnext.files import write_lines
from rawnext.identity import write_origin
from rawnext.kaldi.ark import write_vectors
from rawnext.kaldi.tables import read_scores, read_table, write_scores
from rawnext.scoring.calibration import fit_calibration
from rawnext.scoring.decision import read_judge

NUM_UTTS = 40
FIT = ["fit", "--backend", "cosine", "--protocol", "native", "--data", "dev", "--trials", "dev/trials", "--out", "cal"]
APPLY = ["apply", "--backend", "cosine", "--protocol", "native", "--model", "cal/model.json", "--enroll-data", "dev",
         "--test-data", "dev"]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """dev/{utt2dur,utt2spk,trials,models} of 40 utts of 4 speakers, scores, and scores_2s of tests cut to 2 s."""
    folder, rng = tmp_path_factory.mktemp("calibrate"), np.random.default_rng(0)
    utts = [f"spk{n % 4}-{n:02d}" for n in range(NUM_UTTS)]
    seconds = dict(zip(utts, rng.uniform(1, 9, NUM_UTTS).round(2)))
    pairs = [(e, t) for e in utts for t in utts if e != t]
    is_target = np.array([e[:4] == t[:4] for e, t in pairs])
    write_lines(folder / "dev/utt2dur", [f"{utt} {value}" for utt, value in seconds.items()])
    write_lines(folder / "dev/utt2spk", [f"{utt} {utt[:4]}" for utt in utts])
    write_lines(folder / "dev/trials", [f"{e} {t} {'target' if y else 'nontarget'}" for (e, t), y in
                                        zip(pairs, is_target)])
    lengths = {"scores": [], "scores_2s": []}
    for name, cut in (("scores", np.inf), ("scores_2s", 2.0)):
        lengths[name] = np.array([1 / seconds[e] + 1 / min(seconds[t], cut) for e, t in pairs])
        scores = (0.7 - 0.2 * lengths[name]) * is_target + 0.2 * rng.normal(size=len(pairs))
        write_scores(folder / name, *zip(*pairs), scores.round(6))
    return folder, is_target, lengths


@pytest.fixture(scope="module")
def programs(root):
    loaded = {}
    for name in ("calibrate", "quality"):
        spec = importlib.util.spec_from_file_location(name, root / "steps" / f"{name}.py")
        loaded[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(loaded[name])
    return loaded


@pytest.fixture
def program(programs, corpus, monkeypatch, capsys):
    """Run a program in the corpus's folder; returns (exit status, standard output, standard error)."""
    def run(name, *args):
        monkeypatch.chdir(corpus[0])
        monkeypatch.setattr("sys.argv", [f"{name}.py", *args])
        with pytest.raises(SystemExit) as end:
            run_main(programs[name].main)
        return end.value.code, *capsys.readouterr()

    return run


@pytest.fixture
def calibrate(program):
    return partial(program, "calibrate")


@pytest.fixture
def quality(program):
    return partial(program, "quality")


@pytest.fixture
def model(calibrate, corpus):
    path = corpus[0] / "cal/model.json"
    if not path.exists():
        assert calibrate(*FIT, "scores:full:full", "scores_2s:full:2")[0] == 0
    return json.loads(path.read_text())


def test_llrs_are_those_of_the_pooled_fit(calibrate, corpus, model):
    folder, is_target, lengths = corpus
    scores = {name: read_scores(folder / name)[2] for name in lengths}
    both = fit_calibration(np.concatenate(list(scores.values())), np.tile(is_target, 2),
                           np.concatenate(list(lengths.values()))[:, None])
    for name, cut in (("scores", "full"), ("scores_2s", "2")):
        assert calibrate(*APPLY, f"{name}:full:{cut}", "new/llr") == (0, "", "")
        enroll, test, llr = read_scores(folder / "new/llr")
        assert (enroll, test) == read_scores(folder / name)[:2]
        np.testing.assert_allclose(llr, both.llr(scores[name], lengths[name][:, None]), atol=1e-5)
    assert model["names"] == ["score", "inverse_duration"]
    np.testing.assert_allclose(model["weights"], both.weights, rtol=1e-6)
    about = model["fitted_on"]
    assert (about["num_trials"], about["num_target"], about["num_speakers"]) == (len(is_target), is_target.sum(), 4)
    assert about["score_files"] == ["scores:full:full", "scores_2s:full:2"] and len(about["trials_sha256"]) == 64
    assert {"backend", "protocol", "prior", "commit", "command", "date"} <= set(model)


def test_thresholds_are_where_the_llrs_decide(calibrate, corpus, model):
    folder, is_target, _ = corpus
    header, *lines = [line.split("\t") for line in (folder / "cal/thresholds.tsv").read_text().splitlines()]
    assert [line[:3] for line in lines] == [["full", cut, prior] for cut in ("full", "2 s")
                                            for prior in ("0.5", "0.1", "0.05", "0.01", "0.001")]
    for name, cut, part in (("scores", "full", lines[:5]), ("scores_2s", "2", lines[5:])):
        assert calibrate(*APPLY, f"{name}:full:{cut}", "llr")[0] == 0
        llr, scores = (read_scores(folder / file)[2] for file in ("llr", name))
        for cells in part:
            prior, limit, score, *rates = map(float, cells[2:])
            for accept, (miss, false_alarm) in ((llr >= np.log((1 - prior) / prior), rates[:2]),
                                                (scores >= score, rates[2:])):
                assert 100 * (~accept)[is_target].mean() == pytest.approx(miss, abs=0.3)
                assert 100 * accept[~is_target].mean() == pytest.approx(false_alarm, abs=0.3)
            assert limit == pytest.approx(np.log((1 - prior) / prior), abs=1e-3)
    page = (folder / "cal/thresholds.md").read_text()
    assert all(f"| {' | '.join(line)} |" in page for line in [header, *lines]) and "of 4 speakers" in page


def test_without_measures_no_durations_are_read(calibrate, corpus):
    folder, is_target, _ = corpus
    (folder / "bare").mkdir(exist_ok=True)
    args = [arg if arg != "dev" else "bare" for arg in FIT]
    assert calibrate(*args, "--measures", "", "--prior", "0.05", "--out", "affine", "scores:full:full")[0] == 0
    scores = read_scores(folder / "scores")[2]
    args = [{"dev": "bare", "cal/model.json": "affine/model.json"}.get(arg, arg) for arg in APPLY]
    assert calibrate(*args, "scores:full:full", "llr") == (0, "", "")
    np.testing.assert_allclose(read_scores(folder / "llr")[2],
                               fit_calibration(scores, is_target, prior=0.05).llr(scores), atol=1e-5)


def test_a_model_of_several_utterances_is_as_long_as_they_together(calibrate, corpus, model):
    folder, _, _ = corpus
    write_lines(folder / "map", ["m1 spk0-00 spk0-04 spk0-08"])
    write_lines(folder / "of_models", ["m1 spk1-01 0.25"])
    assert calibrate(*APPLY, "--enroll-map", "map", "of_models:full:2", "llr")[0] == 0
    seconds = {utt: float(text) for utt, text in read_table(folder / "dev/utt2dur").items()}
    length = 1 / sum(seconds[f"spk0-{n:02d}"] for n in (0, 4, 8)) + 1 / min(seconds["spk1-01"], 2)
    length = np.clip(length, model["low"][0], model["high"][0])
    expected = model["offset"] + np.dot(model["weights"], [0.25, length])
    assert read_scores(folder / "llr")[2][0] == pytest.approx(expected, abs=1e-5)


def test_what_embeddings_tell_is_measured_too(calibrate, corpus, quality):
    """Norms and cohort means by steps/quality.py, of utterances and of models."""
    folder, is_target, _ = corpus
    utts = list(read_table(folder / "dev/utt2dur"))
    rng = np.random.default_rng(1)
    x, cohort = rng.normal(size=(NUM_UTTS, 5)).astype(np.float32), rng.normal(size=(9, 5)).astype(np.float32)
    write_vectors(folder / "emb/embedding.ark", folder / "emb/embedding.scp", zip(utts, x))
    write_vectors(folder / "cohort.ark", folder / "cohort.scp", ((f"c{n}", v) for n, v in enumerate(cohort)))
    assert quality("--cohort", "cohort.scp", "--top", "4", "emb") == (0, "", "")
    cosines = np.sort(x @ cohort.T / np.linalg.norm(x, axis=1)[:, None] / np.linalg.norm(cohort, axis=1))
    tables = {"norm": np.linalg.norm(x, axis=1), "cohort_mean": cosines[:, -4:].mean(axis=1)}
    for name, values in tables.items():
        read = read_table(folder / f"emb/utt2{name}")
        assert list(read) == utts
        np.testing.assert_allclose([float(text) for text in read.values()], values, rtol=1e-4)

    enroll, test, scores = read_scores(folder / "scores")
    rows = np.array([[utts.index(e), utts.index(t)] for e, t in zip(enroll, test)])
    expected = np.column_stack([tables["norm"][rows].max(axis=1), tables["cohort_mean"][rows].min(axis=1)])
    assert calibrate(*FIT, "--measures", "norm_higher cohort_mean_lower", "--out", "quality",
                     "scores:full:full:emb:emb")[0] == 0
    apply = ["quality/model.json" if arg == "cal/model.json" else arg for arg in APPLY]
    assert calibrate(*apply, "scores:full:full:emb:emb", "llr") == (0, "", "")
    fitted = fit_calibration(scores, is_target, expected)
    np.testing.assert_allclose(read_scores(folder / "llr")[2], fitted.llr(scores, expected), atol=2e-3)

    write_lines(folder / "map", [f"m1 {utts[0]} {utts[4]}"])
    write_lines(folder / "of_models", [f"m1 {utts[1]} 0.25"])
    assert calibrate(*apply, "--enroll-map", "map", "of_models:full:full:emb:emb", "llr")[0] == 0
    pairs = {name: (values[[0, 4]].mean(), values[1]) for name, values in tables.items()}
    of_model = fitted.llr([0.25], [[max(pairs["norm"]), min(pairs["cohort_mean"])]])
    assert read_scores(folder / "llr")[2] == pytest.approx(of_model, abs=2e-3)


def test_lengths_out_of_range_and_trials_that_tell_little_are_told(calibrate, corpus, model):
    folder, is_target, _ = corpus
    status, out, _ = calibrate(*APPLY, "scores:0.1:0.1", "llr")
    assert status == 0 and out.startswith(f"llr: {len(is_target):,} of {len(is_target):,} trials are shorter or longer")
    enroll, test, scores = read_scores(folder / "scores")
    write_scores(folder / "easy", enroll, test, scores + 100 * is_target)
    write_scores(folder / "none", enroll, test, -scores - is_target)
    for name, message in (("easy", "all target trials score higher than all"), ("none", "do not score higher")):
        status, _, err = calibrate(*FIT[:-1], name + "_cal", f"{name}:full:full")
        assert status == 0 and message in err and f"WARNING: {name}_cal/model.json: " in err


@pytest.mark.parametrize("args, message", [
    ([*FIT, "scores:full:full", "missing:full:2"], "missing: no such file"),
    ([*FIT, "part:full:full"], "dev/trials:2: spk0-00 spk2-02 has no score in part"),
    ([*FIT, "--data", "bare", "scores:full:full"],
     "bare/utt2dur: no such file; the measures need durations"),
    ([*FIT, "--data", "short", "scores:full:full"], "scores:40: spk1-01 has no duration in short/utt2dur"),
    ([*FIT, "--data", "zero", "scores:full:full"], "zero/utt2dur:1: spk0-00: want seconds above 0"),
    ([*FIT, "--measures", "snr", "scores:full:full"],
     "--measures: unknown 'snr'; known: inverse_duration, log_shorter, log_longer, norm_lower, norm_higher, "
     "cohort_mean_lower, cohort_mean_higher"),
    ([*FIT, "--measures", "norm_lower", "scores:full:full"],
     "SCORES:ENROLL:TEST:DIR:DIR: norm needs the folders of the embeddings"),
    ([*FIT, "--measures", "norm_lower", "scores:full:full:dev:dev"],
     "dev/utt2norm: no such file; steps/quality.py writes it"),
    ([*FIT, "--measures", "norm_lower", "scores:full:full:short:dev"],
     "scores:40: spk1-01 has no norm in short/utt2norm"),
    ([*FIT, "--measures", "norm_lower", "scores:full:full:zero:dev"], "zero/utt2norm:1: spk0-00: not a number"),
    ([*FIT, "--prior", "2", "scores:full:full"], "dev/trials: the prior must be between 0 and 1, got 2.0"),
    ([*FIT, "--trials", "one", "part:full:full"], "one: there is no target trial"),
    ([*APPLY, "--backend", "plda", "scores:full:full", "out"],
     "cal/model.json: was fitted for backend 'cosine', not 'plda'"),
    ([*APPLY, "--protocol", "paper", "scores:full:full", "out"],
     "cal/model.json: was fitted for protocol 'native', not 'paper'"),
    ([*APPLY, "--model", "none.json", "scores:full:full", "out"], "none.json: no such file"),
    ([*APPLY, "--model", "dev/utt2dur", "scores:full:full", "out"],
     "dev/utt2dur: is not a calibration of steps/calibrate.py"),
    ([*APPLY, "--model", "other.json", "scores:full:full", "out"],
     "other.json: is not a calibration of steps/calibrate.py"),
    ([*APPLY, "--test-data", "short", "scores:full:full", "out"], "scores:1: spk1-01 has no duration in short/utt2dur"),
    ([*APPLY, "--enroll-map", "odd", "scores:full:full", "out"], "odd:1: nobody is not in dev/utt2dur"),
])
def test_faults_are_one_line_and_leave_nothing(calibrate, corpus, model, args, message):
    folder = corpus[0]
    write_lines(folder / "part", ["spk0-00 spk1-01 0.5"])
    write_lines(folder / "one", ["spk0-00 spk1-01 nontarget"])
    write_lines(folder / "odd", ["m1 nobody"])
    write_lines(folder / "short/utt2dur", ["spk0-00 3"])
    write_lines(folder / "zero/utt2dur", ["spk0-00 0"])
    write_lines(folder / "short/utt2norm", ["spk0-00 3"])
    write_lines(folder / "zero/utt2norm", ["spk0-00 nan"])
    write_lines(folder / "other.json", [json.dumps({**model, "weights": [1.0]})])
    args = ["bad" if arg == "cal" else arg for arg in args]
    assert calibrate(*args) == (1, "", f"calibrate.py: {message}\n")
    assert not (folder / "bad").exists() and not (folder / "out").exists()


@pytest.mark.parametrize("name", ["scores", "scores:2", "scores:full:fall", "scores:0:2", "scores:full:-1"])
def test_a_score_file_says_its_lengths(calibrate, name):
    status, _, error = calibrate(*FIT, name)
    assert status == 2 and "want SCORES:ENROLL:TEST" in error


def test_fusion_of_systems(program, corpus):
    folder, is_target, _ = corpus
    enroll, test, scores = read_scores(folder / "scores")
    other = 0.5 * is_target + 0.4 * np.random.default_rng(1).normal(size=len(scores))
    order = np.random.default_rng(2).permutation(len(scores))  # a score file may have another order
    write_scores(folder / "other", *([side[row] for row in order] for side in (enroll, test, other)))
    code, out, err = program("calibrate", *FIT, "--measures", "", "scores,other:full:full")
    assert code == 0 and " scores " in out and " other;" in out, err
    model = json.loads((folder / "cal/model.json").read_text())
    other = read_scores(folder / "other")[2][np.argsort(order)]
    expected = fit_calibration(np.column_stack([scores, other]), is_target)
    assert model["names"] == ["score_1", "score_2"] and np.allclose(model["weights"], expected.weights, atol=1e-6)
    assert len(model["fitted_on"]["scores_sha256"]) == 2
    assert program("calibrate", *APPLY, "scores,other:full:full", "fused")[0] == 0
    llr = read_scores(folder / "fused")[2]
    assert np.allclose(llr, expected.llr(np.column_stack([scores, other])), atol=1e-4)
    assert read_scores(folder / "fused")[:2] == (enroll, test)


def test_fusion_refuses_different_trials_systems_and_numbers_of_them(program, corpus):
    folder, _, _ = corpus
    enroll, test, scores = read_scores(folder / "scores")
    write_scores(folder / "fewer", enroll[:-1], test[:-1], scores[:-1])
    for name, fingerprint in (("one", "1" * 64), ("two", "2" * 64)):
        write_scores(folder / name, enroll, test, scores if name == "one" else scores ** 2)
        write_origin(folder / name, fingerprint)
    assert program("calibrate", *FIT, "--measures", "", "one,two:full:full")[0] == 0
    assert program("calibrate", *APPLY, "one,two:full:full", "fused")[0] == 0
    assert not (folder / "fused.sources").exists()  # of two models
    for words, why in (
            ([*FIT, "scores,fewer:full:full"], "dev/trials:1560: spk3-39 spk2-38 has no score in fewer"),
            ([*APPLY, "one,fewer:full:full", "x"], "one:1560: spk3-39 spk2-38 has no score in fewer"),
            ([*FIT, "one,two:full:full", "scores_2s:full:2"], "scores_2s: 1 systems, but one,two has 2"),
            ([*APPLY, "one:full:full", "x"], "cal/model.json: was fitted on 2 systems, but one has 1"),
            ([*APPLY, "two,one:full:full", "x"], "belongs to model"),
            ([*APPLY, "one,absent:full:full", "x"], "absent: no such file")):
        code, _, err = program("calibrate", *words)
        assert code == 1 and err.count("\n") == 1 and why in err, (words, err)


@pytest.fixture
def embedded(corpus, tmp_path):
    """Random embeddings of the corpus in tmp_path/emb, and those of 30 other speakers in tmp_path/x.scp."""
    utts, rng = list(read_table(corpus[0] / "dev/utt2dur")), np.random.default_rng(1)
    x, cohort = (rng.normal(size=(num, 3)).astype(np.float32) for num in (len(utts), 30))
    (tmp_path / "emb").mkdir()
    write_vectors(tmp_path / "emb/embedding.1.ark", tmp_path / "emb/embedding.scp", zip(utts, x))
    write_vectors(tmp_path / "x.ark", tmp_path / "x.scp", [(f"s{row}", vector) for row, vector in enumerate(cohort)])
    return dict(zip(utts, x)), cohort


def test_llrs_with_a_cohort_are_those_of_single_files(program, corpus, embedded, tmp_path):
    """Tables of steps/quality.py and a fit with them, against what `rawnext score` computes."""
    (x, cohort), exp, folder = embedded, tmp_path / "exp", f"{tmp_path}/emb"
    assert program("quality", "--cohort", f"{tmp_path}/x.scp", folder)[0] == 0
    given = f"scores:full:full:{folder}:{folder}"
    code, _, err = program("calibrate", *FIT[:-1], f"{exp}/calibration/cosine/native", "--cohort", f"{tmp_path}/x.scp",
                           "--measures", "inverse_duration cohort_mean_lower cohort_mean_higher", given)
    assert code == 0, err
    assert program("calibrate", *APPLY, "--model", f"{exp}/calibration/cosine/native/model.json", given,
                   f"{tmp_path}/llrs")[0] == 0
    judge, (enroll, test, cosines), (_, _, llrs) = read_judge(exp), *map(read_scores, ("scores", f"{tmp_path}/llrs"))
    assert judge.cohort is not None and (judge.cohort == cohort).all() and not judge.why
    seconds = {utt: float(text) for utt, text in read_table("dev/utt2dur").items()}
    every, (a, b) = np.arange(len(cosines)), (np.stack([x[utt] for utt in side]) for side in (enroll, test))
    found, _ = judge.llr(cosines, a, b, every, every, *([seconds[utt] for utt in side] for side in (enroll, test)))
    np.testing.assert_allclose(found, llrs, atol=1e-4)


def test_a_cohort_without_a_measure_that_uses_it_is_an_error(program, corpus, embedded, tmp_path):
    cohort = ["--cohort", f"{tmp_path}/x.scp"]
    code, _, err = program("calibrate", *FIT[:-1], f"{tmp_path}/out", *cohort, "scores:full:full")
    assert code == 1 and "--cohort: no measure needs it; --measures may have cohort_mean_lower" in err, err


def test_a_cohort_of_another_model_is_refused(program, corpus, embedded, tmp_path):
    folder = f"{tmp_path}/emb"
    assert program("quality", "--cohort", f"{tmp_path}/x.scp", folder)[0] == 0
    write_lines(tmp_path / "x.sources", ["fingerprint other"])
    write_scores(tmp_path / "scores", *read_scores(corpus[0] / "scores"))
    write_origin(tmp_path / "scores", "one")
    code, _, err = program("calibrate", *FIT[:-2], "--cohort", f"{tmp_path}/x.scp", "--out", f"{tmp_path}/cal",
                           "--measures", "cohort_mean_lower", f"{tmp_path}/scores:full:full:{folder}:{folder}")
    assert code == 1 and "belongs to model" in err and err.count("\n") == 1 and not (tmp_path / "cal").exists()
