# SPDX-License-Identifier: Apache-2.0
import pytest
import torch
from corpus import voice
from model_checks import SMALL, check_batch_equals_single, error, randomise
from torch import nn
from torch.nn.utils.rnn import pad_sequence

from rawnext.models import MODELS
from rawnext.models.base import SpeakerModel
from rawnext.models.folded import folded


class Recorder(SpeakerModel):
    """Returns what it reads."""

    embedding_dim = 1

    def encode(self, x, lengths):
        return x


@pytest.mark.parametrize("name", ["frontend", "preprocess"])
def test_a_module_assigned_in_place_of_a_method_is_refused(name):
    class Assigns(Recorder):
        def __init__(self):
            super().__init__()
            setattr(self, name, nn.Identity())

    with pytest.raises(AttributeError, match="override the method preprocess"):
        Assigns()


def test_a_method_frontend_that_would_skip_the_level_is_refused():
    with pytest.raises(TypeError, match="override preprocess"):
        type("Overrides", (Recorder,), {"frontend": lambda self, wave, lengths=None: (wave, lengths)})


@pytest.mark.parametrize("level", [0.05, 0.2])
def test_each_utterance_has_the_level_over_its_own_samples(level):
    model = Recorder().double().eval()
    model.level = level
    waves = [gain * torch.randn(num).double() for gain, num in ((1e-4, 1600), (3, 5000), (0.1, 2345))]
    padded = pad_sequence(waves, batch_first=True, padding_value=7.0)  # arbitrary samples after an utterance's end
    heard = model(padded, torch.tensor([len(wave) for wave in waves]))
    for row, wave in zip(heard, waves):
        assert row[: len(wave)].square().mean().sqrt() == pytest.approx(level, rel=1e-9)
        assert torch.allclose(row[: len(wave)], model(wave[None])[0], rtol=1e-9)


def test_silence_stays_silence():
    model = Recorder()
    model.level = 0.05
    assert not model(torch.zeros(2, 2000)).any()


@pytest.mark.parametrize("name", SMALL)
def test_with_a_level_no_embedding_depends_on_gain(name):
    """From -40 to +6 dB, in float32, for short and long utterances; without a level it does."""
    level, plain = (randomise(MODELS.build(name, {**SMALL[name], "level": x})).float().eval() for x in (0.05, 0))
    for seconds in (0.1, 1.3):
        wave = torch.from_numpy(voice(0, 0, seconds))[None]
        waves = [gain * wave for gain in (0.01, 0.03, 0.25, 0.5, 2.0)]
        with torch.inference_mode():
            same, changed = (max(error(model(x), model(wave)) for x in waves) for model in (level, plain))
        assert same < 1e-4 and changed > 3 * same


@pytest.mark.parametrize("name", SMALL)
def test_with_a_level_a_batch_equals_its_single_utterances(name):
    check_batch_equals_single(randomise(MODELS.build(name, {**SMALL[name], "level": 0.05})), [1600, 4000, 12345])


@pytest.mark.parametrize("level", [-0.1, 2, "loud", None])
def test_a_level_that_is_no_rms_is_refused(level):
    with pytest.raises(ValueError, match="level: an RMS of 0...1"):
        MODELS.check("rawnext", {"level": level})


def test_the_folded_model_keeps_the_level():
    model = randomise(MODELS.build("rawnext", {**SMALL["rawnext"], "level": 0.05})).eval()
    assert folded(model).level == 0.05
