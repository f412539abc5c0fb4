# SPDX-License-Identifier: Apache-2.0
"""Recordings in lists: files and commands are read, everything else is refused."""

import struct

import numpy as np
import pytest
import soundfile
from audio_programs import needs_ffmpeg
from corpus import voice

from rawnext.data import audio, pipes, wav
from rawnext.data.wav import Source, check_sources, load_wave, load_waves, read_sources
from rawnext.errors import InputError

WAVE = voice(0, 0, 1)


@pytest.fixture
def data(tmp_path):
    """A folder with a.wav, a.flac and a.ogg."""
    for kind in ("wav", "flac", "ogg"):
        soundfile.write(tmp_path / f"a.{kind}", WAVE, 16000)
    return tmp_path


def sources(folder, *lines, segments=(), allow_pipes=True):
    (folder / "wav.scp").write_text("".join(f"{line}\n" for line in lines))
    (folder / "segments").unlink(missing_ok=True)
    if segments:
        (folder / "segments").write_text("".join(f"{line}\n" for line in segments))
    return read_sources(folder, allow_pipes)


def load(folder, command, *segments):
    found = sources(folder, f"a {command}", segments=segments)
    check_sources(found, 1600)
    return [load_wave(source) for source in found]


def read(path):
    return soundfile.read(path, dtype="float32")[0]


# --- refused entries

@pytest.mark.parametrize(("path", "why"), [
    ("touch ran |", "is a command; --allow-pipes"), ("touch ran|", "is a command"), ("| touch ran", "not a file"),
    ("-", "not a file"), ("~/a.wav", "without '~'")])
def test_invalid_entries_are_refused_before_anything_runs(data, monkeypatch, path, why):
    monkeypatch.chdir(data)
    with pytest.raises(InputError, match=f"wav.scp:2: b .*{why}"):
        sources(data, f"a {data}/a.wav", f"b {path}", allow_pipes=False)
    assert not (data / "ran").exists()


def test_segment_of_a_command_needs_allow_pipes(data):
    with pytest.raises(InputError, match=r"wav.scp:1: a is a command"):
        sources(data, "a cat a.wav |", segments=["u a 0 1"], allow_pipes=False)


def test_file_named_like_an_archive_offset_is_read(data):
    (data / "a.wav").rename(data / "a:5")
    assert np.array_equal(load_wave(sources(data, f"a {data}/a:5")[0]), read(data / "a:5"))


# --- commands

@pytest.mark.parametrize("kind", ["wav", "flac", "ogg"])
def test_output_of_a_command_equals_the_file(data, kind):
    assert np.array_equal(load(data, f"cat '{data}/a.{kind}' |")[0], read(data / f"a.{kind}"))


def test_commands_run_in_bash(data):
    command = f"cat <(head -c 100 {data}/a.wav) <(tail -c +101 {data}/a.wav) 2>/dev/null | cat |"
    assert np.array_equal(load(data, command)[0], read(data / "a.wav"))


def test_stderr_of_a_command_is_logged(data, caplog):
    command = f"echo careful >&2; cat {data}/a.wav; echo done >&2 |"
    assert np.array_equal(load(data, command)[0], read(data / "a.wav"))
    assert "cat" in caplog.text and caplog.text.rstrip().endswith("done")


def test_long_stderr_of_a_command_does_not_block(data):
    """More output than a pipe buffers causes no deadlock."""
    command = f"head -c 3000000 /dev/zero | tr '\\0' x >&2; cat {data}/a.wav |"
    assert np.array_equal(load(data, command)[0], read(data / "a.wav"))


@pytest.mark.parametrize("size", [pytest.param(0, marks=needs_ffmpeg), 0xFFFFFFFF, 0x7FFFFFFF])
def test_wav_header_without_the_length_is_read(data, size):
    raw = bytearray((data / "a.wav").read_bytes())
    raw[4:8] = raw[40:44] = struct.pack("<I", size)
    (data / "b.wav").write_bytes(raw)
    for path in (f"{data}/b.wav", f"cat {data}/b.wav |"):
        assert np.array_equal(load(data, path)[0], read(data / "a.wav"))


