"""Relaxing generated molecules with a potential: how much strain they had, and whether they stay the same molecules."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import ase
from ase import units

from atomsml.io import REACH, bond_graph
from atomsml.potential import Predictor
from atomsml.simulate.batching.in_flight import Room
from atomsml.simulate.model import Model
from atomsml.simulate.relax import RelaxSettings, RelaxState, relax_many

KCAL_PER_MOL = units.kcal / units.mol  # eV


@dataclass(frozen=True)
class RelaxedMolecule:
    """A molecule at the nearest minimum of the energy."""

    index: int  # among the molecules that were given
    atoms: ase.Atoms
    converged: bool
    strain: float  # kcal/mol: the energy that relaxing took off; not finite where the energy was not
    bonds_kept: bool  # whether the same pairs of atoms are bonded, by distances


def relax_molecules(
    molecules: Sequence[ase.Atoms], predict: Predictor, settings: RelaxSettings | None = None, batch_atoms: int = 2000
) -> Iterator[RelaxedMolecule]:
    """Relax copies of `molecules`, each yielded when it is done, in no particular order.

    `predict` gets float64 graphs without neighbour lists, of about `batch_atoms` atoms.

    Raises:
        ValueError: a periodic system, or what `predict` raises, as for elements that a model does not know.
    """
    for done in relax_many(molecules, Model(predict), settings, Room(batch_atoms)):
        yield relaxed_molecule(done.index, molecules[done.index], done.atoms, done.start_energy, done.state)


def relaxed_molecule(
    index: int, molecule: ase.Atoms, relaxed: ase.Atoms, start_energy: float, state: RelaxState
) -> RelaxedMolecule:
    """What became of a molecule, whose energy in eV was `start_energy`."""
    kept = bond_graph(relaxed, REACH) == bond_graph(molecule, REACH)
    return RelaxedMolecule(index, relaxed, state.converged, (start_energy - state.energy) / KCAL_PER_MOL, kept)
