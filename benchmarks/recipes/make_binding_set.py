"""Make the GFN2-xTB set from which organic-xtb learns how molecules hold together, and that atoms do not collapse.

    python -m benchmarks.recipes.make_binding_set SMILES.csv.gz -o binding.extxyz --minutes 12
    python -m benchmarks.recipes.make_binding_set SMILES.csv.gz -o polar.extxyz --minutes 18 --kinds hydrogen squeezed
    python -m benchmarks.recipes.make_binding_set SMILES.csv.gz -o collisions.extxyz --minutes 8 --kinds collision
    python -m benchmarks.recipes.make_binding_set SMILES.csv.gz -o stacks.extxyz --minutes 8 --kinds stack

Kinds of structures (`config_type`), drawn in turn from a list of small molecules and from fragments (BRICS) and
small members of the list of SMILES:

| config_type | what |
|---|---|
| dimer | two molecules relaxed together from a random contact (3 frames), pushed together and pulled apart, shaken |
| hydrogen | the same from a hydrogen bond between two polar molecules, relaxed further |
| stack | two aromatic rings face to face, shifted and turned, at seven heights, then relaxed a little |
| cluster | three to six small molecules, relaxed a little from a random packing, and shaken |
| collision | two molecules of which one atom each is closer than a bond, every pair of elements equally often |
| squeezed | a molecule scaled, shaken hard, or with one bond stretched or compressed; two pushed into one another |

Every label is a converged single point of tblite. No pair of two monomers of the S66 set is drawn, so that its dimers
stay unseen here. Frames are appended as they are made; their group is the SMILES of the molecules.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import random
import time
from collections.abc import Iterator
from pathlib import Path

import ase
import ase.io
import numpy as np
from ase.calculators.calculator import CalculationFailed
from ase.calculators.singlepoint import SinglePointCalculator
from ase.data import covalent_radii, vdw_radii
from ase.optimize import LBFGS
from rdkit import Chem, RDLogger
from rdkit.Chem import BRICS
from scipy.spatial.transform import Rotation
from tblite.ase import TBLite

from atomsml.io import atoms_from_smiles

ELEMENTS = frozenset(["C", "N", "O", "F", "S", "Cl", "Br"])
S66_MONOMERS = (
    "O", "CO", "CN", "CNC(C)=O", "CC(=O)O", "CC(N)=O", "c1ccccc1", "c1ccncc1", "O=c1cc[nH]c(=O)[nH]1", "C=C", "C#C",
    "CCCCC", "CC(C)(C)C", "C1CCCC1",
)  # fmt: skip
SOLVENTS = ("O", "CO", "N", "C", "CN", "C=O", "CC", "C#N", "O=CO", "CC#N", "S", "Cl", "F", "CS", "CF", "CCl")
SMALL = (
    *S66_MONOMERS, *SOLVENTS, "CCO", "COC", "CC=O", "CC(C)=O", "NC=O", "CN(C)C=O", "CS(C)=O", "CSC", "C[N+](=O)[O-]",
    "Nc1ccccc1", "Oc1ccccc1", "Fc1ccccc1", "Clc1ccccc1", "Brc1ccccc1", "CBr", "c1cc[nH]c1", "c1ccoc1", "c1ccsc1",
    "c1c[nH]cn1", "Cc1ccccc1", "C1CCCCC1", "CCC", "CCCC", "CC(C)C", "NC(N)=O", "CC(=O)OC", "CS(C)(=O)=O", "CCS",
    "c1ccc2ccccc2c1", "c1ccc2[nH]ccc2c1", "N=C(N)N", "CC=C", "C1COCCN1", "C1CCNCC1", "Nc1ncnc2[nH]cnc12",
    "Cc1c[nH]c(=O)[nH]c1=O", "Br", "FC(F)F", "ClC(Cl)Cl", "C=O", "NN", "OO",
)  # fmt: skip
RADII = np.nan_to_num(vdw_radii, nan=2.0)
WEIGHTS = {
    "dimer": 7,
    "cluster": 1,
    "squeezed": 2,
    "hydrogen": 8,
    "collision": 4,
    "stack": 2,
}  # how often each is drawn
LARGEST_FORCE = {"squeezed": 80.0, "collision": 150.0}  # eV/A; beyond, GFN2-xTB is no guide; of others 40
DONORS = Chem.MolFromSmarts("[#1;$([#1][O,N])]")
ACCEPTORS = Chem.MolFromSmarts("[O,$([#7;!$(N[C,S]=O);!$([nX3]);!$(N-a)])]")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("smiles", type=Path, help="a list of SMILES, .csv or .csv.gz, the first column")
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", nargs="+", choices=WEIGHTS, default=["dimer", "cluster", "squeezed"])
    arguments = parser.parse_args()
    RDLogger.DisableLog("rdApp.*")
    make = Maker(fragments(arguments.smiles), arguments.kinds, arguments.seed)
    end = time.monotonic() + 60 * arguments.minutes
    count = 0
    while time.monotonic() < end:
        try:
            frames = list(make.next())
        except (CalculationFailed, RuntimeError, ValueError):  # no convergence, or no embedding: another one
            continue
        ase.io.write(arguments.output, frames, format="extxyz", append=True)
        count += len(frames)
    print(count, "frames")


def fragments(path: Path, lines: int = 4000, most: int = 9) -> list[str]:
    """The first `lines` molecules and their BRICS fragments, capped by H, of at most `most` heavy atoms; no charges."""
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt") as file:
        smiles = [row[0] for row in csv.reader(file) if row][1 : lines + 1]
    found = set()
    cap, hydrogen = Chem.MolFromSmarts("[#0]"), Chem.MolFromSmiles("[H]")
    for mol in filter(None, map(Chem.MolFromSmiles, smiles)):
        for piece in {*BRICS.BRICSDecompose(mol), Chem.MolToSmiles(mol)}:
            capped = Chem.ReplaceSubstructs(Chem.MolFromSmiles(piece), cap, hydrogen, replaceAll=True)[0]
            text = Chem.MolToSmiles(Chem.RemoveHs(capped))
            whole = Chem.MolFromSmiles(text)
            if whole is not None and 1 <= whole.GetNumHeavyAtoms() <= most and all(map(acceptable, whole.GetAtoms())):
                found.add(text)
    return sorted(found)


def acceptable(atom: Chem.Atom) -> bool:
    return atom.GetSymbol() in ELEMENTS and atom.GetFormalCharge() == 0 and atom.GetNumRadicalElectrons() == 0


class Maker:
    """Draws structures and labels them, one molecule, dimer or cluster at a time."""

    def __init__(self, fragments: list[str], kinds: list[str], seed: int) -> None:
        self.fragments, self.kinds = fragments, kinds
        self.random, self.numpy = random.Random(seed), np.random.default_rng(seed)
        self.monomers: dict[str, ase.Atoms] = {}  # relaxed
        self.with_element: dict[str, list[str]] = {}
        for smiles in (*SMALL, *fragments[::20]):
            for symbol in {atom.GetSymbol() for atom in Chem.AddHs(Chem.MolFromSmiles(smiles)).GetAtoms()}:
                self.with_element.setdefault(symbol, []).append(smiles)

    def next(self) -> Iterator[ase.Atoms]:
        kind = self.random.choices(self.kinds, [WEIGHTS[kind] for kind in self.kinds])[0]
        group, frames = getattr(self, kind)()
        for atoms in frames:
            forces = atoms.get_forces()
            if np.abs(forces).max() < LARGEST_FORCE.get(kind, 40.0):
                labelled = ase.Atoms(atoms.numbers, atoms.positions, info={"group": group, "config_type": kind})
                labelled.calc = SinglePointCalculator(labelled, energy=atoms.get_potential_energy(), forces=forces)
                yield labelled

    def dimer(self) -> tuple[str, Iterator[ase.Atoms]]:
        names = self.pair()
        a, b = map(self.monomer, names)
        return ".".join(names), self.dimer_frames(a, self.beside(a, b, self.random.uniform(0.85, 1.1)), (7, 22))

    def hydrogen(self) -> tuple[str, Iterator[ase.Atoms]]:
        while True:
            names = self.pair()
            donors, acceptors = (
                _matches(name, smarts) for name, smarts in zip(names, (DONORS, ACCEPTORS), strict=True)
            )
            if donors and acceptors:
                break
        a, b = map(self.monomer, names)
        turned = self.facing(a, self.random.choice(donors), b, self.random.choice(acceptors), 1.9)
        return ".".join(names), self.dimer_frames(a, turned, (12, 60))

    def facing(self, a: ase.Atoms, donor: int, b: ase.Atoms, acceptor: int, distance: float) -> ase.Atoms:
        """`b` with one atom at `distance` from the atom `donor` of `a`, away from its neighbour, and the rest apart."""
        distances = a.get_distances(donor, range(len(a)))
        distances[donor] = np.inf
        axis = a.positions[donor] - a.positions[distances.argmin()]
        axis /= np.linalg.norm(axis)
        place = a.positions[donor] + distance * axis
        best, farthest = b.positions, -np.inf
        for rotation in Rotation.random(20, random_state=self.numpy):
            positions = rotation.apply(b.positions - b.positions[acceptor]) + place
            between = np.linalg.norm(positions[:, None] - a.positions, axis=-1)
            between[acceptor, donor] = np.inf
            if between.min() > farthest:
                best, farthest = positions, between.min()
            if farthest > 2.2:  # enough room; a random one of those, not the most open
                break
        return ase.Atoms(b.numbers, best)

    def dimer_frames(self, a: ase.Atoms, b: ase.Atoms, steps: tuple[int, int]) -> Iterator[ase.Atoms]:
        both = xtb(a + b)
        yield both
        yield from relaxed(both, steps)
        bound, first = both.copy(), len(a)
        line = bound[first:].get_center_of_mass() - bound[:first].get_center_of_mass()
        line /= np.linalg.norm(line)
        for low, high in ((-0.5, -0.2), (-0.2, -0.05), (0.05, 0.4), (0.4, 1.0), (1.0, 2.0), (2.0, 4.0)):
            both.positions[:first], both.positions[first:] = bound.positions[:first], bound.positions[first:]
            both.positions[first:] += self.random.uniform(low, high) * line
            if self.random.random() < 0.3:
                both.positions += self.numpy.normal(scale=0.03, size=both.positions.shape)
            yield both
        for scale in (0.04, 0.1):
            both.positions = bound.positions + self.numpy.normal(scale=scale, size=both.positions.shape)
            yield both

    def stack(self) -> tuple[str, Iterator[ase.Atoms]]:
        while True:
            names = self.pair()
            rings = [_aromatic_ring(name) for name in names]
            if all(rings):
                break
        a, b = (self.flat(self.monomer(name), ring) for name, ring in zip(names, rings, strict=True))
        return ".".join(names), self.stack_frames(a, b)

    def stack_frames(self, a: ase.Atoms, b: ase.Atoms) -> Iterator[ase.Atoms]:
        angle, radius = self.random.uniform(0, 2 * np.pi), 2.5 * self.random.random() ** 0.5
        shift = radius * np.array([np.cos(angle), np.sin(angle), 0.0])
        for height in (3.1, 3.3, 3.5, 3.8, 4.2, 4.8, 5.6):
            both = a + b
            both.positions[len(a) :] += shift
            both.positions[len(a) :, 2] += height + self.random.uniform(-0.1, 0.1)
            apart = both.get_all_distances()[: len(a), len(a) :].min()
            if apart > 2.3:  # substituents may stick out of the planes
                yield xtb(both)
        if apart > 2.3:
            both.positions[len(a) :] -= [0, 0, height - 3.6]
            yield from relaxed(xtb(both), (6, 20))

    def flat(self, atoms: ase.Atoms, ring: list[int]) -> ase.Atoms:
        """The molecule with its ring around the origin in the plane xy, turned at random and perhaps over."""
        centred = atoms.positions - atoms.positions[ring].mean(axis=0)
        axes = np.linalg.svd(centred[ring])[2]
        axes[2] *= np.linalg.det(axes)
        tilt = Rotation.from_rotvec(self.numpy.normal(scale=0.1, size=3) * [1, 1, 0])
        over = Rotation.from_euler("x", self.random.choice((0, np.pi)))
        turn = Rotation.from_euler("z", self.random.uniform(0, 2 * np.pi))
        return ase.Atoms(atoms.numbers, (tilt * turn * over).apply(centred @ axes.T))

    def collision(self) -> tuple[str, Iterator[ase.Atoms]]:
        wanted = self.random.choices(sorted(self.with_element), k=2)
        names = [self.random.choice(self.with_element[z]) for z in wanted]
        a, b = map(self.monomer, names)
        i, j = (self.random.choice(np.flatnonzero(m.symbols == z)) for z, m in zip(wanted, (a, b), strict=True))
        bond = covalent_radii[a.numbers[i]] + covalent_radii[b.numbers[j]]
        shares = (self.random.uniform(0.4, 1.1) for _ in range(6))
        return ".".join(names), (xtb(a + self.facing(a, i, b, j, share * bond)) for share in shares)

    def cluster(self) -> tuple[str, Iterator[ase.Atoms]]:
        count = self.random.randint(3, 6)
        kinds = self.random.sample(SOLVENTS, self.random.choice((1, 1, 2, 3)))
        names = sorted(self.random.choice(kinds) for _ in range(count))
        atoms = self.monomer(names[0]).copy()
        for name in names[1:]:
            atoms = atoms + self.beside(atoms, self.monomer(name), self.random.uniform(0.8, 1.1))
        return ".".join(names), self.cluster_frames(xtb(atoms))

    def cluster_frames(self, atoms: ase.Atoms) -> Iterator[ase.Atoms]:
        yield atoms
        yield from relaxed(atoms, (8, 25))
        resting = atoms.positions.copy()
        for scale in (0.03, 0.06, 0.1):
            atoms.positions = resting + self.numpy.normal(scale=scale, size=resting.shape)
            yield atoms

    def squeezed(self) -> tuple[str, Iterator[ase.Atoms]]:
        if self.random.random() < 0.4:
            names = self.pair()
            a, b = map(self.monomer, names)
            pushed = (a + self.beside(a, b, self.random.uniform(0.35, 0.8)) for _ in range(5))
            return ".".join(names), map(xtb, pushed)
        name = self.molecule()
        return name, self.squeezed_frames(xtb(self.monomer(name).copy()))

    def squeezed_frames(self, atoms: ase.Atoms) -> Iterator[ase.Atoms]:
        resting, n = atoms.positions.copy(), len(atoms)
        for scale in (self.random.uniform(0.7, 0.9), self.random.uniform(0.9, 1.1), self.random.uniform(1.1, 1.3)):
            atoms.positions = scale * resting
            yield atoms
        for scale in (0.15, 0.25):
            atoms.positions = resting + self.numpy.normal(scale=scale, size=(n, 3))
            yield atoms
        for scale in (self.random.uniform(0.5, 0.8), self.random.uniform(1.2, 1.6)):
            atoms.positions = resting
            distances = atoms.get_all_distances() + 1e3 * np.eye(n)
            i = self.random.randrange(n)
            j = int(distances[i].argmin())  # what is nearer to j moves with it
            moves = distances[:, j] <= distances[:, i]
            moves[i], moves[j] = False, True
            atoms.positions[moves] += (scale - 1) * (resting[j] - resting[i])
            yield atoms

    def molecule(self) -> str:
        return self.random.choice(SMALL if self.random.random() < 0.5 else self.fragments)

    def pair(self) -> tuple[str, str]:
        while True:
            a, b = sorted((self.molecule(), self.molecule()))
            if not {a, b} <= set(S66_MONOMERS) and len(self.monomer(a)) + len(self.monomer(b)) <= 36:
                return a, b

    def monomer(self, smiles: str) -> ase.Atoms:
        if smiles not in self.monomers:
            atoms = xtb(atoms_from_smiles(smiles))
            LBFGS(atoms, logfile="/dev/null", maxstep=0.1).run(fmax=0.05, steps=60)
            self.monomers[smiles] = ase.Atoms(atoms.numbers, atoms.positions)
        return self.monomers[smiles]

    def beside(self, a: ase.Atoms, b: ase.Atoms, closest: float) -> ase.Atoms:
        """`b` turned and put in a random direction: its nearest contact is `closest` times the sum of the radii."""
        b = ase.Atoms(b.numbers, Rotation.random(random_state=self.numpy).apply(b.positions - b.positions.mean(axis=0)))
        direction = self.numpy.normal(size=3)
        direction /= np.linalg.norm(direction)
        radii = RADII[a.numbers][:, None] + RADII[b.numbers]

        def contact(distance: float) -> float:
            apart = b.positions + a.positions.mean(axis=0) + distance * direction - a.positions[:, None]
            return float((np.linalg.norm(apart, axis=-1) / radii).min())

        low, high = 0.0, 40.0
        for _ in range(40):
            middle = (low + high) / 2
            low, high = (middle, high) if contact(middle) < closest else (low, middle)
        b.positions += a.positions.mean(axis=0) + high * direction
        return b


def _matches(smiles: str, smarts: Chem.Mol) -> list[int]:
    mol = Chem.AddHs(Chem.MolFromSmiles(smiles))  # atoms in the order of atoms_from_smiles
    return [match[0] for match in mol.GetSubstructMatches(smarts)]


def _aromatic_ring(smiles: str) -> list[int]:
    """Atoms of the first aromatic ring; none where there is none."""
    mol = Chem.MolFromSmiles(smiles)
    rings = (list(ring) for ring in mol.GetRingInfo().AtomRings())
    return next((ring for ring in rings if all(mol.GetAtomWithIdx(i).GetIsAromatic() for i in ring)), [])


def xtb(atoms: ase.Atoms) -> ase.Atoms:
    atoms.calc = TBLite(method="GFN2-xTB", accuracy=0.1, verbosity=0)
    return atoms


def relaxed(atoms: ase.Atoms, steps: tuple[int, int]) -> Iterator[ase.Atoms]:
    """Relax in place, and stop at the given steps."""
    optimizer = LBFGS(atoms, logfile="/dev/null", maxstep=0.1)
    done = 0
    for step in steps:
        optimizer.run(fmax=0.02, steps=step - done)
        done = step
        yield atoms


if __name__ == "__main__":
    main()
