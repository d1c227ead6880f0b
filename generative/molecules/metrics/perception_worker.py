"""Bonds from positions by RDKit, in a process of its own: a script that `perception` starts, and kills when it hangs.

It reads a molecule a line, the arguments of `perceive` in JSON, and answers in a line what that finds.
"""

from __future__ import annotations

import base64
import contextlib
import json
import sys
from typing import Any

from rdkit import Chem
from rdkit.Chem import rdDetermineBonds
from rdkit.rdBase import BlockLogs

MEMORY = 4 << 30  # bytes: of some molecules RDKit tries bond orders until there is no memory left


def perceive(encoded: str, reach: float) -> dict[str, Any]:
    """What a neutral molecule is made of; atoms are bonded that are closer than `reach` covalent radii together.

    `encoded` is its atoms and positions, without bonds: RDKit's binary format, in base64.

    | key | meaning |
    |---|---|
    | reason | why there are no bonds below; "" if there are |
    | fragments | number of pieces, by distances |
    | bonds | [first atom, second atom, 1 single, 2 double, 3 triple or 4 aromatic] of each |
    | charges | formal charge of each atom |
    | smiles | canonical, without hydrogens and without stereochemistry |
    """
    binary: Any = base64.b64decode(encoded)  # RDKit's stubs take it for text
    mol = Chem.RWMol(Chem.Mol(binary))
    rdDetermineBonds.DetermineConnectivity(mol, useVdw=True, covFactor=reach)
    found = {"reason": "", "fragments": len(Chem.GetMolFrags(mol)), "bonds": [], "charges": [], "smiles": ""}
    try:
        rdDetermineBonds.DetermineBondOrders(mol, charge=0, embedChiral=False)
        Chem.SanitizeMol(mol)
    except (ValueError, RuntimeError) as error:
        return found | {"reason": f"no bond orders of a neutral molecule: {_first_sentence(error)}"}
    radicals = sum(atom.GetNumRadicalElectrons() for atom in mol.GetAtoms())
    if radicals:
        return found | {"reason": f"{radicals} unpaired electrons"}
    return found | {
        "bonds": [[bond.GetBeginAtomIdx(), bond.GetEndAtomIdx(), _order(bond)] for bond in mol.GetBonds()],
        "charges": [atom.GetFormalCharge() for atom in mol.GetAtoms()],
        "smiles": Chem.MolToSmiles(Chem.RemoveHs(mol), isomericSmiles=False),
    }


def _order(bond: Chem.Bond) -> int:
    return 4 if bond.GetIsAromatic() else round(bond.GetBondTypeAsDouble())


def _first_sentence(error: Exception) -> str:
    return str(error).strip().partition("\n")[0].partition(". ")[0]


def main() -> None:
    with contextlib.suppress(ImportError, ValueError, OSError):  # where the system sets no such limits
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    print("ready", flush=True)
    with BlockLogs():
        for line in sys.stdin:
            print(json.dumps(perceive(**json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
