# SPDX-License-Identifier: Apache-2.0
"""egs/voxceleb/run.sh killed in every stage at random moments and restarted: the results of an uninterrupted run.

Victims: run.sh alone, the launcher of the jobs, a program, or the whole process group. Then the same command is run
again. RAWNEXT_KILLS=5 kills five times in each stage instead of once, RAWNEXT_KILL_SEED=7 at other moments.
"""

import contextlib
import csv
import os
import random
import re
import signal
import subprocess
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from corpus import write_corpus
from programs import forking, program
from recipe import place_recipe
from tiny_voxceleb import options, write_corpora

from rawnext.config import Config, save_config, split_name
from rawnext.models import MODELS
from rawnext.training import checkpoint

pytestmark = pytest.mark.slow

KILLS = int(os.environ.get("RAWNEXT_KILLS", "1"))
SEED = int(os.environ.get("RAWNEXT_KILL_SEED", "1"))
# command; for each of its stages: the longest wait in seconds before the first kill (a third of the stage's duration on
# a fast machine), and the victims, in turn
COMMANDS = [
    (["--stop-stage", "2"], {1: (0.6, "program run.sh group"), 2: (0.1, "group program run.sh")}),
    (["--stage", "3", "--stop-stage", "3"], {3: (1.2, "launcher group program run.sh")}),
    (["--stage", "4", "--stop-stage", "4"], {4: (1.5, "program run.sh launcher group")}),
    (["--stage", "5"], {5: (0.6, "group run.sh program"), 7: (2.0, "run.sh program group"),
                        8: (0.4, "program group run.sh"), 9: (0.6, "run.sh group program")}),
]
DIFFERENT = {"date", "command", "train.seconds", "train.last_run_seconds"}  # columns of results.tsv
MEASURED = {"seconds", "utts_per_s", "data_wait"}  # columns of train.tsv


class Recipe:
    """A run of the recipe in a folder; finds and kills its processes."""

    def __init__(self, root: Path, folder: Path, arguments: list[str]):
        self.mark = f"KILL_TEST={folder}"
        env = forking({**place_recipe(root, "voxceleb", folder), "KILL_TEST": str(folder)})
        self.lines: list[str] = []
        self.process = subprocess.Popen(["./run.sh", *arguments], cwd=folder, env=env, text=True, errors="replace",
                                        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True)
        self.reader = threading.Thread(target=lambda: self.lines.extend(self.process.stderr), daemon=True)
        self.reader.start()

    @property
    def stage(self) -> int | None:
        """The stage that started last."""
        return next((int(m[1]) for line in reversed(self.lines) if (m := re.search(r" stage (\d+): ", line))), None)

    def wait_for(self, stage: int) -> bool:
        """Wait for the start of a stage; False if the run ends before."""
        while self.stage is None or self.stage < stage:
            if self.process.poll() is not None:
                return False
            time.sleep(0.01)
        return True

    def end(self) -> tuple[int, str]:
        code = self.process.wait(timeout=300)
        self.reader.join(5)  # a process that outlives it may keep the pipe open
        return code, "".join(self.lines)

    def living(self) -> dict[int, str]:
        """pid -> command line of all processes of runs in this folder, including leftovers of killed runs."""
        found = {}
        for proc in Path("/proc").glob("[0-9]*"):
            try:
                if self.mark.encode() in (proc / "environ").read_bytes().split(b"\0"):
                    found[int(proc.name)] = (proc / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue
        return found

    def kill(self, victim: str) -> None:
        if victim == "group":
            os.killpg(self.process.pid, signal.SIGKILL)
        elif victim == "run.sh":
            self.process.kill()
        else:
            name = r"/run\.py " if victim == "launcher" else r"python\S* \S*(steps|local|utils)/\w+\.py "
            for _ in range(500):
                pids = [pid for pid, command in self.living().items()
                        if re.search(name, command) and (victim == "launcher" or "/run.py " not in command)]
                if pids:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(random.choice(pids), signal.SIGKILL)
                    return
                time.sleep(0.01)


# Data directories that are made by one command. A kill may leave the markers of some, which are then made again.
PREPARED = (("train", "dev", "vox1_test", "vox1"), ("musan_noise", "musan_music", "musan_speech", "rirs"))


def finished(folder: Path) -> dict[Path, tuple]:
    """Inode, time and size of files that are complete and must not change."""
    shares = [path.with_suffix(".ark") for path in folder.glob("exp/*/embeddings/*/embedding.*.scp")]
    prepared = [folder / "data" / name / "cuts.jsonl" for names in PREPARED for name in names
                if all((folder / "data" / each / ".prepared").exists() for each in names)]
    checkpoints = [path for path in folder.glob("exp/*/checkpoints/step-*.pt")]
    states = {path: path.stat() for path in (*shares, *prepared, *checkpoints) if path.exists()}
    return {path: (s.st_ino, s.st_mtime_ns, s.st_size) for path, s in states.items()}


def check_kept(before: dict[Path, tuple], folder: Path) -> None:
    """Complete files are unchanged; older checkpoints may have been deleted."""
    after = finished(folder)
    newest = max((path for path in before if path.parent.name == "checkpoints"), default=None)
    for path, state in before.items():
        now = after.get(path, state)
        # A training that ended between its last step and its validation saved this step; the next run saves it again,
        # with the validation's results.
        validated = path == newest and now[2] > state[2]
        assert now == state or validated, f"{path} was made again"
        assert path in after or path.parent.name == "checkpoints", f"{path} is gone"


def finish(start, folder: Path) -> None:
    """Restart until it is not refused: processes of a killed run may still run for a moment."""
    before = finished(folder)
    for _ in range(100):
        code, text = start().end()
        if code == 0:
            check_kept(before, folder)
            return
        assert "in use" in text, text
        time.sleep(0.5)
    raise AssertionError(text)


def kill_in(stage: int, start, victim: str, delay_s: float, folder: Path) -> int | None:
    """Start, kill in this stage and check the files. Returns the stage that was hit, None if the run had ended."""
    before = finished(folder)
    for _ in range(100):
        run = start()
        if run.wait_for(stage):
            break
        code, text = run.end()
        assert code != 0 and "in use" in text, text
        time.sleep(0.5)
    time.sleep(delay_s)
    hit = run.stage if run.process.poll() is None else None
    print(f"stage {stage}: kill {victim} after {delay_s:.2f} s, in stage {hit}")
    if hit is not None:
        run.kill(victim)
    if victim == "run.sh" and run.living():  # its children continue and hold their locks
        code, text = start().end()
        assert (code == 1 and "is in use: " in text) or not run.living(), text
        for pid in run.living():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    code, text = run.end()
    assert code != 0 or hit is None or victim in ("program", "launcher"), text
    check_kept(before, folder)
    return hit


def table(path: Path, without: set[str]) -> list[dict[str, str]]:
    rows = csv.DictReader(path.read_text().splitlines(), delimiter="\t")
    return [{name: value for name, value in row.items() if name not in without} for row in rows]


def outcome(folder: Path) -> dict[str, Any]:
    """Outputs of a run that do not depend on its folder or the time."""
    here = str(folder).encode()
    files = [*folder.glob("data/*/*"), *folder.glob("exp/*/embeddings/*/*"), *folder.glob("exp/*/scores/cosine/*/*"),
             folder / "exp/tiny/model.pt", folder / "exp/tiny/config.yaml"]
    timed = (".json", ".sources", ".npz")  # contain times
    found: dict[str, Any] = {str(path.relative_to(folder)): path.read_bytes().replace(here, b"")
                                for path in files if path.is_file() and path.suffix not in timed}
    found["results"] = table(folder / "exp/tiny/results.tsv", DIFFERENT)
    found["train"] = table(folder / "exp/tiny/train.tsv", MEASURED)
    found["figures"] = sorted(path.name for path in folder.glob("exp/tiny/figures/*"))
    return found


def test_killed_in_every_stage(root, tmp_path):
    corpora, rng = write_corpora(tmp_path / "corpora"), random.Random(SEED)
    random.seed(SEED)
    few = ["--protocols", "native", "--nj", "1" if KILLS == 1 else "3"]
    common = {name: [*options(tmp_path / name, corpora), *few] for name in ("whole", "killed")}
    whole = Recipe(root, tmp_path / "whole", common["whole"])
    folder = tmp_path / "killed"
    for command, stages in COMMANDS:
        start = partial(Recipe, root, folder, [*common["killed"], *command])

        for stage, (longest_s, words) in stages.items():
            victims = words.split()
            hits = [kill_in(stage, start, victims[(i + SEED - 1) % len(victims)],
                            rng.uniform(0, (1 + i) * longest_s), folder) for i in range(KILLS)]
            assert hits[0] == stage, "too late"
        finish(start, folder)
    finish(partial(Recipe, root, folder, [*common["killed"], *COMMANDS[2][0]]), folder)  # everything is complete
    code, text = whole.end()
    assert code == 0, text
    expected, found = outcome(tmp_path / "whole"), outcome(folder)
    assert [name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name)] == []
    assert len(expected) > 60 and len(expected["results"]) == 2 * 4
    left = {path.name for path in folder.rglob(".*") if path.is_file()}
    assert left <= {".lock", ".prepared"}, "temporary files"


