"""Bonds of molecules from their positions.

Two atoms are bonded that are closer than a multiple of the sum of RDKit's covalent radii. What orders these bonds have,
and where formal charges are, `bond_orders` says.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import ase
import numpy as np

from atomsml.graph import AtomicGraph
from atomsml.io.bond_orders import STATES, TIME_LIMIT, bond_orders
from atomsml.io.molecules import bond_types, mol_from_positions

if TYPE_CHECKING:
    from rdkit.Chem import Mol, RWMol

# times the sum of their covalent radii: atoms that are closer are bonded where orders are wanted. The usual 1.3 joins
# atoms across the small rings of QM9
REACH = 1.2
CONTACT = 1.1  # times that sum: longer bonds are given up where an atom has too many


def mol_from_graph(graph: AtomicGraph, charge: int | None = None) -> Mol:
    """Mol with bonds, bond orders, formal charges and stereochemistry perceived from the positions of one open system.

    Connectivity comes from distances (REACH), orders and charges from valences (`atomsml.io.bond_orders`).
    `charge` is the total charge in e; without it system_data["charge"] counts, and failing that 0.

    Raises:
        ValueError: several systems, a periodic one, or no bond orders that fit the charge.
    """
    from rdkit import Chem
    from rdkit.rdBase import BlockLogs

    if graph.num_systems != 1:
        raise ValueError(f"one system makes one Mol, this graph has {graph.num_systems}; split it with graph.to_list()")
    if charge is None:
        charge = round(float(graph.system_data["charge"][0])) if "charge" in graph.system_data else 0
    _check_open(bool(graph.pbc.any()))
    atoms = ase.Atoms(graph.numbers.tolist(), graph.positions.detach().cpu().double().numpy())
    with BlockLogs():
        try:
            mol = with_bond_orders(mol_bonded(atoms), charge)
        except ValueError as error:
            raise ValueError(
                f"no bond orders fit these positions with total charge {charge:+d} ({error}); "
                "give the right charge or check the geometry"
            ) from error
        Chem.AssignStereochemistryFrom3D(mol, replaceExistingTags=True)
    return mol


def with_bond_orders(mol: Mol, charge: int, time_limit: float = TIME_LIMIT) -> Mol:
    """The same atoms bonded alike, with bond orders and formal charges that `bond_orders` finds; sanitised.

    All hydrogens have to be atoms. Between Kekule structures bond lengths decide, or without a conformer the present
    orders.

    Raises:
        ValueError, TimeoutError: as `bond_orders`, or what RDKit refuses.
    """
    from rdkit import Chem

    found = Chem.RWMol(mol)
    numbers, bonds = [atom.GetAtomicNum() for atom in found.GetAtoms()], list(found.GetBonds())
    pairs = [(bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()) for bond in bonds]
    lengths = [1 / bond.GetBondTypeAsDouble() for bond in bonds]
    if found.GetNumConformers():
        first, second = np.array(pairs, np.int64).reshape(-1, 2).T
        positions = found.GetConformer().GetPositions()
        lengths = np.linalg.norm(positions[first] - positions[second], axis=1).tolist()
    orders, charges = bond_orders(numbers, pairs, charge, lengths, time_limit)
    for bond, order in zip(bonds, orders.tolist(), strict=True):
        bond.SetBondType(bond_types()[order - 1])
        bond.SetIsAromatic(False)
    for atom, formal in zip(found.GetAtoms(), charges.tolist(), strict=True):
        atom.SetFormalCharge(formal)
        atom.SetIsAromatic(False)
        atom.SetNumExplicitHs(0)
        atom.SetNoImplicit(True)
    Chem.SanitizeMol(found)
    return found.GetMol()


def bond_graph(atoms: ase.Atoms, reach: float = 1.3) -> frozenset[tuple[int, int]]:
    """Bonded pairs (i, j), i < j, of an open system by the distance criterion; equal sets mean equal connectivity.

    Atoms are bonded that are closer than `reach` times the sum of their covalent radii.

    Raises:
        ValueError: a periodic system.
    """
    pairs = ((bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()) for bond in mol_joined(atoms, reach).GetBonds())
    return frozenset((min(i, j), max(i, j)) for i, j in pairs)


def mol_bonded(atoms: ase.Atoms) -> RWMol:
    """`mol_joined` within REACH, without contacts across small rings; the bonds whose orders are looked for.

    An atom with more neighbours than any valence of its element is not bonded to the farthest of them, if that is
    further than CONTACT: in bicyclo[1.1.1]pentanes bridgeheads are 1.8 A apart.
    """
    from rdkit.Chem import GetPeriodicTable

    mol = mol_joined(atoms, REACH)
    radius = [GetPeriodicTable().GetRcovalent(number) for number in atoms.numbers.tolist()]
    most = [max((state.valence for state in STATES.get(z, ())), default=len(atoms)) for z in atoms.numbers.tolist()]
    pairs = [(bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()) for bond in mol.GetBonds()]
    relative = {(i, j): atoms.get_distance(i, j) / (radius[i] + radius[j]) for i, j in pairs}
    for pair in sorted(relative, key=lambda pair: -relative[pair]):
        if relative[pair] > CONTACT and any(mol.GetAtomWithIdx(i).GetDegree() > most[i] for i in pair):
            mol.RemoveBond(*pair)
    return mol


def mol_joined(atoms: ase.Atoms, reach: float) -> RWMol:
    """Mol of an open system with a single bond for each pair of `bond_graph`, whatever the valences; not sanitised.

    Raises:
        ValueError: a periodic system.
    """
    from rdkit.Chem import rdDetermineBonds

    _check_open(bool(atoms.pbc.any()))
    mol = mol_from_positions(atoms.numbers.tolist(), atoms.positions.tolist())
    rdDetermineBonds.DetermineConnectivity(mol, useVdw=True, covFactor=reach)
    return mol


def _check_open(periodic: bool) -> None:
    if periodic:
        raise ValueError("bonds are perceived in open systems only; set pbc to False and unwrap the molecule first")
