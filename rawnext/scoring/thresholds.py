# SPDX-License-Identifier: Apache-2.0
"""Tables of the thresholds of a calibration."""

from pathlib import Path

from rawnext.files import write_lines
from rawnext.scoring.calibration import OperatingPoint
from rawnext.scoring.calibration_files import ScoreFile

COLUMNS = ("enroll", "test", "prior", "llr", "score", "miss %", "false alarm %", "miss % (one score)",
           "false alarm % (one score)")


def write_thresholds(folder: Path, tables: list[tuple[ScoreFile, list[OperatingPoint]]], backend: str, protocol: str,
                     fitted_on: str) -> None:
    """Write FOLDER/thresholds.tsv and thresholds.md, a line for each condition and prior.

    A threshold on a cosine above 1 is `unreachable`.
    """
    lines = []
    for file, points in tables:
        sides = [f"{seconds:g} s" if seconds else "full" for seconds in (file.enroll, file.test)]
        for point in points:
            lines.append([*sides, f"{point.prior:g}", f"{point.llr:.3f}",
                          "unreachable" if backend == "cosine" and point.score > 1 else f"{point.score:.4f}",
                          *(f"{100 * rate:.3f}" for rate in point[3:])])
    write_lines(folder / "thresholds.tsv", map("\t".join, [COLUMNS, *lines]))
    rule = ["---"] * 2 + ["---:"] * (len(COLUMNS) - 2)
    write_lines(folder / "thresholds.md", [
        f"# Thresholds: {backend}, protocol {protocol}", "",
        "Accept a trial if its LLR reaches the column *llr*. If only raw scores are available, accept if the score "
        "reaches *score*, which is right for a trial of the list's median duration. Prior: expected share of target "
        "trials, with costs of 1. For other costs use the prior P C_miss / (P C_miss + (1 - P) C_fa).", "",
        *(f"| {' | '.join(cells)} |" for cells in (COLUMNS, rule, *lines)), "",
        f"Error rates: on {fitted_on}, on which the calibration was fitted; expect worse on other trials."])
