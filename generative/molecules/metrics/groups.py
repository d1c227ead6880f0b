"""What chemists see in a molecule: functional groups by SMARTS patterns, rings, charges, elements.

A pattern finds a group however often it occurs. Patterns may overlap where the names of chemistry do: an epoxide is an
ether, an enol ether too. Hydrogens may be atoms or implicit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from rdkit.Chem import Mol

# carbon between carbon or hydrogen and what follows, as in aldehydes and esters but not in carbamates and ureas
_ACYL = "[CX3;$(C[#6]),$([CH])]"
# nitrogen with single bonds to carbon and hydrogen alone, none of them acyl: of an amine
_AMINE = "!$(N[CX3]=[O,N,S]);!$(N[!#6;!#1]);!$(NC#N)"

GROUPS: Mapping[str, str] = {
    "alkene": "[CX3]=[CX3]",
    "alkyne": "C#C",
    "allene or ketene": "C=C=[C,O]",
    "nitrile": "C#[NX1]",
    "alcohol": "[OX2H][CX4]",
    "phenol": "[OX2H]c",
    "enol": "[OX2H][CX3]=[CX3]",
    "ether": "[OX2]([#6;!$(C=[O,N,S])])[#6;!$(C=[O,N,S])]",
    "enol ether": "[OX2;!$(OC=[O,N,S])]([#6])[CX3]=[CX3]",
    "epoxide": "[OX2]1[CX4][CX4]1",
    "oxetane": "[OX2]1[CX4][CX4][CX4]1",
    "acetal": "[CX4]([OX2;!$(OC=O)])[OX2;!$(OC=O)]",
    "aldehyde": "[CX3H1](=O)[#6]",
    "ketone": "[#6][CX3](=O)[#6]",
    "carboxylic acid": f"{_ACYL}(=O)[OX2H]",
    "ester": f"{_ACYL}(=O)[OX2][#6]",
    "carbonate": "[OX2][CX3](=O)[OX2]",
    "amide": f"{_ACYL}(=O)[NX3]",
    "carbamate": "[NX3][CX3](=O)[OX2]",
    "urea": "[NX3][CX3](=O)[NX3]",
    "primary amine": f"[NX3;H2;{_AMINE}][#6]",
    "secondary amine": f"[NX3;H1;{_AMINE}]([#6])[#6]",
    "tertiary amine": f"[NX3;H0;{_AMINE}]([#6])([#6])[#6]",
    "enamine": "[NX3;!$(N[CX3]=[O,N,S])][CX3]=[CX3]",
    "aziridine": "[NX3]1[CX4][CX4]1",
    "azetidine": "[NX3]1[CX4][CX4][CX4]1",
    "aminal": "[NX3;!$(NC=[O,N,S])][CX4][NX3;!$(NC=[O,N,S])]",
    "hemiaminal": "[NX3;!$(NC=[O,N,S])][CX4][OX2;!$(OC=O)]",
    "imine": "[CX3;!$(C[N,O,S])]=[NX2;!$(N[!#6;!#1])]",
    "amidine": "[NX3][CX3]=[NX2]",
    "imidate": "[OX2][CX3]=[NX2;!$(N[!#6;!#1])]",
    "oxime": "[CX3]=[NX2][OX2]",
    "hydrazone": "[CX3]=[NX2][NX3]",
    "hydroxylamine": "[NX3;!$(NC=O)][OX2]",
    "hydrazine": "[NX3][NX3]",
    "azo": "[NX2]=[NX2]",
    "peroxide": "[OX2][OX2]",
    "nitro": "[NX3+](=O)[O-]",
    "isocyanate": "[NX2]=C=O",
    "cyclopropane": "[CX4]1[CX4][CX4]1",
    "fluoride": "[#6]F",
    "chloride": "[#6]Cl",
    "bromide": "[#6]Br",
    "iodide": "[#6]I",
    "thiol": "[#6][SX2H]",
    "thioether": "[SX2]([#6])[#6]",
    "sulfoxide": "[#6][SX3](=O)[#6]",
    "sulfone": "[#6][SX4](=O)(=O)[#6]",
    "sulfonamide": "[SX4](=O)(=O)[NX3]",
}

LARGEST_RING = 8  # larger ones are counted together
RING_SIZES = (*(str(size) for size in range(3, LARGEST_RING + 1)), "larger")
RINGS = (
    "acyclic",
    *(f"ring of {size}" for size in RING_SIZES[:-1]),
    "larger ring",
    "aromatic ring of 5",
    "aromatic ring of 6",
)
FEATURES = (*GROUPS, *RINGS, "charged atom")  # of which a molecule has or has not each

MOST_ATOMS, MOST_RINGS = 50, 8
ELEMENTS = ("B", "C", "N", "O", "F", "Si", "P", "S", "Cl", "Se", "Br", "I")
HISTOGRAMS: Mapping[str, Sequence[str]] = {  # what molecules have several of, and its kinds
    "ring sizes": RING_SIZES,
    "rings": (*map(str, range(MOST_RINGS)), "more"),  # in a molecule
    "heavy atoms": (*map(str, range(MOST_ATOMS)), "more"),  # in a molecule
    "elements": (*ELEMENTS, "others"),
}


def features(mols: Sequence[Mol]) -> np.ndarray:
    """(molecules, FEATURES) of bool: which of them each molecule has."""
    found = np.zeros((len(mols), len(FEATURES)), dtype=bool)
    for row, mol in zip(found, mols, strict=True):
        row[: len(GROUPS)] = [mol.HasSubstructMatch(pattern) for pattern in _patterns()]
        row[len(GROUPS) :] = [*_rings(mol), any(atom.GetFormalCharge() for atom in mol.GetAtoms())]
    return found


def histogram(name: str, mols: Sequence[Mol]) -> np.ndarray:
    """(molecules, kinds) how many of each kind of HISTOGRAMS[name] a molecule has."""
    kinds = HISTOGRAMS[name]
    found = np.zeros((len(mols), len(kinds)), dtype=np.int64)
    for row, mol in zip(found, mols, strict=True):
        if name == "ring sizes":
            places = [min(len(ring) - 3, len(kinds) - 1) for ring in mol.GetRingInfo().AtomRings()]
        elif name == "rings":
            places = [min(mol.GetRingInfo().NumRings(), len(kinds) - 1)]
        elif name == "heavy atoms":
            places = [min(mol.GetNumHeavyAtoms(), len(kinds) - 1)]
        else:
            symbols = [atom.GetSymbol() for atom in mol.GetAtoms() if atom.GetAtomicNum() > 1]
            places = [kinds.index(symbol) if symbol in kinds else len(kinds) - 1 for symbol in symbols]
        np.add.at(row, places, 1)
    return found


def _rings(mol: Mol) -> list[bool]:
    """Whether a molecule has each of RINGS."""
    rings = mol.GetRingInfo().AtomRings()
    sizes = {min(len(ring), LARGEST_RING + 1) for ring in rings}
    aromatic = {len(ring) for ring in rings if all(mol.GetAtomWithIdx(atom).GetIsAromatic() for atom in ring)}
    return [not rings, *(size in sizes for size in range(3, LARGEST_RING + 2)), 5 in aromatic, 6 in aromatic]


@cache
def _patterns() -> list[Mol]:
    from rdkit import Chem

    return [Chem.MolFromSmarts(smarts) for smarts in GROUPS.values()]
