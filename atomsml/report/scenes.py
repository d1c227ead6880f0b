"""Structures and trajectories in three dimensions, drawn by 3Dmol.js 2.5.5.

The library (Rego and Koes, Bioinformatics 31, 1322 (2015)) stands in `assets/` with its licence, BSD. A page holds it
whole: nothing is loaded.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from html import escape
from typing import Any, Protocol

import ase
import numpy as np
from scipy.spatial.transform import Rotation

from atomsml.report.bonds import drawn_bonds, layout
from atomsml.report.pages import Fragment, asset, table

MOST_SCENES = 1000
MOST_FRAMES = 501  # of one scene
MOST_ATOMS = 20_000  # of one structure: more take a browser seconds to draw
MOST_PLACES = 200_000  # atoms times frames on a page: some 4 MB
CRYSTALS = [-0.6, -0.106, -0.138, 0.781]  # the turn of their first view: a to the right and c up, a little from above
FARTHEST = 1e5  # A: farther atoms have flown apart, and such a frame is left out


class Frames(Protocol):
    """A list of structures, or what reads them from a file when they are asked for."""

    def __len__(self) -> int: ...

    def __getitem__(self, frame: int, /) -> ase.Atoms: ...


@dataclass(frozen=True)
class Scene:
    """What a viewer shows at a time: a structure, or a trajectory of the same atoms."""

    name: str
    frames: Frames  # only those that are shown are asked for
    labels: Sequence[str]  # of each frame: "before" and "after", "12 fs"
    curves: Mapping[str, Sequence[float]] = field(default_factory=dict)  # "energy (eV)" -> a value for each frame
    ribbon: str = ""  # of a backbone, whose atoms are N, CA, C, O of each residue: h, s or c, helix, strand or coil


def viewer(scenes: Sequence[Scene], header: Sequence[str] = (), rows: Sequence[Sequence[str]] = ()) -> Fragment:
    """A view that turns and zooms, with a slider through frames, and a table in which each row is that of a scene.

    At most MOST_SCENES scenes, MOST_FRAMES frames of each, evenly spaced, and MOST_PLACES atoms times frames are shown;
    what is left out is said.

    Args:
        scenes: what there is to see.
        header, rows: a table with a row for each scene; needed where there are several.

    Raises:
        ValueError: as many rows as scenes there are not, or a scene whose frames have other atoms, or labels or curves
            of another length.
    """
    if not scenes:
        return table(header, [])
    if rows and len(rows) != len(scenes):
        raise ValueError(f"{len(scenes)} scenes have {len(rows)} rows; give a row for each")
    shown, frames = _within_bounds(scenes)
    found = [_scene(scene, frames) for scene in shown]
    elements = {str(z): _element(z) for z in sorted({z for scene in found for z in scene["numbers"]})}
    data = {"elements": elements, "scenes": found}
    undrawn = sum(
        min(frames, len(scene.frames)) - len(each["frames"]) for scene, each in zip(shown, found, strict=True)
    )
    remarks = "".join(f"<p>{escape(remark)}</p>" for remark in _left_out(scenes, len(shown), frames, undrawn))
    listed = table(header, rows[: len(shown)]).html if rows else ""
    html = f'{remarks}<div class="viewer"><script type="application/json">{_json(data)}</script>{listed}</div>'
    return Fragment(html, (asset("3Dmol-min.js"), asset("viewer.js")))


def _within_bounds(scenes: Sequence[Scene]) -> tuple[Sequence[Scene], int]:
    """The scenes that are shown, and how many frames of each at most."""
    atoms = [len(scene.frames[0]) for scene in scenes[:MOST_SCENES]]
    lengths = [len(scene.frames) for scene in scenes[:MOST_SCENES]]
    for most in range(min(MOST_FRAMES, max(lengths)), 1, -1):
        if sum(n * min(most, length) for n, length in zip(atoms, lengths, strict=True)) <= MOST_PLACES:
            return scenes[:MOST_SCENES], most
    places = np.cumsum([n * min(2, length) for n, length in zip(atoms, lengths, strict=True)])
    return scenes[: max(1, int((places <= MOST_PLACES).sum()))], 2


def _left_out(scenes: Sequence[Scene], shown: int, frames: int, undrawn: int) -> list[str]:
    found = []
    if shown < len(scenes):
        found.append(f"The first {shown:,} of {len(scenes):,} structures are shown.")
    if (longest := max(len(scene.frames) for scene in scenes[:shown])) > frames:
        found.append(f"Trajectories are thinned: {frames} of {longest:,} frames are shown, evenly spaced.")
    if undrawn:
        found.append(f"Frames with more than {MOST_ATOMS:,} atoms, or with atoms nowhere, are left out: {undrawn:,}.")
    return found


def _scene(scene: Scene, most: int) -> dict[str, Any]:
    """What viewer.js reads of a scene: positions in thousandths of an A, of bonds what changes."""
    count = len(scene.frames)
    if scene.ribbon and 4 * len(scene.ribbon) != len(scene.frames[0]):
        raise ValueError(f"{scene.name}: {len(scene.frames[0])} atoms are no {len(scene.ribbon)} residues of four")
    for name, values in {"labels": scene.labels, **scene.curves}.items():
        if len(values) != count:
            raise ValueError(f"{scene.name}: {count} frames have {len(values)} {name}; give one for each")
    spaced = np.linspace(0, count - 1, min(most, count)).round().astype(int).tolist()
    images = {index: scene.frames[index] for index in spaced}
    first = images[spaced[0]]
    for index, atoms in images.items():
        if not np.array_equal(atoms.numbers, first.numbers):
            raise ValueError(f"{scene.name}: frame {index} has other atoms than the first; make it another scene")
    drawn = {index: atoms for index, atoms in images.items() if _is_drawn(atoms)}
    return {
        "name": scene.name,
        "numbers": first.numbers.tolist(),
        "pbc": first.pbc.tolist(),
        "labels": [scene.labels[index] for index in drawn],
        "ribbon": scene.ribbon,
        "curves": {name: [_number(values[index]) for index in drawn] for name, values in scene.curves.items()},
        **_places(list(drawn.values())),
    }


def _is_drawn(atoms: ase.Atoms) -> bool:
    return len(atoms) <= MOST_ATOMS and bool((abs(atoms.positions) < FARTHEST).all() and np.isfinite(atoms.cell).all())


def _places(images: Sequence[ase.Atoms]) -> dict[str, Any]:
    """Positions, cells and bonds of frames; all are shifted alike, so that atoms move without jumps."""
    if not images:
        return {"frames": [], "faces": [], "opening": 0, "turn": CRYSTALS}
    opening = 1 if len(images) == 2 else 0  # of a structure before and after what came out
    arranged = layout(images[opening], drawn_bonds(images[opening]))
    frames: list[dict[str, Any]] = []
    before: set[tuple[int, ...]] = set()
    for atoms in images:
        moved = atoms.copy()
        moved.positions += arranged.shifts @ atoms.cell.array
        joined = set(map(tuple, drawn_bonds(moved).tolist()))
        frames.append(
            {
                "places": (1000 * moved.positions).round().astype(int).ravel().tolist(),
                "cell": (1000 * atoms.cell.array).round().astype(int).ravel().tolist(),
                "changes": sorted(joined ^ before),  # bonds that come or go since the frame before
            }
        )
        before = joined
    faces = []
    if len(images) <= 2:  # in a trajectory atoms would come and go
        faces = [[int(i), *arranged.faces[i].astype(int).tolist()] for i in np.flatnonzero(arranged.faces.any(1))]
    return {"frames": frames, "faces": faces, "opening": opening, "turn": _turn(images[opening])}


def _turn(atoms: ase.Atoms) -> list[float]:
    """The quaternion of the first view: a molecule lies flat, with its longest axis from left to right."""
    if atoms.pbc.any():
        return CRYSTALS
    axes = np.linalg.eigh(np.cov(atoms.positions.T, bias=True))[1].T[::-1]  # rows, the longest first
    axes[2] *= np.sign(np.linalg.det(axes))
    quaternion = Rotation.from_matrix(axes).as_quat()
    return [round(float(part), 4) for part in quaternion]


def _number(value: float) -> float | None:
    """JSON has no NaN and no infinity: None instead."""
    return float(f"{value:.9g}") if math.isfinite(value) else None


def _json(data: Any) -> str:
    """JSON that ends no script element, whatever the names are."""
    return json.dumps(data, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")


@cache
def _element(number: int) -> dict[str, Any]:
    """Symbol, the colour of Jmol, and radii in A: of covalent bonds and of van der Waals."""
    from ase.data.colors import jmol_colors
    from rdkit.Chem import GetPeriodicTable

    table = GetPeriodicTable()
    colour = jmol_colors[number] if number < len(jmol_colors) else (0.8, 0.2, 0.6)
    return {
        "symbol": ase.data.chemical_symbols[number],
        "colour": "#" + "".join(f"{round(255 * part):02x}" for part in colour),
        "covalent": table.GetRcovalent(number),
        "vdw": table.GetRvdw(number),
    }
