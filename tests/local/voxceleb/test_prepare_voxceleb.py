# SPDX-License-Identifier: Apache-2.0
"""VoxCeleb in every layout that people have, and everything that can be wrong with it; the scripts run as users do."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from programs import forking

PAIRS = {"O": [("1", "id10270/-aaaaaaaaaa/00001", "id10270/-aaaaaaaaaa/00002"),
               ("0", "id10270/-aaaaaaaaaa/00001", "id10271/_bbbbbbbbbb/00001")],
         "E": [("1", "id10001/-aaaaaaaaaa/00001", "id10001/_bbbbbbbbbb/00001"),
               ("0", "id10001/-aaaaaaaaaa/00001", "id10271/-aaaaaaaaaa/00002")],
         "H": [("0", "id10271/_bbbbbbbbbb/00001", "id10001/-aaaaaaaaaa/00002")]}
FILES = {"O": "veri_test", "E": "list_test_all", "H": "list_test_hard"}
UTTS = ["-aaaaaaaaaa/00001", "-aaaaaaaaaa/00002", "_bbbbbbbbbb/00001"]


@pytest.fixture
def run(root):
    def call(script, *arguments):
        return subprocess.run([sys.executable, root / "local/voxceleb" / script, *map(str, arguments)], text=True,
                              capture_output=True, env=forking({**os.environ, "PYTHONPATH": str(root)}))
    return call


def speak(folder: Path, spks, suffix: str = ".wav") -> None:
    wave = np.random.default_rng(0).uniform(-0.1, 0.1, 800)
    for spk in spks:
        for utt in UTTS:
            (path := folder / spk / f"{utt}{suffix}").parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, wave, 16000)


def write_lists(folder: Path) -> None:
    for name, pairs in PAIRS.items():
        text = "".join(f"{label} {a}.wav {b}.wav\n" for label, a, b in pairs)
        (folder / f"{FILES[name]}2.txt").write_text(text)
        (folder / f"{FILES[name]}.txt").write_text(text * 2)


@pytest.fixture
def vox1(tmp_path):
    """As the two zip files unpack into two folders."""
    root = tmp_path / "vox1"
    speak(root / "vox1_dev_wav/wav", ["id10001"])
    speak(root / "vox1_test_wav/wav", ["id10270", "id10271"])
    write_lists(root)
    (root / "vox1_meta.csv").write_text("VoxCeleb1 ID\tVGGFace1 ID\tGender\tNationality\tSet\n"
                                        "id10001\tA. B.\tm\tIreland\tdev\n"
                                        "id10270\tC\tf\tNew Zealand\ttest\nid10271\tD\tm\tUK\ttest\n")
    return root


@pytest.fixture
def vox2(tmp_path):
    root = tmp_path / "vox2"
    speak(root / "dev/aac", ["id00012", "id00015", "id00016"])
    speak(root / "test/aac", ["id00017"])
    (root / "vox2_meta.csv").write_text("VoxCeleb2 ID ,VGGFace2 ID ,Gender ,Set \n" + "".join(
        f"id000{n} ,n0000{n} ,{'mf'[n % 2]} ,dev \n" for n in (12, 15, 16, 17)))
    return root


@pytest.fixture
def prepare(run, vox1, vox2, tmp_path):
    def call(*options, rc=0):
        done = run("prepare_voxceleb.py", "--vox1", vox1, "--vox2", vox2, "--dev-speakers", 2, "--nj", 1, *options,
                   tmp_path / "data")
        assert done.returncode == rc, done.stderr
        assert "Traceback" not in done.stderr
        return done.stderr
    return call


def column(path: Path, number: int = 0) -> list[str]:
    return [line.split(" ")[number] for line in path.read_text().splitlines()]


def expected(pairs) -> str:
    return "".join(f"{a} {b} {'target' if label == '1' else 'nontarget'}\n".replace("/", "-") for label, a, b in pairs)


def test_sets_and_trials(prepare, tmp_path, root):
    prepare()
    data = tmp_path / "data"
    train, dev = column(data / "train/spk2utt"), column(data / "dev/spk2utt")
    assert len(dev) == 2 and sorted(train + dev) == ["id00012", "id00015", "id00016", "id00017"]
    assert column(data / "vox1_test/spk2utt") == ["id10270", "id10271"]
    assert column(data / "vox1/utt2spk")[:3] == ["id10001--aaaaaaaaaa-00001", "id10001--aaaaaaaaaa-00002",
                                                "id10001-_bbbbbbbbbb-00001"]
    assert len(column(data / "vox1/utt2spk")) == 9
    for name, folder in (("O", "vox1_test"), ("E", "vox1"), ("H", "vox1")):
        assert (data / folder / f"trials_{name}").read_text() == expected(PAIRS[name])
        assert (data / folder / f"trials_{name}_original").read_text() == expected(PAIRS[name]) * 2
    assert (data / "vox1/spk2gender").read_text() == "id10001 m\nid10270 f\nid10271 m\n"
    genders = dict(line.split() for part in ("train", "dev")
                   for line in (data / part / "spk2gender").read_text().splitlines())
    assert genders == {"id00012": "m", "id00015": "f", "id00016": "m", "id00017": "f"}
    assert (data / "vox1_test/spk2nationality").read_text() == "id10270 New_Zealand\nid10271 UK\n"
    assert not (data / "train/spk2nationality").exists()
    assert (data / "vox1/utt2session").read_text().startswith(
        "id10001--aaaaaaaaaa-00001 -aaaaaaaaaa\nid10001--aaaaaaaaaa-00002 -aaaaaaaaaa\nid10001-_bbbbbbbbbb-00001 _")
    for folder in ("train", "dev", "vox1_test", "vox1"):
        assert column(data / folder / "utt2session") == column(data / folder / "utt2spk")
        subprocess.run([sys.executable, root / "utils/validate_data_dir.py", data / folder], check=True)
        assert all(os.path.isfile(path) for path in column(data / folder / "wav.scp", 1))


def as_is(root: Path) -> None:
    pass


def links(root: Path) -> None:
    (root / "dev").symlink_to("vox1_dev_wav")
    (root / "test").symlink_to("vox1_test_wav")
    (root / "test" / "loop").symlink_to("..")


def merged_too(root: Path) -> None:
    """All files a second time, as hard links and as a copy, in one tree."""
    for number, path in enumerate(sorted(root.glob("vox1_*_wav/wav/*/*/*.wav"))):
        (to := root / "wav" / Path(*path.parts[-3:])).parent.mkdir(parents=True, exist_ok=True)
        (os.link if number else shutil.copyfile)(path, to)


def merged_only(root: Path) -> None:
    merged_too(root)
    shutil.rmtree(root / "vox1_dev_wav")
    shutil.rmtree(root / "vox1_test_wav")


def no_folder_between(root: Path) -> None:
    for path in list(root.glob("vox1_*_wav/wav/*")):
        path.rename(root / path.name)


@pytest.mark.parametrize("change", [as_is, links, merged_too, merged_only, no_folder_between])
def test_layouts_of_vox1(prepare, vox1, tmp_path, change):
    change(vox1)
    prepare()
    assert len(column(tmp_path / "data/vox1/utt2spk")) == 9
    assert len(set(column(tmp_path / "data/vox1/wav.scp", 1))) == 9
    assert column(tmp_path / "data/vox1_test/spk2utt") == ["id10270", "id10271"]


@pytest.mark.parametrize("below, suffix", [("dev/wav", ".wav"), ("dev/flac", ".flac"), ("wav", ".wav"), (".", ".flac")])
def test_layouts_of_vox2(prepare, vox2, tmp_path, below, suffix):
    shutil.rmtree(vox2 / "dev")
    speak(vox2 / below, ["id00012", "id00015", "id00016"], suffix)
    prepare("--dev-speakers", 0)
    assert len(column(tmp_path / "data/train/utt2spk")) == 12
    assert not (tmp_path / "data/dev").exists()


def test_m4a_needs_its_flac_copy(prepare, vox2, tmp_path):
    for path in vox2.glob("dev/aac/*/*/*.wav"):
        path.rename(path.with_suffix(".m4a"))
    message = prepare("--vox2-flac", tmp_path / "none", rc=1)
    assert "this and 8 more m4a files have no FLAC copy" in message and "transcode_vox2.py" in message
    speak(tmp_path / "flac", ["id00012", "id00015", "id00016"], ".flac")
    prepare("--vox2-flac", tmp_path / "flac", "--dev-speakers", 0)
    assert column(tmp_path / "data/train/wav.scp", 1)[0] == f"{tmp_path}/flac/id00012/-aaaaaaaaaa/00001.flac"
    # one that ffmpeg could not decode
    (tmp_path / "flac/id00012/-aaaaaaaaaa/00001.flac").unlink()
    m4a = vox2 / "dev/aac/id00012/-aaaaaaaaaa/00001.m4a"
    (tmp_path / "flac/undecodable.3.tsv").write_text(f"{m4a}\tmoov atom not found\n")
    assert "1 of 21 audio files cannot be read" in prepare("--vox2-flac", tmp_path / "flac", rc=1)
    assert (tmp_path / "data/bad_audio.tsv").read_text() == f"{m4a}\tmoov atom not found\n"
    prepare("--vox2-flac", tmp_path / "flac", "--dev-speakers", 0, "--max-bad-fraction", 0.05)
    assert len(column(tmp_path / "data/train/utt2spk")) == 11


def test_wav_is_preferred_to_other_formats(prepare, vox2, tmp_path):
    speak(vox2 / "dev/flac", ["id00012"], ".flac")
    speak(vox2 / "dev/aac", ["id00012"], ".flac")
    prepare()
    assert all(path.endswith(".wav") for path in column(tmp_path / "data/dev/wav.scp", 1))
    assert len(column(tmp_path / "data/dev/utt2spk")) == 6


def test_same_seed_same_choice(prepare, tmp_path):
    def choice(seed):
        prepare("--seed", seed)
        return (tmp_path / "data/dev/utt2spk").read_bytes()

    assert choice(1) == choice(1)
    assert len({choice(seed) for seed in (1, 2, 3, 4)}) > 1


def test_originals_may_lack(prepare, vox1, tmp_path):
    (vox1 / "list_test_all.txt").unlink()
    (vox1 / "veri_test2.txt").rename(vox1 / "voxceleb1_test_v2.txt")
    assert "list_test_all.txt: no such file, so trials_E_original is not written" in prepare()
    assert {path.name for path in (tmp_path / "data/vox1").glob("trials*")} == {"trials_E", "trials_H",
                                                                               "trials_H_original"}


def test_lists_may_lie_elsewhere(prepare, vox1, tmp_path):
    (tmp_path / "lists").mkdir()
    for path in vox1.glob("*.txt"):
        path.rename(tmp_path / "lists" / path.name)
    assert f"{vox1}/veri_test2.txt: no such trial list" in prepare(rc=1)
    prepare("--lists", tmp_path / "lists")
    assert (tmp_path / "data/vox1_test/trials_O").exists()


@pytest.fixture
def test_part(vox1):
    """VoxCeleb1 as someone has it who only tests on list O."""
    shutil.rmtree(vox1 / "vox1_dev_wav")
    for name in ("E", "H"):
        (vox1 / f"{FILES[name]}2.txt").unlink()
        (vox1 / f"{FILES[name]}.txt").unlink()
    return vox1


def test_list_o_needs_the_test_part_alone(run, prepare, test_part, vox2, tmp_path):
    assert "list_test_all2.txt: no such trial list" in prepare(rc=1)
    prepare("--test-lists", "O")
    assert (tmp_path / "data/vox1_test/trials_O").read_text() == expected(PAIRS["O"])
    assert not (tmp_path / "data/vox1").exists()
    checked = ("check_voxceleb.py", "--vox1", test_part, "--vox2", vox2, "--test-lists")
    assert (done := run(*checked, "O")).returncode == 0 and done.stderr == ""
    assert [line.split("/")[-2] for line in run(*checked, "O H").stderr.splitlines()] == ["voxceleb"]
    shutil.rmtree(test_part / "vox1_test_wav/wav/id10271")
    lacking, = run(*checked, "O").stderr.splitlines()
    assert "1 of 2 speakers of the lists are missing" in lacking and "unpack vox1_test_wav.zip" in lacking


def test_list_o_reads_its_speakers_alone(prepare, vox1, tmp_path):
    (vox1 / "vox1_dev_wav/wav/id10001/_bbbbbbbbbb/00001.wav").write_bytes(b"")
    prepare(rc=1)
    prepare("--test-lists", "O")
    assert column(tmp_path / "data/vox1_test/spk2utt") == ["id10270", "id10271"]


def test_lists_e_and_h_leave_that_of_o_alone(prepare, vox1, tmp_path):
    (vox1 / "veri_test2.txt").unlink()
    prepare("--test-lists", "H E")
    assert not (tmp_path / "data/vox1_test").exists()
    assert {path.name for path in (tmp_path / "data/vox1").glob("trials*")} == {
        f"trials_{name}{kind}" for name in "EH" for kind in ("", "_original")}


@pytest.mark.parametrize("names, why", [("O X", "unknown X; VoxCeleb1 has O, E, H"), (" ", "is empty")])
def test_lists_that_do_not_exist(run, prepare, vox1, vox2, names, why):
    for message in (prepare("--test-lists", names, rc=1),
                    run("check_voxceleb.py", "--vox1", vox1, "--vox2", vox2, "--test-lists", names).stderr):
        assert f"--test-lists: {why}" in message and len(message.splitlines()) == 1


@pytest.mark.parametrize("line, why", [
    ("1 id10270/-aaaaaaaaaa/00001.wav id10270/-aaaaaaaaaa/00009.wav\n",
     "veri_test2.txt:3: id10270/-aaaaaaaaaa/00009.wav is not in VoxCeleb1"),
    ("1 id10270/-aaaaaaaaaa/00001.wav\n", "veri_test2.txt:3: expected `1|0"),
    ("2 id10270/-aaaaaaaaaa/00001.wav id10270/-aaaaaaaaaa/00002.wav\n", "veri_test2.txt:3: expected `1|0"),
    ("\n", "veri_test2.txt:3: empty line"),
    ("1 id10270/-aaaaaaaaaa/00001.wav id10270/-aaaaaaaaaa/00002.wav\r\n", "veri_test2.txt:3: Windows line end"),
])
def test_bad_lists(prepare, vox1, tmp_path, line, why):
    with open(vox1 / "veri_test2.txt", "a", newline="") as file:
        file.write(line)
    message = prepare(rc=1)
    assert why in message and len(message.splitlines()) == 1
    assert not (tmp_path / "data").exists()


def test_leaking_speaker(prepare, vox2, tmp_path):
    speak(vox2 / "dev/aac", ["id10271"])
    assert "1 speakers are also in --vox1 (id10271, ...)" in prepare(rc=1)
    assert not (tmp_path / "data").exists()


def test_single_utterance_is_kept(prepare, vox2, tmp_path):
    shutil.rmtree(vox2 / "test/aac/id00017/-aaaaaaaaaa")
    prepare()
    assert "id00017" in column(tmp_path / "data/train/spk2utt")


def test_too_many_speakers_to_hold_out(prepare):
    assert "held-out speakers: 4 were requested; 4 of 4 speakers" in prepare("--dev-speakers", 4, rc=1)
    assert "--dev-speakers must be" in prepare("--dev-speakers", 1, rc=2)


def test_unreadable_audio(prepare, vox1, vox2, tmp_path):
    whole = vox2 / "dev/aac/id00012/-aaaaaaaaaa/00001.wav"
    whole.write_bytes(whole.read_bytes()[:-100])
    (vox2 / "dev/aac/id00015/-aaaaaaaaaa/00002.wav").write_bytes(b"")
    message = prepare(rc=1)
    assert "00001.wav: cut off" in message and "00002.wav: empty file" in message
    assert "bad_audio.tsv: 2 of 21 audio files cannot be read" in message
    assert len((tmp_path / "data/bad_audio.tsv").read_text().splitlines()) == 2
    assert not (tmp_path / "data/train").exists()
    assert "2 of 21 audio files cannot be read and are left out" in prepare("--max-bad-fraction", 0.1)
    assert sum(len(column(tmp_path / "data" / part / "utt2spk")) for part in ("train", "dev")) == 10
    # a trial cannot be left out: the list would be another one
    (vox1 / "vox1_dev_wav/wav/id10001/_bbbbbbbbbb/00001.wav").write_bytes(b"")
    assert "list_test_all2.txt:1: id10001/_bbbbbbbbbb/00001.wav" in prepare("--max-bad-fraction", 0.2, rc=1)


def test_two_files_for_one_utterance(prepare, vox1):
    speak(vox1 / "wav", ["id10001"])
    soundfile.write(vox1 / "wav/id10001/-aaaaaaaaaa/00001.wav", np.zeros(900), 16000)
    assert "are different files for" in prepare(rc=1)


def test_meta_with_an_odd_gender(prepare, vox1):
    with open(vox1 / "vox1_meta.csv", "a") as file:
        file.write("id10272\tE\t?\tUK\ttest\n")
    assert "vox1_meta.csv:5: no gender m or f" in prepare(rc=1)


def test_no_meta_no_gender(prepare, vox1, vox2, tmp_path):
    (vox1 / "vox1_meta.csv").unlink()
    (vox2 / "vox2_meta.csv").unlink()
    prepare()
    assert not list((tmp_path / "data").glob("*/spk2gender"))


# --- check_voxceleb.py

def noise_corpora(tmp_path):
    for kind in ("music", "noise", "speech"):
        speak_one(tmp_path / f"musan/{kind}/x/{kind}-x-0000.wav")
    speak_one(tmp_path / "rirs/simulated_rirs/smallroom/Room001/Room001-00001.wav")


def speak_one(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.zeros(800), 16000)


def test_check_is_silent_if_all_is_there(run, vox1, vox2, tmp_path):
    noise_corpora(tmp_path)
    done = run("check_voxceleb.py", "--vox1", vox1, "--vox2", vox2, "--musan", tmp_path / "musan", "--rirs",
               tmp_path / "rirs", "--lists", "")
    assert (done.returncode, done.stderr) == (0, "")


def test_check_names_everything_that_lacks(run, vox1, tmp_path):
    noise_corpora(tmp_path)
    shutil.rmtree(tmp_path / "musan/music")
    shutil.rmtree(vox1 / "vox1_test_wav")
    (vox1 / "list_test_hard2.txt").unlink()
    done = run("check_voxceleb.py", "--vox1", vox1, "--vox2", tmp_path / "none", "--musan", tmp_path / "musan",
               "--rirs", tmp_path / "none")
    assert done.returncode == 1
    lines = done.stderr.splitlines()
    assert [line.split()[1] for line in lines] == ["--vox2", "--lists", "--vox1", "--musan", "--rirs"]
    wanted = ["voxceleb/vox2.html", "voxceleb/vox1.html", "2 of 3 speakers of the lists", "openslr.org/17",
              "openslr.org/28"]
    assert all(text in line for text, line in zip(wanted, lines))


def test_check_says_that_m4a_needs_ffmpeg(run, vox1, vox2, monkeypatch, tmp_path):
    for path in vox2.glob("*/aac/*/*/*.wav"):
        path.rename(path.with_suffix(".m4a"))
    monkeypatch.setenv("PATH", str(tmp_path))
    done = run("check_voxceleb.py", "--vox1", vox1, "--vox2", vox2)
    assert done.returncode == 1 and "ffmpeg: not found" in done.stderr and len(done.stderr.splitlines()) == 1
