"""AtomicGraph: one system or many, as one large disconnected graph.

Conventions (the whole table is in docs/conventions.md):

| field | shape | meaning |
|---|---|---|
| positions | (atoms, 3) | Cartesian, Angstrom; need not be wrapped |
| numbers | (atoms,) | atomic numbers, int64 |
| cell | (systems, 3, 3) | rows are lattice vectors, Angstrom; zero rows where open |
| pbc | (systems, 3) | periodic or not, per system and axis |
| batch | (atoms,) | system of each atom, ascending |
| edge_index | (2, edges) | row 0 sender (neighbour), row 1 receiver (centre); sorted by receiver |
| cell_offsets | (edges, 3) | integer image of the sender |

An edge vector points from the centre to the neighbour:
`positions[sender] + cell_offsets @ cell - positions[receiver]`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self, TypeVar

import torch
from torch import Tensor

if TYPE_CHECKING:
    import ase
    from pymatgen.core import Molecule, Structure
    from rdkit.Chem import Mol


@dataclass(frozen=True, eq=False)  # two graphs are equal if they are the same object: tensors have no truth value
class AtomicGraph:
    """Atoms of one or many systems; with their neighbour list once `with_neighbors` was called (NeighborGraph).

    >>> from atomsml import AtomicGraph
    >>> graph = AtomicGraph.from_list([AtomicGraph.from_smiles("O"), AtomicGraph.from_smiles("C")])
    >>> graph.numbers.tolist(), graph.batch.tolist()
    ([8, 1, 1, 6, 1, 1, 1, 1], [0, 0, 0, 1, 1, 1, 1, 1])
    >>> graph.with_neighbors(cutoff=5.0).edge_index.shape  # pairs within a molecule, both ways
    torch.Size([2, 26])
    """

    positions: Tensor
    numbers: Tensor
    cell: Tensor
    pbc: Tensor
    batch: Tensor
    edge_index: Tensor | None = None
    cell_offsets: Tensor | None = None
    atom_data: dict[str, Tensor] = field(default_factory=dict)  # first axis: atoms
    system_data: dict[str, Tensor] = field(default_factory=dict)  # first axis: systems

    def __post_init__(self) -> None:
        atoms, systems = len(self.positions), len(self.cell)
        names = ("positions", "numbers", "cell", "pbc", "batch")
        shapes = tuple(getattr(self, name).shape for name in names)
        wanted = (atoms, 3), (atoms,), (systems, 3, 3), (systems, 3), (atoms,)
        if shapes != wanted:  # at once: every step of molecular dynamics asks
            for name, shape, found in zip(names, wanted, shapes, strict=True):
                if shape != found:
                    raise ValueError(f"AtomicGraph.{name} must have shape {shape}, got {tuple(found)}")
        for level, size, data in (("atom", atoms, self.atom_data), ("system", systems, self.system_data)):
            for name, value in data.items():
                if value.ndim == 0 or len(value) != size:
                    shape = tuple(value.shape)
                    raise ValueError(f"{level}_data[{name!r}] must have {size} rows, one per {level}, got {shape}")

    @property
    def num_atoms(self) -> int:
        return len(self.positions)

    @property
    def num_systems(self) -> int:
        return len(self.cell)

    @property
    def num_edges(self) -> int:
        return self._edges()[0].shape[1]

    @property
    def atoms_per_system(self) -> Tensor:
        """(systems,) number of atoms of each system; an empty system counts 0."""
        return torch.bincount(self.batch, minlength=self.num_systems)

    @property
    def dtype(self) -> torch.dtype:
        return self.positions.dtype

    @property
    def device(self) -> torch.device:
        return self.positions.device

    def _edges(self) -> tuple[Tensor, Tensor]:
        if self.edge_index is None or self.cell_offsets is None:
            raise ValueError("this AtomicGraph has no neighbour list; call graph.with_neighbors(cutoff) first")
        return self.edge_index, self.cell_offsets

    def edge_vectors(self) -> Tensor:
        """(edges, 3) vectors from centre (receiver) to neighbour (sender), Angstrom; differentiable."""
        edge_index, cell_offsets = self._edges()
        sender, receiver = edge_index
        vectors = self.positions[sender] - self.positions[receiver]
        # open systems have no images: skip the gather, most of the cost for molecules, where no GPU has to be asked
        if self.device.type == "cpu" and not self.pbc.any():
            return vectors
        cell = self.cell[self.batch[receiver]]
        return vectors + torch.einsum("ei,eij->ej", cell_offsets.to(cell.dtype), cell)

    def with_neighbors(self, cutoff: float) -> NeighborGraph:
        """The same graph with all pairs closer than `cutoff` (Angstrom) as edges."""
        from atomsml.neighbors import neighbor_list

        return self.with_edges(*neighbor_list(self.positions, self.cell, self.pbc, cutoff, self.batch))

    def with_edges(self, edge_index: Tensor, cell_offsets: Tensor) -> NeighborGraph:
        """The same graph with these edges; sooner than `replace`, as every step of molecular dynamics needs it."""
        geometry = self.positions, self.numbers, self.cell, self.pbc, self.batch
        return NeighborGraph(*geometry, edge_index, cell_offsets, self.atom_data, self.system_data)

    def closer_than(self, distance: float) -> NeighborGraph:
        """The same graph without the edges that are as long as `distance` (Angstrom) or longer."""
        edge_index, cell_offsets = self._edges()
        near = torch.linalg.vector_norm(self.edge_vectors().detach(), dim=1) < distance
        return self.with_edges(edge_index[:, near], cell_offsets[near])

    def connected(self, cutoff: float) -> NeighborGraph:
        """The same graph with the edges that it has, and with those of `with_neighbors` if it has none."""
        if isinstance(self, NeighborGraph):
            return self
        if self.edge_index is None or self.cell_offsets is None:
            return self.with_neighbors(cutoff)
        return self.with_edges(self.edge_index, self.cell_offsets)

    def replace(self, **changes: Any) -> Self:
        return dataclasses.replace(self, **changes)

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Self:
        """Move to a device; `dtype` changes floating-point tensors only."""

        def move(x: Tensor) -> Tensor:
            return x.to(device=device, dtype=dtype if x.is_floating_point() else None)

        return type(self)(
            positions=move(self.positions),
            numbers=move(self.numbers),
            cell=move(self.cell),
            pbc=move(self.pbc),
            batch=move(self.batch),
            edge_index=None if self.edge_index is None else move(self.edge_index),
            cell_offsets=None if self.cell_offsets is None else move(self.cell_offsets),
            atom_data={k: move(v) for k, v in self.atom_data.items()},
            system_data={k: move(v) for k, v in self.system_data.items()},
        )

    @staticmethod
    def from_list(graphs: Sequence[Graph]) -> Graph:
        """Join graphs into one disconnected graph, in order; of graphs with neighbours, one with neighbours.

        Raises:
            ValueError: no graphs, graphs of which only some have edges, or that carry different data keys.
        """
        if not graphs:
            raise ValueError("AtomicGraph.from_list needs at least one graph, got none")
        first = graphs[0]
        for name in ("atom_data", "system_data"):
            keys = {frozenset(getattr(g, name)) for g in graphs}
            if len(keys) > 1:
                raise ValueError(
                    f"all graphs of a batch must carry the same {name} keys, got {[sorted(k) for k in keys]}"
                )
        edges = [g.edge_index for g in graphs if g.edge_index is not None]
        offsets = [g.cell_offsets for g in graphs if g.cell_offsets is not None]
        if len(edges) not in (0, len(graphs)):
            raise ValueError("all graphs of a batch must have neighbour lists, or none; call with_neighbors on each")
        atom_start = _starts([g.num_atoms for g in graphs])
        system_start = _starts([g.num_systems for g in graphs])
        return type(first)(
            positions=torch.cat([g.positions for g in graphs]),
            numbers=torch.cat([g.numbers for g in graphs]),
            cell=torch.cat([g.cell for g in graphs]),
            pbc=torch.cat([g.pbc for g in graphs]),
            batch=torch.cat([g.batch + start for g, start in zip(graphs, system_start, strict=True)]),
            edge_index=torch.cat([e + s for e, s in zip(edges, atom_start, strict=True)], dim=1) if edges else None,
            cell_offsets=torch.cat(offsets) if edges else None,
            atom_data={k: torch.cat([g.atom_data[k] for g in graphs]) for k in first.atom_data},
            system_data={k: torch.cat([g.system_data[k] for g in graphs]) for k in first.system_data},
        )

    def to_list(self) -> list[Self]:
        """Split into one graph per system: the inverse of `from_list`."""
        atoms = self.atoms_per_system.tolist()
        starts = _starts(atoms)
        edges: list[Tensor] | list[None] = [None] * len(atoms)
        offsets: list[Tensor] | list[None] = [None] * len(atoms)
        if self.edge_index is not None and self.cell_offsets is not None:  # sorted by receiver, hence by system
            counts = torch.bincount(self.batch[self.edge_index[1]], minlength=len(atoms)).tolist()
            edges = [e - start for e, start in zip(self.edge_index.split(counts, dim=1), starts, strict=True)]
            offsets = list(self.cell_offsets.split(counts))
        atom_data = {name: value.split(atoms) for name, value in self.atom_data.items()}
        parts = zip(self.positions.split(atoms), self.numbers.split(atoms), self.batch.split(atoms), strict=True)
        return [
            type(self)(
                positions=positions,
                numbers=numbers,
                cell=self.cell[i : i + 1],
                pbc=self.pbc[i : i + 1],
                batch=torch.zeros_like(batch),
                edge_index=edges[i],
                cell_offsets=offsets[i],
                atom_data={name: rows[i] for name, rows in atom_data.items()},
                system_data={name: value[i : i + 1] for name, value in self.system_data.items()},
            )
            for i, (positions, numbers, batch) in enumerate(parts)
        ]

    @staticmethod
    def from_ase(atoms: ase.Atoms, dtype: torch.dtype = torch.float64) -> AtomicGraph:
        from atomsml.io import graph_from_ase

        return graph_from_ase(atoms, dtype)

    def to_ase(self) -> ase.Atoms:
        """ASE Atoms of a single system; use `to_list` first for a batch."""
        from atomsml.io import graph_to_ase

        return graph_to_ase(self)

    @staticmethod
    def from_pymatgen(structure: Structure | Molecule, dtype: torch.dtype = torch.float64) -> AtomicGraph:
        from atomsml.io import graph_from_pymatgen

        return graph_from_pymatgen(structure, dtype)

    def to_pymatgen(self) -> Structure | Molecule:
        from atomsml.io import graph_to_pymatgen

        return graph_to_pymatgen(self)

    @staticmethod
    def from_rdkit(mol: Mol, dtype: torch.dtype = torch.float64) -> AtomicGraph:
        from atomsml.io import graph_from_rdkit

        return graph_from_rdkit(mol, dtype)

    @staticmethod
    def from_smiles(smiles: str, seed: int = 0, dtype: torch.dtype = torch.float64) -> AtomicGraph:
        """Three-dimensional geometry of a SMILES string (ETKDG, then MMFF94)."""
        from atomsml.io import graph_from_smiles

        return graph_from_smiles(smiles, seed, dtype)


@dataclass(frozen=True, eq=False)
class NeighborGraph(AtomicGraph):
    """A graph that has its neighbours, for type checkers: what `with_neighbors` returns and a potential asks for."""

    edge_index: Tensor
    cell_offsets: Tensor


Graph = TypeVar("Graph", bound=AtomicGraph)


def _starts(counts: Sequence[int]) -> list[int]:
    starts, total = [], 0
    for n in counts:
        starts.append(total)
        total += n
    return starts
