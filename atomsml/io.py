"""Between AtomicGraph and the outside: ASE, pymatgen, and structure files.

Arrays keep their names: `atoms.arrays` are atom_data and numeric `atoms.info` is system_data, each under its own key.
The results of a calculator attached to `atoms` are never picked up, nor are constraints; strings and other objects,
which no tensor can hold, are left behind. The RDKit half is in atomsml/io_rdkit.py and is offered here as well.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ase
import ase.io
import numpy as np
import torch
from torch import Tensor

from atomsml.graph import AtomicGraph
from atomsml.io_rdkit import bond_graph as bond_graph
from atomsml.io_rdkit import graph_from_rdkit as graph_from_rdkit
from atomsml.io_rdkit import graph_from_smiles as graph_from_smiles
from atomsml.io_rdkit import mol_from_graph as mol_from_graph
from atomsml.io_rdkit import mol_from_smiles as mol_from_smiles
from atomsml.io_rdkit import parse_smiles as parse_smiles

if TYPE_CHECKING:
    from pymatgen.core import Molecule, Structure

# pymatgen's site properties that ASE, and so the graph, calls by another name
ASE_NAMES = {"magmom": "initial_magmoms", "charge": "initial_charges"}
PYMATGEN_NAMES = {theirs: ours for ours, theirs in ASE_NAMES.items()}


def graph_from_ase(atoms: ase.Atoms, dtype: torch.dtype = torch.float64) -> AtomicGraph:
    """Graph of one system, without a neighbour list; floating-point data get `dtype`, integers become int64."""
    extra = {name: array for name, array in atoms.arrays.items() if name not in ("numbers", "positions")}
    return AtomicGraph(
        positions=torch.tensor(atoms.positions, dtype=dtype),
        numbers=torch.tensor(atoms.numbers, dtype=torch.int64),
        cell=torch.tensor(atoms.cell.array, dtype=dtype)[None],
        pbc=torch.tensor(atoms.pbc)[None],
        batch=torch.zeros(len(atoms), dtype=torch.int64),
        atom_data=_tensors(extra, dtype),
        system_data={name: value[None] for name, value in _tensors(atoms.info, dtype).items()},
    )


def graph_to_ase(graph: AtomicGraph) -> ase.Atoms:
    """ASE Atoms of a graph of one system; edges are dropped.

    Raises:
        ValueError: several systems, or atom_data that would overwrite positions or numbers.
    """
    _check_single(graph)
    atoms = ase.Atoms(
        numbers=graph.numbers.cpu().numpy(),
        positions=_array(graph.positions),
        cell=_array(graph.cell[0]),
        pbc=_array(graph.pbc[0]),
    )
    for name, value in graph.atom_data.items():
        if name in ("positions", "numbers"):
            raise ValueError(f"atom_data[{name!r}] would overwrite atoms.{name}; rename it")
        atoms.set_array(name, _array(value))
    for name, value in graph.system_data.items():
        row = value[0]
        atoms.info[name] = row.item() if row.ndim == 0 else _array(row).copy()
    return atoms


def graph_from_pymatgen(structure: Structure | Molecule, dtype: torch.dtype = torch.float64) -> AtomicGraph:
    """Graph of an ordered pymatgen Structure (pbc of its lattice) or Molecule (open).

    Numeric site properties become atom_data ("magmom" and "charge" under ASE's names "initial_magmoms" and
    "initial_charges") and numeric properties system_data, with "charge" in e and, for a Molecule, "spin_multiplicity".
    Oxidation states are dropped.

    Raises:
        ValueError: a disordered or partly occupied site, or one that holds no element.
    """
    from pymatgen.core import DummySpecies, IStructure

    for i, site in enumerate(structure):
        if not site.is_ordered:
            raise ValueError(
                f"site {i} ({site.species_string}) is disordered or partly occupied; make an ordered structure first, "
                "for example with pymatgen's OrderDisorderedStructureTransformation"
            )
        if isinstance(site.specie, DummySpecies):
            raise ValueError(f"site {i} ({site.species_string}) is a dummy species; replace it by an element")
    values: dict[str, Any] = dict(structure.properties)
    values["charge"] = float(structure.charge)
    cell, pbc = np.zeros((3, 3)), (False, False, False)
    if isinstance(structure, IStructure):
        cell, pbc = structure.lattice.matrix, structure.lattice.pbc
    else:
        values["spin_multiplicity"] = structure.spin_multiplicity
    sites = {ASE_NAMES.get(name, name): value for name, value in structure.site_properties.items()}
    return AtomicGraph(
        positions=torch.tensor(structure.cart_coords.reshape(-1, 3), dtype=dtype),
        numbers=torch.tensor([site.specie.Z for site in structure], dtype=torch.int64),
        cell=torch.tensor(cell, dtype=dtype)[None],
        pbc=torch.tensor(pbc)[None],
        batch=torch.zeros(len(structure), dtype=torch.int64),
        atom_data=_tensors(sites, dtype),
        system_data={name: value[None] for name, value in _tensors(values, dtype).items()},
    )


def graph_to_pymatgen(graph: AtomicGraph) -> Structure | Molecule:
    """Structure of one system that is periodic along any axis; of an open one, a Molecule (without its cell).

    Raises:
        ValueError: several systems, or a periodic one whose cell has no volume.
    """
    from pymatgen.core import Lattice, Molecule, Structure

    _check_single(graph)
    sites = {PYMATGEN_NAMES.get(name, name): value.tolist() for name, value in graph.atom_data.items()}
    values: dict[str, Any] = {name: value[0].tolist() for name, value in graph.system_data.items()}
    charge = values.pop("charge", None)
    species, positions = graph.numbers.tolist(), _array(graph.positions)
    if not graph.pbc.any():
        multiplicity = values.pop("spin_multiplicity", None)
        return Molecule(species, positions, charge or 0.0, multiplicity, site_properties=sites, properties=values)
    cell = _array(graph.cell[0])
    if not _independent(cell):
        raise ValueError("a pymatgen Structure needs three independent cell vectors; give open axes some vacuum")
    pbc = tuple(graph.pbc[0].tolist())
    return Structure(
        Lattice(cell, pbc=pbc),
        species,
        positions,
        charge=charge,
        coords_are_cartesian=True,
        site_properties=sites,
        properties=values,
    )


def atoms_from_smiles(smiles: str, seed: int = 0) -> ase.Atoms:
    """ASE Atoms of a SMILES string, embedded and relaxed as by `mol_from_smiles`, with its errors."""
    return graph_to_ase(graph_from_smiles(smiles, seed))


@dataclass(frozen=True)
class StructureRecord:
    """One structure of the input, and where it came from."""

    file: str  # path, or the SMILES string
    index: int  # frame within the file
    atoms: ase.Atoms


def read_structures(inputs: Sequence[str]) -> list[StructureRecord]:
    """All frames of all inputs, in order: paths of any format ASE reads, or SMILES strings where no such file exists.

    Raises:
        FileNotFoundError: an input that is neither a file nor a SMILES string.
        ValueError: a file that cannot be read or holds no structure, or a structure that `check_structure` refuses.
    """
    for text in inputs:  # find missing files before reading the first
        if not os.path.exists(text):
            _require_smiles(text)
    records = [record for text in inputs for record in _read(text)]
    for record in records:
        check_structure(record.atoms, f"{record.file}, frame {record.index}")
    return records


def check_structure(atoms: ase.Atoms, where: str) -> None:
    """Refuse a structure that has no energy: `where` names it in the message.

    Raises:
        ValueError: no atoms, an unknown element, partly occupied sites, a position or cell vector that is not finite,
            or periodic axes without independent cell vectors.
    """
    if len(atoms) == 0:
        raise ValueError(f"{where}: has no atoms; remove it from the input")
    unknown = np.flatnonzero(atoms.numbers <= 0)
    if len(unknown):
        raise ValueError(f"{where}: atom {unknown[0]} is of no known element (X); give it one")
    occupancy = atoms.info.get("occupancy")  # ASE's CIF reader keeps the major species and notes the rest here
    if isinstance(occupancy, dict) and any(part < 0.999 for site in occupancy.values() for part in site.values()):
        raise ValueError(f"{where}: has partly occupied sites; make an ordered structure first")
    broken = np.flatnonzero(~np.isfinite(atoms.positions).all(axis=1))
    if len(broken):
        raise ValueError(f"{where}: the position of atom {broken[0]} is not finite; correct it")
    if not np.isfinite(atoms.cell.array).all():
        raise ValueError(f"{where}: the cell is not finite; correct it")
    if not _independent(atoms.cell.array[atoms.pbc]):
        raise ValueError(
            f"{where}: periodic, but its cell is singular; give independent cell vectors or set pbc to False"
        )


def write_atomically(path: str | Path, write: Callable[[Path], object]) -> None:
    """Call `write` with a path beside `path` and rename what it wrote: `path` is complete or untouched.

    The temporary file has the final name, in a hidden folder of its own, because formats are chosen by name. Parent
    folders are made.

    Raises:
        OSError: a folder that cannot be made or written to, a path that is not that of a file, or a full disk.
        Whatever `write` raises, after its file has been removed.
    """
    target = Path(path).resolve()  # a link stays one: what it points to is replaced
    if target.exists() and not target.is_file():
        raise OSError(f"cannot write {path}: it exists and is not a file; choose another name")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        folder = tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.")
    except OSError as error:
        reason = error.strerror or error
        raise OSError(f"cannot write {path}: {reason} in folder {target.parent}; choose another folder") from error
    with folder as name:
        temporary = Path(name) / target.name
        try:
            write(temporary)
        except OSError as error:
            if error.filename is not None or error.errno is None:
                raise
            # of a full disk the system does not say which file
            raise OSError(f"cannot write {path}: {error.strerror}; make room, or choose another folder") from error
        os.replace(temporary, target)


def _require_smiles(text: str) -> None:
    try:
        parse_smiles(text)
    except ValueError as error:
        raise FileNotFoundError(f"no file {text!r}, check the path; nor a molecule: {error}") from error


def _read(text: str) -> list[StructureRecord]:
    if not os.path.exists(text):
        return [StructureRecord(text, 0, atoms_from_smiles(text))]
    try:
        frames = ase.io.read(text, index=":", do_not_split_by_at_sign=True)
    except Exception as error:  # ASE's readers raise anything, from KeyError to AssertionError
        reason = ": ".join([type(error).__name__, *str(error).strip().splitlines()[:1]])
        raise ValueError(
            f"{text}: cannot be read ({reason}); check that it is complete and of a format ASE reads"
        ) from error
    if not frames:
        raise ValueError(f"{text}: holds no structure; check that it is complete")
    return [StructureRecord(text, index, atoms) for index, atoms in enumerate(frames)]


def _independent(vectors: np.ndarray) -> bool:
    """Whether vectors (n, 3) are linearly independent, whatever their lengths."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    if not lengths.all():
        return False
    # the tolerance is an angle: a millionth of a radian between two vectors is no cell
    return int(np.linalg.matrix_rank(vectors / lengths, tol=1e-6)) == len(vectors)


def _tensors(values: Mapping[str, Any], dtype: torch.dtype) -> dict[str, Tensor]:
    """Those values that are numbers or arrays of numbers, as tensors of their own."""
    tensors = {}
    for name, value in values.items():
        try:
            array = np.asarray(value)
        except ValueError:  # a ragged list
            continue
        if array.dtype.kind == "f":
            tensors[name] = torch.tensor(array.astype(np.float64), dtype=dtype)
        elif array.dtype.kind in "iu":
            tensors[name] = torch.tensor(array.astype(np.int64))
        elif array.dtype.kind == "b":
            tensors[name] = torch.tensor(array)
    return tensors


def _array(value: Tensor) -> np.ndarray:
    return value.detach().cpu().numpy()


def _check_single(graph: AtomicGraph) -> None:
    if graph.num_systems != 1:
        raise ValueError(f"this graph has {graph.num_systems} systems; split it with graph.to_list() first")
