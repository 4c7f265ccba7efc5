"""Draw bar charts as inline SVG, without scripts or styles, for light and dark pages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

#: Colours with contrast to black and white, which colour-blind readers can distinguish.
COLOURS = ("#3f8fb5", "#d98a00", "#6a9a3b", "#b5609a", "#7d7de0", "#c9544b", "#8a8a8a")

_WIDTH, _HEIGHT, _TOP = 720, 160, 10


def draw_chart(labels: Sequence[str], series: Mapping[str, Sequence[int]]) -> dict[str, Any]:
    """Stack the series, by name, on one bar for each label.

    Return the bars as attributes of rectangles, the legend as a colour and a name for each series,
    the highest sum, and the size of the chart.
    """
    legend = [(COLOURS[n % len(COLOURS)], name) for n, name in enumerate(series)]
    maximum = max(map(sum, zip(*series.values(), strict=True)), default=0)
    step = _WIDTH / max(1, len(labels))
    bars = []
    for position, label in enumerate(labels):
        top: float = _HEIGHT
        for colour, name in legend:
            if value := series[name][position]:
                height = value * (_HEIGHT - _TOP) / maximum
                top -= height
                bars.append(
                    {
                        "x": round(position * step + step * 0.1, 2),
                        "y": round(top, 2),
                        "width": round(step * 0.8, 2),
                        "height": round(height, 2),
                        "colour": colour,
                        "title": f"{label}, {name}: {value}",
                    }
                )
    return {"bars": bars, "legend": legend, "maximum": maximum, "width": _WIDTH, "height": _HEIGHT}
