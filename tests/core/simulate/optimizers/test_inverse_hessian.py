"""The inverse Hessian of L-BFGS beside scipy's, on a CPU and as on other devices."""

import numpy as np
import pytest
import torch
from scipy.optimize import LbfgsInvHessProduct

from atomsml.simulate.optimizers.inverse_hessian import HISTORY, Pairs
from atomsml.simulate.optimizers.vector import Vector
from atomsml.testing import pretended_device


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("count", [1, 4, HISTORY, HISTORY + 3])
def test_it_is_that_of_scipy(count: int, device: str) -> None:
    """Two systems with cells as a group, and one by itself; scipy begins with 1, so that the latest s.y is y.y."""
    atoms, group = torch.tensor([2, 1, 3]), torch.tensor([0, 0, 2])
    batch = torch.repeat_interleave(atoms)
    generator = torch.Generator().manual_seed(count)
    size = 3 * 6 + 9 * 3
    root = torch.randn(size, size, dtype=torch.float64, generator=generator) / size**0.5
    of_group = torch.cat([group[batch].repeat_interleave(3), group.repeat_interleave(9)])
    hessian = (root @ root.mT + torch.eye(size)) * (of_group[:, None] == of_group)
    steps = torch.randn(count, size, dtype=torch.float64, generator=generator)
    changes = steps @ hessian
    for g in (0, 2):
        mine = of_group == g
        s, y = steps[-1, mine], changes[-1, mine]
        changes[:, mine] *= (s @ y) / (y @ y)
    vector = torch.randn(size, dtype=torch.float64, generator=generator)

    with pretended_device("cuda") as there:
        place = there if device == "cuda" else torch.device("cpu")

        def split(numbers: torch.Tensor) -> Vector:
            rows = numbers.to(place)
            return Vector(rows[:18].reshape(6, 3), rows[18:].reshape(3, 3, 3), batch.to(place), group.to(place))

        pairs = Pairs.none(split(vector))
        for s, y in zip(steps, changes, strict=True):
            pairs.learn(split(s), split(y))
        product = pairs.times(split(vector))
        found = torch.cat([product.atoms.flatten(), product.cell.flatten()]).cpu().numpy()
    for g in (0, 2):
        mine = (of_group == g).numpy()
        theirs = LbfgsInvHessProduct(steps.numpy()[-HISTORY:, mine], changes.numpy()[-HISTORY:, mine])
        expected = theirs @ vector.numpy()[mine]
        np.testing.assert_allclose(found[mine], expected, rtol=0, atol=1e-9 * np.abs(expected).max())


def test_a_step_along_which_the_energy_curves_down_counts_as_if_it_curved_up() -> None:
    x = torch.tensor([[1.0, 0.0, 0.0]], dtype=torch.float64)
    one = Vector(x, x.new_zeros(1, 0, 3), torch.zeros(1, dtype=torch.int64), torch.zeros(1, dtype=torch.int64))
    up, down, still = Pairs.none(one), Pairs.none(one), Pairs.none(one)
    up.learn(one, one.times(torch.tensor([4.0])))
    down.learn(one, one.times(torch.tensor([-4.0])))
    still.learn(one, one.like(torch.tensor([[0.0, 1.0, 0.0]], dtype=torch.float64), one.cell))
    assert up.times(one).atoms.tolist() == down.times(one).atoms.tolist() == [[0.25, 0, 0]]
    assert still.times(one).atoms.tolist() == Pairs.none(one).times(one).atoms.tolist()  # no curvature says nothing
