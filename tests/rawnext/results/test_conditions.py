# SPDX-License-Identifier: Apache-2.0
"""Figures by condition: the groups against a loop over the trials, and differences that are there or not."""

from collections import defaultdict

import numpy as np
import pytest

from rawnext.errors import InputError
from rawnext.files import write_lines
from rawnext.kaldi.tables import read_trials, write_trials
from rawnext.results.conditions import by_condition, conditions_of, group_table
from rawnext.results.evaluation import evaluation
from rawnext.results.report import condition_lines
from rawnext.results.rows import can_be
from rawnext.scoring.bootstrap import bootstrap, bootstrap_parts
from rawnext.scoring.metrics import eer_of, min_dcf_of
from rawnext.scoring.trial_speakers import trial_speakers

NUM_SPEAKERS, NUM_UTTS, NUM_TRIALS = 40, 6, 1500
rng = np.random.default_rng(0)
SPEAKERS = [f"s{number:02}" for number in range(NUM_SPEAKERS)]
UTTS = {f"{spk}-{number}": spk for spk in SPEAKERS for number in range(NUM_UTTS)}
DURATIONS = "duration of the enroll side", "duration of the test side"
TABLES = {
    "utt2spk": UTTS,
    "spk2gender": {spk: "fm"[number % 2] for number, spk in enumerate(SPEAKERS)},
    "spk2age": {spk: str(5 + 2 * number) for number, spk in enumerate(SPEAKERS[:-1])},  # one is unknown
    "utt2session": {utt: str(int(utt[-1]) // 2) for utt in UTTS},
    "utt2dur": {utt: f"{seconds:.2f}" for utt, seconds in zip(UTTS, rng.uniform(1, 20, len(UTTS)))},
    "utt2channel": {utt: ("phone", "microphone", "far away")[place] for utt, place in
                    zip(UTTS, rng.integers(0, 3, len(UTTS)))},
    "utt2snr": {utt: str(place) for utt, place in zip(UTTS, rng.integers(0, 30, len(UTTS)))},
    "utt2corpus": dict.fromkeys(UTTS, "one"), "utt2num_frames": dict.fromkeys(UTTS, "9"),
}


def write(folder, tables):
    for name, table in tables.items():
        write_lines(folder / name, (f"{key} {value}" for key, value in table.items()))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A data directory with all tables and a list of trials."""
    folder = tmp_path_factory.mktemp("data") / "test"
    write(folder, TABLES)
    utts = list(UTTS)
    pairs = [(utts[a], utts[b]) for a, b in rng.integers(0, len(utts), (2 * NUM_TRIALS, 2)) if a != b]
    pairs += [(utt, f"{utt[:-1]}{number}") for utt in utts for number in range(NUM_UTTS) if utt[-1] != str(number)]
    write_lines(folder / "trials", (f"{a} {b} {'target' if UTTS[a] == UTTS[b] else 'nontarget'}" for a, b in pairs))
    return folder


def found(trials, enroll=None, **options):
    """name -> groups of the conditions of a list."""
    test = trials.parent / "utt2spk"
    return {one.name: one.groups for one in conditions_of(read_trials(trials), trials, test,
                                                          (enroll or trials.parent) / "utt2spk", **options)}


def age_group(text):
    if not text:
        return ""
    low = max(edge for edge in (0, 13, 18, 31, 46, 61) if edge <= float(text))
    return {0: "below 13", 13: "13 to below 18", 18: "18 to below 31", 31: "31 to below 46", 46: "46 to below 61",
            61: "61 or more"}[low]


def seconds_group(text):
    low = max(edge for edge in (0, 2, 4, 8, 16) if edge <= float(text))
    return {0: "below 2", 2: "2 to below 4", 4: "4 to below 8", 8: "8 to below 16", 16: "16 or more"}[low]


def by_loop(trials, value):
    """value -> indices of the trials for which value(enroll, test, is_target) gives it; empty values are no group."""
    groups = defaultdict(list)
    for place, (a, b, is_target) in enumerate(zip(*trials)):
        for one in value(a, b, is_target):
            groups[one].append(place)
    return {one: places for one, places in groups.items() if one and any(trials.is_target[places])}


def test_groups_have_only_trials_of_one_value(data):
    groups, trials = found(data / "trials"), read_trials(data / "trials")
    assert set(groups) == {"age", "channel", *DURATIONS, "gender", "session",
                           "snr"}, "one value only, and numbers of frames, are no condition"

    def both(name, meaning=str):
        def value(a, b, is_target):
            key = (UTTS[a], UTTS[b]) if name.startswith("spk2") else (a, b)
            one, other = (meaning(TABLES[name].get(x, "")) for x in key)
            return [(one if one == other else "different") if one and other else ""]
        return value

    def sessions(a, b, is_target):
        same = TABLES["utt2session"][a] == TABLES["utt2session"][b]
        return ["same" if same else "different"] if is_target else ["same", "different"]

    expected = {"gender": both("spk2gender"), "age": both("spk2age", age_group), "channel": both("utt2channel"),
                "session": sessions, DURATIONS[0]: lambda a, b, _: [seconds_group(TABLES["utt2dur"][a])],
                DURATIONS[1]: lambda a, b, _: [seconds_group(TABLES["utt2dur"][b])]}
    for name, value in expected.items():
        assert {one: places.tolist() for one, places in groups[name].items()} == by_loop(trials, value), name
    assert list(groups["age"])[:2] == ["below 13", "13 to below 18"] and "different" not in groups["gender"]
    assert len(groups["snr"]) == 5 and "different" in groups["snr"], "quartiles"
    assert set(groups) - set(found(data / "trials", cut=True)) == {*DURATIONS}


def test_tables_of_one_side_and_models(data, tmp_path):
    """A codec of the test side alone, a microphone of the enroll side alone; a model of two microphones is in no
    group."""
    utts = list(UTTS)
    models = {f"m-{spk}": [f"{spk}-0", f"{spk}-{1 + number % 3}"] for number, spk in enumerate(SPEAKERS)}
    microphone = {utt: "left" if utt[-1] in "01" else "right" for utt in UTTS}
    codec = {utt: ("opus", "mp3")[place % 2] for place, utt in enumerate(utts)}
    write(tmp_path / "enroll", {"utt2spk": UTTS, "utt2microphone": microphone})
    write(tmp_path / "test", {"utt2spk": UTTS, "utt2codec": codec})
    pairs = [(model, utt) for model in models for utt in utts[::5]]
    lines = [f"{a} {b} {'target' if a[2:] == UTTS[b] else 'nontarget'}" for a, b in pairs]
    write_lines(tmp_path / "test/trials", lines)
    write_lines(tmp_path / "test/trials.enroll", (f"{model} {' '.join(own)}" for model, own in models.items()))
    groups = found(tmp_path / "test/trials", tmp_path / "enroll")
    assert set(groups) == {"codec of the test side"}, "the models that have one microphone have the same one"
    assert {one: set(places) for one, places in groups["codec of the test side"].items()} == {
        one: {place for place, (_, b) in enumerate(pairs) if codec[b] == one} for one in ("opus", "mp3")}
    microphone |= {f"{spk}-{number}": "right" for spk in SPEAKERS[::2] for number in range(NUM_UTTS)}
    write(tmp_path / "enroll", {"utt2microphone": microphone})
    groups = found(tmp_path / "test/trials", tmp_path / "enroll")["microphone of the enroll side"]
    assert {pairs[place][0] for place in groups["left"]} == {f"m-{spk}" for spk in SPEAKERS[3::6]}
    assert {pairs[place][0] for place in groups["right"]} == {f"m-{spk}" for spk in SPEAKERS[::2]}


def test_a_damaged_table_is_an_error(data, tmp_path):
    write(tmp_path, {"utt2spk": UTTS})
    write_trials(tmp_path / "trials", read_trials(data / "trials"))
    write_lines(tmp_path / "utt2lang", ["s00-0 en", "s00-0 de"])
    with pytest.raises(InputError, match="utt2lang:2: s00-0 is listed twice"):
        found(tmp_path / "trials")


@pytest.fixture(scope="module")
def scored(data):
    """Conditions, scores that separate men better than women, labels and speakers."""
    trials, path = read_trials(data / "trials"), data / "trials"
    is_man = np.array([TABLES["spk2gender"][UTTS[utt]] == "m" for utt in trials.enroll])
    scores = np.random.default_rng(2).normal(size=len(is_man)) + np.where(is_man, 4, 1.5) * trials.is_target
    conditions = conditions_of(trials, path, data / "utt2spk", data / "utt2spk")
    return conditions, scores, trials.is_target, trial_speakers(trials, path, data / "utt2spk", data / "utt2spk")


def rows_of(scored, *names, llr=False):
    conditions, *trials = scored
    return {one["name"]: {group["value"]: group for group in one["groups"]} for one in
            by_condition(*trials, [one for one in conditions if not names or one.name in names], "mean", llr,
                         100 if llr else 1000)}


def test_figures_are_those_of_the_groups_trials(scored):
    conditions, scores, is_target, speakers = scored
    rows = rows_of(scored, llr=True)
    for one in conditions:
        for value, part in one.groups.items():
            group, whole = rows[one.name][value], evaluation(scores[part], is_target[part], "mean", True)
            assert {name: group[name] for name in ("eer", "act_dcf_01", "cllr")} == pytest.approx(
                {name: whole[name] for name in ("eer", "act_dcf_01", "cllr")})
            assert group["num_target"] + group["num_nontarget"] == len(part)
            if "eer_interval" in group:
                assert group["eer_interval"][0] < group["eer"] < group["eer_interval"][1]
                assert "cllr_interval" in group
    row = by_condition(scores, is_target, speakers, conditions[:1], "mean", True, 100)
    assert can_be("conditions", row)
    row[0]["groups"][0]["eer"] = "5"
    assert not can_be("conditions", row)


def test_a_difference_is_found_and_none_is_not(scored):
    rows = rows_of(scored)
    gap, low, high, p = rows["gender"]["f"].get("difference", rows["gender"]["m"].get("difference"))["eer"]
    assert abs(gap) > 10 and low * high > 0 and p < 0.05
    assert [group["value"] for group in rows["gender"].values() if "difference" not in group] in (["f"], ["m"])
    chance = [group["difference"]["eer"][3] for name in ("channel", "session", "snr")
              for group in rows[name].values() if "difference" in group]
    assert len(chance) > 6 and min(chance) > 0.05


def test_p_is_multiplied_by_the_comparisons(scored):
    alone, together = rows_of(scored, "channel"), rows_of(scored, "channel", "gender", "session")
    for value, group in alone["channel"].items():
        if "difference" in group:
            single, several = (rows["channel"][value]["difference"]["eer"] for rows in (alone, together))
            assert single[:3] == several[:3], "the samples are the same"
            assert several[3] == pytest.approx(min(1, single[3] * 5 / 3)), "3 comparisons alone, 5 together"


def test_small_groups_have_a_reason_and_no_test(scored):
    conditions, scores, is_target, speakers = scored
    few, eight = (np.flatnonzero((speakers < num).all(axis=0)) for num in (4, 8))
    groups = {"few": few, "eight": eight, "all": np.arange(len(scores)),
              "nobody": np.flatnonzero((speakers == 1).all(axis=0))}
    (one,) = by_condition(scores, is_target, speakers, [conditions[0]._replace(groups=groups)], "mean", False)
    few, eight, _, nobody = one["groups"]
    assert few["interval_note"].startswith("no interval: 4 speakers with target trials") and "eer_interval" not in few
    assert eight["interval_note"].startswith("the interval is too narrow: 8 speakers") and "eer_interval" in eight
    assert nobody["interval_note"] == "no nontarget trial" and "eer" not in nobody
    assert one["reference"] == "all" and not any("difference" in group for group in one["groups"])
    table = group_table({"conditions": [one], "eer": 1.0})
    assert [line[1] for line in table[1:]] == ["few", "eight", "all", "nobody"] and table[1][-1] == few["interval_note"]
    assert table[3][6] == "reference" and table[4][5:7] == ["", ""]


def test_a_page_shows_the_conditions_of_the_headline(scored):
    conditions, *trials = scored
    row = {"list": "trials", "data_set": "test", "protocol": "native", "duration": "full", "eer": 5.0}
    rows = [{**row, "backend": "cosine", "conditions": by_condition(*trials, conditions[:1], "mean", False)},
            {**row, "backend": "plda", "conditions": []}]
    title, _, header, _, *lines = condition_lines(rows)
    assert title == "## By condition: trials of test, protocol native, cosine, full"
    assert header == "| condition | group | speakers | target | nontarget | EER % | difference | note |"
    assert lines[0].startswith(f"| {conditions[0].name} | {next(iter(conditions[0].groups))} | ")
    assert condition_lines(rows[1:]) == []


def test_parts_are_measured_in_the_same_samples(scored):
    """The whole list as a part has the samples of bootstrap; so has a part among others."""
    _, scores, is_target, speakers = scored
    measures, part = [eer_of, min_dcf_of], np.flatnonzero((speakers < 20).all(axis=0))
    whole, own = (scores, is_target, speakers), (scores[part], is_target[part], speakers[:, part])
    estimate, samples = bootstrap_parts([whole, own], measures, replicates=50)
    first, its_samples = bootstrap([scores], is_target, speakers, measures, replicates=50)
    assert np.array_equal(estimate[:1], first) and np.array_equal(samples[:, :1], its_samples)
    assert np.array_equal(bootstrap_parts([own, whole], measures, replicates=50)[1], samples[:, ::-1])
    rare = np.flatnonzero((speakers == 0).all(axis=0) | ((speakers[0] == 1) & (speakers[1] == 2)))
    lacking = bootstrap_parts([whole, (scores[rare], is_target[rare], speakers[:, rare])], measures, 50)[1][:, 1]
    assert 0 < np.isnan(lacking).all(axis=1).sum() == np.isnan(lacking).any(axis=1).sum() < 50
