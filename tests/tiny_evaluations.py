# SPDX-License-Identifier: Apache-2.0
"""CN-Celeb, SITW and VOiCES as their archives unpack, with a few files of less than a second."""

import itertools
import os
import subprocess
import sys
from pathlib import Path

import soundfile
from corpus import RATE, voice
from programs import forking


def prepare(root: Path, name: str, *args) -> subprocess.CompletedProcess:
    """Run local/NAME/prepare_NAME.py."""
    return subprocess.run([sys.executable, root / f"local/{name}/prepare_{name}.py", "--nj", "1", *map(str, args)],
                          text=True, capture_output=True, env=forking({**os.environ, "PYTHONPATH": str(root)}))


def speak(path: Path, speaker: int, utt: int, seconds: float = 0.6) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, voice(speaker, utt, seconds), RATE)


def write(path: Path, lines) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines))


def write_cnceleb(folder: Path, suffix: str = ".flac") -> Path:
    """Speakers id00000 to id00003 for training, id00800 to id00802 for the test: two enroll and two test utterances."""
    top = folder / "CN-Celeb_flac"
    for s in range(4):
        for genre, session, number in (("singing", 1, 1), ("singing", 1, 2), ("live_broadcast", 2, 1)):
            speak(top / f"data/id{s:05d}/{genre}-{session:02d}-{number:03d}{suffix}", s, 10 * session + number)
    write(top / "dev/dev.lst", [f"id{s:05d}" for s in range(4)])
    models, parts, tests = [], [], []
    for s in range(800, 803):
        name = f"id{s:05d}"
        for number in (1, 2):
            speak(top / f"data/{name}/speech-01-{number:03d}{suffix}", s - 790, number)
        speak(top / f"eval/enroll/{name}-enroll{suffix}", s - 790, 1, 1.2)
        models.append(f"{name}-enroll")
        parts.append(f"{name}-enroll {name}/speech-01-001.wav {name}/speech-01-002.wav")
        for genre, session in (("speech", 2), ("drama", 3)):
            tests.append(f"test/{name}-{genre}-{session:02d}-001.wav")
            speak(top / f"eval/{tests[-1]}".replace(".wav", suffix), s - 790, 10 * session)
    write(top / "eval/lists/enroll.lst", [f"{model} enroll/{model}.wav" for model in models])
    write(top / "eval/lists/enroll.map", parts)
    write(top / "eval/lists/test.lst", tests)
    write(top / "eval/lists/trials.lst", [f"{model} {test} {int(model[:7] == test[5:12])}"
                                          for model, test in itertools.product(models, tests)])
    return folder


def write_sitw(folder: Path, sets=("dev", "eval")) -> Path:
    """Each set has three speakers, each with a core model, an assist model, and a test file of each kind."""
    for name in sets:
        top, meta, enroll, tests = folder / name, [], {"core": [], "assist": []}, {"core": [], "multi": []}
        for s, spk in enumerate(("ABCD", "EFGH", "IJKL")):
            for u, file in enumerate(("enrol", "helpd", "testa", "testb")):
                path = f"audio/{file}{s}.flac"
                speak(top / path, s, u, 1.3)
                meta.append(f"{path} {spk} {'mf'[s % 2]} {('studio', 'video')[u % 2]} {1000 + 10 * s + u} 0 2 "
                            f"{1 + u // 3} codec,reverb 3 interview laughter")
            enroll["core"].append(f"{12000 + s} audio/enrol{s}.flac")
            enroll["assist"].append(f"{45000 + s} audio/helpd{s}.flac 0.200 1.100")
            tests["core"].append(f"audio/testa{s}.flac")
            tests["multi"].append(f"audio/testb{s}.flac")
        write(top / "keys/meta.lst", meta)
        speakers = {line.split()[0]: line.split()[1] for line in meta}
        for kind, models in enroll.items():
            write(top / f"lists/enroll-{kind}.lst", models)
            for test, files in tests.items():
                pairs = [(*model.split()[:2], file) for model, file in itertools.product(models, files)]
                kinds = {True: "tgt", False: "imp"}
                write(top / f"keys/{kind}-{test}.lst", [f"{model} {file} {kinds[speakers[own] == speakers[file]]}"
                                                        for model, own, file in pairs])
        for test, files in tests.items():
            write(top / f"lists/test-{test}.lst", files)
    return folder


def write_voices(folder: Path) -> Path:
    """Development and evaluation set, each with three speakers, a model of one file, and two test files."""
    names = {}
    for s in (32, 83, 112):
        names[s] = [f"Lab41-SRI-VOiCES-src-sp{s:04d}-ch{s}0-sg0001",
                    f"Lab41-SRI-VOiCES-rm1-none-sp{s:04d}-ch{s}1-sg0002-mc01-stu-clo-dg090",
                    f"Lab41-SRI-VOiCES-rm3-babb-sp{s:04d}-ch{s}2-sg0003-mc12-lav-wal-dg090"]
    dev = folder / "Development_Data/Speaker_Recognition"
    lists = {}
    for s, (enroll, *tests) in names.items():
        for u, name in enumerate((enroll, *tests)):
            speak(dev / f"sid_dev/sp{s:04d}/{name}.wav", s % 30, u)
        lists[s] = enroll, f"sid_dev/sp{s:04d}/{enroll}.wav", [f"sid_dev/sp{s:04d}/{test}.wav" for test in tests]
    keys = [f"{lists[a][0]} {test} {'tgt' if a == b else 'imp'}" for a in lists for b in lists for test in lists[b][2]]
    write(dev / "sid_dev_lists_and_keys/dev-enroll.lst", [f"{model} {file}" for model, file, _ in lists.values()])
    write(dev / "sid_dev_lists_and_keys/dev-trial-keys.lst", keys)
    sid, release = folder / "Speaker_Recognition", folder / "VOiCES_challenge_2019_post-eval-release"
    secret = {name: f"x{number:04d}" for number, name in enumerate(itertools.chain(*names.values()))}
    for s, own in names.items():
        for u, name in enumerate(own):
            speak(sid / f"sid_eval/{secret[name]}.wav", s % 30, u)
    write(sid / "sid_eval_lists/eval-enroll.lst", [f"m{s} sid_eval/{secret[own[0]]}.wav" for s, own in names.items()])
    prefix = release / "VOiCES_challenge_2019_eval.SID"
    write(Path(f"{prefix}.map"), [f"{new} /somewhere/{name}.wav" for name, new in secret.items()])
    write(Path(f"{prefix}.trial-keys.lst"), [f"m{a} {secret[test]}.wav {'tgt' if a == b else 'imp'}"
                                             for a in names for b in names for test in names[b][1:]])
    return folder
