"""Conformers of molecules and their Boltzmann weights: seeds, one batch of relaxations, and what is left of them.

The weight of a conformer with energy E and degeneracy g is g exp(-E / kT) / Z. Degeneracies count mirror images and
numberings of like atoms (`Comparison.degeneracy`): gauche butane has two. Vibrations and solvents are not there.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import ase
import numpy as np
from numpy.typing import NDArray

from atomsml.io.molecules import bonds_of_mol
from atomsml.io.sdf import mol_with_bonds
from atomsml.properties.conformers.same import Comparison, comparison
from atomsml.properties.conformers.seeds import embedded, isomer, seeds_for, torsions
from atomsml.properties.engine import Engine
from atomsml.properties.task import Failure, Start, in_parts
from atomsml.simulate.bonding import changed_bonds
from atomsml.simulate.relax import Relaxation
from atomsml.units import KB, KCAL

Array = NDArray[np.float64]

SAME_ENERGY = 0.1 * KCAL  # eV: minima further apart in energy are not compared
FEW_NUMBERINGS = 100  # with more it is quicker to relax seeds than to compare them
LATE = 0.75  # new minima of the last quarter of the seeds tell that there may be others


@dataclass(frozen=True)
class ConformerSettings:
    """How many seeds, and what is kept.

    Raises:
        ValueError: a number that makes no sense.
    """

    seeds: int | None = None  # None: by the number of rotatable bonds
    seed: int = 0  # of everything random
    temperature: float = 298.15  # K
    window: float = 6.0  # kcal/mol above the lowest
    rmsd: float = 0.125  # A: nearer ones are the same

    def __post_init__(self) -> None:
        if self.seeds is not None and self.seeds < 1:
            raise ValueError(f"there must be at least 1 seed, got {self.seeds}")
        if not 0 <= self.seed < 2**31:
            raise ValueError(f"the seed of embeddings must lie in 0 ... 2^31 - 1, got {self.seed}")
        for name in ("temperature", "window", "rmsd"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise ValueError(f"{name} must be a positive number, got {value}")


@dataclass(frozen=True, eq=False)
class Ensemble:
    """The conformers of a molecule, the lowest first."""

    conformers: list[ase.Atoms]  # with results
    degeneracies: Array  # relative to the least
    found_by: list[list[int]]  # the seeds that led to each: 0 is the given geometry
    temperature: float  # K
    seeds: int  # embedded, beside the given geometry
    lost: dict[str, int]  # why seeds led to nothing
    torsions: list[tuple[int, int, int, int]]  # that may tell conformers apart
    perceived: bool  # whether bonds were not given
    undefined: str  # what stereochemistry the input left open
    isomer: str  # SMILES of what was drawn
    complete: bool  # whether all numberings of like atoms were compared

    @property
    def energies(self) -> Array:
        """eV above the lowest."""
        found = np.array([atoms.get_potential_energy() for atoms in self.conformers])
        return found - found[0]

    @property
    def weights(self) -> Array:
        return boltzmann(self.energies, self.degeneracies, self.temperature)[0]

    @property
    def free_energy(self) -> float:
        """-kT ln Z above the lowest conformer, eV."""
        return boltzmann(self.energies, self.degeneracies, self.temperature)[1]

    @property
    def late(self) -> int:
        """How many conformers only the last quarter of the seeds found."""
        return sum(min(found) > LATE * self.seeds for found in self.found_by)


def boltzmann(energies: Array, degeneracies: Array, temperature: float) -> tuple[Array, float]:
    """Weights that add up to 1, and -kT ln sum g exp(-E / kT) in eV, of energies in eV."""
    kt = KB * temperature
    lowest = energies.min()
    terms = degeneracies * np.exp(-(energies - lowest) / kt)
    return terms / terms.sum(), float(lowest - kt * np.log(terms.sum()))


def check(atoms: ase.Atoms) -> None:
    """Refuse what has no conformers.

    Raises:
        ValueError: a periodic structure, or several molecules.
    """
    if atoms.pbc.any():
        raise ValueError(f"conformers are of molecules, and this is periodic: pbc is {atoms.pbc.tolist()}")


def conformers(
    structures: Sequence[ase.Atoms],
    engine: Engine,
    settings: ConformerSettings | None = None,
    start: Start | None = None,
) -> Iterator[tuple[int, Ensemble | Failure]]:
    """The conformers of each molecule, by its place in the list; seeds of several molecules are relaxed together.

        >>> from atomsml import AtomsMLCalculator
        >>> from atomsml.io.molecules import atoms_from_smiles
        >>> from atomsml.properties.conformers.ensembles import conformers
        >>> from atomsml.properties.engine import Engine
        >>> engine = Engine.of(AtomsMLCalculator("organic-xtb"))
        >>> [(_, butane)] = conformers([atoms_from_smiles("CCCC")], engine)
        >>> butane.degeneracies.tolist()
        [1.0, 2.0]

    The geometry that is given is a seed as well. Of `start` count fmax and steps.

    Raises:
        ValueError: a structure that `check` refuses.
    """
    for atoms in structures:
        check(atoms)
    settings, start = settings or ConformerSettings(), start or Start()
    yield from in_parts(
        enumerate(structures),
        engine,
        begin=lambda index, atoms: _begin(index, atoms, settings),
        size=lambda molecule: sum(map(len, molecule.seeds.values())),
        finish=lambda molecules: _finished(engine, molecules, settings, start),
    )


@dataclass(frozen=True, eq=False)
class _Molecule:
    index: int
    perceived: bool
    isomer: str
    torsions: list[tuple[int, int, int, int]]
    comparison: Comparison
    undefined: str
    asked: int  # seeds
    embedded: int
    seeds: dict[int, ase.Atoms]  # by their numbers, without those that are like an earlier one
    like: dict[int, int]  # seeds that are like an earlier one


def _begin(index: int, atoms: ase.Atoms, settings: ConformerSettings) -> _Molecule:
    """
    Raises:
        ValueError: bonds are not known, several molecules, or nothing could be embedded.
    """
    from rdkit import Chem

    mol = mol_with_bonds(atoms)
    fragments = len(Chem.GetMolFrags(mol))
    if fragments > 1:
        raise ValueError(f"is {fragments} molecules, and conformers do not say how they lie; give each alone")
    given = atoms.copy()
    given.set_constraint()
    given.info["bonds"] = bonds_of_mol(mol)
    kind, image = isomer(mol, given), given.copy()
    image.positions[:, 2] *= -1
    compared = comparison(mol, mirror=isomer(mol, image) == kind)
    asked = settings.seeds or seeds_for(mol)
    positions = embedded(mol, asked, settings.seed)
    if not positions:
        raise ValueError("cannot be embedded in space by ETKDG nor by distances; is its stereochemistry possible?")
    everything = np.stack([given.positions, *positions])
    like = _alike(everything, compared, settings.rmsd)
    seeds = {}
    for number in sorted(set(range(len(everything))) - like.keys()):
        seeds[number] = given.copy()
        seeds[number].positions = everything[number]
    undefined = str(atoms.info.get("undefined_stereo", ""))
    return _Molecule(
        index, "bonds" not in atoms.info, kind, torsions(mol), compared, undefined, asked, len(positions), seeds, like
    )


def _alike(geometries: Array, compared: Comparison, threshold: float) -> dict[int, int]:
    """The geometries that are the same as an earlier one, and which; they would relax alike."""
    found = dict[int, int]()
    if len(compared.numberings) > FEW_NUMBERINGS:
        return found
    kept = list[int]()
    for number, geometry in enumerate(geometries):
        if kept:
            same = compared.same(geometry, geometries[kept], threshold)
            if same.any():
                found[number] = kept[int(same.argmax())]
                continue
        kept.append(number)
    return found


def _finished(
    engine: Engine, molecules: Sequence[_Molecule], settings: ConformerSettings, start: Start
) -> Iterator[tuple[int, Ensemble | Failure]]:
    seeds = [(place, number, atoms) for place, each in enumerate(molecules) for number, atoms in each.seeds.items()]
    relaxed: list[dict[int, Relaxation]] = [{} for _ in molecules]
    for each in engine.relax([atoms for _, _, atoms in seeds], start.settings):
        place, number, _ = seeds[each.index]
        relaxed[place][number] = each
    for molecule, found in zip(molecules, relaxed, strict=True):
        yield molecule.index, _concluded(molecule, found, settings)


def _concluded(molecule: _Molecule, relaxed: dict[int, Relaxation], settings: ConformerSettings) -> Ensemble | Failure:
    lost = Counter({"not embedded": molecule.asked - molecule.embedded})
    good = dict[int, ase.Atoms]()
    for number, each in relaxed.items():
        reason = _why_lost(molecule, number, each)
        if reason is None:
            good[number] = each.atoms
        else:
            lost[reason] += 1 + sum(other == number for other in molecule.like.values())
    if not good:
        why = ", ".join(f"{count} {reason}" for reason, count in lost.items() if count)
        return Failure(f"no conformer is left of {molecule.asked} seeds and the given geometry: {why}")
    kept = _distinct(good, molecule.comparison, settings.rmsd)
    for number, other in molecule.like.items():
        for some in kept.values():
            if other in some:
                some.append(number)
    lowest = next(iter(kept))
    top = good[lowest].get_potential_energy() + settings.window * KCAL
    above = [number for number in kept if good[number].get_potential_energy() > top]
    lost["above the window"] = sum(len(kept.pop(number)) for number in above)
    degeneracies = np.array([molecule.comparison.degeneracy(good[n].positions, settings.rmsd) for n in kept])
    return Ensemble(
        conformers=[good[number] for number in kept],
        degeneracies=degeneracies / degeneracies.min(),
        found_by=[sorted(some) for some in kept.values()],
        temperature=settings.temperature,
        seeds=molecule.asked,
        lost={reason: count for reason, count in lost.items() if count},
        torsions=molecule.torsions,
        perceived=molecule.perceived,
        undefined=molecule.undefined,
        isomer=molecule.isomer,
        complete=molecule.comparison.complete,
    )


def _why_lost(molecule: _Molecule, number: int, each: Relaxation) -> str | None:
    if not np.isfinite(each.state.energy):
        return "without a finite energy"
    if changed_bonds(molecule.seeds[number], each.atoms):
        return "reacted"
    mol = mol_with_bonds(each.atoms)
    if isomer(mol, each.atoms) != molecule.isomer:
        return "inverted"
    return None if each.state.converged else "not converged"


def _distinct(good: dict[int, ase.Atoms], compared: Comparison, threshold: float) -> dict[int, list[int]]:
    """The minima that are not the same, the lowest first, and the seeds that led to each."""
    order = sorted(good, key=lambda number: (good[number].get_potential_energy(), number))
    kept = dict[int, list[int]]()
    for number in order:
        energy = good[number].get_potential_energy()
        near = [other for other in kept if energy - good[other].get_potential_energy() < SAME_ENERGY]
        if near:
            same = compared.same(good[number].positions, np.stack([good[i].positions for i in near]), threshold)
            if same.any():
                kept[near[int(same.argmax())]].append(number)
                continue
        kept[number] = [number]
    return kept
