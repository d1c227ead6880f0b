"""Make sets from which charges, dipoles and quadrupoles are learned (docs/properties/charges.md).

    python -m benchmarks.recipes.make_charges_set dipeptides DATA/molecules_ff/spice_dipeptides -o .
    python -m benchmarks.recipes.make_charges_set gfn2 DATA/molecules_ff/organic_xtb.h5 -o gfn2.h5

`dipeptides` writes dipeptides-train.extxyz and dipeptides-val.extxyz, with MBIS charges and quadrupoles of
wB97M-D3(BJ). Their quadrupoles are about a point 1 bohr along each axis from the centre of mass, and their positions
are centred elsewhere: point charges explain them to 1.04 e A^2 as they are, and to 0.40 e A^2 once the molecules are
moved there, which is done here.

`gfn2` draws structures of the elements of organic-xtb from an HDF5 file with arrays offsets, numbers, positions and
smiles, and computes charges and dipoles with GFN2-xTB (tblite); it takes 20 ms for each.
"""

from __future__ import annotations

import argparse
import io
import lzma
from collections.abc import Iterator
from pathlib import Path

import ase
import ase.io
import h5py
import numpy as np
from ase.units import Bohr
from tblite.exceptions import TBLiteRuntimeError
from tblite.interface import Calculator

from atomsml.io import write_atomically

ELEMENTS = (1, 6, 7, 8, 9, 16, 17, 35)  # of organic-xtb


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=("dipeptides", "gfn2"))
    parser.add_argument("source", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("-n", type=int, default=3000, help="structures of gfn2, drawn from all")
    options = parser.parse_args()
    if options.kind == "dipeptides":
        for name in ("train", "val"):
            images = list(moved(options.source / f"{name}.extxyz.xz"))
            write(options.output / f"dipeptides-{name}.extxyz", images)
    else:
        write_atomically(options.output, lambda beside: write_gfn2(beside, options.source, options.n))


def write(path: Path, images: list[ase.Atoms]) -> None:
    write_atomically(path, lambda beside: ase.io.write(beside, images, format="extxyz"))
    print(f"{path}: {len(images)} structures")


def moved(path: Path) -> Iterator[ase.Atoms]:
    """The structures of a compressed file, where their quadrupoles are about the origin."""
    text = lzma.decompress(path.read_bytes()).decode()  # ASE seeks, which is slow in a compressed file
    for atoms in ase.io.iread(io.StringIO(text), ":", format="extxyz"):
        kept = ase.Atoms(atoms.numbers, atoms.positions - atoms.get_center_of_mass() + Bohr)
        for name in ("REF_forces", "mbi_charges"):
            kept.arrays[name] = atoms.arrays[name]
        for name in ("REF_energy", "quadrupole"):
            kept.info[name] = atoms.info[name]
        yield kept


def write_gfn2(path: Path, source: Path, count: int) -> None:
    """Flat arrays, as `atomsml train` reads them."""
    rng = np.random.default_rng(0)
    with h5py.File(source) as file:
        offsets, numbers, positions, smiles = (file[name][:] for name in ("offsets", "numbers", "positions", "smiles"))
    chosen = np.sort(rng.choice(len(offsets) - 1, count, replace=False))
    found = []
    for i in chosen:
        mine = slice(offsets[i], offsets[i + 1])
        if not np.isin(numbers[mine], ELEMENTS).all():
            continue
        calculator = Calculator("GFN2-xTB", numbers[mine].astype(int), positions[mine] / Bohr)
        calculator.set("verbosity", 0)
        try:
            result = calculator.singlepoint()
        except TBLiteRuntimeError:  # not converged, as of atoms that were shaken apart
            continue
        labels = result.get("charges"), result.get("dipole") * Bohr, smiles[i]
        found.append((numbers[mine], positions[mine], *labels))
    with h5py.File(path, "w") as file:
        file["offsets"] = np.cumsum([0, *(len(each[0]) for each in found)])
        for k, name in enumerate(("numbers", "positions", "charges")):
            file[name] = np.concatenate([each[k] for each in found])
        file["dipole"] = np.stack([each[3] for each in found])
        file["smiles"] = [each[4] for each in found]
    print(f"{len(found)} of {count} structures")


if __name__ == "__main__":
    main()
