# SPDX-License-Identifier: Apache-2.0
"""Activation maps: a case computed by hand, a network that has learnt where to look, and the program."""

import importlib.util
import re
import subprocess
import sys

import numpy as np
import pytest
import soundfile
import torch
import torch.nn.functional as F
from matplotlib.image import imread

from rawnext.config import load_config, save_config, split_name
from rawnext.files import write_lines
from rawnext.inference.extract import embed_native, load_model
from rawnext.models import MODELS
from rawnext.models.base import SpeakerModel
from rawnext.models.features import LogMel
from rawnext.results.analysis import plots
from rawnext.results.analysis.activation import activation_map, band_of, check_map, cosine, energies, masked_scores
from rawnext.training import checkpoint

pytestmark = pytest.mark.usefixtures("forked_programs")

SMALL = {"widths": [4, 4, 8, 8], "blocks": [1, 1, 1, 1], "bands": 24, "embedding_dim": 8}


class ByHand(SpeakerModel):
    """A given map (C, F, L), weights over time, one linear layer: its gradient has a closed form."""

    feature_map = "stage"

    def __init__(self):
        super().__init__()
        torch.manual_seed(1)
        self.features = LogMel(6)
        self.stage = torch.nn.Identity()
        self.maps, self.when = torch.randn(1, 3, 6, 11).double(), torch.rand(11).double()
        self.fc = torch.nn.Linear(3, 4, bias=False).double()
        self.embedding_dim = 4

    def encode(self, x, lengths):
        return self.fc((self.stage(self.maps) * self.when).mean((2, 3)))


@pytest.mark.parametrize("time_only", [False, True])
def test_equals_hand_computed_case(time_only):
    """A map as large as the log-mel energies, so that nothing is interpolated."""
    model = ByHand().eval()
    a, when, w = model.maps[0].numpy(), model.when.numpy(), model.fc.weight.detach().numpy()
    r = np.array([1.0, -2, 3, 0.5])
    e = w @ (a * when).mean((1, 2))
    r_unit, e_unit = r / np.linalg.norm(r), e / np.linalg.norm(e)
    slope = w.T @ (r_unit - (r_unit @ e_unit) * e_unit) / np.linalg.norm(e)  # (C,) of the cosine by the mean map
    weight = slope[:, None, None] * (when if time_only else when.mean())  # but for a factor that the maximum takes off
    expected = np.maximum((weight * a).sum(0), 0)
    found = activation_map(model, torch.zeros(1600).double(), torch.from_numpy(r), time_only)
    assert np.allclose(found, expected / expected.max(), rtol=0, atol=1e-12)
    assert 0.2 < (expected > 0).mean() < 0.8, "a case in which the ReLU matters"


