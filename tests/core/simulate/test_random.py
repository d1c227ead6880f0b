"""Philox against the known answers of its authors, and the distribution of what is made of it."""

import numpy as np
import pytest
import torch
from ase.build import molecule
from scipy import stats

from atomsml.codegen.checks import checked_indices
from atomsml.simulate.random import Stream, atom_normals, normals, philox, philox_anywhere, system_uniforms
from atomsml.simulate.state import State

# (counter, key, words) of philox4x32-10 in the file kat_vectors of Random123, the library of Salmon et al.
KNOWN_ANSWERS = [
    ([0, 0, 0, 0], 0, [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
    ([0xFFFFFFFF] * 4, 2**64 - 1, [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
    (
        [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
        0x299F31D0A4093822,
        [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
    ),
]


@pytest.mark.parametrize("words", [philox, philox_anywhere])
@pytest.mark.parametrize(("counter", "key", "expected"), KNOWN_ANSWERS)
def test_words_are_those_of_the_authors(words, counter, key, expected):
    with checked_indices():
        assert words(torch.tensor([counter]), key).tolist() == [expected]


def test_loops_and_torch_give_the_same_words():
    counters = torch.randint(0, 2**32, (1000, 4), generator=torch.Generator().manual_seed(0))
    for key in (0, 7, 2**63 + 12345):
        assert (philox(counters, key) == philox_anywhere(counters, key)).all()


def test_normals_are_normal_and_independent():
    place, step = torch.meshgrid(torch.arange(300), torch.arange(300), indexing="ij")
    counters = torch.stack([place, step, torch.full_like(place, 3), torch.ones_like(place)], dim=2)
    drawn = normals(counters.reshape(-1, 4), seed=5).reshape(300, 300, 4).numpy()
    assert stats.kstest(drawn.ravel(), "norm").pvalue > 1e-3
    # neighbours in place, in step and in component: of 269,100 products or more the mean scatters by 1 / sqrt(n)
    for a, b in [(drawn[1:], drawn[:-1]), (drawn[:, 1:], drawn[:, :-1]), (drawn[..., 1:], drawn[..., :-1])]:
        assert abs((a * b).mean()) < 4 / np.sqrt(a.size)
        assert abs((a**2 * b**2).mean() - 1) < 4 * np.sqrt(8 / a.size)


def test_noise_of_a_system_does_not_depend_on_the_others():
    state = State.of([molecule(name) for name in ("CH4", "H2O", "C2H6")])
    state.step = torch.tensor([4, 9, 4])
    together = atom_normals(state, 1, Stream.LANGEVIN)
    apart = [atom_normals(state.systems(torch.tensor([i])), 1, Stream.LANGEVIN) for i in (2, 1, 0)]
    assert (torch.cat(apart[::-1]) == together).all()
    assert len(together.unique()) == together.numel()
    for other in (atom_normals(state, 2, Stream.LANGEVIN), atom_normals(state, 1, Stream.VELOCITIES)):
        assert not (other == together).any()
    alone = system_uniforms(state.systems(torch.tensor([1])), 1, Stream.EXCHANGE)
    assert (system_uniforms(state, 1, Stream.EXCHANGE)[1] == alone[0]).all()
