"""Which geometries of a molecule are the same: root mean square deviations over all ways to number its atoms alike."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from atomsml.properties.conformers.seeds import matters

if TYPE_CHECKING:
    from rdkit.Chem import Mol

Array = NDArray[np.float64]

MOST_NUMBERINGS = 2000
AT_ONCE = 20_000  # deviations that are computed together, to spare memory


@dataclass(frozen=True, eq=False)
class Comparison:
    """How geometries of one molecule are compared."""

    atoms: NDArray[np.int64]  # (n,) that count: all but hydrogens of carbons
    numberings: NDArray[np.int64]  # (numberings, n) places among `atoms` that could as well bear these numbers
    complete: bool  # whether these are all numberings
    mirror: bool  # whether the mirror image of the molecule is the same molecule

    def deviations(self, one: Array, others: Array) -> tuple[Array, Array]:
        """(others, numberings) A: root mean square deviations from other geometries, and from their mirror images.

        By the singular values of the covariance (Kabsch, Acta Cryst. A 32, 922 (1976)): turned or mirrored, the last
        of them counts with one sign or the other.
        """
        x = _centred(one[self.atoms])
        y = _centred(others[:, self.atoms])[:, self.numberings]  # (others, numberings, n, 3)
        covariance = np.einsum("ni,mpnj->mpij", x, y)
        singular = np.linalg.svd(covariance, compute_uv=False)
        last = singular[..., 2] * np.where(np.linalg.det(covariance) < 0, -1, 1)
        squares = (x**2).sum() + (y[:, 0] ** 2).sum(axis=(1, 2))[:, None]
        both = [squares - 2 * (singular[..., :2].sum(axis=-1) + sign * last) for sign in (1, -1)]
        turned, mirrored = (np.sqrt(np.maximum(each, 0) / len(x)) for each in both)
        return turned, mirrored

    def same(self, one: Array, others: Array, threshold: float) -> NDArray[np.bool_]:
        """(others,) whether they are within `threshold` A, or their mirror images where those are the same molecule."""
        found = np.zeros(len(others), dtype=bool)
        part = max(1, AT_ONCE // len(self.numberings))
        for i in range(0, len(others), part):
            turned, mirrored = self.deviations(one, others[i : i + part])
            nearest = np.minimum(turned, mirrored) if self.mirror else turned
            found[i : i + part] = nearest.min(axis=1) < threshold
        return found

    def degeneracy(self, geometry: Array, threshold: float) -> float:
        """In how many ways it can be had, up to a factor that all geometries of the molecule share.

        It is the number of numberings that turns of the whole do not bring about, twice where the mirror image is
        another geometry of the same molecule.
        """
        turned, mirrored = self.deviations(geometry, geometry[None])
        images = 2 if self.mirror and mirrored.min() >= threshold else 1
        return images * len(self.numberings) / int((turned < threshold).sum())


def comparison(mol: Mol, mirror: bool) -> Comparison:
    """All numberings that keep elements and bonds; the first MOST_NUMBERINGS if there are more."""

    atoms = [atom.GetIdx() for atom in mol.GetAtoms() if matters(atom)] or list(range(mol.GetNumAtoms()))
    query = _labelled(mol, atoms)
    found = query.GetSubstructMatches(query, uniquify=False, useChirality=False, maxMatches=MOST_NUMBERINGS + 1)
    numberings = sorted(found)[:MOST_NUMBERINGS]
    identity = tuple(range(len(atoms)))
    numberings = [identity, *(each for each in numberings if each != identity)][:MOST_NUMBERINGS]
    return Comparison(np.array(atoms), np.array(numberings), len(found) <= MOST_NUMBERINGS, mirror)


def _labelled(mol: Mol, atoms: list[int]) -> Mol:
    """The bonds between some atoms, all single, so that mesomeric ends are alike; isotopes label isotopes and CHn."""
    from rdkit import Chem

    plain = Chem.RWMol()
    for atom in (mol.GetAtomWithIdx(i) for i in atoms):
        new = Chem.Atom(atom.GetAtomicNum())
        new.SetNoImplicit(True)
        hydrogens = sum(each.GetAtomicNum() == 1 for each in atom.GetNeighbors())
        new.SetIsotope(1 + hydrogens + 10 * atom.GetIsotope())  # a label of 0 would match any other
        plain.AddAtom(new)
    places = {atom: place for place, atom in enumerate(atoms)}
    for bond in mol.GetBonds():
        ends = bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()
        if places.keys() >= set(ends):
            plain.AddBond(places[ends[0]], places[ends[1]], Chem.BondType.SINGLE)
    found: Mol = plain.GetMol()
    return found


def _centred(points: Array) -> Array:
    centred: Array = points - points.mean(axis=-2, keepdims=True)
    return centred