def test_larger_than_the_map_and_never_above_one():
    torch.manual_seed(0)
    model = MODELS.build("resnet34", SMALL).eval()
    wave, reference = torch.randn(5000), torch.randn(8)
    maps = torch.stack([activation_map(model, wave, sign * reference) for sign in (1, -1)])
    assert maps.shape == (2, 24, 5000 // 160 + 1) and float(maps.max()) == 1 and float(maps.min()) == 0
    assert not model.layer4._forward_hooks and model.conv1.weight.grad is None


def test_a_map_without_activation_is_zero():
    model = ByHand().eval()
    model.when.zero_()  # nothing of the map reaches the embedding
    assert not activation_map(model, torch.zeros(1600).double(), torch.ones(4).double()).any()


def test_band_of_a_frequency():
    """A tone's energy is largest in the band that it is said to be in."""
    features = LogMel(40, 20, 7600, norm="none")
    for hz in (500, 1234, 3000, 7000):
        tone = torch.sin(2 * torch.pi * hz * torch.arange(8000) / 16000)
        assert abs(int(features(tone[None])[0].mean(1).argmax()) - band_of(hz, features)) <= 0.6
    assert band_of(20, features) == pytest.approx(-1) and band_of(7600, features) == pytest.approx(40)


def test_energies_are_the_front_ends_and_leave_it_alone():
    model = MODELS.build("resnet34_se", {"widths": [8] * 4, "bands": 12})
    wave, norm = torch.randn(3200), model.features.norm
    found = energies(model, wave)
    assert model.features.norm == norm != "none"
    assert torch.equal(found, LogMel(12, pre_emphasis=0.97, norm="none")(wave[None])[0][0].T)


def sample(seed):
    """One of four speakers, a wave of noise with 0.12 s of that speaker's tone, and (101,) the frames of the tone."""
    rng = np.random.default_rng(seed)
    speaker, start = int(rng.integers(4)), int(rng.integers(88))
    sounds = torch.zeros(101)
    sounds[start : start + 12] = 1
    tone = torch.sin(2 * torch.pi * (700, 1200, 2000, 3300)[speaker] * torch.arange(16000) / 16000)
    noise = torch.from_numpy(rng.normal(0, 0.3, 16000)).float()
    return speaker, noise + tone * sounds[:100].repeat_interleave(160), sounds.bool()


@pytest.fixture(scope="module")
def trained():
    """A network that distinguishes the four; attention, as a frame then has a weight of its own."""
    torch.manual_seed(0)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    model = MODELS.build("resnet34", {**SMALL, "pooling": "asp"})
    head = torch.nn.Linear(8, 4)
    optimizer = torch.optim.Adam([*model.parameters(), *head.parameters()], 1e-2)
    for step in range(50):
        speakers, waves, _ = zip(*map(sample, range(12 * step, 12 * step + 12)))
        loss = F.cross_entropy(head(model(torch.stack(waves))), torch.tensor(speakers))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert float(loss.detach()) < 0.1, "the network has not learnt its task, so its maps mean nothing"
    yield model.eval()
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def cases(trained):
    """(wave, reference: mean of ten others of the speaker, frames of the tone) of eight utterances."""
    others: dict[int, list] = {}
    with torch.no_grad():
        for speaker, wave, _ in map(sample, range(10_000, 10_040)):
            others.setdefault(speaker, []).append(trained(wave[None])[0])
    return [(wave, torch.stack(others[speaker]).mean(0), sounds)
            for speaker, wave, sounds in map(sample, range(20_000, 20_008))]


@pytest.mark.parametrize(("time_only", "factor"), [(False, 1.1), (True, 4)])
def test_map_lies_on_what_tells_speakers_apart(trained, cases, time_only, factor):
    active = [(activation_map(trained, wave, reference, time_only).mean(0), sounds)
              for wave, reference, sounds in cases]
    inside, outside = (np.mean([float(a[frames if which else ~frames].mean()) for a, frames in active])
                       for which in (True, False))
    assert inside > factor * outside


@pytest.mark.parametrize("time_only", [False, True])
def test_without_active_frames_the_score_falls(trained, cases, time_only):
    """More than without as many others; a map that a network with random weights has drawn does not find them."""
    torch.manual_seed(3)
    fresh = MODELS.build("resnet34", {**SMALL, "pooling": "asp"}).eval()
    own, foreign, alike = [], [], []
    for wave, reference, _ in cases:
        right, wrong = (activation_map(model, wave, reference, time_only) for model in (trained, fresh))
        own.append(masked_scores(trained, wave, reference, right, draws=6))
        foreign.append(masked_scores(trained, wave, reference, wrong, draws=6))
        alike.append(np.corrcoef(right.flatten(), wrong.flatten())[0, 1])
    (whole, most, others), (_, wrong, _) = np.mean(own, axis=0), np.mean(foreign, axis=0)
    assert whole > 0.9 and whole - most > 2 * (whole - others) and whole - most > 2 * (whole - wrong)
    assert own[0][0] == pytest.approx(float(cosine(trained, *cases[0][:2]).detach()))
    assert abs(np.mean(alike)) < 0.5


def test_models_without_such_a_map_are_refused():
    with pytest.raises(ValueError, match="EcapaTdnn has no map"):
        check_map(MODELS.build("ecapa_tdnn", {"channels": 16}))
    check_map(MODELS.build("resnet34", SMALL))


# --- the picture and the program

def test_pdf(tmp_path):
    plots.plot_activation(np.ones(800), np.ones((4, 6)), np.ones((4, 6)), 16000, 160, {}, "title", tmp_path / "x.pdf")
    assert (tmp_path / "x.pdf").read_bytes().startswith(b"%PDF")


def test_axes_tell_seconds_and_hertz(monkeypatch):
    saved = []
    monkeypatch.setattr(plots, "save", lambda figure, path: saved.append(figure))
    activation = np.zeros((10, 101))
    activation[3, 50] = 1
    plots.plot_activation(np.sin(np.arange(16000.0)), np.ones((10, 101)), activation, 16000, 160, {1000: 3, 4000: 7.5},
                          "title", "x.png")
    wave, mel, overlay = saved[0].axes[:3]
    assert [axis.get_xlim() for axis in (wave, mel, overlay)] == [(0, 1)] * 3
    assert overlay.get_yticks().tolist() == [3, 7.5]
    assert [tick.get_text() for tick in overlay.get_yticklabels()] == ["1000", "4000"]
    left, right, bottom, top = overlay.images[1].get_extent()
    assert left + 50.5 * (right - left) / 101 == pytest.approx(0.5), "frame 50 is at half a second"
    assert bottom + 3.5 * (top - bottom) / 10 == pytest.approx(3)
    assert overlay.images[1].origin == "lower" and overlay.get_xlabel() == "time (s)"
    assert wave.get_title() == "title"


def write_exp(exp, model):
    config = load_config([], [f"model={model}".replace("'", "")])
    save_config(config, exp / "config.yaml")
    torch.manual_seed(0)
    checkpoint.save(exp / "model.pt", {"model": MODELS.build(*split_name(model)).state_dict(), "speakers": [],
                                       "epoch": 0, "step": 0})


@pytest.fixture
def run(root, tmp_path):
    """Run the program in a folder with an experiment, and a data directory: a1 a2 of speaker a, b1 of b."""
    write_exp(tmp_path / "exp", {"name": "resnet34", **SMALL})
    rng, utts = np.random.default_rng(0), ("a1", "a2", "b1")
    for i, utt in enumerate(utts):
        wave = 0.05 * rng.normal(size=8000) + 0.3 * np.sin(np.arange(8000) * (i + 1) / 3)
        soundfile.write(tmp_path / f"{utt}.wav", wave, 16000)
    write_lines(tmp_path / "data" / "wav.scp", (f"{utt} {tmp_path}/{utt}.wav" for utt in utts))
    write_lines(tmp_path / "data" / "utt2spk", (f"{utt} {utt[0]}" for utt in utts))

    def run(*args):
        return subprocess.run([sys.executable, root / "steps" / "activation_map.py", *args], cwd=tmp_path,
                              capture_output=True, text=True)

    run.folder = tmp_path
    return run


@pytest.mark.slow
def test_program_draws(run):
    done = run("--time-only", "--enroll", "a1,a2", "exp", "data", "b1", "out/map.png")
    assert done.returncode == 0, done.stderr
    number = r"-?\d\.\d{3}"
    said = re.fullmatch(rf"activation_map.py: out/map.png; cosine ({number}), without the most active tenth {number}, "
                        rf"without others {number}\n", done.stdout)
    model, _ = load_model(run.folder / "exp", torch.device("cpu"))
    waves = [soundfile.read(run.folder / f"{utt}.wav", dtype="float32")[0] for utt in ("a1", "a2", "b1")]
    one, two, test = embed_native(model, waves)
    score = np.dot(one + two, test) / np.linalg.norm(one + two) / np.linalg.norm(test)
    assert float(said[1]) == pytest.approx(score, abs=6e-4)
    picture = imread(run.folder / "out" / "map.png")
    assert min(picture.shape[:2]) > 300 and picture[..., :3].std() > 0.05
    assert [path.name for path in (run.folder / "out").iterdir()] == ["map.png"]
    assert run("exp", "data", "a1", "map.jpg").returncode == 2


def test_reference_is_all_others_of_the_speaker(root, tmp_path):
    spec = importlib.util.spec_from_file_location("activation_map_program", root / "steps" / "activation_map.py")
    program = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(program)
    write_lines(tmp_path / "utt2spk", ["a1 a", "a2 a", "a3 a", "b1 b", *(f"c{i:02} c" for i in range(50))])
    assert program.others_of("a2", tmp_path) == ["a1", "a3"]
    assert program.others_of("c07", tmp_path) == [f"c{i:02}" for i in range(21) if i != 7]


def test_faults_are_one_line(run):
    for args, why in ((("exp", "data", "b1", "x.png"), "data/utt2spk: b has no other utt than b1"),
                      (("exp", "data", "a3", "x.png"), "data/utt2spk: has no utt 'a3'"),
                      (("--enroll", "a1,c", "exp", "data", "a2", "x.png"), "data/wav.scp: has no utt 'c'")):
        done = run(*args)
        assert (done.returncode, done.stderr.count("\n")) == (1, 1) and why in done.stderr
    write_exp(run.folder / "exp", {"name": "rawnet2", "channels": [4] * 6})
    done = run("exp", "data", "a1", "x.png")
    why = "exp/config.yaml: RawNet2 has no map of frequency and time to look into; a ResNet34 has"
    assert (done.returncode, done.stderr) == (1, f"activation_map.py: {why}\n")
    assert not (run.folder / "x.png").exists()