@needs_ffmpeg
@pytest.mark.parametrize("kind", ["wav", "ogg"])
def test_output_of_ffmpeg_is_read(data, kind):
    """Its headers do not state the length of the audio."""
    wave = load(data, f"ffmpeg -v error -i {data}/a.flac -f {kind} - |")[0]
    assert len(wave) >= len(WAVE) and np.abs(wave[:len(WAVE)] - WAVE).max() < (0.05 if kind == "ogg" else 1e-4)


@pytest.mark.parametrize(("command", "why"), [
    ("echo one >&2; echo two >&2; exit 3", r"failed \(exit status 3\): two"),
    ("cat no.wav", r"failed \(exit status 1\): cat: no.wav: No such file"),
    ("false | cat {data}/a.wav", r"failed \(exit status 1\)"),
    ("cat {data}/a.wav; exit 1", r"failed \(exit status 1\)"),
    ("no-such-program", r"failed \(exit status 127\): .*not found"),
    ("true", "wrote nothing"), ("echo x >&2", "wrote nothing: x"), ("kill -9 $$", "killed by signal 9"),
    ("echo this is no audio", "its command: neither soundfile nor ffmpeg can read it: ffmpeg failed .*: it: "),
    ("head -c 30 {data}/a.wav", "its command: neither soundfile nor ffmpeg"),
    ("head -c 30000 {data}/a.wav", "its command: cut off: it has 30000 bytes, its header promises 32044"),
    ("printf 'a\\rb\\033[31m\\n' >&2; exit 1", r"1\): b \[31m$"),
    ("head -c 2000 {data}/a.flac", "a: "), ("if", "syntax error")])
def test_failing_command_is_reported_in_one_line(data, command, why):
    with pytest.raises(InputError, match=why) as caught:
        load(data, f"{command.format(data=data)} |")
    text = str(caught.value)
    assert text.startswith(f"{data}/wav.scp:1: a: ") and text.isprintable()


def test_endless_output_is_refused(data, monkeypatch):
    monkeypatch.setattr(pipes, "MAX_BYTES", 1 << 22)
    with pytest.raises(InputError, match="writes more than 4194304 bytes"):
        load(data, "yes |")


def test_recording_of_several_segments_is_decoded_once(data):
    command = f"echo x >> {data}/count; cat {data}/a.wav |"
    waves = load(data, command, "u1 a 0 0.5", "u2 a 0.25 -1", "u3 a 0.5 1")
    whole = read(data / "a.wav")
    assert [len(wave) for wave in waves] == [8000, 12000, 8000]
    assert np.array_equal(waves[1], whole[4000:]) and np.array_equal(waves[2], whole[8000:])
    assert (data / "count").read_text() == "x\n"


@pytest.mark.parametrize(("segment", "why"), [("u a 0.5 1.51", "ends at 1.51 s, after its recording .1 s."),
                                              ("u a 0.95 1", "0.050 s of audio"), ("u a 2 -1", "0.000 s of audio")])
@pytest.mark.parametrize("path", ["{data}/a.wav", "cat {data}/a.wav |"])
def test_segments_must_be_within_their_recording(data, path, segment, why):
    with pytest.raises(InputError, match=f"segments:1: u: .*: {why}"):
        load(data, path.format(data=data), segment)


@pytest.mark.parametrize("path", ["{data}/a.wav", "cat {data}/a.wav |"])
def test_segments_that_end_half_a_second_late_are_cut_to_their_recording(data, path, caplog):
    """Kaldi's rule: times of two decimals overshoot by milliseconds."""
    whole = read(data / "a.wav")
    first, other = load(data, path.format(data=data), "u a 0.5 1.01", "v a 0.25 1.5")
    assert np.array_equal(first, whole[8000:]) and np.array_equal(other, whole[4000:])
    assert ("2 segments end up to 0.5 s after" in caplog.text) == ("cat" not in path)


# --- wrong headers

@needs_ffmpeg
@pytest.mark.parametrize("path", ["{data}/b.flac", "cat {data}/b.flac |"])
def test_flac_of_unknown_length_is_read_to_its_end(data, path):
    """Encoders that write into a pipe make such files; libsndfile drops their end."""
    raw = bytearray((data / "a.flac").read_bytes())
    raw[21] &= 0xF0
    raw[22:26] = bytes(4)
    (data / "b.flac").write_bytes(raw)
    assert np.array_equal(load(data, path.format(data=data))[0], read(data / "a.flac"))


