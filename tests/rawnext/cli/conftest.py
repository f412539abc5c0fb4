# SPDX-License-Identifier: Apache-2.0
"""Each model is loaded once for the tests of all commands, because loading takes a quarter of a second."""

from functools import cache

import pytest

from rawnext import Extractor

load = cache(Extractor.from_pretrained)


@pytest.fixture(autouse=True)
def _models_stay_loaded(monkeypatch) -> None:
    monkeypatch.setattr(Extractor, "from_pretrained", load)
