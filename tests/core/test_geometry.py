"""Cells and coordinates against ase.geometry."""

from __future__ import annotations

import ase
import ase.geometry
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from atomsml.geometry import (
    apply_strain,
    complete_cell,
    periodic_lattice,
    to_cartesian,
    to_fractional,
    volume,
    wrap,
)

RNG = np.random.default_rng(0)
CELLS = RNG.normal(size=(6, 3, 3)) + 3 * np.eye(3)
CELLS[1] = CELLS[1][[1, 0, 2]]  # left-handed
BATCH = torch.tensor([0, 0, 1, 2, 2, 2, 4, 5])  # system 3 is empty
POSITIONS = torch.from_numpy(RNG.normal(scale=20, size=(8, 3)))


def test_volume() -> None:
    cells = np.concatenate([CELLS, np.zeros((1, 3, 3)), np.diag([2.0, 3.0, 0.0])[None]])
    expected = [ase.cell.Cell(c).volume for c in cells]
    np.testing.assert_allclose(volume(torch.from_numpy(cells)), expected, rtol=1e-13)


def test_complete_cell_keeps_full_cells() -> None:
    assert torch.equal(complete_cell(torch.from_numpy(CELLS)), torch.from_numpy(CELLS))


@settings(max_examples=100, deadline=None, derandomize=True, database=None)
@given(
    vectors=st.lists(st.sampled_from([-7.0, -1.0, 0.0, 1e-3, 2.0, 5e4]), min_size=9, max_size=9),
    given_rows=st.lists(st.booleans(), min_size=3, max_size=3),
)
def test_complete_cell_adds_orthonormal_vectors(vectors: list[float], given_rows: list[bool]) -> None:
    cell = np.array(vectors).reshape(3, 3) * np.array(given_rows)[:, None]
    is_given = cell.any(axis=1)
    if np.linalg.matrix_rank(cell) < is_given.sum():
        return  # the given vectors are not independent: there is nothing to complete to
    # beside a full cell, so that systems of one batch need not miss the same vectors
    completed = complete_cell(torch.from_numpy(np.stack([CELLS[0], cell])))[1].numpy()
    np.testing.assert_array_equal(completed[is_given], cell[is_given])
    directions = completed / np.linalg.norm(completed, axis=1, keepdims=True)
    for k in np.flatnonzero(~is_given):
        # 3 products of unit vectors, each rounded to 1e-16
        np.testing.assert_allclose(directions @ completed[k], np.eye(3)[k], atol=1e-15)
    if not is_given.all():
        assert np.linalg.det(directions) > 0
    if is_given.sum() == 2:
        np.testing.assert_allclose(completed, ase.geometry.complete_cell(cell), rtol=1e-13, atol=1e-15)


def test_complete_cell_without_vectors_is_the_identity() -> None:
    assert torch.equal(complete_cell(torch.zeros(2, 3, 3)), torch.eye(3).expand(2, 3, 3))


def test_complete_cell_without_systems() -> None:
    assert complete_cell(torch.zeros(0, 3, 3)).shape == (0, 3, 3)


def test_periodic_lattice_forgets_open_axes() -> None:
    cell = torch.tensor([[[3.0, 0, 0], [0, 4, 0], [1, 1, 1]]], dtype=torch.float64)
    lattice = periodic_lattice(cell, torch.tensor([[True, True, False]]))
    assert lattice.tolist() == [[[3, 0, 0], [0, 4, 0], [0, 0, 1]]]


def test_fractional_coordinates() -> None:
    cell = torch.from_numpy(CELLS)
    fractional = to_fractional(POSITIONS, cell, BATCH)
    for f, p, b in zip(fractional.numpy(), POSITIONS.numpy(), BATCH.tolist(), strict=True):
        np.testing.assert_allclose(f, ase.cell.Cell(CELLS[b]).scaled_positions(p[None])[0], rtol=1e-11, atol=1e-11)
    # a condition number below 1e2 times 60 A times 1e-16
    torch.testing.assert_close(to_cartesian(fractional, cell, BATCH), POSITIONS, rtol=0, atol=1e-12)


@pytest.mark.parametrize("periodic", [(1, 1, 1), (1, 1, 0), (0, 1, 1), (1, 0, 0), (0, 0, 1), (0, 0, 0)])
@pytest.mark.parametrize("zero_open_vectors", [False, True])
def test_wrap_is_that_of_ase(periodic: tuple[int, int, int], zero_open_vectors: bool) -> None:
    pbc = np.array(periodic, dtype=bool)
    cells = CELLS * pbc[:, None] if zero_open_vectors else CELLS
    cell = torch.from_numpy(cells)
    wrapped, shifts = wrap(POSITIONS, cell, torch.from_numpy(pbc).expand(6, 3), BATCH)
    assert shifts.dtype == torch.int64
    assert not shifts[:, ~pbc].any()
    for i, b in enumerate(BATCH.tolist()):
        expected = ase.geometry.wrap_positions(POSITIONS[i : i + 1].numpy(), cells[b], pbc, eps=0)
        np.testing.assert_allclose(wrapped[i : i + 1], expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(wrapped + to_cartesian(shifts.double(), cell, BATCH), POSITIONS, rtol=0, atol=1e-12)


def test_wrap_of_periodic_and_open_systems_together() -> None:
    cell = torch.stack([torch.eye(3) * 4, torch.zeros(3, 3)]).double()
    pbc = torch.tensor([[True, False, True], [False, False, False]])
    positions = torch.tensor([[9.0, 9, -1], [9, 9, -1]], dtype=torch.float64)
    wrapped, shifts = wrap(positions, cell, pbc, torch.tensor([0, 1]))
    assert wrapped.tolist() == [[1, 9, 3], [9, 9, -1]]
    assert shifts.tolist() == [[2, 0, -1], [0, 0, 0]]


def test_gradients_pass_through_wrap_unchanged() -> None:
    positions = POSITIONS.clone().requires_grad_()
    wrapped, _ = wrap(positions, torch.from_numpy(CELLS), torch.ones(6, 3, dtype=torch.bool), BATCH)
    weights = torch.arange(24.0, dtype=torch.float64).reshape(8, 3)
    (gradient,) = torch.autograd.grad((wrapped * weights).sum(), positions)
    assert torch.equal(gradient, weights)


def test_strain_moves_cell_and_atoms_alike() -> None:
    strain = torch.from_numpy(RNG.normal(scale=0.05, size=(6, 3, 3)))
    strain = strain + strain.mT
    positions, cell = apply_strain(POSITIONS, torch.from_numpy(CELLS), strain, BATCH)
    for b in range(6):
        mine = BATCH.eq(b).numpy()
        atoms = ase.Atoms(f"H{mine.sum()}", positions=POSITIONS.numpy()[mine], cell=CELLS[b])
        atoms.set_cell(CELLS[b] @ (np.eye(3) + strain[b].numpy()), scale_atoms=True)
        np.testing.assert_allclose(cell[b], atoms.cell.array, atol=1e-13)
        np.testing.assert_allclose(positions.numpy()[mine], atoms.positions, atol=1e-12)
