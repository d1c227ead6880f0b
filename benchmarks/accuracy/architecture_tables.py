"""Tables and picture of architectures.py."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.shared.reporting import label_log_ticks, processor, table, three_digits

PICTURE = "architectures.png"
EXAMPLES = (10_000, 30_000, 100_000)  # weights, in the legend of areas
Rows = dict[str, dict[str, Any]]  # "row-size" -> what architectures.read_results returns
ERRORS = {"energy": "E, meV/atom", "forces": "F, meV/A", "stress": "S, meV/A^3"}


def report(results: dict[str, Rows]) -> str:
    """A table for each set, below what holds for all."""
    return "\n".join([circumstances(results), *(section(title, rows) for title, rows in results.items())])


def circumstances(results: dict[str, Rows]) -> str:
    done = [row for rows in results.values() for row in rows.values() if "errors" in row]
    if not done:
        return f"Machine: {processor()}.\n"
    minutes = [row["minutes"] for row in done]
    span = " to ".join(dict.fromkeys(f"{x:.2g}" for x in (min(minutes), max(minutes))))
    versions = ", ".join(f"{name} {version}" for name, version in done[0]["versions"].items())
    return (
        f"Budget: {span} minutes of training for each row, on one thread of one core. Machine: {processor()}; "
        f"{versions}. Errors are mean absolute / root mean square errors on the test set.\n\n"
        "![force error against time per atom and against the number of weights, which the areas of the points "
        f"follow](images/{PICTURE})\n"
    )


def section(title: str, rows: Rows) -> str:
    atoms = next((row["atoms"] for row in rows.values() if "atoms" in row), {"small": 0, "large": 0})
    labelled = [name for name in ERRORS if any(f"{name}_mae" in row.get("errors", {}) for row in rows.values())]
    header = [
        *("architecture", "weights", "minutes", "steps", "us/atom", f"us/atom, {atoms['large']} atoms", "MB"),
        *(ERRORS[name] for name in labelled),
    ]
    cells = [[label(name), *row_cells(row, labelled)] for name, row in rows.items()]
    costs = (
        f"Time is that of {atoms['small']} atoms, and of {atoms['large']} atoms together, which take MB of memory.\n"
    )
    return f"### {title}\n\n{table(header, cells)}\n{costs}"


def row_cells(row: dict[str, Any], labelled: Sequence[str]) -> list[str]:
    """All cells but the name; what is not known stays empty, and the reason stands where it is missing first."""
    reason = " ".join(row.get("failure", "").split()).replace("|", "/")
    if "errors" not in row:
        return [f"failed: {reason}", *[""] * (5 + len(labelled))]
    costs = (
        [f"failed: {reason}", "", ""] if reason else [three_digits(row[key]) for key in ("small", "large", "memory")]
    )
    errors = row["errors"]
    means = [" / ".join(three_digits(errors[f"{name}_{kind}"]) for kind in ("mae", "rmse")) for name in labelled]
    return [f"{row['parameters']:,}", f"{row['minutes']:.2g}", f"{row['steps']:,}", *costs, *means]


def label(name: str) -> str:
    """The row alone, unless its size is not the usual one."""
    row, _, size = name.rpartition("-")
    row = row.replace("-paper", ", as in the paper")
    return row if size == "small" else f"{row}, {size}"


def draw(results: dict[str, Rows], path: Path) -> None:
    """A column for each set: force error against time per atom (above), and against the number of weights (below).

    A point is called by its architecture, or by its size where that is not the usual one; areas follow the weights.
    """
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    panels = {title: [x for x in rows.items() if "large" in x[1]] for title, rows in results.items()}
    panels = {title: rows for title, rows in panels.items() if rows}
    if not panels:
        return
    width = max(1 + 3.8 * len(panels), 7)  # of a single panel that of the legend
    figure, axes = plt.subplots(2, len(panels), figsize=(width, 7.5), sharey="col", squeeze=False, layout="constrained")
    models = list(dict.fromkeys(name.rpartition("-")[0] for rows in results.values() for name in rows))
    for column, (title, rows) in enumerate(panels.items()):
        axes[0, column].set_title(title)
        for axis, key, quantity in (
            (axes[0, column], "large", f"us/atom, {rows[0][1]['atoms']['large']} atoms"),
            (axes[1, column], "parameters", "weights"),
        ):
            scatter(axis, rows, key, models)
            axis.set(xlabel=quantity, ylabel="force MAE, test set, meV/A")
    sizes = [axes[0, 0].scatter([], [], s=area(count), color="grey", label=f"{count:,}") for count in EXAMPLES]
    lines = axes[0, 0].plot([], [], color="grey", linewidth=1, label="sizes of one architecture")
    figure.legend(
        handles=[*sizes, *lines], title="weights", loc="outside lower center", ncols=len(EXAMPLES) + 1, frameon=False
    )
    figure.savefig(path, dpi=100)
    plt.close(figure)


def scatter(axis: Any, rows: Sequence[tuple[str, dict[str, Any]]], key: str, models: Sequence[str]) -> None:
    """Points with names, sizes of one architecture joined by a line; the area of a point follows its weights."""
    import matplotlib
    from matplotlib.ticker import EngFormatter

    for model, color in zip(models, matplotlib.color_sequences["tab20"][: len(models)], strict=True):
        mine = [(name, row) for name, row in rows if name.rpartition("-")[0] == model]
        x, y = [row[key] for _, row in mine], [row["errors"]["forces_mae"] for _, row in mine]
        axis.plot(x, y, color=color, linewidth=1, alpha=0.6)
        axis.scatter(x, y, s=[area(row["parameters"]) for _, row in mine], color=color, alpha=0.6)
        for (name, row), where in zip(mine, zip(x, y, strict=True), strict=True):
            above = (0, 5 + math.sqrt(row["parameters"] / 2000) / 2)  # points of the page
            text = model if name == f"{model}-small" else name.removeprefix(f"{model}-")
            style = {"textcoords": "offset points", "ha": "center", "fontsize": 8, "color": color}
            axis.annotate(text, where, xytext=above, **style)
    axis.set(xscale="log", yscale="log")
    axis.margins(x=0.2, y=0.15)
    axis.grid(alpha=0.3)
    for direction in (axis.xaxis, axis.yaxis):
        label_log_ticks(direction)
    if key == "parameters":
        axis.xaxis.set_major_formatter(EngFormatter(sep=""))


def area(weights: int) -> float:
    """Of a point, in points of the page squared."""
    return weights / 2000 + 10
