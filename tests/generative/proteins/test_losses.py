"""Errors of predicted frames against the geometry that they are of."""

import numpy as np
import torch

from atomsml.generative.proteins.geometry import atoms_of, frames_of
from atomsml.generative.proteins.losses import FINE, peptide_error
from tests.generative.proteins.coils import grown


def test_the_error_of_peptide_bonds_is_that_of_the_distances_across_them():
    """A residue moved along the bond before it: two of the bonds change, by what the atoms say."""
    quaternions, places = frames_of(torch.from_numpy(grown(np.radians([-70.0] * 5), np.radians([140.0] * 5))))
    clean = {"rotations": quaternions[None], "positions": places[None] / 10}
    along = torch.nn.functional.normalize(places[2] - places[1], dim=-1)
    moved = places.clone()
    moved[2] += 0.3 * along
    found = {"rotations": quaternions[None], "positions": moved[None] / 10}
    free = torch.ones(1, 5, dtype=torch.bool)
    assert peptide_error(clean, clean, free).abs().max() < 1e-12

    def across(places: torch.Tensor) -> torch.Tensor:
        atoms = atoms_of(quaternions, places)
        return torch.stack([(atoms[:-1, i] - atoms[1:, j]).norm(dim=-1) for i in (1, 2) for j in (0, 1)], dim=1)

    wrong = (across(moved) - across(places)).abs()
    assert (wrong[[0, 3]] == 0).all()
    assert wrong[1].min() > FINE  # where the error counts by its absolute value
    small = wrong < FINE
    expected = torch.where(small, wrong.square() / (2 * FINE), wrong - FINE / 2).mean()
    torch.testing.assert_close(peptide_error(found, clean, free)[0], expected)
    known = free.clone()
    known[0, :3] = False  # the bonds between residues that are given do not count
    few = torch.where(small, wrong.square() / (2 * FINE), wrong - FINE / 2)[2:].mean()
    torch.testing.assert_close(peptide_error(found, clean, known)[0], few)
