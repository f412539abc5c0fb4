# SPDX-License-Identifier: Apache-2.0
"""The commands of stages 3 to 9, made from the rows of a plan."""

from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from rawnext.files import condition_tables
from rawnext.identity import arks_of, weights_path
from rawnext.pipeline.plan import COHORT, FROM_COHORT, FROM_EMBEDDINGS, Row, tag
from rawnext.pipeline.records import AUDIO, CODE, CONTENT, EMBEDDINGS, Task
from rawnext.stamp import ROOT

PAPER = ROOT / "conf" / "paper.tsv"
TABLES = ("wav.scp", "segments", "utt2spk", "spk2utt", "utt2dur", "utt2num_frames", "reco2dur", "spk2gender")
TRAINED = ("cosine_mean", "lda", "plda")  # back ends with a model of steps/train_backend.py
NORMALISED = ("norm", "matched", "speakers")  # ends of the names of those that normalise cosines
BANKS = ("musan_noise", "musan_music", "musan_speech", "rirs")


class Experiment(NamedTuple):
    """What the commands depend on. rows: of its plan; the other fields are options of steps/verification.sh."""

    exp: Path
    rows: list[Row]
    conf: str = ""
    set: str = ""
    init: str = ""
    teacher: str = ""
    train: str = ""
    dev: str = ""
    cohort_utts: int = 10
    measures: str = ""
    checksum: bool = False
    adapt: str = ""
    adaptation: str = "coral"

    @property
    def cohort(self) -> str:
        return f"{self.exp}/{COHORT}"

    def audio(self, data: str) -> str:
        """The audio of a data directory, as an input."""
        return (CONTENT if self.checksum else AUDIO) + data

    def folder(self, data: str, protocol: str, seconds: str = "full") -> str:
        """Where the embeddings of a data directory are."""
        return f"{self.exp}/embeddings/{Path(data).name}_{tag(protocol, seconds)}"

    def sides(self, row: Row) -> tuple[str, str]:
        """Embedding folders of the enroll and the test side."""
        return (self.folder(row.enroll, row.protocol, row.enroll_seconds),
                self.folder(row.test, row.protocol, row.test_seconds))

    def scores(self, row: Row, backend: str = "") -> str:
        return f"{self.exp}/scores/{backend or row.backend}/{row.name}"

    def of_role(self, role: str) -> list[Row]:
        return [row for row in self.rows if row.role == role]

    def needs_cohort(self) -> bool:
        return "cohort_mean" in self.measures or any(row.uncalibrated in FROM_COHORT for row in self.rows)


def enroll_map(row: Row) -> tuple[str, ...]:
    """The table of the models that a trial list names, as an option, if there is one."""
    table = f"{row.trials}.enroll"
    return ("--enroll-map", table) if Path(table).exists() else ()


# --- training and embeddings

def train(e: Experiment, role: str) -> Iterator[Task]:
    """The training, without what only changes its speed. steps/train.py continues by itself."""
    banks = Path(e.train).parent
    command = ("steps/train.py", "--config", e.conf, "--set", e.set, "--init", e.init, "--train", e.train,
               "--dev", e.dev, *(("--teacher", e.teacher) if e.teacher else ()))
    inputs = [*e.conf.split(), f"{e.train}/cuts.jsonl", *(f"{banks}/{bank}/cuts.jsonl" for bank in BANKS)]
    inputs += [str(weights_path(e.init)), f"{e.init}/config.yaml"] if e.init else []
    inputs += [e.audio(e.train)]
    inputs += [e.teacher, *map(str, arks_of(e.teacher))] if e.teacher and Path(e.teacher).is_file() else []
    inputs += [f"{e.dev}/{name}" for name in ("wav.scp", "trials") if e.dev]
    outputs = (f"{e.exp}/{name}" for name in ("model.pt", "config.yaml", "train.tsv", "train_info.json"))
    yield Task(command, tuple(inputs), tuple(outputs))


def fit(e: Experiment, role: str) -> Iterator[Task]:
    """The baseline without a network."""
    command = ("steps/fit_lda.py", "--config", e.conf, "--set", e.set, "--train", e.train, str(e.exp))
    inputs = (CODE, *e.conf.split(), e.audio(e.train), *(f"{e.train}/{name}" for name in TABLES[:3]))
    yield Task(command, inputs, tuple(f"{e.exp}/{name}" for name in ("model.pt", "config.yaml", "train_info.json")))


