# SPDX-License-Identifier: Apache-2.0
"""egs/voxceleb/run.sh from corpora to RESULTS.md, on a corpus of seconds with the layout of VoxCeleb."""

import json
import shutil
import subprocess

import kaldi_native_io
import pytest
from page_commands import example
from recipe import place_recipe, run_recipe
from tiny_model import write_experiment
from tiny_voxceleb import options, write_corpora

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("forked_programs")]


@pytest.fixture(scope="module")
def corpora(tmp_path_factory):
    return write_corpora(tmp_path_factory.mktemp("corpora"))


TINY = ("model.channels=[8,8,16,16,16,16] model.cardinality=8 model.embedding_dim=8 batch.speakers=4 "
        "crop.samples=4375 crop.short_from=1600 train.epochs=1")


def recipe(root, folder, corpora, *more, page=("./run.sh",)):
    """A command of a page, or run.sh, with its own options, those that make it small, and others, in this order."""
    return run_recipe(root, "voxceleb", folder, *page[1:], *options(folder, corpora), *more)


@pytest.fixture(scope="module")
def run(root, corpora, tmp_path_factory):
    folder = tmp_path_factory.mktemp("recipe")
    done = recipe(root, folder, corpora, page=example(root, "README.md", "./run.sh --vox1"))
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return folder, done


def test_all_stages_end_with_what_they_wrote(run):
    folder, done = run
    for stage in (0, 1, 2, 3, 4, 5, 8, 9):
        assert f"stage {stage}: " in done.stderr
    for path in ("data/train/wav.scp", "exp/tiny/model.pt", "exp/tiny/RESULTS.md", "exp/tiny/results.tsv",
                 "exp/tiny/figures/det.png", "exp/tiny/report.html"):
        assert f"wrote {path}" in done.stderr and (folder / path).stat().st_size > 0
    assert len((folder / "data/train/wav.scp").read_text().splitlines()) == 6 * 4
    assert len((folder / "exp/tiny/train.tsv").read_text().splitlines()) == 3


def test_results_carry_protocol_list_and_paper(run):
    folder, _ = run
    rows = [line.split("\t") for line in (folder / "exp/tiny/results.tsv").read_text().splitlines()]
    table = [dict(zip(rows[0], row)) for row in rows[1:]]
    cells = {(r["list"], r["protocol"], r["duration"]) for r in table}
    assert cells == {(name, protocol, duration) for protocol in ("paper", "native")
                     for name, duration in [("O", "full"), ("O", "2"), ("E", "full"), ("H", "full")]}
    llrs = [r for r in table if r["backend"] == "cosine+cal"]
    assert len(llrs) == len(table) / 2 == len(cells) and all(r["cllr"] and r["act_dcf_05"] for r in llrs)
    assert all(len(r["trials_sha256"]) == 64 and r["commit"] and "run.sh" in r["command"] for r in table)
    text = (folder / "exp/tiny/RESULTS.md").read_text()
    assert "*1.54*" in text and "*published*" in text, "the paper's figure next to ours"
    assert "37,611" in text, "and that our list is not the paper's"


def test_list_o_alone_and_the_others_later(root, corpora, tmp_path):
    """With VoxCeleb1's test part: no other list is prepared, scored or in the tables. Then with all of it."""
    own, folder = tmp_path / "corpora", tmp_path / "recipe"
    shutil.copytree(corpora, own)
    for path in [*own.glob("vox1/list_test_*.txt"), *own.glob("vox1/vox1_dev_wav")]:
        path.rename(own / path.name)
    write_experiment(folder / "exp/tiny")

    page = example(root, "docs/howto/voxceleb.md", "./run.sh --test-lists O")

    def stages(first, last, *lists):
        done = recipe(root, folder, own, "--stage", first, "--stop-stage", last, "--protocols", "native", "--durations",
                      "", *lists, page=page)
        return done.returncode, done.stderr

    code, message = stages("0", "1", "--test-lists", "O E")
    assert code == 1 and "list_test_all2.txt: no such file" in message and "list_test_hard" not in message
    for first, last in (("0", "1"), ("4", "8")):
        code, message = stages(first, last)
        assert code == 0, message[-3000:]
    table = [line.split("\t") for line in (folder / "exp/tiny/results.tsv").read_text().splitlines()]
    assert {row[table[0].index("list")] for row in table[1:]} == {"O"}
    assert not (folder / "data/vox1").exists() and "Vox1-E" not in (folder / "exp/tiny/RESULTS.md").read_text()
    for path in [*own.glob("list_test_*.txt"), *own.glob("vox1_dev_wav")]:
        path.rename(own / "vox1" / path.name)
    code, message = stages("0", "1", "--test-lists", "O E H")
    assert code == 0 and "wrote data/vox1/wav.scp" in message, message[-3000:]
    assert "nothing to do" in stages("1", "1", "--test-lists", "O E H")[1]
    assert stages("1", "1", "--test-lists", "X") == (1, "./run.sh: --test-lists: unknown X; VoxCeleb1 has O, E, H\n")


