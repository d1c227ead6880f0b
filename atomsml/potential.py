"""Potential, Prediction and evaluate(): energies of atoms, and everything that follows from them by differentiation.

evaluate() is the only place with the strain trick: positions and cell are multiplied by (1 + strain) with strain = 0,
so that stress = (1/V) dE/dstrain comes out of the same backward pass as the forces (Knuth et al., Comput. Phys. Commun.
190, 33 (2015)). Tension is positive.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from typing import Any, ClassVar, Protocol, Self

import torch
from torch import Tensor, nn

from atomsml.device import capturing
from atomsml.electronic_state import ElectronicState
from atomsml.geometry import ImpossibleGeometry, apply_strain, volume
from atomsml.graph import AtomicGraph, NeighborGraph
from atomsml.multipoles import ChargeHead, Multipoles
from atomsml.neighbors.checks import check_indices


@dataclass(frozen=True, eq=False, repr=False)
class Prediction:
    """What a potential says about a batch of systems; `prediction["energy_std"]` finds a quantity by its name.

    Further quantities have a name and a level, as the data of an AtomicGraph have: charges of atoms, dipoles of
    systems, the standard deviations of a committee ("energy_std", "forces_std", "stress_std", in the units of what they
    go with).
    """

    energy: Tensor  # (systems,) eV
    atom_energies: Tensor  # (atoms,) eV; they sum to energy
    forces: Tensor | None = None  # (atoms, 3) eV/A
    stress: Tensor | None = None  # (systems, 3, 3) eV/A^3, tension positive; NaN for a system without a volume
    atom_data: dict[str, Tensor] = field(default_factory=dict)  # first axis: atoms
    system_data: dict[str, Tensor] = field(default_factory=dict)  # first axis: systems

    @property
    def of_atoms(self) -> dict[str, Tensor]:
        """All quantities with a row for each atom."""
        known = {"atom_energies": self.atom_energies, "forces": self.forces, **self.atom_data}
        return {name: value for name, value in known.items() if value is not None}

    @property
    def of_systems(self) -> dict[str, Tensor]:
        """All quantities with a row for each system."""
        known = {"energy": self.energy, "stress": self.stress, **self.system_data}
        return {name: value for name, value in known.items() if value is not None}

    def __getitem__(self, name: str) -> Tensor:
        """Raises KeyError with the names that there are."""
        known = {**self.of_atoms, **self.of_systems}
        if name not in known:
            raise KeyError(f"this prediction has no {name!r}; it has {', '.join(known)}")
        return known[name]

    def split(self, atoms: Sequence[int], systems: Sequence[int]) -> list[Prediction]:
        """One prediction for each part of a batch, which has so many atoms and systems."""
        by_atoms = {name: value.split(list(atoms)) for name, value in self.of_atoms.items()}
        by_systems = {name: value.split(list(systems)) for name, value in self.of_systems.items()}
        return [
            _prediction({k: v[i] for k, v in by_atoms.items()}, {k: v[i] for k, v in by_systems.items()})
            for i in range(len(atoms))
        ]

    def with_multipoles(self, found: Multipoles) -> Prediction:
        """The same with "charges" (e), "dipole" (e A) and "quadrupole" (e A^2); see atomsml.multipoles."""
        of_systems = {"dipole": found.dipole, "quadrupole": found.quadrupole}
        return replace(
            self, atom_data={**self.atom_data, "charges": found.charges}, system_data={**self.system_data, **of_systems}
        )

    @staticmethod
    def join(parts: Sequence[Prediction]) -> Prediction:
        """One prediction of all parts, one after the other, with what all of them have."""
        if len(parts) == 1:
            return parts[0]
        return _prediction(_joined([part.of_atoms for part in parts]), _joined([part.of_systems for part in parts]))

    def spread(self, atoms: Tensor, systems: Tensor) -> Prediction:
        """Its rows where (all atoms,) and (all systems,) are True; those of the others are NaN."""
        return _prediction(_spread(self.of_atoms, atoms), _spread(self.of_systems, systems))

    def __repr__(self) -> str:
        systems, atoms = len(self.energy), len(self.atom_energies)
        parts = [f"{systems} system{'s' * (systems != 1)}, {atoms} atom{'s' * (atoms != 1)}"]
        if systems:
            low, high = self.energy.min().item(), self.energy.max().item()
            parts.append(f"energy {low:.6f} eV" if systems == 1 else f"energies {low:.3f} to {high:.3f} eV")
        if self.forces is not None and atoms:
            parts.append(f"largest force {torch.linalg.vector_norm(self.forces, dim=1).max().item():.4f} eV/A")
        parts += ["stress"] * (self.stress is not None) + [*self.atom_data, *self.system_data]
        return f"Prediction({', '.join(parts)})"


def _prediction(of_atoms: dict[str, Tensor], of_systems: dict[str, Tensor]) -> Prediction:
    return Prediction(
        energy=of_systems.pop("energy"),
        atom_energies=of_atoms.pop("atom_energies"),
        forces=of_atoms.pop("forces", None),
        stress=of_systems.pop("stress", None),
        atom_data=of_atoms,
        system_data=of_systems,
    )


def _joined(parts: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0] if all(name in part for part in parts)}


def _spread(values: dict[str, Tensor], there: Tensor) -> dict[str, Tensor]:
    spread = {name: x.new_full((len(there), *x.shape[1:]), torch.nan) for name, x in values.items()}
    for name, x in values.items():
        spread[name][there.to(x.device)] = x
    return spread


def finite(prediction: Prediction) -> Prediction:
    """The prediction, unless an energy or a force in it is NaN or infinite.

    Raises:
        ImpossibleGeometry: it is; names the first system.
    """
    total = prediction.energy.sum() if prediction.forces is None else prediction.energy.sum() + prediction.forces.sum()
    if not math.isfinite(total.item()):  # where one number is not, the sum is not
        wrong = (~torch.isfinite(prediction.energy)).nonzero().flatten().tolist()
        where = f" for system {wrong[0]}" if wrong and len(prediction.energy) > 1 else ""
        raise ImpossibleGeometry(
            f"the model gives no finite energy and forces{where}; do atoms overlap, is the cell in Angstrom?"
        )
    return prediction


Predict = Callable[[AtomicGraph], Prediction]
"""What everything downstream of a potential asks for: sums, committees and direct-force models fit as well."""


class Predictor(Protocol):
    """A Predict that computes no more than it is asked for."""

    def __call__(self, graph: AtomicGraph, forces: bool = True, stress: bool = False) -> Prediction: ...


class PotentialConfig(Protocol):
    """What every config has."""

    @property
    def elements(self) -> tuple[int, ...]: ...  # atomic numbers, ascending
    @property
    def cutoff(self) -> float: ...  # A


class Potential(nn.Module, ABC):
    """An interatomic potential: a graph goes in, one energy per atom comes out.

    A subclass has a frozen dataclass `Config` whose field `elements` lists the atomic numbers it knows and `cutoff` its
    reach in A, and is built by `Model(config)`. Its isolated-atom energies are in the float64 buffer `references`
    (elements,), eV. Config fields called `avg_num_neighbors`, `scale` and `shift` are measured on a training set.
    """

    Config: ClassVar[type[Any]]
    sizes: ClassVar[dict[str, dict[str, Any]]] = {"default": {}}  # name -> config fields, from quick to accurate
    config: Any
    cutoff: float  # A: the neighbour list it asks for
    elements: tuple[int, ...]  # atomic numbers, ascending
    direct_forces: bool = False  # forces are those of `forward_with_forces`, not minus the gradient of the energy
    jumps_at_cutoff: bool = False  # the energy jumps where two atoms come as near as the cutoff, or part beyond it
    references: Tensor

    def __init__(self, config: PotentialConfig) -> None:
        """References are zero until they are set."""
        super().__init__()
        self.config, self.cutoff, self.elements = config, config.cutoff, config.elements
        self.electronic_state = ElectronicState()  # for which its energies hold, as its file states it
        self.charge_head: ChargeHead | None = None  # of an architecture whose config says `charges`
        self.register_buffer("references", torch.zeros(len(config.elements), dtype=torch.float64))

    @classmethod
    def todays_config(cls, stored: dict[str, Any]) -> dict[str, Any]:
        """The fields of a config from a model file; of an older file, whose words meant something else, in today's."""
        return stored

    @abstractmethod
    def forward(self, graph: NeighborGraph) -> Tensor:
        """(atoms,) energies in eV, of the dtype of `graph.positions`."""

    def forward_with_forces(self, graph: NeighborGraph) -> tuple[Tensor, Tensor]:
        """What `forward` returns, and (atoms, 3) forces in eV/A, of an architecture with `direct_forces`."""
        raise NotImplementedError(f"{type(self).__name__} has no forces but the gradient of its energy")

    def forward_with_multipoles(self, graph: NeighborGraph) -> tuple[Tensor, Multipoles]:
        """What `forward` returns, and charges, dipoles and quadrupoles, of an architecture with a `charge_head`."""
        raise NotImplementedError(f"{type(self).__name__} has no charges")

    @property
    def has_charges(self) -> bool:
        """Whether its predictions have charges, dipoles and quadrupoles."""
        return self.charge_head is not None

    @property
    def total_charge(self) -> float:
        """e, of each system: the sum of its charges."""
        return self.electronic_state.charge or 0.0

    @property
    def dtype(self) -> torch.dtype:
        """The floating-point type in which the network computes."""
        return next(self.parameters()).dtype

    def cast(self, dtype: torch.dtype) -> Self:
        """Change the network's floating-point type in place; `references` stay as precise as they are.

        An isolated-atom energy of -1e4 eV has a rounding error of 1 meV in float32.
        """
        references = self.references
        self.to(dtype)
        self.references = references.to(self.references.device)
        return self

    def predictor(self, exact: bool = False) -> Predictor:
        """The fastest way from graphs to energies, forces and stress, for the weights as they are now.

        A graph may hold edges longer than the cutoff, as a list with a skin does: they do not count. Unless `exact`, an
        architecture may tabulate its radial functions. Nothing can be differentiated further: training uses `evaluate`.
        """
        program = None if exact else self.program()
        return partial(_evaluate_within_cutoff, self) if program is None else program

    def program(self) -> Predictor | None:
        """A Predictor without autograd, if the architecture has one: of copies of the weights as they are now."""
        return None

    def hops(self) -> int:
        """From how many edges away atoms change the energy of an atom, which so reaches hops * cutoff far.

        Raises:
            ValueError: this architecture says nothing.
        """
        raise ValueError(
            f"{type(self).__name__} does not say how far the energy of an atom reaches, which a run over several "
            "processes needs; it has no method `hops`"
        )

    def last_layer(self) -> list[nn.Parameter]:
        """Weights w in which the energy is linear: E = E0 + w . f, where neither E0 nor f depends on w.

        The last-layer uncertainty of `atomsml.uncertainty` needs them; an architecture that has some says which.

        Raises:
            ValueError: this architecture says nothing.
        """
        raise ValueError(
            f"{type(self).__name__} does not say in which weights its energy is linear, which the last-layer "
            "uncertainty needs; train a committee instead"
        )

    def nodes(self, graph: AtomicGraph) -> Tensor:
        """(atoms + elements,) species of the atoms of a graph, then of one isolated atom of each element.

        A network that runs over all of them, the isolated ones without edges, has in `atom_energies` the zero of its
        energies: what an atom says of itself is none.
        """
        species = self.species(graph.numbers)
        return torch.cat([species, torch.arange(len(self.elements), device=species.device)])

    def atom_energies(self, network: Tensor, nodes: Tensor, graph: AtomicGraph) -> Tensor:
        """(atoms,) energies in eV from the outputs of a network for `nodes`: `scaled`, bound less isolated."""
        species = nodes[: graph.num_atoms]
        bound = network[: graph.num_atoms] - network[graph.num_atoms :][species]
        return self.scaled(bound, species, graph)

    def scaled(self, network: Tensor, species: Tensor, graph: AtomicGraph) -> Tensor:
        """(atoms,) energies in eV: config.scale * network + shift, and the references."""
        energies = self.config.scale * network + self.config.shift
        return energies.to(graph.dtype) + self.references.to(graph.dtype)[species]

    def species(self, numbers: Tensor) -> Tensor:
        """(atoms,) index of each atomic number in `self.elements`.

        Raises:
            ValueError: an element that the model was not made for, by name.
        """
        species = _species_table(self.elements, numbers.device)[numbers]
        # while a CUDA graph is captured nothing can be asked; it is asked before
        if not capturing(numbers.device) and (species < 0).any():
            check_elements(numbers.tolist(), self.elements)
        return species


