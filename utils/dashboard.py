"""A page about a service's requests in one HTML file: no network, no script, readable on a phone.

What stands in traces was written by strangers: Jinja2 escapes all of it, and the page forbids scripts and requests.
"""

import io
import math
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from utils.monitor_looks import Look
from utils.monitor_requests import Figures, Served, figures_of

TEMPLATE = Path(__file__).resolve().parent / "data" / "dashboard.html.jinja"
POINTS = 24  # in time, about
STEPS_SECONDS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 21600, 43200, 86400)
BLUE, RED, GREY = "#1f5fa8", "#b3261e", "#8a8f98"
LISTED = 8  # requests of each list
TICKS = 4  # times below a plot, at most


def render_dashboard(title: str, note: str, served: Sequence[Served], looks: Sequence[Look]) -> str:
    """The page as HTML text.

    Args:
        note: what has to be said of the figures (invented prices, planted faults); empty for nothing.
        served: at least one request, in the order in which they began.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=FileSystemLoader(TEMPLATE.parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters["clock"] = clock
    figures = figures_of(served)
    return environment.get_template(TEMPLATE.name).render(
        title=title,
        note=note,
        begun=served[0].begun_ms,
        ended=served[-1].begun_ms,
        tiles=tiles(figures),
        looks=looks,
        # Markup: matplotlib drew it from numbers only; text is drawn as paths.
        plots=[(name, Markup(_svg(draw))) for name, draw in plots(served, looks)],  # noqa: S704
        lists=request_lists(served),
    )


def tiles(figures: Figures) -> list[tuple[str, str]]:
    """What the service did over all, as name and value."""

    def ms(value: float | None) -> str:
        return "-" if value is None else f"{value:,.0f} ms"

    def share(value: float | None) -> str:
        return "-" if value is None else f"{value:.1%}"

    cost = f"{figures.cost_usd:.3g} USD" if figures.priced else "-"
    return [
        ("requests", f"{figures.requests:,}"),
        ("failed", share(figures.error_rate)),
        ("p50", ms(figures.p50_ms)),
        ("p95", ms(figures.p95_ms)),
        ("p99", ms(figures.p99_ms)),
        ("first piece, p50", ms(figures.first_p50_ms)),
        ("tokens in", f"{figures.input_tokens:,}"),
        ("tokens out", f"{figures.output_tokens:,}"),
        ("cost", cost),
        (f"good, of {figures.scored:,} scored", share(figures.quality)),
    ]


def buckets(served: Sequence[Served]) -> tuple[float, list[tuple[float, Figures]]]:
    """Width in seconds, and (start in ms since 1970, figures) of each part of the time, empty ones too."""
    begun, ended = served[0].begun_ms / 1000, served[-1].begun_ms / 1000
    wanted = max((ended - begun) / POINTS, STEPS_SECONDS[0])
    width = next((step for step in STEPS_SECONDS if step >= wanted), math.ceil(wanted / 86_400) * 86_400)
    start = math.floor(begun / width) * width
    groups: dict[int, list[Served]] = {number: [] for number in range(int((ended - start) // width) + 1)}
    for each in served:
        groups[int((each.begun_ms / 1000 - start) // width)].append(each)
    return width, [((start + number * width) * 1000, figures_of(group)) for number, group in groups.items()]


def request_lists(served: Sequence[Served]) -> list[tuple[str, list[Served]]]:
    """The slowest, the failed and the bad ones: where somebody who is called begins to read."""
    slow = sorted((each for each in served if not each.failed), key=lambda each: -each.latency_ms)
    failed = [each for each in reversed(served) if each.failed]
    bad = [each for each in reversed(served) if each.good is False]
    lists = [("Slowest answers", slow), ("Newest failures", failed), ("Newest bad answers", bad)]
    return [(name, found[:LISTED]) for name, found in lists if found]


def clock(ms: float) -> str:
    return f"{datetime.fromtimestamp(ms / 1000, UTC):%Y-%m-%d %H:%M:%S} UTC"


Draw = Callable[[Any], None]


def plots(served: Sequence[Served], looks: Sequence[Look]) -> Iterable[tuple[str, Draw]]:
    """What is drawn, as (title, function of the axes); a figure that nobody measured is not drawn."""
    width, parts = buckets(served)
    lines: list[tuple[str, str, list[tuple[str, Callable[[Figures], float | None]]]]] = [
        ("", f"Requests in {_duration(width)}", [("requests", lambda f: f.requests)]),
        ("latency", "Latency, ms", [("p50", lambda f: f.p50_ms), ("p95", lambda f: f.p95_ms)]),
        ("latency", "First piece, ms", [("p50", lambda f: f.first_p50_ms), ("p95", lambda f: f.first_p95_ms)]),
        ("errors", "Failed requests, %", [("failed", lambda f: None if f.error_rate is None else 100 * f.error_rate)]),
        (
            "cost",
            "Tokens of a request",
            [("tokens", lambda f: _per(f.input_tokens + f.output_tokens, f.requests - f.failed))],
        ),
        ("cost", "Cost of 1,000 requests, USD", [("cost", lambda f: _per(1000 * f.cost_usd, f.priced))]),
        (
            "quality",
            "Good answers among the scored, %",
            [("good", lambda f: None if f.quality is None else 100 * f.quality)],
        ),
    ]
    for kind, title, ways in lines:
        series = [(name, [value if (value := of(f)) is not None else math.nan for _, f in parts]) for name, of in ways]
        red = [(look.begun_ms, look.ended_ms) for look in looks if kind in look.kinds]
        if not all(math.isnan(value) for _, values in series for value in values):
            yield title, _line_plot([at for at, _ in parts], series, red, title.endswith("%"))


def _per(total: float, count: int) -> float | None:
    return total / count if count else None


def _duration(seconds: float) -> str:
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= size and seconds % size == 0:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def _line_plot(
    times: list[float], series: list[tuple[str, list[float]]], red: list[tuple[float, float]], share: bool
) -> Draw:
    def draw(axes: Any) -> None:
        from matplotlib.ticker import MaxNLocator

        at = [datetime.fromtimestamp(ms / 1000, UTC) for ms in times]
        for (name, values), colour in zip(series, (BLUE, GREY), strict=False):
            axes.plot(at, values, marker="o", markersize=3.5, linewidth=1.6, color=colour, label=name)
        for ends in red:
            axes.axvspan(*(datetime.fromtimestamp(ms / 1000, UTC) for ms in ends), color=RED, alpha=0.12, linewidth=0)
        axes.set_ylim(0, 105 if share else None)
        whole = all(math.isnan(value) or value == int(value) for _, values in series for value in values)
        axes.yaxis.set_major_locator(MaxNLocator(5, integer=whole))
        marks = at[:: -(-len(at) // TICKS)]
        axes.set_xticks(marks, [f"{each:{_form(times[-1] - times[0])}}" for each in marks])
        axes.grid(axis="y", color="#dddddd", linewidth=0.7)
        axes.spines[["top", "right"]].set_visible(False)
        if len(series) > 1:
            axes.legend(frameon=False, fontsize=8, loc="best")

    return draw


def _form(span_ms: float) -> str:
    """How a time is written below a plot that is so wide."""
    days = span_ms / 86_400_000
    return "%H:%M:%S" if days < 1 / 48 else "%H:%M" if days < 1 else "%d %b %H:%M" if days < 4 else "%d %b"


def _svg(draw: Draw) -> str:
    """An inline SVG without a fixed size, so that the page gives it its width."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context({"svg.fonttype": "path", "svg.hashsalt": "dashboard", "font.size": 9}):
        figure = Figure(figsize=(4.6, 2.2), layout="constrained", facecolor="none")
        draw(figure.subplots())
        written = io.StringIO()
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(written, format="svg", metadata=nothing, transparent=True)
    text = written.getvalue()
    text = text[text.index("<svg") :]
    head, rest = text.split(">", 1)
    kept = [part for part in head.split('" ') if not part.lstrip("<svg ").startswith(("width=", "height="))]
    return '" '.join(kept) + ' role="img">' + rest