def test_kaldi_reads_the_embeddings(run):
    folder, _ = run
    for name, num in (("vox1_test_native_2s", 9), ("vox1_paper", 12)):
        with kaldi_native_io.SequentialFloatVectorReader(f"scp:{folder}/exp/tiny/embeddings/{name}/embedding.scp") as r:
            assert len([key for key, value in r if len(value) == 8]) == num


def test_stages_run_alone_and_give_the_same(root, corpora, run):
    folder, _ = run
    scores = folder / "exp/tiny/scores/cosine/vox1_test/trials_O_native"
    before = scores.read_text()
    scores.unlink()
    page = example(root, "docs/howto/voxceleb.md", "./run.sh --stage 4 --stop-stage 5")
    done = recipe(root, folder, corpora, page=page)
    assert done.returncode == 0, done.stderr
    assert scores.read_text() == before and "stage 3" not in done.stderr and "stage 6" not in done.stderr


def test_other_systems_of_the_pages(root, corpora, run):
    folder, _ = run
    write_experiment(folder / "exp/rawnext_aam")
    for page in (example(root, "docs/howto/voxceleb.md", "./run.sh --stage 3 --conf"),
                 example(root, "docs/howto/fine_tuning.md", "./run.sh --stage 3 --init exp/rawnext_aam --conf")):
        own = dict(zip(page[1::2], page[2::2]))
        done = recipe(root, folder, corpora, "--conf", own["--conf"], "--name", own["--name"], "--set", TINY,
                      "--stop-stage", "3", page=page)
        assert done.returncode == 0, done.stderr[-3000:]
        exp = folder / "exp" / own["--name"]
        assert (exp / "model.pt").stat().st_size > 0
        assert ("--init" in page) == ("exp/rawnext_aam" in (exp / "train_info.json").read_text())


def test_fine_tuning_with_a_larger_margin_is_a_stage(root, corpora, run):
    folder, _ = run
    page = example(root, "docs/howto/fine_tuning.md", "./run.sh --stage 10")
    done = recipe(root, folder, corpora, "--name", "tiny", "--large-margin", "tiny.yaml", "--set", "optim.lr=1e-5",
                  "--protocols", "native", "--durations", "",
                  page=page)
    assert done.returncode == 0, done.stderr[-3000:]
    info = json.loads((folder / "exp/tiny_lm/train_info.json").read_text())
    assert info["init"] == "exp/tiny" and (folder / "exp/tiny_lm/RESULTS.md").exists()


