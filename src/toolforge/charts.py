"""The charts of the report: tables in; out comes SVG that needs no script and takes its colours from the page around it."""

from collections.abc import Callable, Sequence
from html import escape
from io import StringIO

import altair as alt
import pandas as pd

# A chart is drawn for a desktop and for a phone: scaled down, its text could not be read.
WIDE, NARROW = 560, 300
STUDENT = "student"

# What the charts and the page are coloured with; dark where the reader's system is.
COLOURS = """:root {
  color-scheme: light dark;
  --ground: #faf8f5; --card: #fff; --ink: #23201c; --soft: #6d665e; --rule: #e4ded6;
  --fire: #b4490f; --one: #2b6cb0; --two: #c2571a; --good: #1f6b3a; --bad: #b3261e;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ground: #171513; --card: #211e1b; --ink: #eee8e1; --soft: #a79f95; --rule: #39342f;
    --fire: #f08a4b; --one: #6db3f2; --two: #f08a4b; --good: #86cf9b; --bad: #f2897f;
  }
}
"""

Draw = Callable[[int], alt.LayerChart]


def figure(draw: Draw, label: str) -> str:
    """A chart for the page, in both widths; the page's style shows one of them. `label` says to a screen reader what it shows."""
    return "\n".join(
        _svg(draw(width), f'class="{name}"', label) for name, width in (("wide", WIDE), ("narrow", NARROW))
    )


def picture(draw: Draw, label: str) -> str:
    """A chart as a file of its own, with its title, ground and colours in it."""
    titled = draw(720).properties(title=alt.TitleParams(label, anchor="start", offset=12))
    head, rest = _svg(titled, "", label, background="var(--card)", padding=16).split(">", 1)
    return f"{head}><style>{COLOURS}</style>{rest}\n"


def _svg(chart: alt.LayerChart, attributes: str, label: str, background: str = "transparent", padding: int = 6) -> str:
    # The width is that of the whole chart, its labels included.
    fit = alt.AutoSizeParams(type="fit", contains="padding")
    styled = (
        chart.properties(autosize=fit, background=background, padding=padding)
        .configure(aria=False, font="system-ui, sans-serif")
        .configure_view(stroke=None)
        .configure_title(color="var(--ink)", fontSize=15)
        .configure_text(color="var(--ink)", fontSize=11)
        .configure_legend(labelColor="var(--ink)", labelFontSize=12, title=None, orient="top", symbolStrokeWidth=2)
        .configure_axis(
            labelColor="var(--ink)", labelFontSize=12, labelLimit=240, titleColor="var(--soft)", titleFontSize=12,
            titleFontWeight="normal", gridColor="var(--rule)", domain=False, ticks=False, labelPadding=6,
        )
    )  # fmt: skip
    out = StringIO()
    # Altair stops at 5,000 rows, for notebooks' sake.
    with alt.data_transformers.enable("default", max_rows=None):
        styled.save(out, format="svg")
    return out.getvalue().replace("<svg ", f'<svg role="img" aria-label="{escape(label)}" {attributes} ', 1)


def _room(names: Sequence[str], size: int = 12) -> float:
    """Pixels for labels, said and not measured: the reader's font may be wider than the one that is at hand here."""
    return 0.58 * size * max(map(len, names), default=0)


