"""Ways down beside an integration of the same equation by scipy."""

import numpy as np
import pytest
from scipy.integrate import solve_ivp

from atomsml.properties.paths.irc import descend, steepest
from atomsml.properties.paths.saddle import find_saddle
from tests.core.properties.paths.mueller_brown import MINIMA, FreeMotion, answered, gradient


@pytest.fixture(scope="module")
def saddle():
    return answered(find_saddle(np.array([-0.8, 0.65, 0.0]), FreeMotion(), 1e-6, 50))[0]


class WithMasses(FreeMotion):
    masses = np.array([1.0, 4.0, 1.0])


@pytest.mark.parametrize(("sign", "end"), [(1, 0), (-1, 1)])
@pytest.mark.parametrize("motion", [FreeMotion(), WithMasses()], ids=["equal-masses", "masses"])
def test_is_the_way_of_steepest_descent(saddle, motion, sign, end):
    weights = np.sqrt(motion.masses)
    mode = np.linalg.eigh(saddle.hessian / np.outer(weights, weights))[1][:, 0]
    mode *= sign * np.sign(mode[1])  # up along y leads to the first minimum
    way, asked = answered(descend(saddle, motion, mode, 0.02, 200, 1.0))
    assert way.ended
    assert asked == pytest.approx(len(way.points), abs=1)
    assert way.points[-1][:2] == pytest.approx(MINIMA[end], abs=0.02)
    assert (np.diff(way.energies) < 0).all()

    def downhill(_, q):
        slope = gradient(q / weights) / weights
        return -slope / np.linalg.norm(slope)

    far = int(0.8 * len(way.points))  # where the way ends its direction is that of rounding errors
    lengths = way.lengths[1 : far + 1] - way.lengths[1]
    solved = solve_ivp(downhill, (0, lengths[-1]), weights * way.points[1], rtol=1e-7, atol=1e-7, t_eval=lengths)
    for point, exact in zip(way.points[1 : far + 1], solved.y.T, strict=True):
        assert np.linalg.norm(point - exact / weights) < 0.01


def test_of_a_quadratic_surface_it_is_exact():
    """Along q_1 ~ q_2^(h_1 / h_2), so far as asked, or to the minimum."""
    hessian, start = np.diag([2.0, 0.5]), np.array([1.0, 1.0])
    end = start + steepest(hessian @ start, hessian, 0.8)
    assert end[0] == pytest.approx(end[1] ** 4, rel=1e-3)
    curve = np.linspace(end[1], 1, 2000)
    assert np.hypot(np.diff(curve), np.diff(curve**4)).sum() == pytest.approx(0.8, rel=1e-3)
    assert start + steepest(hessian @ start, hessian, 5.0) == pytest.approx(0, abs=2e-3)
