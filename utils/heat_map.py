"""A grid of means with their intervals, as a picture."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from utils.evaluation import Interval


def draw_heat_map(
    cells: "Mapping[tuple[int, int], tuple[float, Interval]]", title: str, down: str, across: str, label: str
) -> "Figure":
    """Darker is higher; the scale goes from 0 to 1, so that pictures of several runs can be compared.

    Args:
        cells: (row, column) → mean and its interval; a combination that is missing stays white.
        down, across: what rows and columns are. label: what the means are.
    """
    from matplotlib.figure import Figure

    rows, columns = (list(dict.fromkeys(key[side] for key in cells)) for side in (0, 1))
    grid = [[cells[row, column][0] if (row, column) in cells else float("nan") for column in columns] for row in rows]
    figure = Figure(figsize=(2.6 + 1.5 * len(columns), 1.8 + 0.8 * len(rows)), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(grid, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    axes.set_xticks(range(len(columns)), [str(column) for column in columns])
    axes.set_yticks(range(len(rows)), [str(row) for row in rows])
    axes.set(xlabel=across, ylabel=down, title=title)
    for (row, column), (value, (low, high)) in cells.items():
        shade = "white" if value > 0.6 else "black"
        text = f"{value:.2f}\n({low:.2f} to {high:.2f})"
        axes.text(columns.index(column), rows.index(row), text, ha="center", va="center", color=shade)
    figure.colorbar(image, label=label)
    return figure
