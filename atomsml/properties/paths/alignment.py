"""End points of a path: the same atoms in the same order, laid over each other so that the way between them is short.

What a structure may do without a change of its energy is no part of a path: a molecule is shifted and turned onto the
other (Kabsch, Acta Cryst. A 32, 922 (1976)), a periodic structure is shifted, and one that is held somewhere stays.
"""

from __future__ import annotations

from collections.abc import Sequence

import ase
import numpy as np
from ase.data import covalent_radii
from ase.geometry import find_mic
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.spatial.transform import Rotation

from atomsml.simulate.constraints import projectors

ORDERS = ("refuse", "reorder", "keep")
SHORTER = 0.7  # times the length: another pairing of atoms that makes a path as short is told
SAME_CELL, HELD = 1e-3, 1e-3  # A
BONDED = 1.2  # times the sum of the covalent radii
ROUNDS = 20  # of pairing and laying over
ORIENTATIONS = 60  # of a molecule in which its atoms are paired

Array = NDArray[np.float64]


def prepared(images: Sequence[ase.Atoms], order: str = "refuse") -> list[ase.Atoms]:
    """Images of one path, the end points first and last, each laid over the one before it.

    Args:
        order: as `in_order` takes it.

    Raises:
        ValueError: fewer than two; other atoms, another cell, other constraints, held atoms elsewhere; what `in_order`
            refuses.
    """
    if order not in ORDERS:
        raise ValueError(f"unknown order {order!r}; there are {', '.join(ORDERS)}")
    if len(images) < 2:
        raise ValueError("a path has two end points, and this is one structure")
    found = [images[0].copy()]
    for number, other in enumerate(images[1:], 1):
        what = "the last end point" if number == len(images) - 1 else f"image {number}"
        numbered = _by_elements(found[0], other, what, order)
        _check_cell(found[0], numbered, what)
        _check_held(found[0], numbered, what)
        found.append(laid_over(found[-1], in_order(found[-1], numbered, order)))
    return found


def _by_elements(first: ase.Atoms, other: ase.Atoms, what: str, order: str) -> ase.Atoms:
    """A copy of the other that has its elements in the order of the first."""
    if sorted(first.numbers) != sorted(other.numbers):
        formulas = f"{first.get_chemical_formula()} and {other.get_chemical_formula()}"
        raise ValueError(f"a path is of the same atoms all along, the first end point and {what} are {formulas}")
    if order == "reorder":
        pairing = np.empty(len(first), dtype=np.int64)
        pairing[np.argsort(first.numbers, kind="stable")] = np.argsort(other.numbers, kind="stable")
        return other[pairing]
    unlike = np.flatnonzero(first.numbers != other.numbers)
    if len(unlike):
        raise ValueError(
            f"atom {unlike[0]} is {first.symbols[unlike[0]]} in the first end point and {other.symbols[unlike[0]]} in "
            f"{what}; give the atoms of both in the same order, or let --order reorder do it"
        )
    return other.copy()


def _check_cell(first: ase.Atoms, other: ase.Atoms, what: str) -> None:
    if (first.pbc != other.pbc).any() or not np.allclose(first.cell, other.cell, rtol=0, atol=SAME_CELL):
        raise ValueError(f"a path is at a fixed cell, and that of the first end point is not that of {what}")


def _check_held(first: ase.Atoms, other: ase.Atoms, what: str) -> None:
    free = projectors(first).numpy()
    if not np.allclose(free, projectors(other).numpy()):
        raise ValueError(f"other atoms are held in the first end point than in {what}; hold the same ones")
    if not first.constraints:
        return
    held = np.einsum("aij,aj->ai", np.eye(3) - free, _ways(first, other))
    farthest = np.linalg.norm(held, axis=1)
    if farthest.max() > HELD:
        place = int(farthest.argmax())
        raise ValueError(f"atom {place} is held, but stands {farthest[place]:.3f} A elsewhere in {what}")


def laid_over(first: ase.Atoms, last: ase.Atoms) -> ase.Atoms:
    """A copy of the last, laid over the first and unwrapped: the way of each atom is the shortest."""
    copy = last.copy()
    copy.set_positions(_laid_over(first, last), apply_constraint=False)
    return copy


def length(first: ase.Atoms, last: ase.Atoms) -> float:
    """A: of the straight path between two structures as they are numbered, laid over each other."""
    return float(np.linalg.norm(_laid_over(first, last) - first.positions))


def _laid_over(first: ase.Atoms, last: ase.Atoms) -> Array:
    """Positions of the last."""
    if first.constraints:
        return first.positions + _ways(first, last)
    if not first.pbc.any():
        rotation, shift = superposition(last.positions, first.positions)
        return last.positions @ rotation.T + shift
    shifted = last.copy()
    for _ in range(ROUNDS):
        drift = _ways(first, shifted).mean(axis=0)
        shifted.positions -= drift
        if np.linalg.norm(drift) < 1e-10:
            break
    ways = _ways(first, shifted)
    return first.positions + ways - ways.mean(axis=0)


