"""Pictures of a run as PNG files: learning curves, and predictions beside labels.

The colours are those of Okabe and Ito, "Color Universal Design" (2008), which all kinds of colour vision tell apart.
Config types are shown as they are written: a dollar sign in one is no formula.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from atomsml.io import write_atomically
from atomsml.training.evaluation.metrics import Collected

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_MANY = 5000  # more points than these are shown as their density
_SMALL, _SMALLER = 9, 8  # font sizes
Floats = NDArray[np.float64]


def learning_curves(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Losses, validation errors and learning rate against time, from the lines of a metrics.jsonl.

    A dashed line marks where the second stage starts, after which losses are not comparable with those before.
    """
    from matplotlib.figure import Figure

    panels = [
        ("loss", {"train_loss": "train", "valid_loss": "validation"}),
        ("energy error (meV/atom)", {"energy_mae": "MAE", "energy_rmse": "RMSE"}),
        ("force error (meV/Å)", {"forces_mae": "MAE", "forces_rmse": "RMSE"}),
        ("stress error (meV/Å³)", {"stress_mae": "MAE", "stress_rmse": "RMSE"}),
        ("charge error (e)", {"charges_mae": "MAE", "charges_rmse": "RMSE"}),
        ("dipole error (e Å)", {"dipole_mae": "MAE", "dipole_rmse": "RMSE"}),
        ("quadrupole error (e Å²)", {"quadrupole_mae": "MAE", "quadrupole_rmse": "RMSE"}),
        ("learning rate", {"learning_rate": "rate"}),
    ]
    panels = [(label, curves) for label, curves in panels if any(np.isfinite(_column(rows, c)).any() for c in curves)]
    lines = max(1, (len(panels) + 1) // 2)
    time, time_label = _time(rows)
    figure = Figure(figsize=(9, 2.8 * lines), layout="constrained")
    grid = figure.subplots(lines, 2, squeeze=False).flat
    for axes in grid[len(panels) :]:
        axes.set_axis_off()
    for axes, (label, curves) in zip(grid, panels, strict=False):
        marker = "o" if len(rows) < 40 else ""
        for color, (column, name) in zip(COLORS, curves.items(), strict=False):
            axes.plot(time, _column(rows, column), color=color, label=name, marker=marker, markersize=3, linewidth=1.2)
        _scale_of_errors(axes, np.concatenate([_column(rows, column) for column in curves]))
        _mark_stage_two(axes, rows, time)
        axes.set_xlim(left=0)
        axes.set_xlabel(time_label, fontsize=_SMALL)
        axes.set_ylabel(label, fontsize=_SMALL)
        if len(curves) > 1:
            axes.legend(frameon=False, fontsize=_SMALLER)
    write_atomically(path, lambda beside: figure.savefig(beside, dpi=100))


def _column(rows: Sequence[Mapping[str, Any]], name: str) -> Floats:
    """NaN where a line lacks the value."""
    return np.array([row[name] if row.get(name) is not None else np.nan for row in rows], dtype=np.float64)


def _time(rows: Sequence[Mapping[str, Any]]) -> tuple[Floats, str]:
    minutes, epochs = _column(rows, "minutes"), _column(rows, "epoch")
    steps = _column(rows, "step")
    if not np.isfinite(minutes).any():
        return steps, "step"
    end = f"step {np.nanmax(steps):,.0f}"
    if np.isfinite(epochs).any():
        end = f"epoch {np.nanmax(epochs):,.0f}, {end}"
    return (minutes / 60, f"hours (to {end})") if np.nanmax(minutes) > 180 else (minutes, f"minutes (to {end})")


def _scale_of_errors(axes: Axes, values: Floats) -> None:
    """Logarithmic where the values span enough of a positive range for it."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    values = values[np.isfinite(values)]
    if values.min() > 0 and values.max() > 4 * values.min():
        axes.set_yscale("log")
        axes.yaxis.set_minor_formatter(NullFormatter())
        if values.max() < 100 * values.min():
            axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.tick_params(labelsize=_SMALLER)
    axes.grid(alpha=0.3, linewidth=0.5)


def _mark_stage_two(axes: Axes, rows: Sequence[Mapping[str, Any]], time: Floats) -> None:
    second = _column(rows, "stage") == 2
    if second.any() and not second[0]:
        start = int(second.argmax())
        axes.axvline((time[start - 1] + time[start]) / 2, color="grey", linestyle="--", linewidth=1, label="stage two")


@dataclass(frozen=True)
class _Quantity:
    """Labelled values of one kind beside their predictions, flat, in `unit`; errors are shown in `error_unit`."""

    name: str
    unit: str
    error_unit: str
    label: Floats
    predicted: Floats
    structures: NDArray[np.int64]  # to which each value belongs
    missing: int  # labels without a finite prediction


def parity_plot(collected: Collected, path: Path) -> None:
    """Predictions against labels, and below them the distribution of the errors, for every labelled quantity.

    Points have the colours of their config types where these are several, but few; of more than 5,000, a random
    5,000 are drawn. Where one colour would do for all, more are shown as a density. Predictions further outside the
    range of the labels than its width, and errors beyond ten times their 90th percentile, would hide all others:
    they are not drawn but counted in the corner.
    """
    from matplotlib.figure import Figure

    quantities = [quantity for quantity in _quantities(collected) if len(quantity.label)]
    colors = _colors(collected.config_types)
    color_of = np.array([colors.get(str(name), COLORS[0]) for name in collected.config_types])
    columns = max(1, len(quantities))
    figure = Figure(figsize=(4.4 * columns, 7.2), layout="constrained")
    grid = figure.subplots(2, columns, squeeze=False, height_ratios=(1.7, 1))
    for quantity, parity, histogram in zip(quantities, *grid, strict=False):
        _draw_parity(parity, quantity, color_of)
        _draw_errors(histogram, quantity)
    if not quantities:
        grid[0, 0].set_axis_off()
        grid[1, 0].set_axis_off()
        figure.suptitle("no label has a prediction", fontsize=_SMALL)
    if len(colors) > 1 and quantities:
        _add_legend(figure, colors)
    write_atomically(path, lambda beside: figure.savefig(beside, dpi=100))


def _quantities(collected: Collected) -> list[_Quantity]:
    energies = (collected.energy_label, collected.energy_predicted, np.ones_like(collected.num_atoms))
    forces = (collected.forces_label, collected.forces_predicted, 3 * collected.num_atoms)
    stresses = (collected.stress_label, collected.stress_predicted, np.full_like(collected.num_atoms, 9))
    found = []
    for name, unit, (label, predicted, components) in (
        ("energy", "eV/atom", energies),
        ("force", "eV/Å", forces),
        ("stress", "eV/Å³", stresses),
    ):
        label, predicted = label.ravel(), predicted.ravel()
        labelled = np.isfinite(label)
        both = labelled & np.isfinite(predicted)
        structures = np.repeat(np.arange(len(components)), components)[both]
        missing = int(labelled.sum() - both.sum())
        found.append(_Quantity(name, unit, f"m{unit}", label[both], predicted[both], structures, missing))
    return found


def _colors(config_types: NDArray[np.str_]) -> dict[str, str]:
    """Config type -> colour; none where there are more types than colours."""
    names = [str(name) for name in np.unique(config_types)]
    return dict(zip(names, COLORS, strict=False)) if len(names) <= len(COLORS) else {}


def _draw_parity(axes: Axes, quantity: _Quantity, color_of: NDArray[np.str_]) -> None:
    origin = _origin(quantity)
    label, predicted = quantity.label - origin, quantity.predicted - origin
    width = np.ptp(label) or np.abs(predicted - label).max() or 1.0
    seen = np.abs(predicted - (label.min() + label.max()) / 2) <= 1.5 * width
    low = min(label.min(), predicted[seen].min(initial=np.inf)) - 0.06 * width
    high = max(label.max(), predicted[seen].max(initial=-np.inf)) + 0.06 * width
    as_density = len(label) > _MANY and len(set(color_of)) == 1
    if as_density:
        _draw_density(axes, label[seen], predicted[seen], (low, high))
    else:
        drawn = np.random.default_rng(0).permutation(len(label))[:_MANY]  # in no order: none lies on top of all others
        colors, size = color_of[quantity.structures[drawn]], 25 if len(label) < 100 else 9
        axes.scatter(label[drawn], predicted[drawn], c=list(colors), s=size, alpha=0.6, linewidths=0)
    axes.plot([low, high], [low, high], color="black", linewidth=0.8, zorder=3 if as_density else 0)
    axes.set(xlim=(low, high), ylim=(low, high), aspect="equal")
    unit = f"{quantity.unit} above {origin:,.6g}" if origin else quantity.unit
    axes.set_xlabel(f"{quantity.name}, label ({unit})", fontsize=_SMALL)
    axes.set_ylabel(f"{quantity.name}, predicted ({unit})", fontsize=_SMALL)
    axes.locator_params(nbins=5)
    errors = 1000 * (predicted - label)
    lines = [
        f"MAE {np.abs(errors).mean():,.4g} {quantity.error_unit}",
        f"RMSE {np.sqrt(np.square(errors).mean()):,.4g} {quantity.error_unit}",
    ]
    if len(label) > _MANY and not as_density:
        lines.append(f"{_MANY:,} of {len(label):,} drawn")
    if not seen.all():
        lines.append(f"{np.count_nonzero(~seen):,} far outside")
    if quantity.missing:
        lines.append(f"{quantity.missing:,} without a finite prediction")
    _write_in_corner(axes, lines)


def _draw_density(axes: Axes, label: Floats, predicted: Floats, limits: tuple[float, float]) -> None:
    from matplotlib.colors import LogNorm

    cells = axes.hexbin(label, predicted, gridsize=60, extent=limits * 2, mincnt=1, cmap="viridis_r")
    counts = cells.get_array()
    assert counts is not None
    cells.set_norm(LogNorm(1, max([10.0, *counts.ravel()])))
    bar = axes.figure.colorbar(cells, ax=axes, location="top", shrink=0.8, aspect=40, pad=0.02)
    bar.ax.tick_params(labelsize=_SMALLER)
    bar.set_label("points in a cell", fontsize=_SMALLER)


def _origin(quantity: _Quantity) -> float:
    """What to subtract before drawing: zero, unless the values lie far from it and close together."""
    middle = float(np.median(quantity.label))
    spread = np.ptp(np.concatenate([quantity.label, quantity.predicted]))
    return float(f"{middle:.6g}") if abs(middle) > 20 * spread else 0.0


def _draw_errors(axes: Axes, quantity: _Quantity) -> None:
    errors = 1000 * (quantity.predicted - quantity.label)
    sizes = np.abs(errors)
    limit = min(sizes.max(), 10 * np.quantile(sizes, 0.9)) or sizes.max() or 1.0
    bins = 2 * min(30, max(5, int(np.sqrt(len(errors))))) + 1
    axes.hist(errors, bins=bins, range=(-limit, limit), color=COLORS[0], log=True)
    axes.axvline(0, color="black", linewidth=0.8)
    axes.set_ylim(0.5, 6 * axes.get_ylim()[1])  # room for the text
    axes.set_xlabel(f"error ({quantity.error_unit})", fontsize=_SMALL)
    axes.set_ylabel("count", fontsize=_SMALL)
    axes.locator_params(axis="x", nbins=5)
    lines = [f"n = {len(errors):,}, mean error {errors.mean():,.3g}"]
    if (beyond := np.count_nonzero(sizes > limit)) > 0:
        lines.append(f"{beyond:,} beyond these limits")
    _write_in_corner(axes, lines)


def _write_in_corner(axes: Axes, lines: list[str]) -> None:
    box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 2}
    text = axes.text(0.03, 0.97, "\n".join(lines), transform=axes.transAxes, fontsize=_SMALLER, va="top", zorder=4)
    text.set_bbox(box)
    axes.tick_params(labelsize=_SMALLER)


def _add_legend(figure: Figure, colors: dict[str, str]) -> None:
    from matplotlib.lines import Line2D

    dots = [Line2D([], [], color=color, marker="o", linestyle="") for color in colors.values()]
    numbers = [str(number) for number in range(len(colors))]  # a label with a leading underscore would be left out
    legend = figure.legend(dots, numbers, loc="outside lower center", ncols=4, frameon=False, fontsize=_SMALLER)
    for text, name in zip(legend.get_texts(), colors, strict=True):
        text.set_parse_math(False)
        text.set_text(_shown(name))


def _shown(name: str) -> str:
    """A config type on one line and of bearable length."""
    text = "".join(c if c.isprintable() else "?" for c in name) or "(none)"
    return text if len(text) <= 28 else f"{text[:27]}…"
