# SPDX-License-Identifier: Apache-2.0
"""Pictures with duration as their axis: what RawNeXt's branches bring, and error rates with confidence bands."""

from collections.abc import Mapping, Sequence

import numpy as np

from rawnext.analysis.plots import COLOURS, new_figure, save
from rawnext.tables import PathLike

BRANCH_COLOURS = {"low": COLOURS[0], "original": COLOURS[2], "high": COLOURS[1]}


def plot_branches(durations: Sequence[float], lines: Mapping[str, tuple[np.ndarray, np.ndarray]], title: str,
                  paths: Sequence[PathLike]) -> None:
    """Variation scores against the utterance's length, with bands of two standard errors to each side.

    Args:
        durations: L, in seconds.   lines: branch -> (score, its standard error), (L,) each.
        paths: pictures to write.
    """
    figure, axes = new_figure(1, 1, 5.5, 4)
    axis = axes[0, 0]
    for branch, (score, error) in lines.items():
        axis.plot(durations, score, marker="o", color=BRANCH_COLOURS[branch], label=branch)
        axis.fill_between(durations, score - 2 * error, score + 2 * error, color=BRANCH_COLOURS[branch], alpha=0.2,
                          linewidth=0)
    axis.axhline(0, color="#bbbbbb", linewidth=0.8)
    axis.set(title=title, xlabel="utterance length (s)", ylabel="variation score (against 1 s)")
    axis.title.set_fontsize("small")
    axis.grid(alpha=0.3)
    axis.legend(title="resolution")
    for path in paths:
        save(figure, path)
