# SPDX-License-Identifier: Apache-2.0
"""`rawnext embed` gives the Python interface's embeddings under ids that Kaldi's tables can carry."""

import json

import kaldi_native_io
import numpy as np
import pytest
import soundfile
from corpus import voice
from tiny_model import write_experiment

from rawnext import Extractor, read_audio
from rawnext.cli import inputs
from rawnext.cli.main import main
from rawnext.config import model_folder
from rawnext.data.wav import check_sources, load_wave, read_sources
from rawnext.errors import InputError
from rawnext.kaldi.ark import read_vectors
from rawnext.kaldi.tables import read_table


@pytest.fixture(scope="module")
def exp(tmp_path_factory):
    return write_experiment(tmp_path_factory.mktemp("exp"))


@pytest.fixture(scope="module")
def extractor(exp):
    return Extractor.from_pretrained(exp, "cpu")


@pytest.fixture(autouse=True)
def work(tmp_path, monkeypatch, exp):
    """A working directory with audio/{b,a.1,sub/c}.*, and the model in the environment."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RAWNEXT_MODEL", str(exp))
    (tmp_path / "audio/sub").mkdir(parents=True)
    for number, name in enumerate(("b.wav", "a.1.flac", "sub/c.ogg")):
        soundfile.write(tmp_path / "audio" / name, voice(number, 0, 0.6 + 0.2 * number), (16000, 44100, 16000)[number])
    return tmp_path


def same(a, b):
    return np.abs(np.asarray(a) - b).max() < 1e-4 * np.abs(b).max()


def test_files_are_embedded_into_a_kaldi_archive(extractor):
    main(["embed", "audio/b.wav", "audio/a.1.flac", "-o", "out/emb.ark,out/emb.scp"])
    with kaldi_native_io.SequentialFloatVectorReader("scp:out/emb.scp") as reader:
        found = {key: np.array(value) for key, value in reader}
    assert list(found) == ["a.1", "b"]  # Kaldi's order
    for key, name in (("a.1", "a.1.flac"), ("b", "b.wav")):
        assert same(found[key], extractor.embed(*read_audio(f"audio/{name}")))


def test_folder_is_embedded_as_text_and_json(extractor, capsys, work):
    (work / "audio/notes.txt").write_text("x")
    main(["embed", "audio"])
    out, log = capsys.readouterr()
    assert "audio: 1 files were skipped, not audio by their names: 1 of .txt" in log
    (work / "text").write_text(out)
    with kaldi_native_io.SequentialFloatVectorReader("ark,t:text") as reader:
        found = {key: np.array(value) for key, value in reader}
    assert list(found) == ["a.1", "b", "sub-c"]
    main(["embed", "audio", "--json"])
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["id"] for row in rows] == list(found) and rows[1]["end"] == 0.6
    for row in rows:
        assert np.allclose(row["embedding"], found[row["id"]], rtol=1e-5)
    assert same(found["sub-c"], extractor.embed(*read_audio("audio/sub/c.ogg")))


def test_list_and_standard_input_give_the_same(capsys, monkeypatch, work):
    (work / "list").write_text("anna audio/b.wav\naudio/sub/c.ogg\n")
    main(["embed", "-l", "list", "--json"])
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    monkeypatch.setattr(inputs, "STDIN", "list")
    main(["embed", "-", "--json"])
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == rows
    assert [row["id"] for row in rows] == ["anna", "c"]


def test_windows_make_a_data_directory_with_the_same_embeddings(extractor, capsys):
    main(["embed", "audio/a.1.flac", "audio/sub/c.ogg", "--window", "0.3", "--shift", "0.29", "-o", "x/x.ark,x/x.scp"])
    vectors, sources = read_vectors("x/x.scp"), read_sources("x")
    check_sources(sources)  # no segment ends after its recording, even at 44.1 kHz
    assert [source.utt for source in sources] == list(vectors) == [
        "a.1-0000000-0000029", "c-0000000-0000030", "c-0000029-0000059", "c-0000058-0000088", "c-0000070-0000100"]
    for source in sources:
        if source.path.endswith("ogg"):
            assert same(vectors[source.utt], extractor.embed(load_wave(source)))
    segments = {key: value.split()[0] for key, value in read_table("x/segments").items()}
    assert read_table("x/utt2spk") == segments
    assert {key: spk for spk, keys in read_table("x/spk2utt").items() for key in keys.split()} == segments
    main(["embed", "audio/a.1.flac", "audio/sub/c.ogg", "--window", "0.3", "-o", "x/x.ark,x/x.scp", "--json"])
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["start"] for row in rows if row["recording"] == "c"] == [0, 0.15, 0.3, 0.45, 0.6, 0.7]
    with pytest.raises(InputError, match="x/wav.scp: lists other recordings"):
        main(["embed", "audio/b.wav", "--window", "0.3", "-o", "x/x.ark,x/x.scp"])


@pytest.mark.parametrize(("words", "why"), [
    ([], "name files, folders or a list"), (["touch ran|"], "is a command, not a file"),
    (["audio/no.wav"], "^audio/no.wav: no such file$"), (["empty"], "^empty: contains no audio files"),
    (["audio/b.wav", "audio/sub"], "^audio/sub/b.wav: .* would both be b; name them in a list"),
    (["a b.wav"], "'a b' cannot be an id"), (["-l", "list"], "^list:2: 'cat x |' is a command"),
    (["-l", "nothing"], "nothing: no such file"), (["audio/b.wav", "--shift", "1"], "--shift: needs --window"),
    (["audio/b.wav", "--window", "0.05"], "want a window from 0.1 s"),
    (["audio/b.wav", "--window", "inf"], "--window and --shift: "),
    (["audio/b.wav", "--longest", "0.1"], "--longest: longest_s: at least"),
    (["audio/b.wav", "-m", "none"], "none/config.yaml: no such file"),
    (["audio/b.wav", "--device", "none"], "none: no such device")])
def test_invalid_input_is_refused_before_work_starts(work, words, why, capsys):
    (work / "empty").mkdir()
    soundfile.write("audio/sub/b.wav", voice(0, 0, 1), 16000)
    (work / "list").write_text("anna audio/b.wav\nbert cat x |\n")
    with pytest.raises(InputError, match=why) as caught:
        main(["embed", *words, "-o", "out/emb.ark,out/emb.scp"])
    assert "\n" not in str(caught.value) and not (work / "out").exists() and not (work / "ran").exists()


def test_nothing_is_written_if_a_file_is_bad(work):
    wave = voice(0, 0, 1)
    wave[9000] = np.nan
    soundfile.write("audio/z.wav", wave, 16000, subtype="FLOAT")
    with pytest.raises(InputError, match="z.wav: .*NaN"):
        main(["embed", "audio", "-o", "emb.ark,emb.scp"])
    assert not (work / "emb.ark").exists() and not (work / "emb.scp").exists()


@pytest.mark.parametrize("words", [["-o", "emb.ark"], ["-o", "a,a"], ["-o", "a,"]])
def test_output_needs_two_names(words, capsys):
    with pytest.raises(SystemExit):
        main(["embed", "audio", *words])
    assert "want ARK,SCP" in capsys.readouterr().err


def test_without_a_name_the_model_of_the_package_is_used(monkeypatch, exp, capsys):
    monkeypatch.delenv("RAWNEXT_MODEL")
    monkeypatch.setattr("rawnext.config.PRETRAINED", exp)
    main(["embed", "audio"])
    shown = capsys.readouterr()
    assert shown.err.count(f"no --model: using the model of the package ({exp}/README.md)") == 1
    main(["embed", "audio", "-m", str(exp)])
    again = capsys.readouterr()
    assert again.out == shown.out and "model of the package" not in again.err
    assert (Extractor.from_pretrained().folder, Extractor.from_pretrained(str(exp)).folder) == (exp, exp)


def test_a_folder_named_pretrained_wins(monkeypatch, tmp_path, exp):
    monkeypatch.chdir(tmp_path)
    assert model_folder("pretrained").parent.name == "rawnext"
    (tmp_path / "pretrained").symlink_to(exp)
    assert model_folder("pretrained").resolve() == exp.resolve()


def test_names_with_spaces_and_notes_of_macos(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sounds").mkdir()
    soundfile.write("sounds/my voice.wav", voice(0, 0, 1.0), 16000)
    soundfile.write("sounds/b.wav", voice(0, 0, 1.0), 16000)
    (tmp_path / "sounds/._b.wav").write_bytes(b"a note of macOS")
    (tmp_path / "list").write_text("anna sounds/my voice.wav\nsounds/b.wav")
    found = inputs.gather([], ["list"])
    assert [(source.utt, source.path) for source in found] == [("anna", "sounds/my voice.wav"), ("b", "sounds/b.wav")]
    (tmp_path / "list").write_text("sounds/my voice.wav\n")
    for names, lists in ((["sounds/my voice.wav"], []), ([], ["list"])):
        with pytest.raises(InputError, match=r"'my voice' .*; give it another id in a list with lines `utt path`"):
            inputs.gather(names, lists)
    (tmp_path / "sounds/my voice.wav").unlink()
    assert [source.utt for source in inputs.gather(["sounds"], [])] == ["b"]