def cohort(e: Experiment, role: str) -> Iterator[Task]:
    if e.needs_cohort():
        command = ("utils/subset_data_dir.py", "--per-spk", str(e.cohort_utts), e.train, e.cohort)
        yield Task(command, tuple(f"{e.train}/{name}" for name in TABLES),
                   tuple(f"{e.cohort}/{name}" for name in ("wav.scp", "utt2spk", "spk2utt")))


def embed(e: Experiment, role: str) -> Iterator[Task]:
    """Both sides of the rows of a role, and with those of `eval` the cohort and the data to adapt to."""
    wanted = []
    for row in e.of_role(role):
        wanted += [(row.protocol, row.enroll_seconds, row.enroll), (row.protocol, row.test_seconds, row.test)]
    if role == "eval" and e.needs_cohort():
        for row in e.rows:
            wanted.append((row.protocol, "full", e.cohort))
            if row.uncalibrated == "asnorm_matched":
                wanted.append((row.protocol, row.test_seconds, e.cohort))
            if e.adapt and row.uncalibrated in TRAINED:
                wanted.append((row.protocol, "full", e.adapt))
    for protocol, seconds, data in sorted(set(wanted)):
        folder = e.folder(data, protocol, seconds)
        duration = "0" if seconds == "full" else seconds
        command = ("steps/extract.sh", "--protocol", protocol, "--duration", duration, data, str(e.exp), folder)
        inputs = (CODE, str(weights_path(e.exp)), f"{e.exp}/config.yaml", e.audio(data),
                  *(f"{data}/{name}" for name in ("wav.scp", "segments", "spk2utt")))
        yield Task(command, inputs, (EMBEDDINGS + folder,))


# --- scores

def score_task(e: Experiment, row: Row, backend: str) -> Task:
    enroll, test = e.sides(row)
    out, cosines = e.scores(row, backend), e.scores(row, "cosine")
    sides = ("--enroll", f"{enroll}/embedding.scp", "--test", f"{test}/embedding.scp", *enroll_map(row))
    inputs = [CODE, EMBEDDINGS + enroll, EMBEDDINGS + test, row.trials, f"{row.trials}.enroll"]
    if backend.endswith(NORMALISED):
        cohort_folder = e.folder(e.cohort, row.protocol)
        members = f"{cohort_folder}/{'spk_' * backend.endswith('speakers')}embedding.scp"
        tables = [("--cohort-utt2spk", f"{e.cohort}/utt2spk"), ("--enroll-utt2spk", f"{row.enroll}/utt2spk"),
                  ("--utt2spk", f"{row.test}/utt2spk")]
        inputs += [EMBEDDINGS + cohort_folder, cosines, *(path for _, path in tables)]
        options: tuple[str, ...] = tuple(word for option in tables if Path(option[1]).exists() for word in option)
        if backend == "snorm":
            options += ("--top", "0")
        elif backend == "asnorm_matched":
            short = e.folder(e.cohort, row.protocol, row.test_seconds)
            options += ("--test-cohort", f"{short}/embedding.scp")
            inputs.append(EMBEDDINGS + short)
        command = ("steps/normalize.py", *sides, "--cohort", members, *options, cosines, out)
    else:
        model: tuple[str, ...] = ()
        if backend == "siamese":
            model = ("--backend", backend, "--model", str(e.exp))
            inputs.append(f"{e.exp}/model.pt")
        elif backend != "cosine":
            model = ("--backend", backend, "--model", f"{e.exp}/backend/{row.protocol}")
            inputs += backend_files(e, row.protocol)
        command = ("steps/score.py", *sides, *model, row.trials, out)
    calibrated = e.scores(row, f"{backend}+cal")
    return Task(command, tuple(dict.fromkeys(inputs)), (out,), (calibrated, f"{calibrated}.json"))


def score_embeddings(e: Experiment, role: str) -> Iterator[Task]:
    """Back ends that need only the embeddings, and the cosines that score normalisation starts from."""
    for row in e.of_role(role):
        backend = "cosine" if row.uncalibrated.endswith(NORMALISED) else row.uncalibrated
        if backend in FROM_EMBEDDINGS:
            yield score_task(e, row, backend)


