"""Between AtomicGraph and the outside: ASE, pymatgen, RDKit, SMILES, and files."""

from atomsml.io.bonds import REACH as REACH
from atomsml.io.bonds import bond_graph as bond_graph
from atomsml.io.bonds import mol_bonded as mol_bonded
from atomsml.io.bonds import mol_from_graph as mol_from_graph
from atomsml.io.bonds import mol_joined as mol_joined
from atomsml.io.bonds import with_bond_orders as with_bond_orders
from atomsml.io.convert import graph_from_ase as graph_from_ase
from atomsml.io.convert import graph_from_pymatgen as graph_from_pymatgen
from atomsml.io.convert import graph_to_ase as graph_to_ase
from atomsml.io.convert import graph_to_pymatgen as graph_to_pymatgen
from atomsml.io.files import read as read
from atomsml.io.files import read_records as read_records
from atomsml.io.molecules import atoms_from_mol as atoms_from_mol
from atomsml.io.molecules import atoms_from_smiles as atoms_from_smiles
from atomsml.io.molecules import bonds_of_mol as bonds_of_mol
from atomsml.io.molecules import geometry_fault as geometry_fault
from atomsml.io.molecules import graph_from_rdkit as graph_from_rdkit
from atomsml.io.molecules import graph_from_smiles as graph_from_smiles
from atomsml.io.molecules import mol_from_positions as mol_from_positions
from atomsml.io.molecules import mol_from_smiles as mol_from_smiles
from atomsml.io.molecules import parse_smiles as parse_smiles
from atomsml.io.outputs import OutputSet as OutputSet
from atomsml.io.outputs import write_atomically as write_atomically
from atomsml.io.records import Refused as Refused
from atomsml.io.records import StructureRecord as StructureRecord
from atomsml.io.records import check_structure as check_structure
