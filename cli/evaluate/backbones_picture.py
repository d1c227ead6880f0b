"""What `atomsml evaluate backbones` draws: torsions, compactness, helices and strands, TM-scores."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from atomsml.generative.core.metrics import SuiteResult
    from atomsml.generative.proteins.backbones import Chain
    from atomsml.generative.proteins.metrics.evaluate import Evaluation

OURS, THEIRS = "#2f6f9f", "#b9bfc6"
SHADES = ("#ffffff", "#e6eff5", "#c7dbe8")  # outliers, allowed, favoured
MANY = 4000  # residues that are drawn as points; of more, every second or third is


def draw_evaluation(path: Path, chains: Sequence[Chain], found: Evaluation) -> None:
    """Four panels of chains whose coordinates are finite, beside the reference where there is one.

    Raises:
        OSError: `path` cannot be written.
    """
    from matplotlib.figure import Figure

    from atomsml.io import write_atomically

    figure = Figure(figsize=(10, 9), layout="constrained")
    (torsions, radii), (kinds, scores) = figure.subplots(2, 2)
    reference = () if found.reference is None else found.reference.chains
    _draw_torsions(torsions, chains)
    _draw_radii(radii, chains, reference)
    _draw_kinds(kinds, found.suites["secondary_structure"])
    _draw_scores(scores, found.suites.get("tm_score"))
    write_atomically(path, lambda beside: figure.savefig(beside, dpi=150, format=path.suffix[1:]))


def _draw_torsions(axes: Axes, chains: Sequence[Chain]) -> None:
    """Points over the regions of known structures."""
    from matplotlib.colors import ListedColormap

    from atomsml.generative.proteins.metrics.geometry import phi_psi_omega
    from atomsml.generative.proteins.metrics.ramachandran import ALLOWED, FAVOURED, OUTLIER, region_of, regions

    letters = regions()
    levels = np.select([letters == ALLOWED, letters == FAVOURED], [1, 2], 0)
    axes.imshow(levels.T, origin="lower", extent=(-180, 180, -180, 180), cmap=ListedColormap(SHADES))
    angles = np.concatenate([phi_psi_omega(chain)[1:-1, :2] for chain in chains])
    outside = region_of(angles) == OUTLIER
    inside = angles[~outside][:: 1 + len(angles) // MANY]
    axes.plot(*inside.T, ".", color=OURS, markersize=2.5, alpha=0.6)
    axes.plot(*angles[outside].T, ".", color="#a02020", markersize=4)
    axes.set(xlabel="phi, degrees", ylabel="psi, degrees", xticks=range(-180, 181, 90), yticks=range(-180, 181, 90))
    share = outside.mean() if len(outside) else 0.0
    axes.set_title(f"{share:.1%} outliers; regions hold 98 and 99.8 % of X-ray structures", fontsize=9)


def _draw_radii(axes: Axes, chains: Sequence[Chain], reference: Sequence[Chain]) -> None:
    from atomsml.generative.proteins.metrics.radius_of_gyration import WITHIN
    from atomsml.generative.proteins.set import radius_of_folded, radius_of_gyration

    for group, colour, label in ((reference, THEIRS, "reference"), (chains, OURS, "these chains")):
        if group:
            axes.plot(
                [len(chain) for chain in group],
                [radius_of_gyration(chain.coordinates) for chain in group],
                ".",
                color=colour,
                label=label,
                markersize=6,
            )
    lengths = [len(chain) for chain in (*chains, *reference)]
    sizes = range(int(0.9 * min(lengths)), int(1.1 * max(lengths)) + 2)
    folded = np.array([radius_of_folded(size) for size in sizes])
    axes.plot(sizes, folded, color="black", linewidth=1, label="2.96 N$^{0.318}$ A, 15 %")
    axes.fill_between(sizes, (1 - WITHIN) * folded, (1 + WITHIN) * folded, color="black", alpha=0.08)
    axes.set(xlabel="residues N", ylabel="radius of gyration, A", ylim=(0, None))
    axes.legend(fontsize=8, frameon=False)


def _draw_kinds(axes: Axes, suite: SuiteResult) -> None:
    names = ("helix", "strand", "coil")
    place = np.arange(len(names))
    sides = [(suite.metrics, OURS, "these chains", -0.2 if suite.reference else 0.0)]
    if suite.reference:
        sides.append((suite.reference, THEIRS, "reference", 0.2))
    for metrics, colour, label, shift in sides:
        values = np.array([metrics[name].value for name in names])
        ends = np.array([[metrics[name].low, metrics[name].high] for name in names]).T
        spread = np.abs(ends - values)
        axes.bar(place + shift, 100 * values, 0.38, yerr=100 * spread, color=colour, label=label, capsize=3)
    axes.set(xticks=place, xticklabels=names, ylabel="residues, %")
    axes.legend(fontsize=8, frameon=False)


def _draw_scores(axes: Axes, suite: SuiteResult | None) -> None:
    """The distributions of a table of tenths."""
    axes.set(xlabel="TM-score", ylabel="share, %", xlim=(0, 1))
    if suite is None or not suite.types:
        axes.text(0.5, 0.5, "tmtools is not installed", ha="center", transform=axes.transAxes)
        return
    for prefix, colour, label in (("pairs", THEIRS, "of pairs"), ("nearest", OURS, "to the nearest of the reference")):
        shares = [100 * metric.value for name, metric in suite.types.items() if name.startswith(prefix)]
        if shares:
            axes.stairs(shares, np.linspace(0, 1, len(shares) + 1), color=colour, label=label, linewidth=2)
    axes.axvline(0.5, color="black", linewidth=0.8, linestyle=":")
    axes.legend(fontsize=8, frameon=False)
