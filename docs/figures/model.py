# SPDX-License-Identifier: Apache-2.0
"""Figures of RawNeXt: the three branches of a block, and the network with its trees. All numbers come from `walk`."""

from svg import Drawing
from walk import Stage, Step

BRANCHES = {"low": 88, "original": 240, "high": 392}     # x of each column
ROW = 52
BOTTOM = 39                                              # height of a box of two lines
LEVELS = {"base_layer": "pre-emphasis, convolution of 3, stride 3", "level0": "stem: convolution of 3",
          "level1": "stem: convolution of 3", "embedding": "attentive statistics, linear layer, BatchNorm"}
NODE = 56


def words(step: Step) -> str:
    """The label of a step of a branch."""
    return {"pointwise": "1x1", "conv1d": f"3, {step.groups} groups", "upsample_by_3": "transposed 3",
            "mean_pool3": "mean of 3", "mean_pool3_ceil": "mean of 3"}[step.what]


def shape(step: Step | Stage) -> str:
    return f"{step.frames:,} x {step.channels}"


def draw_block(steps: dict[str, list[Step]], seconds: float) -> Drawing:
    """A block: its input, the branches with the map after each step, the gate, the output."""
    draw = Drawing("A block of RawNeXt: branches at a third of the resolution, at its own and at three times it, "
                   "weighted by a gate")
    gate = 112 + ROW * max(len(steps[name]) for name in BRANCHES)
    draw.box(240, 10, 150, ["input", f"{shape(steps['input'][0])}  ({seconds:.2f} s)"])
    draw.text(466, 20, "frames x channels", "small pale", "end")
    for name, x in BRANCHES.items():
        draw_branch(draw, name, x, steps[name], gate)
    draw.box(240, gate, 432, ["gate: for each channel, three weights that sum to 1",
                              "from the branches' means over time; the weighted branches are added"], "root")
    draw.arrow(f"M240,{gate + BOTTOM}V{gate + 53}")
    draw.box(240, gate + 55, 432, ["BatchNorm, + input (1x1 where the channels differ), ReLU",
                                   shape(steps["output"][0])])
    draw.height = gate + 106
    return draw


def draw_branch(draw: Drawing, name: str, x: int, steps: list[Step], gate: int) -> None:
    """A column of boxes at x, from the input down to the gate."""
    draw.arrow(f"M240,{10 + BOTTOM}V58H{x}V84")
    draw.text(x + 6, 76, name, "bold", "start")
    for i, step in enumerate(steps):
        top = 86 + ROW * i
        draw.box(x, top, 128, [words(step), shape(step)], name)
        draw.arrow(f"M{x},{top + BOTTOM}V{top + ROW - 2 if i + 1 < len(steps) else gate - 2}")


def draw_network(stages: list[Stage], seconds: float) -> Drawing:
    """The levels from top to bottom with their trees and costs."""
    total = f"{sum(s.parameters for s in stages):,} parameters, {sum(s.gmacs for s in stages):.3f} GMACs"
    draw = Drawing(f"RawNeXt from the waveform to the embedding: {total}")
    draw.text(14, 24, f"waveform, {seconds:.2f} s", "bold", "start")
    draw.text(466, 24, "parameters, GMACs", "small pale", "end")
    y = 36
    for stage in stages:
        y = draw_level(draw, stage, y)
        if stage.name.startswith("level"):
            draw.text(240, y + 14, "maximum of 3 frames", "small pale")
            y += 20
        else:
            y += 6
    draw.text(466, y + 12, total, "small bold", "end")
    draw.height = y + 24
    return draw


def draw_level(draw: Drawing, stage: Stage, y: int) -> int:
    """Draw a level with its upper edge at y and return its lower edge."""
    height = 98 if stage.nodes else 44
    number, blocks = stage.name[-1], sum(node.kind == "block" for node in stage.nodes)
    draw.sheet(10, y, 460, height)
    draw.text(18, y + 17, f"stage {int(number) - 1}: {blocks} blocks" if blocks else LEVELS[stage.name], "", "start")
    draw.text(18, y + 34, f"{stage.channels} numbers" if stage.frames == 1 else shape(stage), "small", "start")
    draw.text(462, y + 17, f"{stage.parameters:,}", "small", "end")
    draw.text(462, y + 34, f"{stage.gmacs:.3f}", "small", "end")
    if stage.nodes:
        draw_tree(draw, stage, y + 40)
    return y + height


def draw_tree(draw: Drawing, stage: Stage, y: int) -> None:
    """Nodes in order of execution; a straight arrow from the previous node, an arc from any earlier one."""
    places = [240 + NODE * (i - len(stage.nodes) / 2) for i in range(len(stage.nodes) + 1)]    # the input first
    draw.box(places[0], y + 4, 34, ["in"])
    for i, node in enumerate(stage.nodes):
        end = places[i + 1]
        draw.box(end, y + 4, 40, [node.kind], node.kind)
        for feed in node.feeds:
            begin, depth = places[feed + 1], y + 36 + 5 * (i - feed)
            draw.arrow(f"M{begin + 20:g},{y + 16}H{end - 21:g}" if feed == i - 1 else
                       f"M{begin:g},{y + 28}C{begin:g},{depth} {end:g},{depth} {end:g},{y + 30}")
