# SPDX-License-Identifier: Apache-2.0
"""FILE:OFFSET: audio inside tar files and arks is read like files, from an archive that is opened once."""

import io
import os
import shutil
import subprocess
import sys
import tarfile
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import get_context

import kaldiio
import numpy as np
import pytest
import soundfile
from corpus import by_ffmpeg, voice

from rawnext.data import archive
from rawnext.data.archive import open_member
from rawnext.data.audio import read_16k, read_header, read_samples
from rawnext.data.media import read_audio
from rawnext.data.wav import check_sources, load_wave, read_sources
from rawnext.errors import AudioError, InputError

WAVE = voice(0, 0, 1.3)
FORMATS = [("WAV", "PCM_16"), ("WAV", "FLOAT"), ("FLAC", "PCM_16"), ("OGG", "VORBIS"), ("OGG", "OPUS"),
           ("MP3", "MPEG_LAYER_III"), ("NIST", "PCM_16")]


def tarred(path, *files, form=tarfile.PAX_FORMAT):
    """A tar file of the files, and the place of each in it."""
    with tarfile.open(path, "w", format=form) as tar:
        for file in files:
            tar.add(file, file.name)
    with tarfile.open(path) as tar:
        return [f"{path}:{member.offset_data}" for member in tar]


def in_ark(path, *blocks):
    """An ark of WAV files as wav-copy writes it: the key, a space, the file."""
    places, data = [], b""
    for number, block in enumerate(blocks):
        data += f"utt{number} ".encode()
        places.append(f"{path}:{len(data)}")
        data += block
    path.write_bytes(data)
    return places


@pytest.fixture
def wavs(tmp_path):
    """Three utterances in WAV files."""
    paths = [tmp_path / f"{u}.wav" for u in range(3)]
    for u, path in enumerate(paths):
        soundfile.write(path, voice(0, u, 1 + u / 10), 16000)
    return paths


@pytest.mark.parametrize(("form", "subtype"), FORMATS, ids="-".join)
def test_members_of_tar_files_are_read_like_files(tmp_path, form, subtype):
    paths = [tmp_path / f"{u}.audio" for u in range(3)]
    for u, path in enumerate(paths):
        soundfile.write(path, voice(0, u, 1 + u / 10), 16000, format=form, subtype=subtype)
    for path, place in zip(paths, tarred(tmp_path / "a b.tar", *paths)):
        assert read_header(place) == read_header(str(path))
        for start, stop in ((0, None), (0, 900), (5000, 9000), (9000, 10**6)):
            one, other = read_samples(place, start, stop), read_samples(str(path), start, stop)
            assert np.array_equal(one.wave, other.wave) and one[1:] == other[1:]
        assert np.array_equal(read_16k(place, 3000, 500), read_16k(str(path), 3000, 500))
        assert np.array_equal(read_audio(place)[0], read_audio(path)[0])


@pytest.mark.skipif(not shutil.which("ffmpeg"), reason="no ffmpeg")
@pytest.mark.parametrize("kind", ["m4a", "wav"])
def test_members_that_only_ffmpeg_reads(tmp_path, kind):
    path = by_ffmpeg(WAVE, 16000, tmp_path / "a.m4a", "-c:a", "aac") if kind == "m4a" else tmp_path / "a.wav"
    if kind == "wav":
        soundfile.write(path, WAVE, 16000)
        raw = path.read_bytes()
        path.write_bytes(raw.replace(raw[36:44], b"data" + bytes(4)))  # its size is not stated
    place, = tarred(tmp_path / "a.tar", path)
    assert read_header(place) == read_header(str(path))
    for start, stop in ((0, None), (5000, 9000)):
        assert np.array_equal(read_samples(place, start, stop).wave, read_samples(str(path), start, stop).wave)


def test_arks_of_kaldi_and_kaldiio(tmp_path, wavs):
    places = in_ark(tmp_path / "kaldi.ark", *(path.read_bytes() for path in wavs))
    for kind in ("wav", "flac"):
        audio = {path.stem: soundfile.read(path, dtype="int16") for path in wavs}
        kaldiio.save_ark(f"{tmp_path}/{kind}.ark", audio, f"{tmp_path}/{kind}.scp", write_function="soundfile",
                         write_kwargs={"format": kind})
        places += [line.split()[1] for line in (tmp_path / f"{kind}.scp").read_text().splitlines()]
    for path, place in zip(3 * wavs, places):
        assert read_header(place) == read_header(str(path))
        assert np.array_equal(read_samples(place).wave, read_samples(str(path)).wave)
        assert np.array_equal(read_samples(place, 7000, 9000).wave, read_samples(str(path), 7000, 9000).wave)


def test_archives_in_wav_scp(tmp_path, wavs, monkeypatch):
    places = tarred(tmp_path / "x.tar", *wavs)
    (tmp_path / "wav.scp").write_text(f"a {places[1]}\nb x.tar:{places[2].rpartition(':')[2]}\n")
    (tmp_path / "segments").write_text("a-1 a 0.1 0.6\na-2 a 0.3 -1\nb-1 b 0.2 0.9\n")
    monkeypatch.chdir(tmp_path)
    sources = read_sources(tmp_path)
    check_sources(sources)
    one, two = (soundfile.read(path, dtype="float32")[0] for path in wavs[1:])
    for source, wave in zip(sources, (one[1600:9600], one[4800:], two[3200:14400])):
        assert np.array_equal(load_wave(source), wave)