def score_trained(e: Experiment, role: str) -> Iterator[Task]:
    """Back ends that need training speakers."""
    return (score_task(e, row, row.uncalibrated) for row in e.of_role(role) if row.uncalibrated in FROM_COHORT)


def backend_files(e: Experiment, protocol: str) -> tuple[str, ...]:
    return tuple(f"{e.exp}/backend/{protocol}/{name}" for name in ("mean.vec", "transform.mat", "plda"))


def train_backends(e: Experiment, role: str) -> Iterator[Task]:
    for protocol in dict.fromkeys(row.protocol for row in e.rows if row.uncalibrated in TRAINED):
        folder = e.folder(e.cohort, protocol)
        target = e.folder(e.adapt, protocol) if e.adapt else ""
        command = ("steps/train_backend.py",
                   *(("--adapt", f"{target}/embedding.scp", "--adaptation", e.adaptation) if target else ()),
                   f"{folder}/embedding.scp", f"{e.cohort}/utt2spk", f"{e.exp}/backend/{protocol}")
        inputs = (CODE, EMBEDDINGS + folder, f"{e.cohort}/utt2spk", *([EMBEDDINGS + target] if target else []))
        yield Task(command, inputs, backend_files(e, protocol))


# --- calibration

def quality(e: Experiment, role: str) -> Iterator[Task]:
    """Quality of the utterances on both sides of the rows, if a measure needs more than durations."""
    of_cohort = "cohort_mean" in e.measures
    for row in e.of_role(role) if of_cohort or "norm" in e.measures else ():
        if row.is_calibrated or role == "calibration":
            folder = e.folder(e.cohort, row.protocol)
            for side in e.sides(row):
                cohort = ("--cohort", f"{folder}/spk_embedding.scp") if of_cohort else ()
                command = ("steps/quality.py", *cohort, side)
                inputs = (CODE, EMBEDDINGS + side, *([EMBEDDINGS + folder] if of_cohort else []))
                outputs = (f"{side}/utt2norm", *([f"{side}/utt2cohort_mean"] if of_cohort else []))
                yield Task(command, inputs, outputs)


def with_sides(e: Experiment, row: Row) -> tuple[str, list[str]]:
    """A score file as steps/calibrate.py names it, and the files of its sides that calibration may read."""
    enroll, test = e.sides(row)
    named = ":".join([e.scores(row, row.uncalibrated), row.enroll_seconds, row.test_seconds, enroll, test])
    tables = [f"{side}/utt2{quantity}" for side in (enroll, test) for quantity in ("norm", "cohort_mean")
              if quantity in e.measures]
    return named, [e.scores(row, row.uncalibrated), f"{row.enroll}/utt2dur", f"{row.test}/utt2dur",
                   f"{row.trials}.enroll", *tables]


def fit_calibration(e: Experiment, role: str) -> Iterator[Task]:
    """A calibration of each back end and protocol, fitted on the held-out trials at all durations."""
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in e.of_role("calibration"):
        groups.setdefault((row.protocol, row.backend), []).append(row)
    for (protocol, backend), rows in groups.items():
        files, inputs = zip(*(with_sides(e, row) for row in rows))
        data, trials, out = rows[0].test, rows[0].trials, f"{e.exp}/calibration/{backend}/{protocol}"
        command = ("steps/calibrate.py", "fit", "--backend", backend, "--protocol", protocol, "--data", data,
                   "--trials", trials, *enroll_map(rows[0]), "--measures", e.measures)
        outputs, cohort = ["model.json", "thresholds.tsv", "thresholds.md"], list[str]()
        if backend == "cosine" and "cohort_mean" in e.measures:
            folder = e.folder(e.cohort, protocol)
            command += ("--cohort", f"{folder}/spk_embedding.scp")
            cohort, outputs = [EMBEDDINGS + folder], [*outputs, "cohort.npy"]
        yield Task((*command, "--out", out, *files),
                   tuple(dict.fromkeys([CODE, trials, f"{data}/utt2spk", *chain(*inputs), *cohort])),
                   tuple(f"{out}/{name}" for name in outputs))


