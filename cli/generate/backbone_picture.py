"""Ribbons of backbones, coloured by secondary structure, and where their torsions lie in the Ramachandran plot."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import SubFigure

    from atomsml.generative.proteins.backbones import Chain

MOST, COLUMNS = 12, 4  # backbones that are shown; a longer run shows its first ones
PANEL = 2.7  # inches
COLOURS = {"helix": "#cf4a5c", "strand": "#2f6f9f", "coil": "#8f979f"}
HALF_WIDTHS = {"helix": 1.25, "strand": 1.0, "coil": 0.28}  # A, of the ribbon
ARROW = 1.9  # A, half the width where the head of a strand begins
FINE = 10  # pieces of ribbon a residue
LIGHT = np.array([-0.35, 0.45, 0.82])  # towards it; the eye is at +z
FADED = 0.55  # how far the colour of what is farthest away goes to white
OUTLINE = 0.16  # A
REGIONS = {"F": "#c7dbe8", "A": "#e6eff5"}  # favoured and allowed


def draw_backbones(path: Path, chains: Sequence[Chain], captions: Sequence[str], reasons: Sequence[str]) -> None:
    """Draw the first backbones, each along its shortest axis, and phi and psi of all of them, as .png, .pdf or .svg.

    All have one scale. What is farther away is paler. `reasons` say what is wrong with each, "" if nothing is.

    Raises:
        OSError: the path cannot be written.
    """
    from matplotlib.figure import Figure

    shown = list(zip(chains, captions, reasons, strict=True))[:MOST]
    kinds = [kinds_of(chain) for chain in chains]
    columns = min(COLUMNS, len(shown))
    lines = -(-len(shown) // columns)
    placed = [_turned(chain.coordinates) for chain, *_ in shown]
    reach = np.array([np.abs(atoms[:, 1, :2]).max(axis=0) for atoms in placed]).max(axis=0) + 3.0  # A
    height = PANEL * float(reach[1] / reach[0]) + 0.5  # with the caption
    side = PANEL * max(1.3, min(lines, 2))  # of the Ramachandran plot
    size = (columns * PANEL + side + 0.8, max(lines * height, side + 0.9))
    figure = Figure(figsize=size, layout="constrained")
    parts: Any = figure.subfigures(1, 2, width_ratios=[columns * PANEL, side + 0.8])  # an array, which stubs forget
    ribbons, torsions = parts
    grid = ribbons.subplots(lines, columns, squeeze=False).ravel()
    for axes in grid:
        axes.set(xlim=(-reach[0], reach[0]), ylim=(-reach[1], reach[1]), aspect="equal")
        axes.axis("off")
    for axes, atoms, kind, (_, caption, reason) in zip(grid, placed, kinds, shown, strict=False):
        _draw_ribbon(axes, atoms, kind)
        share = ", ".join(f"{np.mean(kind == name):.0%} {name}" for name in ("helix", "strand"))
        axes.set_title(f"{caption}\n{share}", fontsize=8, linespacing=1.3)
        if reason:
            axes.text(0.5, 0.0, _cut(reason), color="#a02020", fontsize=6, ha="center", transform=axes.transAxes)
    _draw_scale(grid[len(shown) - 1], reach)
    _draw_ramachandran(torsions, chains, kinds)
    figure.savefig(path, dpi=160)


def kinds_of(chain: Chain) -> np.ndarray:
    """(residues,) "helix", "strand" or "coil" by DSSP."""
    from atomsml.generative.proteins.metrics.dssp import HELIX, STRAND, assign

    names = {**dict.fromkeys(HELIX, "helix"), **dict.fromkeys(STRAND, "strand")}
    return np.array([names.get(letter, "coil") for letter in assign(chain.coordinates, chain.sequence)])


def _turned(coordinates: np.ndarray) -> np.ndarray:
    """Atoms about the centre of CA, with the longest axis from left to right and the shortest towards the eye."""
    ca = coordinates[:, 1]
    axes = np.linalg.eigh(np.cov(ca.T, bias=True))[1].T[::-1]  # rows, the longest first
    if axes[0] @ (ca[-1] - ca[0]) < 0:
        axes[0] *= -1  # N-terminus on the left
    axes[2] = np.cross(axes[0], axes[1])  # never mirrored: helices must turn as they do
    return np.asarray((coordinates - ca.mean(axis=0)) @ axes.T)


def _draw_ribbon(axes: Axes, atoms: np.ndarray, kinds: np.ndarray) -> None:
    """Pieces of ribbon, the farthest first."""
    from matplotlib.collections import PolyCollection
    from matplotlib.colors import to_rgb

    points, sides, widths, kinds = _ribbon(atoms, kinds)
    normals = np.cross(np.gradient(points, axis=0), sides)
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    shine = np.where(kinds == "coil", 0.9, 0.45 + 0.55 * np.abs(normals @ LIGHT))
    depth = points[:, 2]
    far = (depth.max() - depth) / max(float(np.ptp(depth)), 10.0)
    colours = np.array([to_rgb(COLOURS[kind]) for kind in kinds]) * shine[:, None]
    colours += (1 - colours) * FADED * far[:, None]
    border = 0.25 + (1 - 0.25) * 0.75 * FADED * np.repeat(far[:, None], 3, axis=1)
    quads, fills = [], []
    for extra, fill, behind in ((OUTLINE, border, 0.3), (0.0, colours, 0.0)):
        left, right = (points + sign * (widths + extra)[:, None] * sides for sign in (1, -1))
        quads.append(np.stack([left[:-1], left[1:], right[1:], right[:-1]], axis=1))
        quads[-1][:, :, 2] -= behind
        fills.append(fill[:-1])
    pieces, paint = np.concatenate(quads), np.concatenate(fills)
    order = np.argsort(pieces[:, :, 2].mean(axis=1), kind="stable")
    axes.add_collection(
        PolyCollection(list(pieces[order][:, :, :2]), facecolors=paint[order], edgecolors=paint[order], linewidths=0.3)
    )
    for letter, place, towards in (("N", 0, 1), ("C", -1, -2)):
        away = atoms[place, 1] - atoms[towards, 1]
        x, y = atoms[place, 1, :2] + 2.0 * away[:2] / np.linalg.norm(away)
        axes.text(x, y, letter, fontsize=6, color="#404040", ha="center", va="center")


def _ribbon(atoms: np.ndarray, kinds: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Points along a spline through CA, unit vectors across it, half its width there, and kinds."""
    from scipy.interpolate import CubicSpline

    residues = np.arange(len(atoms))
    fine = np.linspace(0, residues[-1], FINE * residues[-1] + 1)
    ca = atoms[:, 1].copy()
    pleated = np.flatnonzero(kinds == "strand")
    pleated = pleated[(pleated > 0) & (pleated < residues[-1])]
    ca[pleated] = (atoms[pleated - 1, 1] + 2 * atoms[pleated, 1] + atoms[pleated + 1, 1]) / 4  # strands lie flat
    across = atoms[:, 3] - atoms[:, 2]  # along C=O, which is along the axis of helices and in the plane of sheets
    for i in residues[1:]:
        if across[i] @ across[i - 1] < 0:
            across[i] *= -1
    smooth = across.copy()
    smooth[1:-1] = across[:-2] + across[1:-1] + across[2:]
    points = CubicSpline(residues, ca)(fine)
    sides = CubicSpline(residues, smooth)(fine)
    tangents = np.gradient(points, axis=0)
    tangents /= np.linalg.norm(tangents, axis=1, keepdims=True)
    sides -= (sides * tangents).sum(axis=1, keepdims=True) * tangents
    own = kinds[np.minimum(fine.round().astype(int), residues[-1])]
    flat = np.cross(tangents, [0.0, 0.0, 1.0])  # a tube looks the same from everywhere
    sides = np.where((own == "coil")[:, None], flat, sides)
    sides /= np.linalg.norm(sides, axis=1, keepdims=True).clip(1e-6)
    steps = np.pad([HALF_WIDTHS[kind] for kind in own], FINE // 4, mode="edge")
    widths = np.convolve(steps, np.ones(2 * (FINE // 4) + 1) / (2 * (FINE // 4) + 1), mode="valid")
    for last in np.flatnonzero((kinds[:-1] == "strand") & (kinds[1:] != "strand")):
        head = (fine >= last - 1) & (fine <= last + 0.5)
        widths[head] = ARROW + (HALF_WIDTHS["coil"] - ARROW) * (fine[head] - last + 1) / 1.5
    return points, sides, widths, own


def _draw_scale(axes: Axes, reach: np.ndarray) -> None:
    right, low = reach[0] - 2, 1 - reach[1]
    axes.plot([right - 10, right], [low, low], color="#404040", linewidth=1.5, solid_capstyle="butt")
    axes.text(right - 5, low + 0.5, "10 Å", fontsize=6, color="#404040", ha="center", va="bottom")


def _draw_ramachandran(figure: SubFigure, chains: Sequence[Chain], kinds: Sequence[np.ndarray]) -> None:
    from matplotlib.colors import ListedColormap

    from atomsml.generative.proteins.metrics.geometry import phi_psi_omega
    from atomsml.generative.proteins.metrics.ramachandran import region_of, regions

    axes = figure.subplots()
    levels = np.select([regions() == "F", regions() == "A"], [2, 1], 0)
    axes.imshow(
        levels.T,
        extent=(-180, 180, -180, 180),
        origin="lower",
        cmap=ListedColormap(["white", REGIONS["A"], REGIONS["F"]]),
        vmin=0,
        vmax=2,
        interpolation="nearest",
    )
    angles = np.concatenate([phi_psi_omega(chain)[1:-1, :2] for chain in chains])
    own = np.concatenate([kind[1:-1] for kind in kinds])
    for kind in ("coil", "strand", "helix"):
        phi, psi = angles[own == kind].T
        axes.scatter(phi, psi, s=4, color=COLOURS[kind], alpha=0.7, linewidths=0, label=kind)
    outliers = np.mean(region_of(angles) == ".") if len(angles) else 0.0
    ticks = range(-180, 181, 90)
    axes.set(
        xlim=(-180, 180), ylim=(-180, 180), xticks=ticks, yticks=ticks, xlabel="φ (°)", ylabel="ψ (°)", aspect="equal"
    )
    whose = "1 chain" if len(chains) == 1 else f"{len(chains):,} chains"
    axes.set_title(f"{len(angles):,} residues of {whose}, {outliers:.1%} outliers", fontsize=8)
    axes.legend(fontsize=7, loc="lower right", markerscale=2.5, handletextpad=0.1, borderpad=0.3)


def _cut(text: str) -> str:
    return text if len(text) <= 44 else text[:41] + "..."
