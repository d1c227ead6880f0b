"""Relax atoms, and optionally their cells, to the nearest minimum of the energy.

`relax_many` moves many structures at once: a model evaluates them in batches, their steps are their own. One that is
done makes room for the next, and what becomes of it does not depend on those beside it. `relax` does the same with one
structure that has a calculator of ASE.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import ase
import torch
from ase.constraints import FixBondLengths, FixInternals
from torch import Tensor

from atomsml.graph import AtomicGraph
from atomsml.potential import Prediction
from atomsml.simulate.batching.in_flight import ON_A_CPU, InFlight, Room
from atomsml.simulate.batching.memory import size_of
from atomsml.simulate.cell import SHAPES, Coordinates, FixedCell, FreeCell
from atomsml.simulate.internals.held import HeldInternals, held_in, without_held
from atomsml.simulate.measures import MEASURES
from atomsml.simulate.model import Model
from atomsml.simulate.optimizers import OPTIMIZERS
from atomsml.simulate.optimizers.running import Method, Running
from atomsml.simulate.state import State, place_of
from atomsml.units import GPA

LOOK = 10  # evaluations between two looks at a device


@dataclass(frozen=True)
class RelaxSettings:
    """How to relax.

    Raises:
        ValueError: `fmax` or `steps` not positive, an unknown word, options of the cell where it is fixed.
    """

    fmax: float = 0.05  # eV/A: converged when no force, and in a free cell no row of V stress / atoms (eV), is larger
    steps: int = 300  # give up after so many
    cell: bool = False  # relax the cell as well
    optimizer: str = "lbfgs"  # a key of OPTIMIZERS
    pressure: float = 0.0  # GPa, from outside, on a relaxed cell
    shape: str = "free"  # what may change of a relaxed cell, a key of SHAPES
    fixed_axes: str = ""  # lattice vectors that stay, such as "c" or "ab"
    measure: str = "frechet"  # by what the cell is varied, a key of MEASURES
    symmetry: float | None = None  # A: keep the space group that is found within this tolerance
    stress: bool = False  # whether the relaxed atoms of a fixed cell have it as well

    def __post_init__(self) -> None:
        if not (math.isfinite(self.fmax) and self.fmax > 0):
            raise ValueError(f"fmax must be a positive number of eV/A, got {self.fmax}")
        if self.steps < 1:
            raise ValueError(f"steps must be at least 1, got {self.steps}")
        for name, known in (("optimizer", OPTIMIZERS), ("shape", SHAPES), ("measure", MEASURES)):
            if getattr(self, name) not in known:
                raise ValueError(f"unknown {name} {getattr(self, name)!r}; there are {', '.join(known)}")
        if set(self.fixed_axes) - set("abc"):
            raise ValueError(f"fixed_axes names lattice vectors, such as c or ab, got {self.fixed_axes!r}")
        if not math.isfinite(self.pressure):
            raise ValueError(f"the pressure must be a number of GPa, got {self.pressure}")
        if self.symmetry is not None and not 0 < self.symmetry < 1:
            raise ValueError(f"symmetry is a tolerance between 0 and 1 A, got {self.symmetry}")
        if not self.cell and (self.pressure, self.shape, self.fixed_axes) != (0, "free", ""):
            raise ValueError("pressure, shape and fixed_axes are about a relaxed cell; set cell as well")
        if self.shape == "volume" and self.measure != "frechet":
            raise ValueError("only the measure frechet keeps the volume")

    def check(self, atoms: ase.Atoms) -> None:
        """Refuse atoms that cannot be relaxed in this way.

        Raises:
            ValueError: a cell to be relaxed, or a space group to be kept, without periodicity along all three axes;
                rigid bonds; both a relaxed cell, or a symmetry, and internal coordinates that are held.
        """
        if any(isinstance(each, FixBondLengths) for each in atoms.constraints):
            raise ValueError(
                "bonds cannot be kept rigid in a relaxation; leave that constraint out, or use FixInternals"
            )
        if any(isinstance(each, FixInternals) for each in atoms.constraints) and (
            self.cell or self.symmetry is not None
        ):
            raise ValueError("internal coordinates can be held in a fixed cell only, without its symmetry")
        if (self.cell or self.symmetry is not None) and not atoms.pbc.all():
            what = "relaxing the cell" if self.cell else "keeping the space group"
            raise ValueError(
                f"{what} needs a crystal that is periodic along all three axes, pbc is {atoms.pbc.tolist()}"
            )

    def coordinates(self) -> Coordinates[Any]:
        """What is varied."""
        if not self.cell and self.symmetry is None:
            return FixedCell()
        return FreeCell(
            MEASURES[self.measure],
            self.pressure * GPA,
            self.shape if self.cell else "fixed",
            ["abc".index(axis) for axis in self.fixed_axes],
            self.symmetry,
        )


Reason = Literal["running", "converged", "out of steps", "energy rose", "energy or forces are not finite"]
# in the order of their numbers in optimizers/running.py
REASONS: tuple[Reason, ...] = (
    "running",
    "converged",
    "out of steps",
    "energy rose",
    "energy or forces are not finite",
)


@dataclass(frozen=True)
class RelaxState:
    """Where a relaxation stands after a step; the last one is its result.

    "energy rose" is a point where forces vanish but which lies above the start: a saddle point, no minimum. With a
    pressure it is the enthalpy that must not rise.
    """

    step: int
    energy: float  # eV
    fmax: float  # eV/A, the largest force that constraints and symmetry leave
    reason: Reason
    stress: float | None = None  # GPa, the largest component that is to vanish of the stress plus the pressure

    @property
    def converged(self) -> bool:
        return self.reason == "converged"


@dataclass(frozen=True)
class Relaxation:
    """A structure that is done."""

    index: int  # among the structures that were given
    atoms: ase.Atoms  # relaxed, with energy, forces and, of a relaxed cell or where it is asked for, stress
    start_energy: float  # eV
    state: RelaxState


@dataclass(frozen=True)
class Batch:
    """The structures on their way, after an evaluation."""

    systems: State
    states: dict[int, RelaxState]  # by the index of a structure
    done: list[Relaxation]  # those of them that are done; they leave


def relax(atoms: ase.Atoms, settings: RelaxSettings | None = None) -> RelaxState:
    """Relax `atoms`, which must have a calculator, in place, and say how it ended.

        >>> from ase.build import molecule
        >>> from atomsml import AtomsMLCalculator
        >>> from atomsml.simulate.relax import RelaxSettings, relax
        >>> atoms = molecule("CH3CH2OH")
        >>> atoms.calc = AtomsMLCalculator("organic-xtb")
        >>> relax(atoms, RelaxSettings(fmax=0.05)).converged
        True

    Raises:
        ValueError: atoms that `settings.check` refuses, constraints that cannot be kept (`constraints.projectors`).
    """
    *_, last = iterate_relax(atoms, settings or RelaxSettings())
    return last


def iterate_relax(atoms: ase.Atoms, settings: RelaxSettings) -> Iterator[RelaxState]:
    """Relax `atoms` in place, yielding a state before the first and after every step.

    Raises:
        ValueError: atoms that `settings.check` refuses, constraints that cannot be kept (`constraints.projectors`).
    """

    def predict(graph: AtomicGraph, forces: bool = True, stress: bool = False) -> Prediction:
        atoms.cell[:], atoms.positions = graph.cell[0].numpy(), graph.positions.numpy()
        found = torch.from_numpy(atoms.get_forces(apply_constraint=False))
        tensor = torch.from_numpy(atoms.get_stress(voigt=False, apply_constraint=False))[None] if stress else None
        energy = torch.tensor([atoms.get_potential_energy()], dtype=torch.float64)
        return Prediction(energy, torch.full_like(found[:, 0], torch.nan), found, tensor)

    settings.check(atoms)
    atoms.get_forces()  # what a calculator refuses of the atoms as they are given is no failure of a step
    for batch in iterate_relax_many([atoms], Model(predict), settings):
        yield batch.states[0]


def relax_many(
    structures: Sequence[ase.Atoms],
    model: Model,
    settings: RelaxSettings | None = None,
    room: Room = ON_A_CPU,
    device: torch.device | str = "cpu",
) -> Iterator[Relaxation]:
    """Relax copies of `structures`, each yielded when it is done.

    Args:
        room: for how much is computed at a time; `batching.memory.measure_room` measures how much fits into memory.
        device: where the structures are moved; that of the model is quickest.

    Raises:
        ValueError: structures that `settings.check` refuses, constraints that cannot be kept
            (`constraints.projectors`); what the model raises.
    """
    for batch in iterate_relax_many(structures, model, settings or RelaxSettings(), room, device):
        yield from batch.done


def iterate_relax_many(
    structures: Sequence[ase.Atoms],
    model: Model,
    settings: RelaxSettings,
    room: Room = ON_A_CPU,
    device: torch.device | str = "cpu",
) -> Iterator[Batch]:
    """The same as a loop that yields all structures on their way after each evaluation.

    On a device other than a CPU it yields after every LOOK evaluations: to look makes the device wait.
    """
    for atoms in structures:
        settings.check(atoms)
    if not structures:
        return
    place = place_of(device)
    everything = State.of(list(map(without_held, structures)))  # refuses constraints before anything is computed
    held = held_in(structures)
    coordinates = settings.coordinates() if held is None else HeldInternals(held)
    method = Method(coordinates, OPTIMIZERS[settings.optimizer].make(), settings.fmax, settings.steps)
    flight = InFlight(len(structures), lambda i: size_of(structures[i], model, room), room)
    running: Running | None = None
    while flight:
        entering = flight.enter()
        if entering:
            fresh = method.start(everything.systems(torch.tensor(entering)).to(place))
            running = fresh if running is None else running.join(fresh)
        assert running is not None
        for look in range(LOOK if running.state.device.type != "cpu" else 1):
            if look > 0:
                method.step(running)
            model(running.state, stress=settings.stress or method.coordinates.needs_stress)
            method.judge(running)
        states = _states(running, settings)
        ended = torch.tensor([state.reason != "running" for state in states.values()])
        done = _results(running, ended.nonzero().flatten(), structures, states)
        yield Batch(running.state, states, done)
        flight.leave([each.index for each in done])
        running = None if ended.all() else running.take((~ended).nonzero().flatten().to(place)) if done else running
        if running is not None:
            method.step(running)


def _states(running: Running, settings: RelaxSettings) -> dict[int, RelaxState]:
    """How each structure stands; in one transfer from the device."""
    state, standing = running.state, running.standing
    columns = (state.index, state.step, state.energy, standing.fmax, standing.reason, standing.stress)
    return {
        int(index): RelaxState(int(step), energy, fmax, REASONS[int(reason)], stress if settings.cell else None)
        for index, step, energy, fmax, reason, stress in torch.stack(
            [column.to(state.energy) for column in columns], dim=1
        ).tolist()
    }


def _results(
    running: Running, systems: Tensor, structures: Sequence[ase.Atoms], states: dict[int, RelaxState]
) -> list[Relaxation]:
    """Of the systems that are done."""
    if len(systems) == 0:
        return []
    systems = systems.to(running.state.device)
    ended = running.state.systems(systems)
    indices, energies = ended.index.tolist(), running.standing.start_energy[systems].tolist()
    copies = ended.write_to([structures[i] for i in indices])
    return [Relaxation(i, atoms, e, states[i]) for i, atoms, e in zip(indices, copies, energies, strict=True)]
