"""Labelled structures: reading them, splitting them by group, and batching them by number of atoms."""

from __future__ import annotations

import hashlib
import io
import itertools
import lzma
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import h5py
import numpy as np
import torch

from atomsml.graph import AtomicGraph


def read_hdf5(path: str | Path, dtype: torch.dtype = torch.float64) -> tuple[list[AtomicGraph], list[str]]:
    """Open molecules of a flat HDF5 file: `offsets` delimits the atoms of each structure.

    Datasets: numbers (atoms,), positions and forces (atoms, 3) in A and eV/A, energy (structures,) in eV, offsets
    (structures + 1,), smiles (structures,).

    Returns:
        the labelled graphs, and the SMILES of each, by which to split.
    """
    with h5py.File(path) as file:
        offsets, energy = file["offsets"][:], file["energy"][:]
        numbers, positions, forces = file["numbers"][:], file["positions"][:], file["forces"][:]
        groups = [s.decode() for s in file["smiles"][:]]
    graphs = []
    for i, (start, stop) in enumerate(itertools.pairwise(offsets)):
        count = int(stop - start)
        graphs.append(
            AtomicGraph(
                positions=torch.as_tensor(positions[start:stop], dtype=dtype),
                numbers=torch.as_tensor(numbers[start:stop], dtype=torch.int64),
                cell=torch.zeros(1, 3, 3, dtype=dtype),
                pbc=torch.zeros(1, 3, dtype=torch.bool),
                batch=torch.zeros(count, dtype=torch.int64),
                atom_data={"forces": torch.as_tensor(forces[start:stop], dtype=dtype)},
                system_data={"energy": torch.tensor([energy[i]], dtype=dtype)},
            )
        )
    return graphs, groups


def read_extxyz(path: str | Path, dtype: torch.dtype = torch.float64) -> list[AtomicGraph]:
    """Structures of an extended XYZ file, plain or .xz, with labels REF_energy, REF_forces and REF_stress.

    A missing stress becomes NaN. Units eV, eV/A, eV/A^3; stress 3 x 3, tension positive.

    Raises:
        ValueError: a frame without REF_energy or REF_forces.
    """
    import ase.io

    # ASE seeks while it reads, which is very slow in a compressed file
    content = Path(path).read_bytes()
    text = (lzma.decompress(content) if str(path).endswith(".xz") else content).decode()
    graphs = []
    for index, atoms in enumerate(ase.io.read(io.StringIO(text), ":", format="extxyz")):
        if "REF_energy" not in atoms.info or "REF_forces" not in atoms.arrays:
            raise ValueError(f"{path}: frame {index} lacks REF_energy or REF_forces; it has {sorted(atoms.info)}")
        stress = np.array(atoms.info.get("REF_stress", np.full((3, 3), np.nan)), dtype=float).reshape(1, 3, 3)
        graphs.append(
            AtomicGraph(
                positions=torch.as_tensor(atoms.positions, dtype=dtype),
                numbers=torch.as_tensor(atoms.numbers, dtype=torch.int64),
                cell=torch.as_tensor(np.array(atoms.cell)[None], dtype=dtype),
                pbc=torch.as_tensor(atoms.pbc[None]),
                batch=torch.zeros(len(atoms), dtype=torch.int64),
                atom_data={"forces": torch.as_tensor(atoms.arrays["REF_forces"], dtype=dtype)},
                system_data={
                    "energy": torch.tensor([float(atoms.info["REF_energy"])], dtype=dtype),
                    "stress": torch.as_tensor(stress, dtype=dtype),
                },
            )
        )
    return graphs


def split_of(group: str, fractions: dict[str, float]) -> str:
    """The split to which a group of structures belongs, from a hash of its name alone.

    Reordering or extending a data set never moves a group from one split to another.
    """
    position = int.from_bytes(hashlib.sha256(group.encode()).digest()[:8], "big") / 2**64
    for name, fraction in fractions.items():
        position -= fraction
        if position < 0:
            return name
    raise ValueError(f"the fractions of a split must add up to 1, got {fractions}")


def batches(
    graphs: Sequence[AtomicGraph], max_atoms: int, generator: torch.Generator | None = None
) -> Iterator[AtomicGraph]:
    """One pass over the graphs in batches of at most `max_atoms` atoms, shuffled where a generator is given."""
    order: Iterable[int] = (
        range(len(graphs)) if generator is None else torch.randperm(len(graphs), generator=generator).tolist()
    )
    chosen: list[AtomicGraph] = []
    atoms = 0
    for i in order:
        if chosen and atoms + graphs[i].num_atoms > max_atoms:
            yield AtomicGraph.from_list(chosen)
            chosen, atoms = [], 0
        chosen.append(graphs[i])
        atoms += graphs[i].num_atoms
    if chosen:
        yield AtomicGraph.from_list(chosen)


def least_squares_references(graphs: Sequence[AtomicGraph], elements: Sequence[int]) -> torch.Tensor:
    """(elements,) energies in eV that, summed over the atoms, fit the energies of the graphs best."""
    counts = torch.stack([(g.numbers[:, None] == torch.tensor(elements)).sum(dim=0).double() for g in graphs])
    energies = torch.cat([g.system_data["energy"] for g in graphs]).double()
    return torch.linalg.lstsq(counts, energies, driver="gelsd").solution
