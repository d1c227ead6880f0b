"""Closing chains: what comes out by bonds and angles measured here, on random coils, helices and cis bonds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms

from atomsml.generative.core.rotations import quaternion_exp, quaternion_multiply
from atomsml.generative.proteins.backbones import Backbones
from atomsml.generative.proteins.io import read_chains
from atomsml.generative.proteins.metrics.clashes import clashes
from atomsml.generative.proteins.projection import close_chains
from tests.generative.proteins.coils import coil

CLASHING = (1, 3, 5, 10, 17, 22)  # seeds
DATA = Path(__file__).parents[2] / "data" / "proteins"


def shaken(backbones: Backbones, shift: float, turn: float, seed: int = 0) -> Backbones:
    """Frames out of place by `shift` A and `turn` rad, root mean square along each axis."""
    generator = torch.Generator().manual_seed(seed)
    noise = [torch.randn(backbones.positions.shape, generator=generator, dtype=torch.float64) for _ in range(2)]
    turned = quaternion_multiply(backbones.quaternions, quaternion_exp(turn * noise[0]))
    mask = backbones.mask[..., None]
    return Backbones(mask * turned, mask * (backbones.positions + shift * noise[1]), backbones.mask)


def measured(chain: np.ndarray) -> dict[str, np.ndarray]:
    """Bonds, angles and torsions of the peptide bonds of N, CA, C, O, by ASE."""
    atoms = Atoms("NCCO" * len(chain), chain.reshape(-1, 3))
    first = 4 * np.arange(len(chain) - 1)
    ca, c, n, ca2 = first + 1, first + 2, first + 4, first + 5
    return {
        "ca_ca": np.linalg.norm(chain[1:, 1] - chain[:-1, 1], axis=1),
        "c_n": np.linalg.norm(chain[1:, 0] - chain[:-1, 2], axis=1),
        "ca_c_n": atoms.get_angles(np.stack([ca, c, n], 1)),
        "c_n_ca": atoms.get_angles(np.stack([c, n, ca2], 1)),
        "omega": atoms.get_dihedrals(np.stack([ca, c, n, ca2], 1)),
    }


def real(name: str) -> np.ndarray:
    return read_chains(DATA / name)[0].coordinates


def none_held(backbones: Backbones) -> torch.Tensor:
    return torch.zeros_like(backbones.mask)


@pytest.mark.parametrize(("shift", "turn", "bound"), [(0.1, 0.1, 0.3), (0.2, 0.2, 0.5), (0.3, 0.3, 0.8)])
def test_every_peptide_bond_is_ideal_and_the_fold_stays(shift: float, turn: float, bound: float) -> None:
    """0.3 A along each axis are 0.5 A in all, after which two of three CA-CA are out of bounds."""
    chains = [coil(40, 0), coil(64, 1), real("1aap.pdb.gz"), real("1brf.pdb.gz"), real("1guu.pdb.gz")]
    ideal = Backbones.from_coordinates(chains, torch.float64)
    drawn = shaken(ideal, shift, turn)
    closed, moved = close_chains(drawn, none_held(drawn))
    for chain in closed.to_chains():
        found = measured(chain.coordinates)
        np.testing.assert_allclose(found["ca_ca"], 3.81, atol=0.01)
        np.testing.assert_allclose(found["c_n"], 1.336, atol=1e-4)
        np.testing.assert_allclose(found["ca_c_n"], 116.6, atol=0.01)
        np.testing.assert_allclose(found["c_n_ca"], 121.7, atol=0.01)
        np.testing.assert_allclose(found["omega"], 180, atol=0.01)
    squares = ((closed.positions - drawn.positions) ** 2).sum(dim=(1, 2)) / drawn.sizes
    torch.testing.assert_close(moved, squares.sqrt())
    assert (moved > shift).all()
    assert (moved < bound).all()


def test_an_ideal_chain_stays() -> None:
    ideal = Backbones.from_coordinates([coil(64, 13)], torch.float64)  # clear of itself
    closed, moved = close_chains(ideal, none_held(ideal))
    assert moved.max() < 1e-6
    torch.testing.assert_close(closed.positions, ideal.positions, rtol=0, atol=1e-6)


def test_a_chain_does_not_depend_on_the_others_of_its_batch() -> None:
    drawn = shaken(Backbones.from_coordinates([coil(n, n) for n in (30, 64, 47)], torch.float64), 0.3, 0.3)
    together, moved = close_chains(drawn, none_held(drawn))
    for i, size in enumerate(drawn.sizes.tolist()):
        alone = Backbones(*(part[i : i + 1, :size] for part in (drawn.quaternions, drawn.positions, drawn.mask)))
        closed, way = close_chains(alone, none_held(alone))
        torch.testing.assert_close(closed.positions[0], together.positions[i, :size], rtol=0, atol=1e-9)
        torch.testing.assert_close(way[0], moved[i])
        assert not together.positions[i, size:].any()


def test_held_residues_stay_and_bonds_close_onto_their_atoms() -> None:
    """The atoms of the held ones are not ideal, as those of crystals are not; their O lies in the peptide plane."""
    ideal = Backbones.from_coordinates([coil(40, 5)], torch.float64)
    drawn = shaken(ideal, 0.2, 0.2)
    held = none_held(drawn)
    held[0, 12:20] = True
    known = Backbones(
        torch.where(held[..., None], ideal.quaternions, drawn.quaternions),
        torch.where(held[..., None], ideal.positions, drawn.positions),
        drawn.mask,
    )
    generator = torch.Generator().manual_seed(1)
    exact = torch.from_numpy(np.stack([chain.coordinates for chain in ideal.to_chains()]))
    exact += 0.03 * torch.randn(exact.shape, generator=generator, dtype=torch.float64)
    exact[:, :, 1] = ideal.positions  # a frame stands at its CA
    closed, _ = close_chains(known, held, exact)
    assert torch.equal(closed.positions[held], known.positions[held])
    assert torch.equal(closed.quaternions[held], known.quaternions[held])
    atoms = closed.to_chains()[0].coordinates
    atoms[12:20] = exact[0, 12:20]
    found = measured(atoms)
    free = np.r_[0:12, 19:39]  # bonds of which a residue at least is free
    np.testing.assert_allclose(found["c_n"][free], 1.336, atol=1e-4)
    np.testing.assert_allclose(found["ca_c_n"][free], 116.6, atol=0.02)
    np.testing.assert_allclose(found["omega"][free], 180, atol=0.02)
    c, o, following = atoms[19, 2], atoms[19, 3], atoms[20, 0]
    normal = np.cross(atoms[19, 1] - c, following - c)
    assert abs(np.dot(o - c, normal) / np.linalg.norm(normal)) < 0.05


def test_a_bond_that_is_drawn_cis_is_kept_cis() -> None:
    drawn = shaken(Backbones.from_coordinates([coil(30, 2, cis=14)], torch.float64), 0.02, 0.02)
    found = measured(close_chains(drawn, none_held(drawn))[0].to_chains()[0].coordinates)
    assert min(found["omega"][14], 360 - found["omega"][14]) < 0.01
    assert found["ca_ca"][14] == pytest.approx(2.93, abs=0.02)  # by angles that are wider than those of trans
    np.testing.assert_allclose(np.delete(found["ca_ca"], 14), 3.81, atol=0.01)


def test_clashes_are_relieved() -> None:
    """A chain that random torsions lead through itself, by the limits of the judge: CA and all other atoms."""
    drawn = Backbones.from_coordinates([coil(64, seed) for seed in CLASHING], torch.float64)
    assert all(clashes(drawn.to_chains()).failures)
    closed, moved = close_chains(drawn, none_held(drawn))
    assert clashes(closed.to_chains()).failures == ("",) * len(CLASHING)
    assert moved.max() < 1
    for chain in closed.to_chains():
        np.testing.assert_allclose(measured(chain.coordinates)["c_n"], 1.336, atol=1e-3)