def apply_calibration(e: Experiment, role: str) -> Iterator[Task]:
    for row in e.of_role("eval"):
        if row.is_calibrated:
            named, inputs = with_sides(e, row)
            model = f"{e.exp}/calibration/{row.uncalibrated}/{row.protocol}/model.json"
            command = ("steps/calibrate.py", "apply", "--backend", row.uncalibrated, "--protocol", row.protocol,
                       "--enroll-data", row.enroll, "--test-data", row.test, *enroll_map(row), "--model", model, named,
                       e.scores(row))
            yield Task(command, tuple(dict.fromkeys([CODE, model, *inputs])), (e.scores(row),))


# --- results

def evaluate(e: Experiment, role: str) -> Iterator[Task]:
    for row in e.of_role("eval"):
        scores, data = e.scores(row), str(Path(row.trials).parent)
        if row.is_calibrated and not Path(scores).exists():
            continue  # stage 7 has not been run
        side, where = row.cut_side, Path(row.enroll if row.cut_side == "enroll side" else row.test)
        cut = "" if side == "test side" else f", {side} cut"
        how = where.parent if where.name == f"{row.duration}s" else "centre"  # cut by steps/cut_data_dir.py
        command = ("steps/evaluate.py", "--exp", str(e.exp),
                   "--list", Path(row.trials).name.removeprefix("trials_") + cut, "--data-set", Path(data).name,
                   "--protocol", row.protocol, "--duration", row.duration, "--crop", f"{side}, {how}",
                   "--enroll", row.enroll, "--backend", row.backend, *(["--llr"] if row.is_calibrated else []), scores,
                   row.trials)
        inputs = (CODE, scores, row.trials, f"{e.exp}/config.yaml", f"{e.exp}/train_info.json", f"{data}/utt2spk",
                  f"{row.enroll}/utt2spk", f"{row.trials}.enroll",
                  *(str(table) for folder in (data, row.enroll) for table in condition_tables(folder)))
        yield Task(command, tuple(dict.fromkeys(inputs)), (f"{scores}.json",))


def evaluations(e: Experiment) -> list[str]:
    return sorted(map(str, (e.exp / "scores").glob("**/*.json")))


def results(e: Experiment, role: str) -> Iterator[Task]:
    inputs = (CODE, *evaluations(e), f"{e.exp}/config.yaml", str(PAPER))
    yield Task(("steps/results.py", str(e.exp)), inputs, (f"{e.exp}/results.tsv", f"{e.exp}/RESULTS.md"))


def pictures(e: Experiment, role: str) -> Iterator[Task]:
    """The figures, and the HTML page, which also has the audio of trials."""
    figures = ["det.png", "durations.png", *(["training.png"] if Path(f"{e.exp}/train.tsv").exists() else [])]
    scored = [path.removesuffix(".json") for path in evaluations(e)]
    data = sorted({side for row in e.of_role("eval") for side in (row.enroll, row.test)})
    inputs = (CODE, *evaluations(e), *scored, *dict.fromkeys(row.trials for row in e.of_role("eval")),
              f"{e.exp}/config.yaml", f"{e.exp}/train.tsv", str(PAPER))
    heard = (*(AUDIO + folder for folder in data), *(f"{folder}/{name}" for folder in data for name in TABLES[:3]),
             *(f"{e.exp}/analysis/branch_variation.{kind}" for kind in ("tsv", "png")),
             *dict.fromkeys(f"{row.trials}.enroll" for row in e.of_role("eval")))
    yield Task(("steps/plot.py", str(e.exp)), inputs, tuple(f"{e.exp}/figures/{name}" for name in figures))
    yield Task(("steps/report.py", str(e.exp)), (*inputs, *heard), (f"{e.exp}/report.html",))


STEPS: dict[str, tuple[str, Callable[[Experiment, str], Iterable[Task]]]] = {
    # step: (what one of its tasks makes, its tasks)
    "train": ("trained model", train),
    "fit": ("fitted model", fit),
    "cohort": ("cohort", cohort),
    "extract": ("embedding folder", embed),
    "score": ("score file", score_embeddings),
    "backend": ("back-end model", train_backends),
    "score_trained": ("trained or normalised score file", score_trained),
    "quality": ("quality table", quality),
    "calibrate": ("calibration", fit_calibration),
    "apply": ("calibrated score file", apply_calibration),
    "evaluate": ("evaluation", evaluate),
    "results": ("results table", results),
    "report": ("output", pictures),
}
