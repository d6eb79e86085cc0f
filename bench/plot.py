"""Rows a second of the narrow table's stages, ours and the peers', as bars on a logarithmic scale: an SVG by hand."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from xml.sax.saxutils import escape

from bench.job import Figures

SHOWN = (
    "capture_kafka", "debezium_source", "debezium_avro", "stock", "apply", "debezium_sink", "apply_updates", "debezium_sink_updates",
    "direct", "kafka", "debezium_chain", "load", "load_pgloader",
)  # fmt: skip
OURS, PEERS = "#2b7a78", "#c9974f"
LABELS, BARS, LINE, TOP, DECADES = 420, 380, 20, 40, (3, 6)
"""Widths of the two columns, height of a line and of the head, in pixels; the scale goes from 10^3 to 10^6 rows a second."""


def bars(figures: Sequence[Figures], names: Mapping[str, str]) -> str:
    """The picture: one bar per stage and source; a stage that was not measured has none."""
    lines = list(_lines(figures, names))
    height = TOP + LINE * len(lines) + 10
    grid = (
        f'<path d="M{_x(10**power)} {TOP - 8}V{height - 8}" stroke="#ccc"/><text x="{_x(10**power)}" y="{TOP - 12}" '
        f'text-anchor="middle">{10**power:,}</text>'
        for power in range(DECADES[0], DECADES[1] + 1)
    )
    texts = (_bar(number, *line) for number, line in enumerate(lines))
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{LABELS + BARS + 110}" height="{height}" font-family="sans-serif" font-size="12">',
        '<rect width="100%" height="100%" fill="#fff"/>', f'<text x="8" y="{TOP - 12}">17 columns, rows a second (warm)</text>',
        *grid, *texts, "</svg>\n",
    ])  # fmt: skip


def _lines(figures: Sequence[Figures], names: Mapping[str, str]) -> Iterator[tuple[str, float, str]]:
    found = {(figure["stage"], figure["run"]["source"]): figure for figure in figures if figure["table"] == "narrow"}
    sources = sorted({source for _, source in found})
    for stage in SHOWN:
        for source in sources:
            if (stage, source) in found:
                figure = found[stage, source]
                name = names.get(stage) or f"{names[stage.removesuffix('_updates')]}; updates"
                rate = figure.get("warm_rows_per_second") or figure["rows_per_second"]
                yield f"{name}, {source}".replace("`", ""), rate, PEERS if stage.startswith(("debezium", "stock", "load_")) else OURS


def _x(rate: float) -> float:
    low, high = DECADES
    return round(LABELS + BARS * min(1.0, max(0.0, (math.log10(max(rate, 1.0)) - low) / (high - low))), 1)


def _bar(number: int, name: str, rate: float, colour: str) -> str:
    y = TOP + LINE * number
    return (
        f'<text x="{LABELS - 8}" y="{y + 12}" text-anchor="end">{escape(name)}</text>'
        f'<rect x="{LABELS}" y="{y}" width="{max(1.0, _x(rate) - LABELS):.1f}" height="{LINE - 5}" fill="{colour}"/>'
        f'<text x="{_x(rate) + 6}" y="{y + 12}">{rate:,.0f}</text>'
    )