@lru_cache
def _species_table(elements: tuple[int, ...], device: torch.device) -> Tensor:
    """(128,) atomic number -> its place in `elements`, or -1."""
    table = torch.full((128,), -1, dtype=torch.int64)
    table[list(elements)] = torch.arange(len(elements))
    with torch.inference_mode(False):
        return table.to(device, copy=True)


def check_elements(numbers: list[int], elements: tuple[int, ...]) -> None:
    """Refuse atomic numbers that a model was not made for.

    Raises:
        ValueError: names the unknown elements and lists the known ones.
    """
    from ase.data import chemical_symbols

    unknown = sorted(set(numbers) - set(elements))
    if unknown:
        names = ", ".join(chemical_symbols[z] if 0 <= z <= 118 else f"atomic number {z}" for z in unknown)
        known = " ".join(chemical_symbols[z] for z in elements)
        raise ValueError(f"the model does not know {names}; it was made for {known}")


def evaluate(
    potential: Potential,
    graph: AtomicGraph,
    forces: bool = True,
    stress: bool = False,
    create_graph: bool = False,
) -> Prediction:
    """Energy, and by one backward pass forces and stress, of every system of a graph.

        >>> from atomsml import AtomicGraph, evaluate, load
        >>> prediction = evaluate(load("organic-xtb"), AtomicGraph.from_smiles("CCO"))
        >>> prediction.energy.shape, prediction.forces.shape
        (torch.Size([1]), torch.Size([9, 3]))

    Training differentiates this; for predictions alone `predict` is several times faster.

    A graph without a neighbour list gets one at `potential.cutoff`. With neither forces nor stress there is no backward
    pass at all. `create_graph` keeps the result differentiable, as training on forces needs.

    A potential with `direct_forces` computes its forces itself. They are not the gradient of its energy: molecular
    dynamics with them does not conserve energy, and where they vanish the energy need not be at a minimum. The stress
    is that of the energy nevertheless.

    Returns:
        Prediction in eV, eV/A, eV/A^3, of the dtype of `graph.positions`.
    """
    if graph.device.type == "cpu" and graph.edge_index is not None:  # where wrong indices end the process
        check_indices(graph)
    graph = graph.connected(potential.cutoff)
    by_gradient = forces and not potential.direct_forces
    with torch.set_grad_enabled(by_gradient or stress or create_graph):
        positions = graph.positions.detach().requires_grad_(by_gradient)
        strain = torch.zeros_like(graph.cell, requires_grad=stress)
        variables = graph.replace(positions=positions)
        if stress:
            strained, cell = apply_strain(positions, graph.cell, 0.5 * (strain + strain.mT), graph.batch)
            variables = graph.replace(positions=strained, cell=cell)
        found_forces, multipoles = None, None
        if forces and potential.direct_forces:
            atom_energies, found_forces = potential.forward_with_forces(variables)
        elif potential.charge_head is not None:
            atom_energies, multipoles = potential.forward_with_multipoles(variables)
        else:
            atom_energies = potential(variables)
        energy = sum_by_system(atom_energies, graph)
        wanted = ([positions] if by_gradient else []) + ([strain] if stress else [])
        gradients = _gradients(energy, wanted, create_graph)
    strain_gradient = gradients.pop() if stress else None
    if by_gradient:
        found_forces = -gradients.pop()
    if not create_graph:
        energy, atom_energies = energy.detach(), atom_energies.detach()
        found_forces = None if found_forces is None else found_forces.detach()
        multipoles = None if multipoles is None else multipoles.detach()
    found = Prediction(
        energy=energy,
        atom_energies=atom_energies,
        forces=found_forces,
        stress=None if strain_gradient is None else stress_of(strain_gradient, graph),
    )
    return found if multipoles is None else found.with_multipoles(multipoles)