def test_help_has_every_stage_and_option(root, tmp_path):
    env = place_recipe(root, "voxceleb", tmp_path)
    page = example(root, "docs/howto/voxceleb.md", "./run.sh --help")
    done = subprocess.run(page, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == 0 and all(f"--{name} " in done.stdout for name in ("stage", "vox2-flac", "backends"))


def test_a_kaldi_directory_of_ones_own(root, run):
    folder, _ = run
    wavs = (folder / "data/vox1_test/wav.scp").read_text().splitlines()[:2]
    (folder / "data/mine").mkdir()
    (folder / "data/mine/wav.scp").write_text("\n".join(wavs) + "\n")
    if not (folder / "exp/rawnext").exists():
        (folder / "exp/rawnext").symlink_to("tiny")
    done = subprocess.run(example(root, "README.md", "steps/extract.sh"), cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert len((folder / "exp/rawnext/embeddings/mine/embedding.scp").read_text().splitlines()) == 2


@pytest.mark.parametrize(("more", "why"), [
    (["--vox1", "/none"], "/none"), (["--sage", "1"], "did you mean --stage"),
    (["--stage", "4", "--name", "other"], "no such file exp/other/model.pt"),
    (["--stage", "5", "--name", "other"], "no such file"), (["--stage", "3", "--set", "optim.lrr=1"], "lrr"),
    (["--stage", "3", "--conf", "none.yaml"], "none.yaml")])
def test_mistakes_end_at_once(root, corpora, run, more, why):
    done = recipe(root, run[0], corpora, *more)
    assert done.returncode == 1 and why in done.stdout + done.stderr and "Traceback" not in done.stdout + done.stderr


def test_back_ends_of_training_speakers(root, run):
    """Stages 4-6 with a cohort: its embeddings, the models and scores; a second time, over what a kill may leave."""
    folder, _ = run
    utts = sorted(line.split()[0] for line in (folder / "data/vox1_test/wav.scp").read_text().splitlines())
    (folder / "data/vox1_test/models.enroll").write_text(f"m {utts[0]} {utts[1]}\n")
    (folder / "data/vox1_test/models").write_text(f"m {utts[2]} target\nm {utts[-1]} nontarget\n")

    def backends(*more):
        command = ["steps/verification.sh", "--stop-stage", "6", "--eval", "data/vox1_test:models", "--durations", "1",
                   "--protocols", "native", "--cohort-utts", "3", "--backends", "asnorm_matched plda", *more,
                   "exp/tiny"]
        return subprocess.run(command, cwd=folder, capture_output=True, text=True)

    done = backends("--stage", "4")
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    scores = [folder / f"exp/tiny/scores/{backend}/vox1_test/models_native{cut}"
              for backend in ("asnorm_matched", "plda") for cut in ("", "_1s")]
    assert all(len(path.read_text().splitlines()) == 2 for path in scores)
    assert len((folder / "exp/tiny/cohort/wav.scp").read_text().splitlines()) == 6 * 3
    models = ["mean.vec", "transform.mat", "plda"]
    assert {path.name for path in (folder / "exp/tiny/backend/native").iterdir()} == {*models, "mean.vec.sources"}
    written = [*scores, *(folder / "exp/tiny/backend/native" / name for name in models)]
    before = [path.read_bytes() for path in written]
    written[0].unlink()
    written[-1].write_bytes(b"\0B<Plda> ")
    half = written[-1].with_name(".plda.999999.tmp")
    half.write_bytes(b"\0B")
    done = backends("--stage", "6")
    assert done.returncode == 0, done.stderr
    assert [path.read_bytes() for path in written] == before and not half.exists()
    done = backends("--stage", "6", "--backends", "plda asnrom")
    assert done.returncode == 1 and "unknown asnrom" in done.stderr


def test_all_back_ends_of_the_pages(root, corpora, run):
    folder, _ = run
    page = example(root, "docs/reference/backend.md", "./run.sh --stage 4")
    backends = page[page.index("--backends") + 1]
    done = recipe(root, folder, corpora, "--backends", backends, "--durations", "", "--protocols", "native",
                  "--stop-stage", "6", page=page)
    assert done.returncode == 0, done.stderr[-3000:]
    *page, exp = example(root, "docs/explanation/calibration_by_duration.md", "steps/verification.sh")
    if not (folder / exp).exists():
        (folder / exp).symlink_to("tiny")
    done = subprocess.run([*page, "--eval", "data/vox1_test:trials_O", "--durations", "", "--nj", "1", exp], cwd=folder,
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    for backend in backends.split():
        for kind in (backend, f"{backend}+cal"):
            assert len((folder / exp / "scores" / kind / "vox1_test/trials_O_native").read_text().splitlines()) == 36
