"""Engine: what a property asks of a potential: many structures evaluated, or relaxed, as few batches."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import ase
import numpy as np
import torch
from ase.calculators.calculator import Calculator

from atomsml.electronic_state import ElectronicState
from atomsml.graph import AtomicGraph
from atomsml.potential import Prediction
from atomsml.simulate.batching.in_flight import ON_A_CPU, InFlight, Room
from atomsml.simulate.batching.memory import measure_room, size_of
from atomsml.simulate.model import Model
from atomsml.simulate.relax import Relaxation, RelaxSettings, relax_many
from atomsml.simulate.state import State, place_of

if TYPE_CHECKING:
    from atomsml.interfaces.ase import AtomsMLCalculator


@dataclass(frozen=True)
class Engine:
    """A model, for how much it has room at a time, and where its structures are."""

    model: Model
    room: Room = ON_A_CPU
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    electronic_state: ElectronicState = field(default_factory=ElectronicState)  # what the model was made for

    @staticmethod
    def of(calculator: AtomsMLCalculator, structures: Sequence[ase.Atoms] = (), sharing: int = 1) -> Engine:
        """What a calculator computes, on its device.

        Args:
            structures: the first of those to come; they tell how much memory others take.
            sharing: processes that share the memory of the device.
        """
        model = Model.of(calculator)
        room = measure_room(model, structures, calculator.device, stress=True) if structures else ON_A_CPU
        room = replace(room, memory=room.memory / sharing)
        return Engine(model, room, calculator.device, calculator.potential.electronic_state)

    @staticmethod
    def of_ase(calculator: Calculator) -> Engine:
        """What any calculator of ASE computes, of one structure after the other, on the CPU."""
        return Engine(Model(partial(_ask, calculator)))

    def evaluate(self, structures: Sequence[ase.Atoms], stress: bool = False) -> list[ase.Atoms]:
        """Copies with energy (eV), forces (eV/A) and, where asked for and where there is a volume, stress (eV/A^3).

        Where the model has them, `copy.calc.results` holds "charges" (atoms,) in e and, of molecules, "dipole" (3,) in
        e A as well. Numbers are not finite where the model has no answer. Constraints do not change forces.
        """
        reach = None if self.model.neighbors is None else self.model.neighbors.cutoff
        model = Model(self.model.predict, reach, skin=0.0)  # nothing moves
        flight = InFlight(len(structures), lambda i: size_of(structures[i], model, self.room), self.room)
        found = list[ase.Atoms]()
        while flight:
            entering = flight.enter()
            some = [structures[i] for i in entering]
            state = State.of(some, place_of(self.device))
            said = model(state, stress)
            copies = state.write_to(some)
            for copy, one in zip(copies, said.split(list(map(len, some)), [1] * len(some)), strict=True):
                copy.calc.results.update(_electrostatics(one))
            found += copies
            flight.leave(entering)
        return found

    def relax(self, structures: Sequence[ase.Atoms], settings: RelaxSettings) -> Iterator[Relaxation]:
        """Copies at their nearest minima, each when it is done, as `relax_many`."""
        yield from relax_many(structures, self.model, settings, self.room, self.device)


def _electrostatics(said: Prediction) -> dict[str, np.ndarray]:
    """What ASE's results have beyond energy, forces and stress: charges in e and dipole in e A of one system."""
    charges, dipole = said.atom_data.get("charges"), said.system_data.get("dipole")
    found = {"charges": charges, "dipole": None if dipole is None else dipole[0]}
    known = {name: value for name, value in found.items() if value is not None and value.isfinite().all()}
    return {name: value.double().numpy(force=True) for name, value in known.items()}


def _ask(calculator: Calculator, graph: AtomicGraph, forces: bool = True, stress: bool = False) -> Prediction:
    """A Predictor; stress is NaN where there is no volume. Charges and dipoles are those that come with the energy."""
    found = Prediction(
        energy=torch.zeros(graph.num_systems, dtype=torch.float64),
        atom_energies=torch.full((graph.num_atoms,), torch.nan, dtype=torch.float64),
        forces=torch.zeros(graph.num_atoms, 3, dtype=torch.float64),
        stress=torch.full((graph.num_systems, 3, 3), torch.nan, dtype=torch.float64) if stress else None,
    )
    assert found.forces is not None
    for i, one in enumerate(graph.to_list()):
        atoms = one.to_ase()
        atoms.calc = calculator
        found.energy[i] = atoms.get_potential_energy()
        found.forces[graph.batch == i] = torch.from_numpy(atoms.get_forces())
        if found.stress is not None and atoms.pbc.any() and atoms.cell.rank == 3:
            found.stress[i] = torch.from_numpy(atoms.get_stress(voigt=False))
        _note(found, calculator.results, graph, i)
    return found


def _note(found: Prediction, results: Mapping[str, Any], graph: AtomicGraph, system: int) -> None:
    """What a calculator of ASE found of one system beside its energy; a periodic one has no dipole."""
    if "charges" in results:
        charges = found.atom_data.setdefault("charges", torch.full_like(found.atom_energies, torch.nan))
        charges[graph.batch == system] = torch.as_tensor(results["charges"], dtype=torch.float64)
    if "dipole" in results and not graph.pbc[system].any():
        dipole = found.system_data.setdefault("dipole", found.energy.new_full((graph.num_systems, 3), torch.nan))
        dipole[system] = torch.as_tensor(results["dipole"], dtype=torch.float64)