def _gradients(energy: Tensor, variables: list[Tensor], create_graph: bool) -> list[Tensor]:
    """Of the sum of all energies; zeros where nothing depends on a variable."""
    if not variables or not energy.requires_grad:
        return [torch.zeros_like(x) for x in variables]
    return list(torch.autograd.grad(energy.sum(), variables, create_graph=create_graph, materialize_grads=True))


def _evaluate_within_cutoff(
    potential: Potential, graph: AtomicGraph, forces: bool = True, stress: bool = False
) -> Prediction:
    """`evaluate`, without the edges of a list with a skin that are too long to count."""
    near = graph if graph.edge_index is None else graph.closer_than(potential.cutoff)
    return evaluate(potential, near, forces, stress)


def sum_by_system(atom_energies: Tensor, graph: AtomicGraph) -> Tensor:
    total = atom_energies.new_zeros(graph.num_systems)
    return total.index_add(0, graph.batch, atom_energies)


def stress_of(strain_gradient: Tensor, graph: AtomicGraph) -> Tensor:
    """(systems, 3, 3) stress from dE/dstrain; NaN where a cell has no volume, so that none is ever made up."""
    found = volume(graph.cell)
    known = graph.pbc.any(dim=1) & (found > 0)
    # not a division by NaN: its derivative would spoil the other systems of a training batch
    stress = strain_gradient / torch.where(known, found, 1.0)[:, None, None]
    return torch.where(known[:, None, None], stress, torch.nan)
