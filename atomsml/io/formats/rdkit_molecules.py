"""SDF, MOL, MOL2 and PDB files, record by record, by RDKit."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, TextIO

import numpy as np

from atomsml.io.formats.source import Source
from atomsml.io.molecules import atoms_from_mol, geometry_fault
from atomsml.io.records import Refused, StructureRecord, record_of

if TYPE_CHECKING:
    from rdkit.Chem import Mol

AMINO_ACIDS = "ALA ARG ASN ASP CYS GLN GLU GLY HIS ILE LEU LYS MET PHE PRO SER THR TRP TYR VAL"
PDB_CELL = ((6, 15), (15, 24), (24, 33), (33, 40), (40, 47), (47, 54))  # columns of a CRYST1 line
HAVE_HYDROGENS = frozenset(("HOH", "WAT", *AMINO_ACIDS.split()))


def read_sdf(source: Source) -> Iterator[StructureRecord | Refused]:
    """Records of an SDF file (V2000 or V3000) or the one of a MOL file; data fields are fields of the record.

    A record that is flat or lacks hydrogens is refused.
    """
    for index, mol in enumerate(sdf_mols(source)):
        reason = "is no readable SDF record; correct or remove it" if mol is None else geometry_fault(mol)
        if mol is None or reason is not None:
            yield Refused(source.name, index, reason or "")
        else:
            yield record_of(source.name, index, atoms_from_mol(mol), mol.GetPropsAsDict())


def sdf_mols(source: Source) -> Iterator[Mol | None]:
    """Mols as the records have them, not sanitised; None for a record that RDKit cannot read."""
    from rdkit import Chem
    from rdkit.rdBase import BlockLogs

    with source.open_text() as file:
        for text in sdf_texts(file):
            with BlockLogs():
                content = io.BytesIO(text.encode())
                mols = list(Chem.ForwardSDMolSupplier(content, sanitize=False, removeHs=False))
            yield mols[0] if len(mols) == 1 else None


def sdf_texts(file: TextIO) -> Iterator[str]:
    """The text of each record with an empty line before its `$$$$`, without which RDKit skips the next record."""
    lines: list[str] = []
    for line in file:
        if line.startswith("$$$$"):
            yield "".join([*lines, "\n$$$$\n"])
            lines = []
        else:
            lines.append(line if line.endswith("\n") else f"{line}\n")
    if any(line.strip() for line in lines):  # a MOL file, or the last record without an end
        yield "".join([*lines, "\n$$$$\n"])


def read_mol2(source: Source) -> Iterator[StructureRecord | Refused]:
    """Molecules of a MOL2 file; those that lack hydrogens are refused."""
    from rdkit import Chem

    def parse(text: str) -> Mol | None:
        return Chem.MolFromMol2Block(text, sanitize=False, removeHs=False)

    with source.open_text() as file:
        yield from _blocks(source, re.split(r"(?m)^(?=@<TRIPOS>MOLECULE)", file.read())[1:], parse, "MOL2")


def _blocks(
    source: Source, blocks: list[str], parse: Callable[[str], Mol | None], name: str
) -> Iterator[StructureRecord | Refused]:
    from rdkit.rdBase import BlockLogs

    for index, text in enumerate(blocks):
        with BlockLogs():
            mol = parse(text)
        reason = f"is no readable {name} molecule; correct or remove it" if mol is None else geometry_fault(mol)
        if mol is None or reason is not None:
            yield Refused(source.name, index, reason or "")
        else:
            yield record_of(source.name, index, atoms_from_mol(mol), {})


def read_pdb(source: Source) -> Iterator[StructureRecord | Refused]:
    """Models of a PDB file, with the cell of its CRYST1 line and formal charges; bonds, which PDB has in part, are not.

    Of alternative locations the first is taken. A model with amino acids or water but without hydrogens is refused.
    """
    with source.open_text() as file:
        lines = file.readlines()
    cell = next((line for line in lines if line.startswith("CRYST1")), None)
    starts = [i for i, line in enumerate(lines) if line.startswith("MODEL ")] or [0]
    for index, (start, end) in enumerate(zip(starts, [*starts[1:], len(lines)], strict=True)):
        yield _pdb_model(source, index, "".join(lines[start:end]), cell)


def _pdb_model(source: Source, index: int, text: str, cell: str | None) -> StructureRecord | Refused:
    from ase.geometry import cellpar_to_cell
    from rdkit import Chem
    from rdkit.rdBase import BlockLogs

    lines = [line for line in text.splitlines() if line.startswith(("ATOM", "HETATM"))]
    with BlockLogs():
        mol = Chem.MolFromPDBBlock("\n".join([*lines, "END", ""]), False, False, 0, False)
    if mol is None:
        return Refused(source.name, index, "is no readable PDB model; correct or remove it")
    residues = {atom.GetPDBResidueInfo().GetResidueName().strip() for atom in mol.GetAtoms()}
    if residues & HAVE_HYDROGENS and not any(atom.GetAtomicNum() == 1 for atom in mol.GetAtoms()):
        return Refused(source.name, index, "lacks hydrogens; add all of them, with positions")
    atoms = atoms_from_mol(mol)
    del atoms.info["bonds"]
    if cell is not None:
        lengths_and_angles = [float(cell[start:end]) for start, end in PDB_CELL]
        if not np.allclose(lengths_and_angles[:3], 1.0):  # 1 1 1: a molecule in no cell
            atoms.set_cell(cellpar_to_cell(lengths_and_angles))
            atoms.pbc = True
    return record_of(source.name, index, atoms, {})