def _ways(first: ase.Atoms, last: ase.Atoms) -> Array:
    """(atoms, 3) from where each atom is in the first to its nearest place in the last."""
    ways = last.positions - first.positions
    return np.asarray(find_mic(ways, first.cell, first.pbc)[0]) if first.pbc.any() else ways


def superposition(positions: Array, onto: Array) -> tuple[Array, Array]:
    """The rotation R and the shift t with which R x + t of the one is nearest to the other, by Kabsch."""
    centre, target = positions.mean(axis=0), onto.mean(axis=0)
    u, _, v = np.linalg.svd((positions - centre).T @ (onto - target))
    mirror = np.diag([1, 1, np.sign(np.linalg.det(u @ v))])
    rotation = (u @ mirror @ v).T
    return rotation, target - rotation @ centre


def in_order(first: ase.Atoms, last: ase.Atoms, order: str = "refuse") -> ase.Atoms:
    """The last end point, its atoms numbered as it is said.

    Where atoms of one element stand, in the structures laid over each other as they are numbered, next to places of
    others, another pairing is looked for (Kuhn, Nav. Res. Logist. Q. 2, 83 (1955)), with the best lay of each pairing.

    Args:
        order: what to do with one that makes the straight path shorter than SHORTER times its length: "refuse",
            "reorder" the atoms by it, or "keep" them: a group that turns by its symmetry is no error.

    Raises:
        ValueError: such a pairing, and `order` is "refuse".
    """
    if order == "keep":
        return last
    as_numbered = length(first, last)
    pairing = _best_pairing(first, last)
    moved = int(np.count_nonzero(pairing != np.arange(len(first))))
    best = length(first, last[pairing])
    if moved == 0 or best > SHORTER * as_numbered:
        return last
    if order == "reorder":
        return last[pairing]
    raise ValueError(
        f"the atoms of the end points are not in the same order: the straight path is {as_numbered:.2f} A long, and "
        f"{best:.2f} A if {moved} atoms are numbered otherwise; --order reorder does that, --order keep takes them as "
        "they are"
    )


def _best_pairing(first: ase.Atoms, last: ase.Atoms) -> NDArray[np.int64]:
    """Of the atoms of the last with those of the first, by the shortest of several tries.

    They begin at the structures as they are numbered, as they stand and, of molecules, in many orientations. A path
    that is the shortest as it is numbered is left as it is, or the two pyramids of ammonia, which differ by the numbers
    of their atoms only, would be one. Nor may a pairing of molecules change more bonds: two conformers are nearest to
    each other where hydrogens jump.
    """
    nobody = np.arange(len(first))
    numbered = _pairing(first, laid_over(first, last))
    if (numbered == nobody).all():
        return nobody
    lays = [last]
    if not (first.pbc.any() or first.constraints):
        for rotation in Rotation.random(ORIENTATIONS, random_state=0).as_matrix():
            lays.append(last.copy())
            away = last.positions - last.positions.mean(axis=0)
            lays[-1].positions = away @ rotation.T + first.positions.mean(axis=0)
    tries = [_refined(first, last, pairing) for pairing in (numbered, *(_pairing(first, lay) for lay in lays))]
    if not first.pbc.any():
        bonds, others = _bonds(first), _bonds(last)
        changed = int(np.count_nonzero(bonds != others))
        tries = [nobody, *(each for each in tries if np.count_nonzero(bonds != others[np.ix_(each, each)]) <= changed)]
    return tries[int(np.argmin([length(first, last[each]) for each in tries]))]


def _bonds(atoms: ase.Atoms) -> NDArray[np.bool_]:
    """(atoms, atoms) of a molecule: which are nearer than bonds are long."""
    radii = covalent_radii[atoms.numbers]
    near: NDArray[np.bool_] = atoms.get_all_distances() < BONDED * (radii[:, None] + radii)
    return near


def _refined(first: ase.Atoms, last: ase.Atoms, pairing: NDArray[np.int64]) -> NDArray[np.int64]:
    """Lay over, pair again, until nothing changes."""
    for _ in range(ROUNDS):
        better = pairing[_pairing(first, laid_over(first, last[pairing]))]
        if (better == pairing).all():
            break
        pairing = better
    return pairing


def _pairing(first: ase.Atoms, last: ase.Atoms) -> NDArray[np.int64]:
    """Which atom of the last is nearest to each of the first, as they stand: the sum of squared ways is least."""
    pairing = np.arange(len(first))
    for number in np.unique(first.numbers):
        places = np.flatnonzero(first.numbers == number)
        ways = last.positions[places][None] - first.positions[places][:, None]
        if first.pbc.any():
            ways = find_mic(ways.reshape(-1, 3), first.cell, first.pbc)[0].reshape(ways.shape)
        pairing[places] = places[linear_sum_assignment((ways**2).sum(axis=2))[1]]
    return pairing
