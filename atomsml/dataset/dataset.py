"""Dataset: labelled structures, in memory or in files that are read when asked."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
import torch

from atomsml.dataset.columns import MULTIPOLES, Columns
from atomsml.dataset.labels import Found
from atomsml.graph import AtomicGraph


class Source(Protocol):
    """Where structures come from: `Columns` in memory, or `StoredColumns` in a file."""

    @property
    def num_atoms(self) -> np.ndarray: ...  # (n,) int64
    @property
    def config_types(self) -> np.ndarray: ...  # (n,) str
    @property
    def groups(self) -> np.ndarray: ...  # (n,) str
    @property
    def energy(self) -> np.ndarray: ...  # (n,) eV
    @property
    def has_forces(self) -> np.ndarray: ...  # (n,) bool
    @property
    def has_stress(self) -> np.ndarray: ...  # (n,) bool
    @property
    def content(self) -> np.ndarray: ...  # (n,) uint64
    @property
    def has_multipoles(self) -> dict[str, np.ndarray]: ...  # (n,) bool each, see Columns
    def numbers_of(self, rows: np.ndarray) -> np.ndarray: ...
    def take(self, rows: np.ndarray) -> Columns: ...


class Dataset:
    """Labelled structures, each an AtomicGraph of one system without edges, in float64.

    system_data: "energy" (1,) eV, "stress" (1, 3, 3) eV/A^3 with tension positive, "weight" (1,) of the loss;
    atom_data: "forces" (n, 3) eV/A. Where any structure has them, there are "charges" (n,) e, "dipole" (1, 3) e A and
    "quadrupole" (1, 3, 3) e A^2 as well. A label that is missing is NaN. Subsets share what they are taken from.
    `found` says which keys of which files the labels come from. A torch DataLoader reads a batch of indices at once.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        found: Sequence[Found] = (),
        source_of: np.ndarray | None = None,
        rows: np.ndarray | None = None,
        weights: np.ndarray | None = None,
    ) -> None:
        """All structures of `sources`, or those that are row `rows[i]` of source `source_of[i]`."""
        sizes = [len(source.num_atoms) for source in sources]
        self.sources = tuple(sources)
        self.found = tuple(found)
        self._source_of = np.repeat(np.arange(len(sizes)), sizes) if source_of is None else source_of
        self._rows = np.concatenate([np.arange(size) for size in sizes]) if rows is None else rows
        self._weights = np.ones(len(self._rows)) if weights is None else weights
        self.num_atoms = self._gather([source.num_atoms for source in sources]).astype(np.int64)

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, i: int) -> AtomicGraph:
        if not -len(self) <= i < len(self):
            raise IndexError(f"structure {i} of a dataset of {len(self)}")
        return self.batch(np.array([i % len(self)]))

    def __getitems__(self, indices: Sequence[int]) -> list[AtomicGraph]:
        """What a torch DataLoader calls for a batch, when it is there."""
        return self.batch(np.asarray(indices)).to_list()

    def __iter__(self) -> Iterator[AtomicGraph]:
        for start, columns in self.blocks():
            yield from _graph(columns, self._weights[start : start + len(columns)], self.multipoles).to_list()

    def batch(self, indices: np.ndarray) -> AtomicGraph:
        """These structures as one graph of many systems; quicker than one after the other."""
        return _graph(self.columns(indices), self._weights[indices], self.multipoles)

    def columns(self, indices: np.ndarray) -> Columns:
        """These structures as flat arrays, in memory."""
        source_of, rows = self._source_of[indices], self._rows[indices]
        used = np.unique(source_of)
        if len(used) <= 1:
            return self.sources[used[0] if len(used) else 0].take(rows)
        joined = Columns.concatenate([self.sources[s].take(rows[source_of == s]) for s in used])
        by_source = np.argsort(source_of, kind="stable")
        return joined.take(np.argsort(by_source))

    def blocks(self, max_atoms: int = 100_000) -> Iterator[tuple[int, Columns]]:
        """The whole dataset in order, a bounded number of atoms at a time: (index of the first structure, columns)."""
        block_of = np.cumsum(self.num_atoms) // max_atoms
        starts = np.flatnonzero(np.diff(block_of, prepend=-1))
        for start, stop in itertools.pairwise([*starts.tolist(), len(self)]):
            yield start, self.columns(np.arange(start, stop))

    def subset(self, indices: Sequence[int] | np.ndarray) -> Dataset:
        chosen = np.asarray(indices, dtype=np.int64)
        return Dataset(self.sources, self.found, self._source_of[chosen], self._rows[chosen], self._weights[chosen])

    def with_weight(self, weight: float) -> Dataset:
        """The same structures, each with this weight in the loss."""
        return Dataset(self.sources, self.found, self._source_of, self._rows, np.full(len(self), float(weight)))

    @staticmethod
    def concatenate(datasets: Sequence[Dataset]) -> Dataset:
        """One dataset after the other; weights stay."""
        first = np.cumsum([0] + [len(d.sources) for d in datasets])
        return Dataset(
            [source for d in datasets for source in d.sources],
            [found for d in datasets for found in d.found],
            np.concatenate([d._source_of + shift for d, shift in zip(datasets, first, strict=False)]),
            np.concatenate([d._rows for d in datasets]),
            np.concatenate([d._weights for d in datasets]),
        )

    @property
    def config_types(self) -> np.ndarray:
        """(n,) str, "" where none."""
        return self._gather([source.config_types for source in self.sources])

    @property
    def groups(self) -> np.ndarray:
        """(n,) str, "" where none."""
        return self._gather([source.groups for source in self.sources])

    @property
    def energy(self) -> np.ndarray:
        """(n,) eV, NaN where missing."""
        return self._gather([source.energy for source in self.sources])

    @property
    def content(self) -> np.ndarray:
        """(n,) uint64 hash of each geometry, see `geometry_hashes`; labels do not count."""
        return self._gather([source.content for source in self.sources])

    @property
    def elements(self) -> tuple[int, ...]:
        """Atomic numbers that occur, ascending."""
        return tuple(np.flatnonzero(self.element_counts()[1]).tolist())

    def element_counts(self) -> tuple[np.ndarray, np.ndarray]:
        """By atomic number: how many structures have the element, and how many atoms they have of it, (119,) each."""
        structures, atoms = np.zeros(119, dtype=np.int64), np.zeros(119, dtype=np.int64)
        for _, block in self.compositions():
            structures += (block > 0).sum(axis=0)
            atoms += block.sum(axis=0)
        return structures, atoms

    def compositions(self, size: int = 10_000) -> Iterator[tuple[int, np.ndarray]]:
        """(index of the first structure, (structures, 119) atoms of each element), some thousand structures a time."""
        for start in range(0, len(self), size):
            stop = min(start + size, len(self))
            counts = np.zeros((stop - start, 119), dtype=np.int64)
            for s in np.unique(self._source_of[start:stop]):
                mine = np.flatnonzero(self._source_of[start:stop] == s)
                structure = np.repeat(mine, self.num_atoms[start:stop][mine])
                numbers = self.sources[s].numbers_of(self._rows[start:stop][mine])
                np.add.at(counts, (structure, numbers), 1)
            yield start, counts

    def digest(self) -> bytes:
        """SHA-256 of all that a model may learn from the structures, in their order: geometries, labels and weights."""
        digest = hashlib.sha256(self._weights.tobytes())
        for _, columns in self.blocks():
            for name in ("num_atoms", "numbers", "positions", "forces", "cell", "pbc", "energy", "stress"):
                digest.update(np.ascontiguousarray(getattr(columns, name)).data)
            for name in self.multipoles:
                digest.update(np.ascontiguousarray(columns.multipole(name)).data)
        return digest.digest()

    def label_counts(self) -> dict[str, int]:
        """How many structures carry each label; charges, dipoles and quadrupoles only where there are any."""
        return {
            "energy": int((~np.isnan(self.energy)).sum()),
            "forces": int(self._gather([source.has_forces for source in self.sources]).sum()),
            "stress": int(self._gather([source.has_stress for source in self.sources]).sum()),
            **{name: int(self._has_multipole(name).sum()) for name in self.multipoles},
        }

    @property
    def multipoles(self) -> tuple[str, ...]:
        """Those of "charges", "dipole" and "quadrupole" that any structure of the sources has."""
        return tuple(name for name in MULTIPOLES if any(name in source.has_multipoles for source in self.sources))

    def _has_multipole(self, name: str) -> np.ndarray:
        """(n,) bool."""
        absent = [np.zeros(len(source.num_atoms), dtype=bool) for source in self.sources]
        return self._gather([s.has_multipoles.get(name, no) for s, no in zip(self.sources, absent, strict=True)])

    def _gather(self, of_sources: Sequence[np.ndarray]) -> np.ndarray:
        """(n,) one value for each structure, from the arrays of the sources."""
        values = np.empty(len(self), dtype=of_sources[0].dtype)
        for s, of_source in enumerate(of_sources):
            mine = self._source_of == s
            values[mine] = of_source[self._rows[mine]]
        return values


def _graph(columns: Columns, weights: np.ndarray, multipoles: Sequence[str]) -> AtomicGraph:
    found = {name: torch.as_tensor(columns.multipole(name)) for name in multipoles}
    of_atoms = {name: found.pop(name) for name in multipoles if MULTIPOLES[name][0] == "atom"}
    return AtomicGraph(
        positions=torch.as_tensor(columns.positions),
        numbers=torch.as_tensor(columns.numbers.astype(np.int64)),
        cell=torch.as_tensor(columns.cell),
        pbc=torch.as_tensor(columns.pbc),
        batch=torch.as_tensor(columns.structure_of),
        atom_data={"forces": torch.as_tensor(columns.forces), **of_atoms},
        system_data={
            "energy": torch.as_tensor(columns.energy),
            "stress": torch.as_tensor(columns.stress),
            "weight": torch.as_tensor(weights),
            **found,
        },
    )
