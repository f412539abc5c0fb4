# SPDX-License-Identifier: Apache-2.0
"""Speaker verification on raw waveforms of any length.

Extractor: embeddings with a trained model.   read_audio: a file as a waveform.
Both are imported when they are first asked for: programs that answer --help in a moment import this package as well.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rawnext.data.media import read_audio
    from rawnext.inference.extractor import Extractor

__version__ = "0.1.0"  # pyproject.toml reads it
__all__ = ["Extractor", "read_audio"]


def __getattr__(name: str) -> Any:
    if name == "Extractor":
        from rawnext.inference.extractor import Extractor

        return Extractor
    if name == "read_audio":
        from rawnext.data.media import read_audio

        return read_audio
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
