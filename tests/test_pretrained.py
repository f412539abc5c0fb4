# SPDX-License-Identifier: Apache-2.0
"""The model that comes with the package, held to its card: size, error rate on real speech, gain, first decisions."""

import json
import re
import subprocess
import sys

import numpy as np
import pytest
import soundfile
from programs import forking

from rawnext import Extractor, read_audio
from rawnext.cli.main import main
from rawnext.config import PRETRAINED
from rawnext.data.cuts import SAMPLE_RATE
from rawnext.data.media import read_bytes
from rawnext.data.wav import load_wave, read_sources
from rawnext.kaldi.tables import read_trials
from rawnext.scoring.cosine import unit_vectors
from rawnext.scoring.decision import read_judge
from rawnext.scoring.metrics import eer


@pytest.fixture(scope="module")
def card():
    return (PRETRAINED / "README.md").read_text()


@pytest.fixture(scope="module")
def pack(root, tmp_path_factory):
    """The speech of the demonstration's test set, and its trials as the recipe draws them."""
    data = tmp_path_factory.mktemp("data")
    for program, *words in (("local/open/prepare_open.py", "--test", f"test={root}/egs/mini/pack/test", "--train",
                             f"ls={root}/egs/mini/pack/librispeech", "--train",
                             f"so={root}/egs/mini/pack/speechocean762", data),
                            ("utils/make_trials.py", "--seed", "1", data / "test", data / "test/trials")):
        subprocess.run([sys.executable, root / program, *map(str, words)], check=True, capture_output=True,
                       env=forking())
    return read_sources(data / "test"), read_trials(data / "test/trials")


def embeddings(waves):
    return Extractor.from_pretrained(device="cpu").embed_batch(waves)


@pytest.fixture(scope="module")
def speech(pack):
    """Samples, durations and embeddings of the utterances; rows of both sides of the trials."""
    sources, trials = pack
    waves, row = [load_wave(source) for source in sources], {source.utt: i for i, source in enumerate(sources)}
    sides = ([row[utt] for utt in side] for side in (trials.enroll, trials.test))
    return waves, np.array([len(wave) / SAMPLE_RATE for wave in waves]), embeddings(waves), *sides


def test_the_package_has_all_files_of_the_model():
    files = {path.name for path in PRETRAINED.iterdir()}
    assert {"model.safetensors", "config.yaml", "README.md", "calibration"} <= files
    assert read_judge(PRETRAINED).cohort is not None
    assert (PRETRAINED / "model.safetensors").stat().st_size < 6e6


def test_error_rate_on_real_speech_is_that_of_the_card_at_every_gain(card, pack, speech):
    _, trials = pack
    waves, _, x, enroll, test = speech
    stated = float(re.search(r"test set of the demonstration .*: EER ([\d.]+) %", card)[1])
    x, quiet = map(unit_vectors, (x, embeddings([np.float32(0.03) * wave for wave in waves])))
    assert (np.einsum("nd,nd->n", x, quiet) > 0.9999).all(), "the level is heard"
    for y in (x, quiet):
        scores = np.einsum("nd,nd->n", x[enroll], y[test])
        assert 100 * eer(scores[trials.is_target], scores[~trials.is_target]) == pytest.approx(stated, abs=0.3)


def test_the_model_loads_without_torchs_compiler():
    """Its import takes 3 s."""
    code = f"import sys; from rawnext.inference.extract import load_model; load_model({str(PRETRAINED)!r}); " \
           "sys.exit('torch._dynamo' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_the_model_needs_no_torchaudio():
    """`pip install` of the package does not bring it."""
    code = ("import sys, numpy; sys.modules['torchaudio'] = None; from rawnext import Extractor; "
            "wave = numpy.random.default_rng(0).standard_normal(16000, numpy.float32); "
            "assert Extractor.from_pretrained(device='cpu').embed(wave, 16000).shape == (192,)")
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True)


@pytest.mark.parametrize("subtype", ["FLOAT", "PCM_16"])
def test_no_score_moves_with_the_gain_of_a_file(pack, tmp_path, capsys, monkeypatch, subtype):
    """The command line, the page and extraction agree at every gain; with float samples, at all gains together."""
    monkeypatch.delenv("RAWNEXT_MODEL", raising=False)
    sources, trials = pack
    path = {source.utt: source.path for source in sources}
    one, other = (path[side[0]] for side in (trials.enroll, trials.test))
    extractor = Extractor.from_pretrained(device="cpu")
    quiet, scores = tmp_path / "a.wav", []
    (tmp_path / "wav.scp").write_text(f"a {quiet}\n")
    for gain_db in (-40, -20, 6):
        wave, rate = soundfile.read(other, dtype="float32")
        soundfile.write(quiet, np.float32(0.5 / abs(wave).max() * 10 ** (gain_db / 20)) * wave, rate, subtype)
        main(["verify", one, str(quiet), "--json"])
        command_line = json.loads(capsys.readouterr().out)["score"]
        x = [extractor.embed_batch([load_wave(source)])[0] for source in read_sources(tmp_path)]
        x += [extractor.embed(*read_bytes(quiet.read_bytes(), 60)), extractor.embed(*read_audio(one))]
        extraction, page, enroll = x / np.linalg.norm(x, axis=1, keepdims=True)
        scores.append([command_line, enroll @ extraction, enroll @ page])
    assert np.ptp(scores, axis=1).max() < 1e-4 and (subtype == "PCM_16" or np.ptp(scores) < 1e-4), scores


def test_scores_move_little_with_the_noise_of_16_bits(pack, speech):
    """At -40 dB from full scale, on average over all trials."""
    _, trials = pack
    waves, _, x, enroll, test = speech
    noisy = [np.round(wave * (327.68 / 2 / abs(wave).max())) / np.float32(32768) for wave in waves]
    x, quiet = map(unit_vectors, (x, embeddings(noisy)))
    moved = np.einsum("nd,nd->n", x[enroll], quiet[test] - x[test])
    assert len(moved) == len(trials.is_target) and 1e-3 < abs(moved).mean() < 0.03


def test_decisions_without_naming_a_model(card, pack, speech, capsys, monkeypatch):
    """At equal priors, nine of ten pairs of one speaker are accepted and nine of ten pairs of two are not."""
    stated = float(re.search(r"By LLRs of `rawnext score`: ([\d.]+) %", card)[1])
    monkeypatch.delenv("RAWNEXT_MODEL", raising=False)
    sources, trials = pack
    _, seconds, x, enroll, test = speech
    unit = unit_vectors(x)
    cosines = np.einsum("nd,nd->n", unit[enroll], unit[test])
    llrs, _ = read_judge(PRETRAINED).llr(cosines, x, x, enroll, test, seconds[enroll], seconds[test])
    assert 100 * eer(llrs[trials.is_target], llrs[~trials.is_target]) == pytest.approx(stated, abs=0.3)
    for is_target in (True, False):
        chosen = trials.is_target == is_target
        assert np.mean((llrs[chosen] >= 0) == is_target) > 0.9
        i = np.flatnonzero(chosen)[0]
        main(["verify", sources[enroll[i]].path, sources[test[i]].path, "--prior", "0.5", "--json"])
        printed = json.loads(capsys.readouterr().out)
        assert printed["llr"] == pytest.approx(llrs[i], abs=1e-3) and printed["same_speaker"] == (llrs[i] >= 0)
