# SPDX-License-Identifier: Apache-2.0
import pytest
from torch import nn

from rawnext.models.base import SpeakerModel


def test_a_module_assigned_as_frontend_is_refused():
    class Assigns(SpeakerModel):
        def __init__(self):
            super().__init__()
            self.frontend = nn.Identity()

        def encode(self, x, lengths):
            return x

    with pytest.raises(AttributeError, match="override the method frontend"):
        Assigns()
