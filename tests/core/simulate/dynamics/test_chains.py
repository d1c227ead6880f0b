import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp

from atomsml.simulate.dynamics import chains

FREEDOM, PERIOD, KT, TIME = 6.0, 2.0, 0.7, 3.0


def exact(start_ratio, links):
    """place, rate and ratio of 2 K to N kT after TIME by scipy, from the equations with masses and energies."""
    masses = KT * PERIOD**2 * np.array([FREEDOM, *np.ones(links - 1)])

    def derivative(t, x):
        rate, twice_kinetic = x[links : 2 * links], x[-1]
        forces = np.array([twice_kinetic - FREEDOM * KT, *(masses[:-1] * rate[:-1] ** 2 - KT)]) / masses
        forces[:-1] -= rate[:-1] * rate[1:]
        return np.concatenate([rate, forces, [-2 * rate[0] * twice_kinetic]])

    start = np.concatenate([np.zeros(2 * links), [start_ratio * FREEDOM * KT]])
    end = solve_ivp(derivative, (0, TIME), start, method="DOP853", rtol=1e-12, atol=1e-12).y[:, -1]
    return end[:links], end[links : 2 * links], end[-1] / (FREEDOM * KT)


def propagated(start_ratio, links, steps):
    ratio, freedom = torch.tensor([start_ratio], dtype=torch.float64), torch.tensor([FREEDOM], dtype=torch.float64)
    place, rate = chains.at_rest(ratio, links), chains.at_rest(ratio, links)
    for _ in range(steps):
        place, rate, scale = chains.propagate(place, rate, ratio, freedom, PERIOD, TIME / steps)
        ratio = ratio * scale**2
    return place, rate, ratio, freedom


@pytest.mark.parametrize("links", [1, 3])
def test_a_chain_follows_its_differential_equations_to_the_square_of_the_step(links):
    place, rate, ratio = exact(2.5, links)
    errors = []
    for steps in (100, 200):
        found = propagated(2.5, links, steps)
        errors.append(abs(torch.cat([*found[:2], found[2][:, None]], dim=1)[0].numpy() - [*place, *rate, ratio]).max())
    assert errors[1] < 1e-3
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.05)


def test_what_the_kinetic_energy_loses_the_chain_has():
    drifts = []
    for steps in (100, 200):
        place, rate, ratio, freedom = propagated(2.5, 3, steps)
        kinetic = 0.5 * FREEDOM * KT * (ratio - 2.5)
        drifts.append(abs((kinetic + chains.energy(place, rate, freedom, KT, PERIOD)).item()))
    assert drifts[0] < 1e-3 * FREEDOM * KT
    assert drifts[0] / drifts[1] == pytest.approx(4, rel=0.05)


def test_backwards_it_returns():
    place, rate, ratio, freedom = propagated(2.5, 3, 50)
    rate = -rate
    for _ in range(50):
        place, rate, scale = chains.propagate(place, rate, ratio, freedom, PERIOD, TIME / 50)
        ratio = ratio * scale**2
    assert ratio.item() == pytest.approx(2.5, abs=1e-12)
    assert rate.numpy() == pytest.approx(0, abs=1e-12)
