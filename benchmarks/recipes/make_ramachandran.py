"""Which pairs of phi and psi are favoured, allowed and outliers, from chains of known structures.

    python -m benchmarks.recipes.make_ramachandran psicov150_pdb.tar.xz ts50_pdb.tar.xz \\
        generative/proteins/metrics/ramachandran.txt

All residues count, glycine and proline too, for generated chains have no sequence. Their density is a sum of von Mises
kernels, wide where residues are few (Abramson, Ann. Stat. 10, 1217, 1982). Cells of 5 x 5 degrees are taken from the
densest on: those that hold 98 % of the residues are favoured, the next up to 99.8 % are allowed. What is printed at the
end is how the regions of four fifths of the chains do on the fifth that they have not seen.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy.special import ive

from atomsml.generative.proteins.io.files import read_files
from atomsml.generative.proteins.metrics.geometry import phi_psi_omega
from atomsml.generative.proteins.metrics.ramachandran import ALLOWED, CELL, FAVOURED, OUTLIER, cells_of
from atomsml.io import Refused

SHARES = {FAVOURED: 0.98, ALLOWED: 0.998}
PILOT, MIDDLE, LEAST, MOST = 10.0, 3.0, 1.5, 15.0  # degrees: widths of kernels; likelihood of unseen chains chose them
FOLDS = 5


def density(angles: np.ndarray, widths: np.ndarray) -> np.ndarray:
    """(phi, psi) at the centres of the cells, of (residues, 2) angles, all in degrees, with (residues,) widths."""
    centres = np.radians(np.arange(-180, 180, CELL) + CELL / 2)
    strength = 1 / np.radians(widths)[:, None] ** 2
    kernels = [
        np.exp(strength * (np.cos(centres - np.radians(column)[:, None]) - 1)) / (2 * np.pi * ive(0, strength))
        for column in angles.T
    ]
    return np.asarray(kernels[0].T @ kernels[1] / len(angles))


def regions(angles: np.ndarray) -> np.ndarray:
    """(phi, psi) the letter of every cell."""
    cells = cells_of(angles)
    pilot = density(angles, np.full(len(angles), PILOT))[cells]
    widths = np.clip(MIDDLE * np.sqrt(np.exp(np.log(pilot).mean()) / pilot), LEAST, MOST)
    dense = density(angles, widths)
    at_residues = np.sort(dense[cells])
    letters = np.full(dense.shape, OUTLIER)
    for letter, share in reversed(SHARES.items()):
        letters[dense >= at_residues[round((1 - share) * len(angles))]] = letter
    return letters


def text_of(letters: np.ndarray) -> str:
    """psi falls from 180 degrees line by line, phi grows from -180 degrees along each."""
    return "".join("".join(row) + "\n" for row in letters.T[::-1])


def held_out(angles: Sequence[np.ndarray]) -> dict[str, float]:
    """Shares of residues of unseen chains in each region."""
    found = []
    for fold in range(FOLDS):
        seen = np.concatenate([each for i, each in enumerate(angles) if i % FOLDS != fold])
        found.append(regions(seen)[cells_of(np.concatenate(angles[fold::FOLDS]))])
    letters = np.concatenate(found)
    return {letter: float((letters == letter).mean()) for letter in (FAVOURED, ALLOWED, OUTLIER)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("chains", type=Path, nargs="+")
    parser.add_argument("output", type=Path)
    arguments = parser.parse_args()
    files = [found for found in read_files(arguments.chains) if not isinstance(found, Refused)]
    angles = [phi_psi_omega(chain)[1:-1, :2] for chains in files for chain in chains if len(chain) > 2]
    arguments.output.write_text(text_of(regions(np.concatenate(angles))), encoding="utf-8")
    print(f"{len(files)} files, {sum(map(len, angles))} residues; unseen: {held_out(angles)}")


if __name__ == "__main__":
    main()
