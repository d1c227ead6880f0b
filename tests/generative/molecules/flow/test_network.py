"""The network of molecules: equivariance, padding, and what is known."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from scipy.stats import ortho_group

from atomsml.generative.molecules.flow.network import Atoms, Guess, MoleculeNetwork

SAMPLES, NODES, TYPES = 3, 7, 4


def network(dtype: torch.dtype) -> MoleculeNetwork:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        sizes = {"channels": 16, "pair_channels": 16, "vectors": 4, "hidden": 32, "num_layers": 3}
        return MoleculeNetwork(TYPES, 1, 1, True, **sizes).to(dtype)


def example(dtype: torch.dtype) -> tuple[Atoms, torch.Tensor, torch.Tensor, Guess]:
    generator = torch.Generator().manual_seed(1)
    types = torch.randint(TYPES, (SAMPLES, NODES), generator=generator)
    mask = torch.arange(NODES) < torch.tensor([7, 5, 4])[:, None]
    known = torch.tensor([[False] * NODES, [True, True] + [False] * 5, [False] * NODES])
    links = torch.zeros(SAMPLES, NODES, NODES, 1, dtype=dtype)
    links[0, 0, 3] = links[0, 3, 0] = 1
    conditions = torch.tensor([[0.3], [torch.nan], [-1.0]], dtype=dtype)
    positions = torch.randn(SAMPLES, NODES, 3, generator=generator, dtype=dtype) * mask[..., None]
    bonds = torch.randn(SAMPLES, NODES, NODES, 5, generator=generator, dtype=dtype)
    guess = Guess(torch.randn(SAMPLES, NODES, 3, generator=generator, dtype=dtype), bonds + bonds.transpose(1, 2))
    times = torch.rand(SAMPLES, generator=generator, dtype=dtype)
    return Atoms(types, mask, known, links, conditions), positions, times, guess


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-10)])
def test_equivariance_under_rotations_reflections_and_translations(dtype: torch.dtype, tolerance: float) -> None:
    model, (atoms, x, times, guess) = network(dtype), example(dtype)
    turn = torch.from_numpy(ortho_group.rvs(3, random_state=3)).to(dtype)
    assert torch.linalg.det(turn) < 0  # a reflection among the rotations
    shift = torch.tensor([0.5, -1.0, 2.0], dtype=dtype)
    here = model(atoms, x, times, guess)
    there = model(atoms, x @ turn + shift, times, Guess(guess.positions @ turn + shift, guess.bonds))
    scale = here.positions.abs().max()
    wrong = (there.positions - shift - here.positions @ turn)[atoms.mask]
    assert wrong.abs().max() < tolerance * scale
    assert (there.bonds - here.bonds).abs().max() < tolerance * here.bonds.abs().max()


def test_equivariance_under_permutations() -> None:
    model, (atoms, x, times, guess) = network(torch.float64), example(torch.float64)
    order = torch.tensor([2, 0, 3, 1, 4, 5, 6])  # among atoms of every sample
    permuted = Atoms(
        atoms.types[:, order],
        atoms.mask[:, order],
        atoms.known[:, order],
        atoms.pairs[:, order][:, :, order],
        atoms.conditions,
    )
    here = model(atoms, x, times, guess)
    there = model(permuted, x[:, order], times, Guess(guess.positions[:, order], guess.bonds[:, order][:, :, order]))
    torch.testing.assert_close(there.positions, here.positions[:, order], rtol=0, atol=1e-10)
    torch.testing.assert_close(there.bonds, here.bonds[:, order][:, :, order], rtol=0, atol=1e-10)


def test_padding_and_company_change_nothing() -> None:
    model, (atoms, x, times, guess) = network(torch.float64), example(torch.float64)
    together = model(atoms, x, times, guess)
    for row, size in enumerate(atoms.mask.sum(dim=1).tolist()):
        alone = Atoms(
            atoms.types[row : row + 1, :size],
            atoms.mask[row : row + 1, :size],
            atoms.known[row : row + 1, :size],
            atoms.pairs[row : row + 1, :size, :size],
            atoms.conditions[row : row + 1],
        )
        said = Guess(guess.positions[row : row + 1, :size], guess.bonds[row : row + 1, :size, :size])
        single = model(alone, x[row : row + 1, :size], times[row : row + 1], said)
        torch.testing.assert_close(single.positions[0], together.positions[row, :size], rtol=0, atol=1e-10)
        torch.testing.assert_close(single.bonds[0], together.bonds[row, :size, :size], rtol=0, atol=1e-10)


def test_known_atoms_stay_and_bonds_are_symmetric() -> None:
    model, (atoms, x, times, _) = network(torch.float64), example(torch.float64)
    found = model(atoms, x, times, None)
    assert torch.equal(found.positions[atoms.known], x[atoms.known])
    assert not torch.equal(found.positions[atoms.mask & ~atoms.known], x[atoms.mask & ~atoms.known])
    torch.testing.assert_close(found.bonds, found.bonds.transpose(1, 2))


def test_what_is_told_matters() -> None:
    """Time, conditions, known bonds and the guess all change the prediction."""
    model, (atoms, x, times, guess) = network(torch.float64), example(torch.float64)
    usual = model(atoms, x, times, guess).positions
    others = (
        model(atoms, x, 0.5 * times, guess),
        model(replace(atoms, conditions=torch.full_like(atoms.conditions, torch.nan)), x, times, guess),
        model(replace(atoms, pairs=torch.zeros_like(atoms.pairs)), x, times, guess),
        model(atoms, x, times, None),
    )
    for other in others:
        assert (other.positions - usual)[0].abs().max() > 1e-6


def test_gradients_are_finite_where_atoms_meet() -> None:
    model, (atoms, x, times, guess) = network(torch.float64), example(torch.float64)
    x[:, 1] = x[:, 0]
    found = model(atoms, x, times, guess)
    (found.positions.square().sum() + found.bonds.square().sum()).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
