# SPDX-License-Identifier: Apache-2.0
"""eSpeak NG, as the package espeakng-loader ships it, driven through ctypes: text -> samples, as a pure function."""

import ctypes
import functools
import os
import traceback

import espeakng_loader
import numpy as np

from rawnext.errors import InputError

SAMPLE_RATE = 22050  # Hz, of what eSpeak NG speaks

_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p)
# names and numbers of eSpeak's speak_lib.h
_AUDIO_OUTPUT_SYNCHRONOUS, _DONT_EXIT, _CHARS_UTF8, _POS_CHARACTER = 2, 0x8000, 1, 1
_RATE, _VOLUME, _PITCH, _RANGE = 1, 2, 3, 4


def speak(text: str, voice: str, pitch: int, pitch_range: int, rate: int, seed: int) -> np.ndarray:
    """Speak a text.

    eSpeak NG's state outlives a call (random numbers, flutter, echo), in ways that its API cannot reset. So every text
    is spoken by a child process that has spoken nothing before, and the same arguments give the same samples always.

    Args:
        voice: `language+variant`, both as files below the voice data, as `gmw/en-US+f2`.
        pitch, pitch_range: 0..99, 50 is the variant's own.   rate: words a minute.   seed: of eSpeak's noise.
    Returns: (T,) int16 at 22,050 Hz.
    """
    library = load_library()
    read_end, write_end = os.pipe()
    if (child := os.fork()) == 0:
        code = 1
        try:
            os.close(read_end)
            with open(write_end, "wb") as pipe:
                pipe.write(_synthesize(library, text, voice, {_RATE: rate, _VOLUME: 100, _PITCH: pitch,
                                                              _RANGE: pitch_range}, seed))
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    os.close(write_end)
    with open(read_end, "rb") as pipe:
        samples = pipe.read()
    status = os.waitpid(child, 0)[1]
    if status or not samples:
        raise RuntimeError(f"eSpeak NG failed (status {status}, {len(samples)} bytes) on voice {voice}: {text}")
    return np.frombuffer(samples, dtype=np.int16)


@functools.cache
def load_library() -> ctypes.CDLL:
    """The library with its voice data, ready to speak."""
    library = ctypes.CDLL(espeakng_loader.get_library_path())
    data = espeakng_loader.get_data_path()
    if library.espeak_Initialize(_AUDIO_OUTPUT_SYNCHRONOUS, 0, os.fsencode(data), _DONT_EXIT) != SAMPLE_RATE:
        raise InputError(data, None, "eSpeak NG cannot read its voices here; it wants a path below 160 characters")
    return library


def _synthesize(library: ctypes.CDLL, text: str, voice: str, parameters: dict[int, int], seed: int) -> bytes:
    chunks: list[bytes] = []

    @_Callback
    def collect(wave, num_samples, events):
        if wave and num_samples:
            chunks.append(ctypes.string_at(wave, 2 * num_samples))
        return 0

    library.espeak_SetSynthCallback(collect)
    library.espeak_ng_SetRandSeed(ctypes.c_long(seed))
    variant = os.path.join(espeakng_loader.get_data_path(), "voices", "!v", voice.partition("+")[2])
    if library.espeak_SetVoiceByName(voice.encode()) != 0 or not os.path.isfile(variant):  # it ignores odd variants
        raise RuntimeError(f"no voice {voice}")
    for parameter, value in parameters.items():
        _check(library.espeak_SetParameter(parameter, value, 0), f"parameter {parameter}={value}")
    coded = text.encode() + b"\0"
    size = ctypes.c_size_t(len(coded))
    _check(library.espeak_Synth(coded, size, 0, _POS_CHARACTER, 0, _CHARS_UTF8, None, None), text)
    _check(library.espeak_Synchronize(), text)
    return b"".join(chunks)


def _check(status: int, what: str) -> None:
    if status != 0:
        raise RuntimeError(f"eSpeak NG: error {status}: {what}")
