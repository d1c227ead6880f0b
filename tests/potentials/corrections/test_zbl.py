"""The ZBL repulsion against values recorded from mace-torch 0.3.16 and its own limits."""

import numpy as np
import pytest
import torch
from ase.data import covalent_radii

from atomsml.potentials.corrections.zbl import lammps_zbl_energy, zbl_energy
from atomsml.radial.bases import polynomial_envelope

# Z of sender and receiver, r in Å, energy of the directed edge in eV for power 5 and 6 (ZBLBasis, float64)
RECORDED = [
    (1, 1, 0.1, 33.756166451046674, 33.80189590008244),
    (1, 6, 0.5, 2.875280066242767, 3.122238729324278),
    (6, 6, 1.0, 0.29101331551066323, 0.358094768810391),
    (6, 8, 1.3, 0.0029636241701579023, 0.004446802597875171),
    (8, 14, 0.7, 5.166095934422857, 5.421440393930764),
    (26, 26, 2.0, 0.0020978024253332276, 0.0027846505361497917),
    (26, 1, 1.2, 0.03778672374307761, 0.04933725016628586),
    (74, 74, 1.5, 0.06509467788401725, 0.07052259139804486),
    (74, 8, 3.0, 0.0, 0.0),
    (14, 26, 2.4, 1.089311518105133e-07, 1.7268008242648828e-07),
]


def _columns() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    z_sender, z_receiver, r = zip(*(row[:3] for row in RECORDED), strict=True)
    return torch.tensor(r, dtype=torch.float64), torch.tensor(z_sender), torch.tensor(z_receiver)


@pytest.mark.parametrize("power", [5, 6])
def test_equal_to_mace(power: int) -> None:
    expected = [row[power - 2] for row in RECORDED]
    # mace sums the envelope as printed: its terms of some tens cancel, which leaves 1e-14 of the bare repulsion
    energies = zbl_energy(*_columns(), power, exponent=0.300, prefactor=0.4543)
    np.testing.assert_allclose(energies.numpy(), expected, rtol=1e-12, atol=1e-12)


def test_universal_screening_by_default() -> None:
    """Beside the constants that the documentation of LAMMPS gives for its pair style zbl."""
    weights, decays = np.array([0.18175, 0.50986, 0.28022, 0.02817]), np.array([3.1998, 0.94229, 0.4029, 0.20162])
    z = np.array([6, 14, 74, 6, 14])[:, None]
    other = np.array([6, 14, 74, 74, 6])[:, None]
    r = np.linspace(0.02, 1.0, 25)
    x = r / (0.46850 / (z**0.23 + other**0.23))
    bare = 14.399645 * z * other / r * (weights * np.exp(-decays * x[..., None])).sum(-1)
    shape = torch.Size([5, 25])
    distance = torch.from_numpy(r).expand(shape)
    pair = [torch.from_numpy(each).expand(shape) for each in (z, other)]
    ours = 2 * zbl_energy(distance, *pair, power=5)
    ended = polynomial_envelope(distance, 4.0, 6).numpy()
    np.testing.assert_allclose(2 * lammps_zbl_energy(distance, *pair, 4.0, 6), bare * ended, rtol=1e-12)
    radii = torch.tensor(covalent_radii)
    envelope = polynomial_envelope(distance, radii[pair[0]] + radii[pair[1]], 5)
    # constants of four digits, and a Bohr radius of three: an error d of the length changes exp(-3.2 x) by 3.2 x d
    np.testing.assert_allclose(ours, bare * envelope.numpy(), rtol=6e-4)
    weak = 2 * zbl_energy(distance, *pair, power=5, exponent=0.300, prefactor=0.4543)
    between = r >= 0.2
    assert (ours / weak)[:3, between].min() > 2


def test_bare_coulomb_repulsion_at_short_range() -> None:
    r = torch.tensor([1e-6], dtype=torch.float64)
    energy = zbl_energy(r, torch.tensor([26]), torch.tensor([6]), 6)
    # the four weights sum to 1.00007, and e^2 / (4 pi epsilon_0) is 14.39964 eV Å
    assert 2 * energy.item() * r.item() / (26 * 6) == pytest.approx(14.39964548, rel=1e-4)


def test_symmetric_and_repulsive_up_to_the_sum_of_radii() -> None:
    cutoff = covalent_radii[14] + covalent_radii[8]
    r = torch.linspace(0.2, 2.5, 200, dtype=torch.float64, requires_grad=True)
    silicon, oxygen = torch.full((200,), 14), torch.full((200,), 8)
    energy = zbl_energy(r, silicon, oxygen, 5)
    assert torch.equal(energy, zbl_energy(r, oxygen, silicon, 5))
    (slope,) = torch.autograd.grad(energy.sum(), r)
    inside = r.detach() < cutoff
    assert (slope[inside] < 0).all()
    assert torch.equal(energy[~inside], torch.zeros_like(energy[~inside]))


def test_differentiable_twice_also_in_its_parameters() -> None:
    r, z_sender, z_receiver = _columns()
    exponent = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    prefactor = torch.tensor(0.4543, dtype=torch.float64, requires_grad=True)
    inputs = (r[1:].requires_grad_(), exponent, prefactor)

    def energy(r: torch.Tensor, exponent: torch.Tensor, prefactor: torch.Tensor) -> torch.Tensor:
        return zbl_energy(r, z_sender[1:], z_receiver[1:], 6, exponent, prefactor)

    assert torch.autograd.gradcheck(energy, inputs)
    assert torch.autograd.gradgradcheck(energy, inputs)


def test_after_inference_mode_and_without_edges() -> None:
    no_edges = torch.zeros(0, dtype=torch.int64)
    with torch.inference_mode():
        assert zbl_energy(torch.zeros(0), no_edges, no_edges, 5).shape == (0,)
    r = torch.tensor([0.5], requires_grad=True)
    (slope,) = torch.autograd.grad(zbl_energy(r, torch.tensor([1]), torch.tensor([1]), 5).sum(), r)
    assert slope.item() < 0