def loss(table: pd.DataFrame, width: int) -> alt.LayerChart:
    """The loss by step, train and val, from the columns step, split and loss."""
    x = alt.X("step:Q", title="step", axis=alt.Axis(grid=False, tickCount=width // 80))
    ticks = alt.Axis(format="~g", values=[digit * 10**power for power in range(-4, 2) for digit in (1, 2, 5)])
    y = alt.Y("loss:Q", title="loss, log scale", scale=alt.Scale(type="log", nice=False), axis=ticks)
    base = alt.Chart(table, width=width, height=300 if width < WIDE else 440).encode(
        x, y, _colour("split", ["train", "val"])
    )
    points = base.mark_point(filled=True, size=60, opacity=1).transform_filter("datum.split == 'val'")
    return alt.LayerChart(layer=[base.mark_line(strokeWidth=2), points])


def confusion(table: pd.DataFrame, classes: Sequence[str], width: int) -> alt.LayerChart:
    """How often each class was taken for each, from a row for each pair: actual, predicted, count, share (of the actual class)."""
    side = width - 20 if width < WIDE else 480
    size = 10 if width < WIDE else 12
    axis = alt.Axis(grid=False, labelFontSize=size, minExtent=_room(classes, size))
    base = alt.Chart(table, width=width, height=side).encode(
        alt.X("predicted:N", sort=list(classes), title="answered", axis=axis.copy(), scale=alt.Scale(padding=0.04)),
        alt.Y("actual:N", sort=list(classes), title="wanted", axis=axis, scale=alt.Scale(padding=0.04)),
    )
    right = "datum.actual == datum.predicted"
    cells = base.mark_rect(cornerRadius=2).encode(
        color=alt.condition(right, alt.value("var(--one)"), alt.value("var(--bad)")),
        # A square root, for a single mistake to be seen; never so dark that the count on it cannot be read.
        opacity=alt.Opacity("share:Q", scale=alt.Scale(type="sqrt", domain=[0, 1], range=[0.1, 0.5]), legend=None),
    )
    return alt.LayerChart(layer=[cells, base.mark_text(fontSize=size).encode(text="count:Q")])


def bars(table: pd.DataFrame, width: int) -> alt.LayerChart:
    """Per cents with intervals, a group of bars for each `name`: name, metric, value, low, high."""
    shown, spread, said = _intervals(
        table, width, lambda base: base.mark_bar(cornerRadiusEnd=2, opacity=0.75, height=11)
    )
    return alt.LayerChart(layer=[shown, spread, said])


def dots(table: pd.DataFrame, width: int) -> alt.LayerChart:
    """As bars, but dots: for what nobody reads from zero."""
    shown, spread, said = _intervals(table, width, lambda base: base.mark_point(filled=True, size=60, opacity=1))
    return alt.LayerChart(layer=[spread, shown, said])


def _intervals(table: pd.DataFrame, width: int, mark: Callable[[alt.Chart], alt.Chart]) -> list[alt.Chart]:
    """The marks, their intervals, and their numbers."""
    names, metrics = (list(table[column].unique()) for column in ("name", "metric"))
    step = 14 * len(metrics) + (8 if len(metrics) > 1 else 6)
    percent = alt.Axis(title="per cent right", values=[0, 25, 50, 75, 100])
    base = alt.Chart(table, width=width, height=step * len(names) + 70).encode(
        y=alt.Y("name:N", sort=names, title=None, axis=_named(names)),
        yOffset=alt.YOffset("metric:N", sort=metrics, scale=alt.Scale(paddingOuter=0.2)),
        color=_colour("metric", metrics),
    )
    shown = mark(base).encode(x=alt.X("value:Q", scale=alt.Scale(domain=[0, 100]), axis=percent))
    spread = base.mark_rule(strokeWidth=1.5).encode(x="low:Q", x2="high:Q", color=alt.value("var(--ink)"))
    # The numbers stand in a column of their own: beside the dots they would lie on the intervals.
    said = base.mark_text(align="right", dx=40).encode(
        x=alt.value("width"), text=alt.Text("value:Q", format=".1f"), color=alt.value("var(--ink)")
    )
    return [shown, spread, said]


def risk_coverage(table: pd.DataFrame, kept: pd.DataFrame, width: int) -> alt.LayerChart:
    """The share of wrong answers among the surest, by how many are kept: split, coverage, risk in per cent. `kept` has the same columns, one point for
    each split at the threshold.
    """
    x = alt.X(
        "coverage:Q",
        title="per cent of the queries answered, surest first",
        scale=alt.Scale(domain=[0, 100]),
        axis=alt.Axis(tickCount=5),
    )
    y = alt.Y("risk:Q", title="per cent of those wrong", axis=alt.Axis(tickCount=5))
    colour = _colour("split", ["test", "hard_test"])
    lines = alt.Chart(table, width=width, height=300).mark_line(strokeWidth=2).encode(x, y, colour)
    marks = alt.Chart(kept).mark_point(filled=True, size=90, opacity=1, stroke="var(--card)").encode(x, y, colour)
    return alt.LayerChart(layer=[lines, marks])


def latency(table: pd.DataFrame, width: int) -> alt.LayerChart:
    """From the median to the 95th percentile, for each `name`: name, p50_ms, p95_ms."""
    names = list(table["name"])
    # The figures are rounded to 0.01 ms, and a log scale has no 0.
    table = table.assign(p50_ms=table["p50_ms"].clip(lower=0.01), p95_ms=table["p95_ms"].clip(lower=0.01))
    base = alt.Chart(table, width=width, height=26 * len(names) + 50).encode(
        y=alt.Y("name:N", sort=names, title=None, axis=_named(names))
    )
    powers = range(-2, 5, 2 if width < WIDE else 1)
    axis = alt.Axis(title="milliseconds a query, log scale", format="~g", values=[10.0**power for power in powers])
    lines = base.mark_rule(strokeWidth=3, color="var(--one)", opacity=0.5).encode(x="p50_ms:Q", x2="p95_ms:Q")
    points = base.mark_point(filled=True, size=70, color="var(--one)", opacity=1).encode(
        alt.X("p50_ms:Q", scale=alt.Scale(type="log"), axis=axis)
    )
    return alt.LayerChart(layer=[lines, points])


def _named(names: Sequence[str]) -> alt.Axis:
    bold = alt.condition(f"datum.value == '{STUDENT}'", alt.value("bold"), alt.value("normal"))
    return alt.Axis(grid=False, labelFontWeight=bold, minExtent=_room(names))


def _colour(column: str, names: Sequence[str]) -> alt.Color:
    scale = alt.Scale(domain=list(names), range=["var(--one)", "var(--two)"][: len(names)])
    legend = alt.Legend() if len(names) > 1 else None
    return alt.Color(f"{column}:N", scale=scale, legend=legend)
