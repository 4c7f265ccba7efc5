"""Bar charts as inline SVG: no script, no style attribute, and readable on light and dark pages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

#: Colours that stand out from white and from black, and from each other for the colour-blind.
COLOURS = ("#3f8fb5", "#d98a00", "#6a9a3b", "#b5609a", "#7d7de0", "#c9544b", "#8a8a8a")

_HEIGHT, _TOP = 160, 10


@dataclass(frozen=True)
class Bar:
    """A part of a stacked bar, in the coordinates of the chart."""

    x: float
    y: float
    width: float
    height: float
    colour: str
    title: str


@dataclass(frozen=True)
class Chart:
    """`legend` has a colour and a name for each series."""

    width: int
    height: int
    bars: Sequence[Bar]
    legend: Sequence[tuple[str, str]]
    maximum: int


def draw_chart(
    labels: Sequence[str], series: Mapping[str, Sequence[int]], width: int = 720
) -> Chart:
    """Stack the series, by name, on one bar for each label."""
    colours = {name: COLOURS[n % len(COLOURS)] for n, name in enumerate(series)}
    totals = [sum(values) for values in zip(*series.values(), strict=True)]
    maximum = max(totals, default=0)
    scale = (_HEIGHT - _TOP) / maximum if maximum else 0
    step = width / max(1, len(labels))
    bars = []
    for position, label in enumerate(labels):
        top: float = _HEIGHT
        for name, values in series.items():
            if value := values[position]:
                height = value * scale
                top -= height
                bars.append(
                    Bar(
                        x=round(position * step + step * 0.1, 2),
                        y=round(top, 2),
                        width=round(step * 0.8, 2),
                        height=round(height, 2),
                        colour=colours[name],
                        title=f"{label}, {name}: {value}",
                    )
                )
    legend = [(colour, name) for name, colour in colours.items()]
    return Chart(width=width, height=_HEIGHT, bars=bars, legend=legend, maximum=maximum)
