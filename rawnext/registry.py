# SPDX-License-Identifier: Apache-2.0
"""Models, losses and operations by name, as YAML files refer to them."""

import difflib
import inspect
from collections.abc import Callable, Mapping
from typing import Any


def nearest(name: str, known) -> str:
    """`; did you mean X?` if a known name is close, otherwise the list of known names."""
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; known: {', '.join(known) or 'none'}"


class Registry(dict[str, Callable[..., Any]]):
    """Name -> class or function; a decorator adds entries.

    >>> MODELS = Registry("model")
    >>> @MODELS.register("double")
    ... def double(x, times=2): return x * times
    >>> MODELS.build("double", {"times": 3}, 7)
    21
    """

    def __init__(self, kind: str):
        super().__init__()
        self.kind = kind

    def register(self, name: str):
        def add(thing):
            assert name not in self, f"{self.kind} {name} is registered twice"
            self[name] = thing
            return thing

        return add

    def check(self, name: str, options: Mapping[str, Any]) -> None:
        """Raise ValueError unless `name` is known and takes these options."""
        if name not in self:
            raise ValueError(f"unknown {self.kind} {name!r}{nearest(name, self)}")
        known = {p.name for p in inspect.signature(self[name]).parameters.values() if p.default is not p.empty}
        for option in options:
            if option not in known:
                raise ValueError(f"{self.kind} {name} has no option {option!r}{nearest(option, known)}")

    def build(self, name: str, options: Mapping[str, Any], *args: Any) -> Any:
        """Call the entry `name` with args and options.

        Raises: ValueError: the name or an option is unknown, or the values do not fit.
        """
        self.check(name, options)
        try:
            return self[name](*args, **options)
        except Exception as error:  # a wrong value such as `channels: 3` raises a different exception in each model
            if not options:
                raise
            given = ", ".join(f"{key}: {value}" for key, value in options.items())
            why = next(iter(str(error).splitlines()), "") or type(error).__name__
            raise ValueError(f"{self.kind} {name} cannot be built with {given}: {why}") from error
