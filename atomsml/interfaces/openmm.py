"""Potentials in OpenMM: a force that asks a model, of a whole system or of a subset of its atoms.

OpenMM has nm, kJ/mol and kJ/mol/nm; a model has A, eV and eV/A. For OpenMM-ML there is `atomsml.interfaces.openmmml`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import ase
import numpy as np
from numpy.typing import NDArray

from atomsml.interfaces.ase import AtomsMLCalculator
from atomsml.modelfile import find_model, named_model
from atomsml.modelfile.catalogue import model_hash
from atomsml.units import KJ_PER_MOL

if find_spec("openmm") is None:
    raise ValueError('OpenMM is not installed; run `pip install "atomsml[openmm]"`')

import openmm
from openmm import unit
from openmm.app import Element, Topology

ANGSTROM = 0.1  # in nm
WHOLE = 0.05  # e: a sum of partial charges that is nearer to an integer states a total charge


@dataclass
class PotentialFunction:
    """What a PythonForce calls: energies and forces of a model, of atoms whose positions OpenMM gives.

    OpenMM keeps the force in an XML file as a pickle of this object, so it holds plain values. The model is opened when
    it is first asked, and anew by each copy.

    Raises:
        ValueError: when it is first asked: the file of the model is not what it was when the force was made.
        ImpossibleGeometry: atoms in one place; OpenMM stops with its words.
    """

    model: str  # a name or an absolute path
    sha256: str  # of its file
    numbers: tuple[int, ...]  # atomic numbers, in the order of the force's particles
    periodic: bool
    charge: float | None  # e, in total, where the system tells
    device: str
    precision: str
    head: str | None
    d3: str | None
    _opened: AtomsMLCalculator | None = field(default=None, init=False, repr=False, compare=False)

    def __call__(self, state: openmm.State) -> tuple[float, NDArray[np.float64]]:
        """Energy in kJ/mol and forces (atoms, 3) in kJ/mol/nm."""
        atoms = self.atoms()
        atoms.positions = state.getPositions(asNumpy=True).value_in_unit(unit.angstrom)
        if self.periodic:
            atoms.cell[:] = state.getPeriodicBoxVectors(asNumpy=True).value_in_unit(unit.angstrom)
        atoms.calc = self.calculator()
        forces = atoms.get_forces()  # before the energy, which comes with them
        return atoms.get_potential_energy() / KJ_PER_MOL, forces / (KJ_PER_MOL * ANGSTROM)

    def atoms(self) -> ase.Atoms:
        """The atoms, none of them where it belongs."""
        info = {} if self.charge is None else {"charge": self.charge}
        return ase.Atoms(self.numbers, np.zeros((len(self.numbers), 3)), pbc=self.periodic, info=info)

    def calculator(self) -> AtomsMLCalculator:
        """That of the model, opened when first asked for."""
        if self._opened is None:
            if model_hash(self.model) != self.sha256:
                raise ValueError(f"the model {self.model} is not the one that this force was made with; make it anew")
            self._opened = AtomsMLCalculator(self.model, self.device, self.precision, self.head, d3=self.d3)
        return self._opened

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_opened": None}


def system_of(atoms: ase.Atoms) -> tuple[openmm.System, Topology]:
    """System and topology of ASE's atoms: masses, elements and the cell as box; no bonds, no forces.

    Raises:
        ValueError: a cell that is periodic along some axes only; OpenMM has boxes with three.
    """
    topology, system = Topology(), openmm.System()
    residue = topology.addResidue("MOL", topology.addChain())
    for symbol, mass in zip(atoms.symbols, atoms.get_masses(), strict=True):
        topology.addAtom(symbol, Element.getBySymbol(symbol), residue)
        system.addParticle(mass)
    if atoms.pbc.any():
        if not atoms.pbc.all():
            raise ValueError("a box of OpenMM is periodic along all three axes or none; set atoms.pbc so")
        topology.setPeriodicBoxVectors(atoms.cell.array * ANGSTROM * unit.nanometer)
        system.setDefaultPeriodicBoxVectors(*(atoms.cell.array * ANGSTROM))
    return system, topology


def add_potential(
    system: openmm.System,
    topology: Topology,
    model: str | Path,
    atoms: Sequence[int] | None = None,
    *,
    group: int = 0,
    device: str = "auto",
    precision: str = "mixed",
    head: str | None = None,
    d3: str | None = None,
) -> openmm.PythonForce:
    """Add the forces of a model to a system, among all its atoms or among some; returns the force.

    Nothing is taken out of the system: for a subset of a system with a force field, `createMixedSystem` of OpenMM-ML
    takes out what the force field says of the subset (`atomsml.interfaces.openmmml`). The force is periodic where the
    topology has a box or another force is periodic. It must be as periodic as the others: OpenMM may wrap each atom.

    Args:
        topology: says which elements the atoms are, and whether there is a box.
        model: a name or a model file.
        atoms: indices of the subset; all where None.
        group: the force group, 0 to 31.
        device, precision, head, d3: as in `AtomsMLCalculator`.

    Raises:
        ValueError: atoms that are not there, given twice, or without an element; elements, total charge or spin that
            the model was not made for; a box for some forces and none for others; a force field that still acts among
            the atoms.
    """
    chosen = _chosen(topology, system, atoms)
    periodic = _is_periodic(topology, system)
    _check_no_force_field(system, chosen)
    found = find_model(model)
    function = PotentialFunction(
        model=str(model) if named_model(model) is not None else str(found.resolve()),
        sha256=model_hash(model),
        numbers=_numbers(topology, chosen),
        periodic=periodic,
        charge=_total_charge(system, chosen),
        device=device,
        precision=precision,
        head=head,
        d3=d3,
    )
    function.calculator().check(function.atoms())
    force = openmm.PythonForce(function)
    force.setName("AtomsML")
    force.setForceGroup(group)
    force.setUsesPeriodicBoundaryConditions(periodic)
    force.setParticles([] if atoms is None else chosen)
    system.addForce(force)
    return force


def _chosen(topology: Topology, system: openmm.System, atoms: Sequence[int] | None) -> list[int]:
    """Indices of the atoms, checked."""
    total, particles = topology.getNumAtoms(), system.getNumParticles()
    if particles not in (0, total):  # OpenMM-ML collects forces to interpolate in a system without any
        raise ValueError(f"the topology has {total} atoms, the system {particles} particles")
    if atoms is None:
        return list(range(total))
    chosen = [int(i) for i in atoms]
    if not chosen:
        raise ValueError("atoms: the subset is empty; leave it out for all atoms")
    wrong = [i for i in chosen if not 0 <= i < total]
    if wrong:
        raise ValueError(f"atoms: there is no atom {wrong[0]}; the system has atoms 0 to {total - 1}")
    twice = [i for i, count in Counter(chosen).items() if count > 1]
    if twice:
        raise ValueError(f"atoms: atom {twice[0]} is given twice")
    return chosen


def _numbers(topology: Topology, chosen: list[int]) -> tuple[int, ...]:
    every = list(topology.atoms())
    unknown = [i for i in chosen if every[i].element is None]
    if unknown:
        raise ValueError(
            f"atom {unknown[0]} ({every[unknown[0]].name}) has no element; virtual sites cannot be computed"
        )
    return tuple(every[i].element.atomic_number for i in chosen)


def _is_periodic(topology: Topology, system: openmm.System) -> bool:
    """Whether there is a box, in which nonbonded forces must agree."""
    box = topology.getPeriodicBoxVectors() is not None
    for force in system.getForces():
        nonbonded = isinstance(force, openmm.NonbondedForce | openmm.CustomNonbondedForce)
        if nonbonded and box and not force.usesPeriodicBoundaryConditions():
            raise ValueError(
                f"the topology has a box, the {force.getName()} is not periodic: give it a periodic method, or take "
                "the box away by topology.setPeriodicBoxVectors(None)"
            )
        if nonbonded and not box and force.usesPeriodicBoundaryConditions():
            raise ValueError(
                f"the topology has no box, the {force.getName()} is periodic: set topology.setPeriodicBoxVectors(...)"
            )
    return box or bool(system.usesPeriodicBoundaryConditions())


def _nonbonded(system: openmm.System) -> list[openmm.NonbondedForce]:
    return [force for force in system.getForces() if isinstance(force, openmm.NonbondedForce)]


def _check_no_force_field(system: openmm.System, chosen: list[int]) -> None:
    """Refuse charges or dispersion of a force field between any two of the atoms, which the model has as well."""
    for force in _nonbonded(system):
        parameters = {i: force.getParticleParameters(i) for i in chosen}
        acting = {i for i, (charge, _, depth) in parameters.items() if charge._value or depth._value}
        silent = 0  # pairs whose interaction was taken out
        for n in range(force.getNumExceptions()):
            i, j, charges, _, depth = force.getExceptionParameters(n)
            silent += i in acting and j in acting and not (charges._value or depth._value)
        if silent < len(acting) * (len(acting) - 1) // 2:
            raise ValueError(
                f"the {force.getName()} of the force field still acts among the atoms that the model computes; take "
                "MLPotential('atomsml', model=...).createMixedSystem of OpenMM-ML, or a system without a force field"
            )


def _total_charge(system: openmm.System, chosen: list[int]) -> float | None:
    """Of the atoms, e, where a force field has charges that sum to an integer."""
    for force in _nonbonded(system):
        total = sum(force.getParticleParameters(i)[0].value_in_unit(unit.elementary_charge) for i in chosen)
        if abs(total - round(total)) < WHOLE:
            return float(round(total))
    return None
