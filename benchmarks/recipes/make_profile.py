"""How often a set of molecules has each functional group, ring, size and element: a reference in a few kB.

    python -m benchmarks.recipes.make_profile qm9_xtb.h5 generative/molecules/metrics/profiles/qm9-xtb.json

The set is an HDF5 file with the column `smiles`. `atomsml evaluate molecules --reference qm9-xtb` compares with the
profile that comes with atomsml.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import h5py
from rdkit import Chem

from atomsml.generative.molecules.metrics.composition import profile


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("molecules", type=Path)
    parser.add_argument("output", type=Path)
    arguments = parser.parse_args()
    with h5py.File(arguments.molecules) as file:
        smiles = file["smiles"].asstr()[:]
    found = profile([Chem.MolFromSmiles(text) for text in smiles])
    arguments.output.write_text(json.dumps(found.to_json()) + "\n", encoding="utf-8")
    print(f"{found.molecules} molecules")


if __name__ == "__main__":
    main()
