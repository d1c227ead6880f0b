from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from atomsml.generative.proteins.backbones import Backbones
from atomsml.generative.proteins.geometry import (
    C_N,
    C_N_CA,
    C_O,
    CA_C,
    CA_C_N,
    CA_C_O,
    N_CA,
    N_CA_C,
    atoms_of,
    frames_of,
    torsions,
)


def grown(phi: float, psi: float, residues: int) -> np.ndarray:
    """A chain of ideal bonds and angles, atom after atom from its torsions, omega = 180 degrees."""
    bonds = [C_N, N_CA, CA_C]
    angles, turns = [CA_C_N, C_N_CA, N_CA_C], [psi, math.pi, phi]  # of the atom that each bond leads to: N, CA, C
    points = [np.zeros(3), np.array([N_CA, 0, 0])]
    points.append(points[1] + CA_C * np.array([-math.cos(N_CA_C), math.sin(N_CA_C), 0]))
    for i in range(3 * (residues - 1)):
        a, b, c = points[-3:]
        axis = (c - b) / np.linalg.norm(c - b)
        normal = np.cross(b - a, axis)
        normal /= np.linalg.norm(normal)
        angle, turn = angles[i % 3], turns[i % 3]
        step = [-math.cos(angle), math.sin(angle) * math.cos(turn), math.sin(angle) * math.sin(turn)]
        points.append(c + bonds[i % 3] * (step[0] * axis + step[1] * np.cross(normal, axis) + step[2] * normal))
    return np.stack(points).reshape(residues, 3, 3)


@pytest.mark.parametrize(("phi", "psi"), [(-57.0, -47.0), (-120.0, 135.0), (60.0, 40.0)])
def test_frames_hold_an_ideal_chain_and_its_torsions(phi: float, psi: float) -> None:
    chain = torch.from_numpy(grown(math.radians(phi), math.radians(psi), 12))
    atoms = atoms_of(*frames_of(chain))
    torch.testing.assert_close(atoms[:, :3], chain, rtol=0, atol=1e-12)
    found = torch.rad2deg(torsions(atoms))
    torch.testing.assert_close(found[1:, 0], torch.full((11,), phi).double(), rtol=0, atol=1e-9)
    torch.testing.assert_close(found[:-1, 1], torch.full((11,), psi).double(), rtol=0, atol=1e-9)
    torch.testing.assert_close(found[:-1, 2].abs(), torch.full((11,), 180.0).double(), rtol=0, atol=1e-5)
    assert torch.isnan(found[0, 0])
    assert torch.isnan(found[-1, 1:]).all()


def test_an_alpha_helix_rises_by_one_and_a_half_angstrom_a_residue() -> None:
    """3.6 residues a turn, 5.4 A (Pauling, Corey and Branson, PNAS 37, 205, 1951); right-handed."""
    ca = grown(math.radians(-57.8), math.radians(-47.0), 37)[:, 1]
    assert np.linalg.norm(ca[36] - ca[0]) / 36 == pytest.approx(1.5, abs=0.05)
    assert np.dot(np.cross(ca[1] - ca[0], ca[2] - ca[1]), ca[36] - ca[0]) > 0


def test_oxygens_lie_in_the_plane_of_the_peptide_bond() -> None:
    atoms = atoms_of(*frames_of(torch.from_numpy(grown(math.radians(-70), math.radians(150), 6))))
    ca, c, o, following = atoms[:-1, 1], atoms[:-1, 2], atoms[:-1, 3], atoms[1:, 0]
    normal = torch.linalg.cross(ca - c, following - c)
    assert ((o - c) * normal).sum(dim=-1).abs().max() < 1e-12
    torch.testing.assert_close((o - c).norm(dim=-1), torch.full((5,), C_O).double())
    cosine = ((o - c) * (ca - c)).sum(dim=-1) / (o - c).norm(dim=-1) / (ca - c).norm(dim=-1)
    torch.testing.assert_close(torch.acos(cosine), torch.full((5,), CA_C_O).double())
    assert ((o - following).norm(dim=-1) > 2.2).all()  # trans to nothing: 2.25 A by the angle that is left


def test_batches_give_their_chains_back() -> None:
    coordinates = [grown(-1.0, -0.8, 5), grown(-2.0, 2.3, 9)]
    batch = Backbones.from_coordinates(coordinates, torch.float64)
    assert batch.sizes.tolist() == [5, 9]
    assert not batch.positions[0, 5:].any()
    assert not batch.quaternions[0, 5:].any()
    for chain, atoms in zip(batch.to_chains(), coordinates, strict=True):
        np.testing.assert_allclose(chain.coordinates[:, :3], atoms - atoms[:, 1].mean(axis=0), atol=1e-12)
