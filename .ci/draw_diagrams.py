"""Draw the diagrams of the documentation: python .ci/draw_diagrams.py

Needs the packages of the dependency group `diagrams`, and no network.
"""

from __future__ import annotations

import re
from html import escape
from pathlib import Path

from mermaid_render import mermaid_to_svg

DIAGRAMS = Path(__file__).parents[1] / "docs/diagrams"
#: By CSS variable of the renderer: its colour in light and in dark mode.
COLOURS = {
    "#FFFFFF": ("ground", "#ffffff", "#1e2129"),
    "#172D4A": ("text", "#1b2a33", "#e2e6ea"),
    "#596579": ("note", "#47565c", "#b9c2c9"),
    "#000000": ("line", "#47565c", "#a9b4bc"),
    "#E5EFFA": ("box", "#e0f2f1", "#123b39"),
    "#F0F4FA": ("aside", "#f3f6f6", "#2b303b"),
    "#4472C4": ("border", "#00796b", "#4db6ac"),
}


def draw(source: str) -> str:
    svg = mermaid_to_svg(source).decode()
    svg = re.sub(r' style="--_bg:[^"]*"', "", svg, count=1)
    for colour, (name, _, _) in COLOURS.items():
        svg = svg.replace(colour, f"var(--{name})")
    light = " ".join(f"--{name}: {colour};" for name, colour, _ in COLOURS.values())
    dark = " ".join(f"--{name}: {colour};" for name, _, colour in COLOURS.values())
    style = f"""\
<style>
svg {{ {light} background: var(--ground); font: 16px sans-serif; }}
@media (prefers-color-scheme: dark) {{ svg {{ {dark} }} }}
</style>
"""
    # A test compares this copy with the source.
    metadata = f"<metadata>{escape(source, quote=False)}</metadata>\n"
    svg = svg.replace("</desc>", f"</desc>\n{metadata}{style}", 1)
    # Line breaks make diffs readable.
    return svg.replace("><g", ">\n<g") + "\n"


if __name__ == "__main__":
    for source in sorted(DIAGRAMS.glob("*.mmd")):
        drawing = draw(source.read_text(encoding="utf-8"))
        source.with_suffix(".svg").write_text(drawing, encoding="utf-8")
