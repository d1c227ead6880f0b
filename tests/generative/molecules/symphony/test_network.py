"""Fragments against a slow count, features of all fragments at once against those of each alone, and turning."""

import numpy as np
import torch
from ase.build import molecule

from atomsml.generative.molecules.molecules import Molecules
from atomsml.generative.molecules.symphony.config import SymphonyConfig
from atomsml.generative.molecules.symphony.fragments import TOLERANCE, grow
from atomsml.generative.molecules.symphony.network import Fragments, SymphonyNetwork
from atomsml.o3 import wigner_d

ELEMENTS = (1, 6, 7, 8)
CONFIG = SymphonyConfig(ELEMENTS, channels=8, hidden=8, num_layers=2, readout_channels=16)


def batch(*names: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Species, numbers and positions."""
    molecules = Molecules.from_ase([molecule(name) for name in names], torch.float64)
    numbers = molecules.numbers.numpy()
    species = np.where(numbers > 0, np.searchsorted(ELEMENTS, numbers), -1)
    return species, numbers, molecules.positions.numpy()


def network() -> SymphonyNetwork:
    torch.manual_seed(0)
    return SymphonyNetwork(CONFIG).double()


def test_orders_and_candidates_are_those_of_a_slow_count():
    species, numbers, x = batch("CH3CH2OH", "C6H6", "HCN", "H2", "CH4")
    heavy_first = np.array([True, False, True, True, False])
    growth = grow(species, numbers > 1, x, heavy_first, len(ELEMENTS), np.random.default_rng(0))
    for row, size in enumerate((numbers > 0).sum(axis=1)):
        order = growth.order[row]
        assert sorted(order[:size]) == list(range(size))
        assert numbers[row, order[0]] == max(numbers[row]) or numbers[row, order[0]] > 1
        for k in range(1, size):
            there, missing = order[:k], order[k:size]
            if heavy_first[row] and (numbers[row, missing] > 1).any():
                missing = missing[numbers[row, missing] > 1]
            lengths = {
                (a, b): np.linalg.norm(x[row, i] - x[row, j])
                for a, i in enumerate(there)
                for b, j in enumerate(missing)
            }
            found = np.zeros((len(order), len(ELEMENTS)))
            near = [pair for pair, length in lengths.items() if length < min(lengths.values()) + TOLERANCE]
            for a, b in near:
                found[a, species[row, missing[b]]] += 1
            np.testing.assert_array_equal(growth.candidates[row, k - 1], found)
            assert (growth.focus[row, k - 1], list(missing).index(order[k])) in near
        assert growth.candidates[row, size - 1 :].sum() == 0


def test_orders_are_random_and_follow_the_generator():
    species, numbers, x = batch(*["C6H6"] * 20)
    draws = [grow(species, numbers > 1, x, np.ones(20, bool), 4, np.random.default_rng(s)).order for s in (0, 0, 1)]
    assert (draws[0] == draws[1]).all()
    assert (draws[0] != draws[2]).any()
    assert len(set(draws[0][:, 0])) > 3


def test_fragments_of_a_molecule_at_once_are_those_alone():
    species, numbers, x = batch("CH3CH2OH", "HCN")
    nodes, sizes = species.shape[1], (numbers > 0).sum(axis=1)
    members = np.tri(nodes, dtype=bool) & (np.arange(1, nodes + 1) <= sizes[:, None])[:, :, None]
    order = torch.tensor([True, False])
    net, z, x = network(), torch.from_numpy(species), torch.from_numpy(x)
    together = net(Fragments(z, x, torch.from_numpy(members), order))
    start = 0
    for row, size in enumerate(sizes):
        for k in range(1, size + 1):
            alone = Fragments(
                z[row : row + 1, :k], x[row : row + 1, :k], torch.ones(1, 1, k, dtype=bool), order[row : row + 1]
            )
            torch.testing.assert_close(net(alone), together[start : start + k], rtol=0, atol=1e-10)
            start += k
    assert start == len(together)


def test_distributions_turn_with_the_molecule_and_mirror_images_are_mirrored():
    species, _, x = batch("CH3CH2OH")
    rotation = torch.from_numpy(np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0])
    net, z, x = network(), torch.from_numpy(species), torch.from_numpy(x)
    members, order = torch.ones(1, 1, 9, dtype=bool), torch.tensor([True])
    u = torch.randn(9, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    proper = rotation * torch.linalg.det(rotation)
    first = net(Fragments(z, x, members, order))
    for turn in (proper, -proper):
        second = net(Fragments(z, x @ turn.T + 1.0, members, order))
        sign = torch.linalg.det(turn)
        matrix = torch.block_diag(*[sign**l * wigner_d(l, proper) for l in range(CONFIG.lmax + 1)])
        torch.testing.assert_close(second, torch.einsum("ij,njc->nic", matrix, first), rtol=0, atol=1e-9)
        p, q = (net.heads.position(h, torch.ones(9, dtype=torch.int64)) for h in (first, second))
        # on the same grid, which does not turn: its error is below 1e-5 for directions this smooth
        torch.testing.assert_close(p.log_prob(u), q.log_prob(u @ turn.T), rtol=0, atol=1e-5)
        torch.testing.assert_close(net.heads.next_atom(first), net.heads.next_atom(second), rtol=0, atol=1e-9)


def test_one_atom_has_no_direction():
    net = network()
    lone = Fragments(
        torch.tensor([[1]]), torch.zeros(1, 1, 3).double(), torch.ones(1, 1, 1, dtype=bool), torch.tensor([True])
    )
    p = net.heads.position(net(lone).expand(4, -1, -1), torch.zeros(4, dtype=torch.int64))
    u = torch.nn.functional.normalize(torch.randn(4, 3, generator=torch.Generator().manual_seed(0)).double(), dim=1)
    assert p.log_prob(u).std() < 1e-12
