# SPDX-License-Identifier: Apache-2.0
"""Boxes, text and arrows as SVG, on a light background, so that they look the same in light and dark themes."""

import html

from rawnext.files import PathLike, write_lines

INK, PALE, SHEET = "#1d2733", "#8a94a0", "#ffffff"
FILLS = {"high": "#f9d5bd", "original": "#cbe9df", "low": "#c5dff0", "other": "#eceff2", "block": "#eceff2",
         "root": "#f6e3ad", "sheet": "#f7f8fa"}
STYLE = (f"text{{font:13px system-ui,sans-serif;fill:{INK}}} .small{{font-size:11px}} .bold{{font-weight:600}}"
         f" .pale{{fill:#5b6673}} path{{fill:none;stroke:{INK};stroke-width:1.2}}"
         f" rect{{stroke:{PALE};stroke-width:.8}}")
ARROW = ('<marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="6" markerHeight="6" orient="auto">'
         f'<path d="M0,0L8,4L0,8Z" style="fill:{INK};stroke:none"/></marker>')


class Drawing:
    """A drawing of width x height units, each a pixel on a phone.   title: text for screen readers."""

    def __init__(self, title: str, width: int = 480):
        self.title, self.width, self.height = title, width, 0
        self.parts: list[str] = []

    def text(self, x: float, y: float, words: str, style: str = "", anchor: str = "middle") -> None:
        self.add(f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}" class="{style}">{html.escape(words)}</text>')

    def box(self, x: float, y: float, width: float, lines: list[str], fill: str = "other") -> None:
        """A box with its upper edge at y and its centre at x; the first line is large, the others are small."""
        self.sheet(x - width / 2, y, width, 9 + 15 * len(lines), fill)
        for i, line in enumerate(lines):
            self.text(x, y + 16 + 15 * i, line, "small" if i else "")

    def sheet(self, x: float, y: float, width: float, height: float, fill: str = "sheet") -> None:
        self.add(f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="4" fill="{FILLS[fill]}"/>')

    def arrow(self, path: str) -> None:
        self.add(f'<path d="{path}" marker-end="url(#tip)"/>')

    def add(self, element: str) -> None:
        self.parts.append(element)

    def save(self, path: PathLike) -> None:
        size = f'viewBox="0 0 {self.width} {self.height}" width="{self.width * 4 // 3}"'
        write_lines(path, [f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" '
                           f'aria-label="{html.escape(self.title, quote=True)}">', f"<style>{STYLE}</style>{ARROW}",
                           f'<rect width="{self.width}" height="{self.height}" rx="6" fill="{SHEET}"/>',
                           *self.parts, "</svg>"])
