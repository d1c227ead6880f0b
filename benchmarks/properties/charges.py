"""Learned charges and dipoles beside labels, beside GFN2-xTB, and beside the dipoles of QM9.

    python -m benchmarks.properties.charges DATA dipeptides/model.safetensors gfn2/model.safetensors

The models are those of benchmarks/recipes/charges-dipeptides.yaml and charges-gfn2.yaml. Needs tblite; a minute.
"""

from __future__ import annotations

import argparse
import io
import lzma
from pathlib import Path

import ase
import ase.io
import numpy as np
from ase.units import Bohr, Debye
from tblite.ase import TBLite

from atomsml import AtomicGraph, predict


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("dipeptides", type=Path, help="model of wB97M-D3(BJ) charges and quadrupoles")
    parser.add_argument("gfn2", type=Path, help="model of GFN2-xTB charges and dipoles")
    options = parser.parse_args()
    for name in ("train", "val"):
        say_origins(name, read(options.data / f"molecules_ff/spice_dipeptides/{name}.extxyz.xz"))
    peptides = read(options.data / "molecules_ff/spice_dipeptides/val.extxyz.xz")
    compare("dipeptides", options.dipeptides, peptides, "MBIS charges", [mbis(a) for a in peptides])
    compare("dipeptides", options.dipeptides, peptides, "GFN2-xTB", [gfn2(a) for a in peptides])
    compare("gfn2", options.gfn2, peptides, "GFN2-xTB", [gfn2(a) for a in peptides])
    small = read(options.data / "molecules_static/qm9/qm9_first100.extxyz.xz")
    known = np.array([atoms.info["mu"] for atoms in small])
    learned = np.linalg.norm(dipoles(options.gfn2, small), axis=1) / Debye
    of_gfn2 = np.linalg.norm([gfn2(atoms) for atoms in small], axis=1) / Debye
    print(f"|dipole| of {len(small)} molecules of QM9, {known.mean():.2f} D in the mean by B3LYP:")
    for name, found, reference in (
        ("model - B3LYP", learned, known),
        ("GFN2-xTB - B3LYP", of_gfn2, known),
        ("model - GFN2-xTB", learned, of_gfn2),
    ):
        print(f"  {name}: mean {np.mean(found - reference):+.3f} D, MAE {np.abs(found - reference).mean():.3f} D")


def read(path: Path) -> list[ase.Atoms]:
    return ase.io.read(io.StringIO(lzma.decompress(path.read_bytes()).decode()), ":", format="extxyz")


def say_origins(name: str, structures: list[ase.Atoms]) -> None:
    """How well point charges explain quadrupoles, about the origin as it is and about where it belongs."""
    missed = []
    for shifted in (False, True):
        errors = []
        for atoms in structures:
            r = atoms.positions - shifted * (atoms.get_center_of_mass() - Bohr)
            moment = np.einsum("i,ia,ib->ab", atoms.arrays["mbi_charges"], r, r) - atoms.info["quadrupole"].reshape(
                3, 3
            )
            errors.append(moment - np.trace(moment) / 3 * np.eye(3))
        missed.append(np.sqrt(np.mean(np.square(errors))))
    print(f"quadrupoles of {name}: point charges miss them by {missed[0]:.2f} e A^2, moved by {missed[1]:.2f} (RMS)")


def mbis(atoms: ase.Atoms) -> np.ndarray:
    """e A, of the charges alone."""
    dipole: np.ndarray = atoms.arrays["mbi_charges"] @ atoms.positions
    return dipole


def gfn2(atoms: ase.Atoms) -> np.ndarray:
    """e A."""
    bare = ase.Atoms(atoms.numbers, atoms.positions)
    bare.calc = TBLite(method="GFN2-xTB", verbosity=0)
    dipole: np.ndarray = bare.get_dipole_moment()
    return dipole


def dipoles(model: Path, structures: list[ase.Atoms]) -> np.ndarray:
    """(structures, 3) e A."""
    graphs = [AtomicGraph.from_ase(ase.Atoms(atoms.numbers, atoms.positions)) for atoms in structures]
    return np.stack([found["dipole"][0].double().numpy() for found in predict(model, graphs)])


def compare(name: str, model: Path, structures: list[ase.Atoms], other: str, reference: list[np.ndarray]) -> None:
    found, known = dipoles(model, structures), np.stack(reference)
    angles = np.degrees(
        np.arccos(np.sum(found * known, 1) / np.linalg.norm(found, axis=1) / np.linalg.norm(known, axis=1))
    )
    print(
        f"dipoles of {len(structures)} dipeptides, {name} model beside {other}: MAE {np.abs(found - known).mean():.3f} "
        f"e A of {np.abs(known).mean():.3f}, slope {np.sum(found * known) / np.sum(known**2):.3f}, median angle "
        f"{np.median(angles):.1f} degrees"
    )


if __name__ == "__main__":
    main()