def test_extraction_killed_at_random_moments_gives_the_same_bytes(root, tmp_path):
    config = Config(model={"name": "rawnext", "channels": [8, 8, 16, 16, 16, 16], "cardinality": 8, "embedding_dim": 8})
    save_config(config, tmp_path / "exp" / "config.yaml")
    checkpoint.save(tmp_path / "exp/model.pt", {"model": MODELS.build(*split_name(config.model)).state_dict()})
    data = write_corpus(tmp_path / "data", 30, 10, 0.8)

    def start(name):
        return subprocess.Popen([root / "steps/extract.py", data, tmp_path / "exp", tmp_path / name], text=True,
                                env=forking(), stdout=subprocess.PIPE)

    def complete(name):
        with start(name) as job:
            output = job.stdout.read()
        assert job.returncode == 0
        return output

    assert ", 0 of them from an earlier run" in complete("whole")
    growing, ark, whole = (tmp_path / name for name in ("killed/.embedding.1.ark.partial", "killed/embedding.1.ark",
                                                        "whole/embedding.1.ark"))
    rng, sizes = random.Random(SEED), [0]
    for kill in range(3):
        size = whole.stat().st_size * rng.uniform(kill, kill + 0.6) / 4
        with start("killed") as job:
            while job.poll() is None and (growing.stat().st_size if growing.exists() else 0) <= size:
                time.sleep(0.001)
            os.kill(program(job.pid), signal.SIGKILL)
        assert job.returncode == -signal.SIGKILL and not ark.exists(), f"kill {kill} came too late"
        sizes.append(growing.stat().st_size)
    assert sizes == sorted(sizes)
    assert re.search(r"300 embeddings in .*, [1-9]\d* of them from an earlier run", complete("killed"))
    assert ark.read_bytes() == whole.read_bytes() and not growing.exists()
    scp, other = (path.with_suffix(".scp").read_text() for path in (ark, whole))
    assert scp.replace("/killed/", "/whole/") == other
