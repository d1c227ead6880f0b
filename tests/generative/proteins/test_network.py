"""The network of frames: equivariance, padding, what is known, gradients."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from scipy.spatial.transform import Rotation
from torch import Tensor

from atomsml.generative.core.rotations import quaternion_multiply, quaternion_to_matrix
from atomsml.generative.proteins.network import FrameNetwork, FrameNetworkConfig

SIZES = torch.tensor([12, 7, 1])
SMALL = FrameNetworkConfig(
    channels=16, pair_channels=8, num_heads=2, head_channels=4, query_points=2, value_points=3, hidden=16, num_layers=2
)
Inputs = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]


def network(dtype: torch.dtype, config: FrameNetworkConfig = SMALL) -> FrameNetwork:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = FrameNetwork(config)
        for block in model.blocks:
            torch.nn.init.normal_(block.frame.weights[0])  # which are zero at the start
        return model.to(dtype)


def example(dtype: torch.dtype) -> Inputs:
    """quaternions, positions, t, mask, known, last"""
    generator = torch.Generator().manual_seed(1)
    shape = len(SIZES), int(SIZES.max())

    def normal(*last: int) -> Tensor:
        return torch.randn(*shape, *last, generator=generator, dtype=torch.float64)

    mask = torch.arange(shape[1]) < SIZES[:, None]
    known = torch.zeros_like(mask)
    known[0, 3:6] = True
    quaternions = torch.nn.functional.normalize(normal(4), dim=-1) * mask[..., None]
    times = torch.rand(shape[0], generator=generator, dtype=torch.float64)
    positions, last = normal(3) * mask[..., None], normal(3) * mask[..., None]
    return quaternions.to(dtype), positions.to(dtype), times.to(dtype), mask, known, last.to(dtype)


def turned(inputs: Inputs, turn: Tensor, shift: Tensor) -> Inputs:
    """The same frames in another coordinate system; `turn` is a quaternion."""
    quaternions, positions, t, mask, known, last = inputs
    matrix = quaternion_to_matrix(turn)
    present = mask[..., None]
    positions, last = ((x @ matrix.T + shift) * present for x in (positions, last))
    return quaternion_multiply(turn, quaternions), positions, t, mask, known, last


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-10)])
@pytest.mark.parametrize("config", [SMALL, FrameNetworkConfig()])
def test_equivariance(dtype: torch.dtype, tolerance: float, config: FrameNetworkConfig) -> None:
    model, inputs = network(dtype, config), example(dtype)
    with torch.no_grad():
        quaternions, positions = model(*inputs)
        for seed in range(5):
            turn = torch.from_numpy(Rotation.random(random_state=seed).as_quat()[[3, 0, 1, 2]]).to(dtype)
            shift = torch.randn(3, generator=torch.Generator().manual_seed(seed), dtype=dtype)
            found, moved = model(*turned(inputs, turn, shift))
            present = inputs[3][..., None]
            expected = (positions @ quaternion_to_matrix(turn).T + shift) * present
            assert (moved - expected).abs().max() < tolerance * positions.abs().max()
            assert (found - quaternion_multiply(turn, quaternions)).abs().max() < tolerance


def test_a_mirror_image_is_another_chain() -> None:
    model, (quaternions, positions, t, mask, known, last) = network(torch.float64), example(torch.float64)
    flip = torch.tensor([1.0, 1.0, -1.0], dtype=torch.float64)
    of_rotations = torch.tensor([1.0, -1.0, -1.0, 1.0], dtype=torch.float64)  # M R M of a mirror M across the xy plane
    torch.testing.assert_close(
        quaternion_to_matrix(quaternions * of_rotations)[mask],
        (torch.diag(flip) @ quaternion_to_matrix(quaternions) @ torch.diag(flip))[mask],
    )
    _, here = model(quaternions, positions, t, mask, known, last)
    _, there = model(quaternions * of_rotations, positions * flip, t, mask, known, last * flip)
    assert (there - here * flip).abs().max() > 0.05


def test_padding_and_company_change_nothing() -> None:
    model, (quaternions, positions, t, mask, known, last) = network(torch.float64), example(torch.float64)
    together = model(quaternions, positions, t, mask, known, last)
    for row, size in enumerate(SIZES.tolist()):
        one, its = slice(row, row + 1), slice(size)
        alone = model(
            quaternions[one, its], positions[one, its], t[one], mask[one, its], known[one, its], last[one, its]
        )
        for whole, part in zip(together, alone, strict=True):
            torch.testing.assert_close(whole[one, its], part, rtol=0, atol=1e-10)
            assert torch.equal(whole[one, size:], torch.zeros_like(whole[one, size:]))


def test_padding_may_hold_anything_finite() -> None:
    model, (quaternions, positions, t, mask, known, last) = network(torch.float64), example(torch.float64)
    noise = torch.randn(*mask.shape, 4, dtype=torch.float64) * ~mask[..., None]
    found = model(quaternions + noise, positions + noise[..., :3], t, mask, known, last + noise[..., :3])
    for here, there in zip(model(quaternions, positions, t, mask, known, last), found, strict=True):
        torch.testing.assert_close(there, here, rtol=0, atol=1e-10)


def test_known_residues_stay_exactly_and_guide_the_others() -> None:
    model, (quaternions, positions, t, mask, known, last) = network(torch.float32), example(torch.float32)
    found, places = model(quaternions, positions, t, mask, known, last)
    assert torch.equal(found[known], quaternions[known])
    assert torch.equal(places[known], positions[known])
    _, unaware = model(quaternions, positions, t, mask, torch.zeros_like(known), last)
    assert (places - unaware)[0][~known[0]].abs().max() > 0.01


def test_a_lone_residue_and_coinciding_ones_give_finite_numbers_and_gradients() -> None:
    model = network(torch.float32)
    mask = torch.tensor([[True, False, False], [True, True, True]])
    quaternions = torch.tensor([1.0, 0, 0, 0]).expand(2, 3, 4) * mask[..., None]
    positions = torch.zeros(2, 3, 3, requires_grad=True)
    found, places = model(quaternions, positions, torch.ones(2), mask, torch.zeros_like(mask), positions.detach())
    (found.sum() + places.square().sum()).backward()
    gradients = [positions.grad, *(parameter.grad for parameter in model.parameters())]
    assert all(gradient is not None and gradient.isfinite().all() for gradient in gradients)
    assert found.isfinite().all()
    assert places.isfinite().all()


def test_both_quaternions_of_a_rotation_give_the_same_frames() -> None:
    model, (quaternions, positions, t, mask, known, last) = network(torch.float64), example(torch.float64)
    signs = torch.where(torch.arange(quaternions.shape[1]) % 2 == 0, 1.0, -1.0)[:, None]
    here, places = model(quaternions, positions, t, mask, known, last)
    there, same = model(quaternions * signs, positions, t, mask, known, last)
    torch.testing.assert_close(same, places, rtol=0, atol=1e-12)
    torch.testing.assert_close(there, here * signs, rtol=0, atol=1e-12)
    lengths = torch.linalg.vector_norm(here, dim=-1)
    torch.testing.assert_close(lengths, mask.double(), rtol=0, atol=1e-12)


def _without_last(inputs: Inputs) -> Inputs:
    return (*inputs[:5], None)


def _at_another_time(inputs: Inputs) -> Inputs:
    return (*inputs[:2], inputs[2] / 2, *inputs[3:])


def _with_another_last(inputs: Inputs) -> Inputs:
    return (*inputs[:5], 1.5 * inputs[5])


@pytest.mark.parametrize("change", [_without_last, _at_another_time, _with_another_last])
def test_time_and_the_last_prediction_matter(change: Callable[[Inputs], Inputs]) -> None:
    model, inputs = network(torch.float64), example(torch.float64)
    assert (model(*change(inputs))[1] - model(*inputs)[1])[0].abs().max() > 1e-3


def test_the_order_along_the_chain_matters() -> None:
    model, (quaternions, positions, t, mask, _, _) = network(torch.float64), example(torch.float64)
    free = torch.zeros_like(mask)
    _, here = model(quaternions[:1], positions[:1], t[:1], mask[:1], free[:1], None)
    _, there = model(quaternions[:1].flip(1), positions[:1].flip(1), t[:1], mask[:1], free[:1], None)
    assert (there.flip(1) - here).abs().max() > 0.01


def test_gradients_by_finite_differences() -> None:
    model, (quaternions, positions, t, _, _, last) = network(torch.float64), example(torch.float64)
    mask = torch.tensor([[True, True, True, False]])
    known = torch.tensor([[False, True, False, False]])
    inputs = quaternions[:1, :4].clone().requires_grad_(), positions[:1, :4].clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda q, x: model(q, x, t[:1], mask, known, last[:1, :4]), inputs)


def test_frames_stay_at_the_start() -> None:
    inputs = example(torch.float32)
    found, places = FrameNetwork(SMALL)(*inputs)
    assert torch.equal(found, inputs[0])
    assert torch.equal(places, inputs[1])


@pytest.mark.parametrize(
    ("widths", "message"),
    [
        ({"channels": 0}, "channels must lie in 1"),
        ({"pair_channels": 20}, "pair_channels must be a multiple of 8"),
        ({"channels": 100}, "channels must be a multiple of num_heads, 8"),
    ],
)
def test_impossible_widths_are_refused(widths: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FrameNetworkConfig(**widths)


def test_samples_on_two_threads_are_those_of_one() -> None:
    model, inputs = network(torch.float64), example(torch.float64)
    quaternions, positions, t, mask, known, last = (x.repeat(80, *[1] * (x.dim() - 1)) for x in inputs)  # worth threads
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        with torch.no_grad():
            found = model(quaternions, positions, t, mask, known, last)
    finally:
        torch.set_num_threads(before)
    for whole, part in zip(found, model(*inputs), strict=True):
        torch.testing.assert_close(whole, part.repeat(80, 1, 1), rtol=0, atol=1e-10)
