"""The picture of a run: of energies, temperature, pressure and volume what matters in its ensemble."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from atomsml.cli.md.series import Series
    from atomsml.cli.md.settings import Settings
    from atomsml.simulate.schedules import Schedule

LABELS = {
    "temperature_K": "temperature (K)",
    "pressure_GPa": "pressure (GPa)",
    "volume_A^3": "volume (Å³ per atom)",
}


def draw(path: Path, runs: Sequence[Series], atoms: Sequence[int], settings: Settings, title: str) -> None:
    """One picture of one structure, or of several with a thin line for each; energies in eV above the start.

    Args:
        atoms: of each structure; energies and volumes of several are per atom.
    """
    from matplotlib.figure import Figure

    panels = ["temperature_K"]
    panels += ["pressure_GPa"] if all(np.isfinite(run.values["pressure_GPa"]).all() for run in runs) else []
    panels += ["volume_A^3"] if settings.ensemble == "npt" else []
    figure = Figure(figsize=(7, 3 + 1.9 * len(panels)), layout="constrained")
    energies, *others = figure.subplots(1 + len(panels), sharex=True, height_ratios=[1.5] + [1] * len(panels))
    _draw_energies(energies, runs, atoms, settings.conserves)
    energies.set_title(f"{title}, {settings.ensemble.upper()} by {settings.method}, {settings.timestep:g} fs")
    targets = {"temperature_K": settings.temperatures, "pressure_GPa": settings.pressures}
    for axes, name in zip(others, panels, strict=True):
        for run, count in zip(runs, atoms, strict=True):
            values = run.values[name] / count if name == "volume_A^3" else run.values[name]
            axes.plot(run.time / 1000, values, color="tab:red", **_style(runs))
        if name in targets and (settings.ensemble == "npt" or (settings.ensemble == "nvt" and "temp" in name)):
            _draw_target(axes, targets[name], settings)
        axes.set_ylabel(LABELS[name])
    others[-1].set_xlabel("time (ps)")
    figure.align_ylabels()
    figure.savefig(path, dpi=150)


def _draw_energies(axes: Axes, runs: Sequence[Series], atoms: Sequence[int], conserved: bool) -> None:
    several = len(runs) > 1
    lines = [("potential_eV", "potential", "tab:blue"), ("kinetic_eV", "kinetic", "tab:orange")]
    lines += [("conserved_eV", "conserved", "black")] if conserved else []
    for i, (run, count) in enumerate(zip(runs, atoms, strict=True)):
        share = count if several else 1
        for name, label, colour in lines:
            values = run.values[name]
            above = values if name == "kinetic_eV" else values - values[0]
            axes.plot(run.time / 1000, above / share, color=colour, label=None if i else label, **_style(runs))
    axes.set_ylabel("energy above start (eV per atom)" if several else "energy above start (eV)")
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False)


def _draw_target(axes: Axes, schedule: Schedule, settings: Settings) -> None:
    style: dict[str, Any] = {"color": "grey", "linestyle": "--", "linewidth": 1}
    if settings.replicas:
        for i, value in enumerate(settings.replicas):
            axes.axhline(value, label=None if i else "set", **style)
    else:
        inside = [min(step, settings.steps) for step, _ in schedule.points]
        values = schedule.values
        time = np.array([0, *inside, settings.steps]) * settings.timestep / 1000
        axes.plot(time, [values[0], *values, values[-1]], label="set", **style)
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False)


def _style(runs: Sequence[Series]) -> dict[str, Any]:
    return {"linewidth": 1.0} if len(runs) == 1 else {"linewidth": 0.6, "alpha": max(0.15, 1 / len(runs) ** 0.5)}
