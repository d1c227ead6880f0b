"""Between AtomicGraph and the atoms of ASE and pymatgen.

Arrays keep their names: `atoms.arrays` are atom_data and numeric `atoms.info` is system_data, each under its own key.
Bonds in `atoms.info`, of which every system has another number, stay behind.
The results of a calculator attached to `atoms` are never picked up, nor are constraints; strings and other objects,
which no tensor can hold, are left behind.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import ase
import numpy as np
import torch
from torch import Tensor

from atomsml.graph import AtomicGraph

if TYPE_CHECKING:
    from pymatgen.core import Molecule, Structure

# pymatgen's site properties that ASE, and so the graph, calls by another name
ASE_NAMES = {"magmom": "initial_magmoms", "charge": "initial_charges"}
PYMATGEN_NAMES = {theirs: ours for ours, theirs in ASE_NAMES.items()}


def graph_from_ase(atoms: ase.Atoms, dtype: torch.dtype = torch.float64) -> AtomicGraph:
    """Graph of one system, without a neighbour list; floating-point data get `dtype`, integers become int64."""
    extra = {name: array for name, array in atoms.arrays.items() if name not in ("numbers", "positions")}
    numbers_of_system = {name: value for name, value in atoms.info.items() if name != "bonds"}
    return AtomicGraph(
        positions=torch.tensor(atoms.positions, dtype=dtype),
        numbers=torch.tensor(atoms.numbers, dtype=torch.int64),
        cell=torch.tensor(atoms.cell.array, dtype=dtype)[None],
        pbc=torch.tensor(atoms.pbc)[None],
        batch=torch.zeros(len(atoms), dtype=torch.int64),
        atom_data=_tensors(extra, dtype),
        system_data={name: value[None] for name, value in _tensors(numbers_of_system, dtype).items()},
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
    if not independent(cell):
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


def independent(vectors: np.ndarray) -> bool:
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