def test_truncated_files_are_found_before_work(data):
    raw = (data / "a.wav").read_bytes()
    (data / "a.wav").write_bytes(raw[:-2])
    with pytest.raises(InputError, match=r"wav.scp:1: a: .*: cut off: it has \d+ bytes, its header promises \d+"):
        check_sources(sources(data, f"a {data}/a.wav"), 1600)


def test_number_of_samples_in_a_header_allocates_no_memory(data):
    """A FLAC header can state 2^36 samples, here of eight channels."""
    soundfile.write(data / "b.flac", np.stack([WAVE] * 8, 1), 16000)
    raw = bytearray((data / "b.flac").read_bytes())
    raw[21] |= 0x0F  # the upper four bits of the number of samples
    raw[22:26] = b"\xff\xff\xff\xf0"
    (data / "b.flac").write_bytes(raw)
    with soundfile.SoundFile(data / "b.flac") as file:
        assert file.frames > 1 << 35
    with pytest.raises(InputError, match="wav.scp:1: a: "):
        load_wave(sources(data, f"a {data}/b.flac")[0])


@pytest.mark.parametrize("rate", [1, 16001, 2147483647])
def test_rates_that_need_a_giant_filter_are_refused(data, rate):
    raw = bytearray((data / "a.wav").read_bytes())
    raw[24:28] = struct.pack("<I", rate)
    (data / "a.wav").write_bytes(raw)
    with pytest.raises(InputError, match=rf"a: .*a.wav: {rate} Hz cannot be resampled"):
        check_sources(sources(data, f"a {data}/a.wav"), 1)


def test_first_of_several_channels_is_read(data):
    two = np.stack([WAVE, 0 * WAVE], 1)
    soundfile.write(data / "b.wav", two, 16000, subtype="FLOAT")
    assert np.array_equal(load_wave(Source("a", str(data / "b.wav"), 0, -1, "t", 1)), WAVE)


@pytest.mark.parametrize("kind", ["wav", "flac"])
def test_reading_in_blocks_gives_the_whole_segment(data, monkeypatch, kind):
    monkeypatch.setattr(audio, "BLOCK_SAMPLES", 1000)
    monkeypatch.setattr(audio, "read_pcm", lambda *_: None)
    source = Source("a", str(data / f"a.{kind}"), 0.1, 0.9, "t", 1)
    assert np.array_equal(load_wave(source), read(data / f"a.{kind}")[1600:14400])


@pytest.mark.parametrize("num_threads", [0, 1, 3])
def test_waves_decoded_ahead_keep_their_order_and_the_errors_their_place(data, num_threads, monkeypatch):
    monkeypatch.setattr(wav, "AHEAD", 2)
    lines = [f"u{i:02} {data}/a.{kind}" for i, kind in enumerate(("wav", "flac") * 8)]
    found = sources(data, *lines)
    waves = list(load_waves(found, num_threads))
    assert [utt for utt, _ in waves] == [source.utt for source in found]
    assert all(np.array_equal(wave, load_wave(source)) for (_, wave), source in zip(waves, found))
    (data / "a.flac").unlink()
    ahead = load_waves(found, num_threads)
    assert next(ahead)[0] == found[0].utt
    with pytest.raises(InputError, match="a.flac"):
        next(ahead)


def test_commands_are_decoded_ahead_once(data):
    """Even if several threads are asked for: the segments of a recording need one run of its command."""
    command = f"echo run >> {data}/runs; cat {data}/a.wav |"
    found = sources(data, f"a {command}", segments=[f"a{i} a 0.{i} 0.{i + 2}" for i in range(8)])
    assert len(list(load_waves(found, 4))) == 8
    assert (data / "runs").read_text().split() == ["run"]


def test_raw_files_are_refused(data):
    (data / "a.raw").write_bytes(bytes(9999))
    with pytest.raises(InputError, match="wav.scp:1: a: "):
        check_sources(sources(data, f"a {data}/a.raw"), 1600)
