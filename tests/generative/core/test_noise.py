"""What a sample draws depends on its seed and its size alone."""

import numpy as np
import pytest
import torch

from atomsml.generative.core.noise import SampleNoise
from atomsml.generative.core.spaces.categorical import Categorical
from atomsml.generative.core.spaces.euclidean import CenteredPositions, Euclidean

SPACES = [CenteredPositions(), Euclidean((2,)), Euclidean(()), Categorical(5)]


@pytest.mark.parametrize("space", SPACES)
def test_independent_of_batch_padding_and_place(space):
    alone, batched = SampleNoise([7], [3], 3), SampleNoise([1, 9, 7, 2**40], [5, 2, 3, 6], 8)
    for _ in range(3):
        single, batch = alone(space), batched(space)
        assert batch.shape == (4, 8, *space.shape)
        assert torch.equal(batch[2, :3], single[0])
        assert batch[2, 3:].eq(0).all()
    assert torch.equal(batched.uniform(2)[2, :3], alone.uniform(2)[0])
    assert torch.equal(batched.of_samples()[2], alone.of_samples()[0])


def test_precision_does_not_change_the_draws():
    single, double = (SampleNoise([5], [4], 4, dtype)(Euclidean((3,))) for dtype in (torch.float32, torch.float64))
    assert single.dtype == torch.float32
    assert torch.equal(single, double.float())


def test_samples_that_do_not_draw_do_not_advance():
    noise, twin = SampleNoise([1, 2], [3, 3], 3), SampleNoise([1, 2], [3, 3], 3)
    first = noise(Euclidean(()), torch.tensor([False, True]))
    assert first[0].eq(0).all()
    assert torch.equal(first[1], twin(Euclidean(()))[1])
    assert torch.equal(noise(Euclidean(()))[0], SampleNoise([1], [3], 3)(Euclidean(()))[0])


def test_centred_noise_is_projected_normal_noise():
    """Covariance 1 - 1/n between the atoms of each coordinate, other coordinates independent."""
    x = SampleNoise(range(4000), [3] * 4000, 3, torch.float64)(CenteredPositions()).reshape(4000, 9)
    expected = np.kron(np.eye(3) - 1 / 3, np.eye(3))
    np.testing.assert_allclose(torch.cov(x.T), expected, atol=5 * (2 / 4000) ** 0.5)
    assert x.reshape(4000, 3, 3).sum(1).abs().max() < 1e-14


def test_an_empty_batch_is_a_batch():
    assert SampleNoise([], [], 4)(CenteredPositions()).shape == (0, 4, 3)


@pytest.mark.parametrize(("seeds", "sizes"), [([1], [1, 2]), ([1, 2], [1, 5])])
def test_refuses_what_does_not_fit(seeds, sizes):
    with pytest.raises(ValueError, match="do not fit 4 nodes"):
        SampleNoise(seeds, sizes, 4)