# --- opened once

def opens(count):
    """Number of files that `count` opens."""
    seen = []
    sys.addaudithook(lambda event, args: event == "open" and active and seen.append(args[0]))
    active = [True]
    count()
    active.clear()
    return len(seen)


@pytest.mark.parametrize("form", ["WAV", "FLAC"])
def test_an_archive_is_opened_once(tmp_path, form):
    path = tmp_path / "one.audio"
    soundfile.write(path, WAVE, 16000, format=form)
    place, = tarred(tmp_path / f"{form}.tar", path)
    fd = open_member(place).archive.fd
    assert opens(lambda: [read_16k(place, n, 100) for n in range(50)]) == 0
    assert opens(lambda: [read_16k(str(path), n, 100) for n in range(50)]) >= 50
    assert open_member(place).archive.fd == fd


def test_few_archives_stay_open(tmp_path, wavs, monkeypatch):
    archive.open_archive.cache_clear()
    held = len(os.listdir("/proc/self/fd"))
    places = [tarred(tmp_path / f"{n}.tar", wavs[0])[0] for n in range(archive.MAX_OPEN + 20)]
    first = open_member(places[0])
    for place in places:
        read_header(place)
    assert len(os.listdir("/proc/self/fd")) - held <= archive.MAX_OPEN + 2
    assert first.read(4) == b"RIFF", "closed while it was read"
    archive.open_archive.cache_clear()


def crops(places):
    return [float(np.abs(read_16k(place, 100 * n, 400)).sum()) for n in range(30) for place in places]


def test_forks_and_threads_share_an_archive(tmp_path, wavs):
    places = tarred(tmp_path / "x.tar", *wavs)
    expected = crops(wavs)
    assert crops(places) == expected
    with get_context("fork").Pool(2) as forks, ThreadPoolExecutor(2) as threads:
        found = [forks.map_async(crops, [places] * 4), threads.map(crops, [places] * 4)]
        assert all(one == expected for one in [*found[0].get(60), *found[1]])


def test_a_replaced_archive_is_read_again(tmp_path, wavs):
    place, = tarred(tmp_path / "x.tar", wavs[0])
    read_header(place)
    tarred(tmp_path / "new.tar", wavs[1])
    os.replace(tmp_path / "new.tar", tmp_path / "x.tar")
    assert read_header(place) == read_header(str(wavs[1]))


def test_nothing_is_printed_at_the_end(root, tmp_path, wavs):
    place, = tarred(tmp_path / "x.tar", wavs[0])
    code = f"from rawnext.data.audio import read_header; read_header({place!r})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root)
    assert (done.returncode, done.stderr) == (0, "")


# --- faults

def test_seeking_in_a_member(tmp_path):
    (tmp_path / "a").write_bytes(bytes(range(100)))
    member = open_member(tarred(tmp_path / "a.tar", tmp_path / "a")[0])
    assert member.read() == bytes(range(100)) and member.read() == b""
    assert member.seek(-3, io.SEEK_END) == 97 and member.read(2) == bytes([97, 98])
    assert member.seek(-9, io.SEEK_CUR) == 90 and member.tell() == 90 and member.seek(400) == 400
    assert member.read(5) == b"" and member.readinto(np.empty((0, 1), "<i2").data) == 0


@pytest.mark.parametrize(("damage", "why"), [
    (lambda raw: raw[:30000], "cut off: .*x.tar has 30000 bytes, and this audio ends at byte "),
    (lambda raw: raw[:124] + b"zzzz" + raw[128:], "damaged header of a tar file before byte 512"),
    (lambda raw: raw[:512], "cut off"),
    (lambda raw: bytes(512) + raw[512:516] + bytes(4) + raw[520:], "no audio of known size at byte 512"),
    (lambda raw: bytes(512) + raw[512:516] + b"\xff" * 4 + raw[520:], "no audio of known size at byte 512"),
    (lambda raw: bytes(512) + b"AUDIO", "no audio of known size at byte 512"),
    (lambda raw: bytes(512) + b"AUDIO\x08" + b"\xff" * 8, "cut off"),
    (lambda raw: b"", "no audio of known size at byte 512")])
def test_damaged_archives_are_one_line(tmp_path, wavs, damage, why):
    place, = tarred(tmp_path / "x.tar", wavs[0], form=tarfile.USTAR_FORMAT)
    (tmp_path / "x.tar").write_bytes(damage((tmp_path / "x.tar").read_bytes()))
    for read in (read_header, read_samples):
        with pytest.raises(AudioError, match=why):
            read(place)
    (tmp_path / "wav.scp").write_text(f"a {place}\n")
    with pytest.raises(InputError, match=f"wav.scp:1: a: .*x.tar:512: {why}"):
        check_sources(read_sources(tmp_path))


@pytest.mark.parametrize(("place", "why"), [
    ("{}/none.tar:512", "no such file"), ("{}:512", "no such file"), ("{}/0.wav:77", "no audio of known size"),
    ("{}/0.wav:99999999", "no audio of known size"), ("{}/0.wav:", "no such file"),
    ("{}/x.tar:0", "no audio of known size")])
def test_wrong_places_are_one_line(tmp_path, wavs, place, why):
    tarred(tmp_path / "x.tar", *wavs)
    with pytest.raises(AudioError, match=why):
        read_header(place.format(tmp_path))
