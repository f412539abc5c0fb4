# SPDX-License-Identifier: Apache-2.0
"""Pictures with duration as their axis: what RawNeXt's branches bring, and error rates with confidence bands."""

from collections.abc import Mapping, Sequence

import numpy as np

from rawnext.files import PathLike
from rawnext.results.analysis.plots import COLOURS, label_of, new_figure, save

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


Line = Mapping[str, tuple[float, tuple[float, float] | None]]  # duration -> EER in %, its interval where there is one


def plot_grid(panels: Mapping[str, Mapping[str, Line]], durations: Sequence[str], paths: Sequence[PathLike]) -> None:
    """EER against duration, a panel for each side that was cut, a line for each system with its band of confidence.

    Args:
        panels: title -> system -> line.   durations: shortest first.   paths: pictures to write.
    """
    figure, axes = new_figure(1, len(panels), 4.6, 4)
    systems = list(dict.fromkeys(system for panel in panels.values() for system in panel))
    highest = max(max([eer, *(ends or ())]) for panel in panels.values() for line in panel.values()
                  for eer, ends in line.values())
    for axis, (title, panel) in zip(axes[0], panels.items()):
        for system, line in panel.items():
            colour, places = COLOURS[systems.index(system) % len(COLOURS)], [durations.index(d) for d in line]
            axis.plot(places, [eer for eer, _ in line.values()], marker="o", color=colour, label=system)
            bands = [(place, *ends) for place, (_, ends) in zip(places, line.values()) if ends]
            if bands:
                axis.fill_between(*zip(*bands), color=colour, alpha=0.2, linewidth=0)
        axis.set_xticks(range(len(durations)), [label_of(d) for d in durations])
        axis.set(title=title, xlabel="duration", ylabel="EER (%)", ylim=(0, 1.05 * highest))
        axis.grid(alpha=0.3)
        axis.legend(fontsize="small")
    for path in paths:
        save(figure, path)
