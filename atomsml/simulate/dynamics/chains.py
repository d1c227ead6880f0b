"""Nose-Hoover chains: thermostats of whatever has a kinetic energy, atoms and barostats alike.

Martyna, Klein, Tuckerman, J. Chem. Phys. 97, 2635 (1992). With N degrees of freedom of kinetic energy K, the chain
eta_1, eta_2, ... of masses Q_1 = N kT tau^2 and Q_j = kT tau^2 moves by

    Q_1 eta_1'' = 2 K - N kT - Q_1 eta_1' eta_2',    Q_j eta_j'' = Q_(j-1) eta_(j-1)'^2 - kT - Q_j eta_j' eta_(j+1)'

and all velocities of those degrees decay by eta_1'. Divided by the masses, the temperature remains only in the ratio
2 K / (N kT), which is why it may change as the chain runs.
"""

from __future__ import annotations

import torch
from torch import Tensor


def at_rest(systems: Tensor, links: int) -> Tensor:
    """(systems, links) zeros, for the places and for the rates of chains that begin; `systems` has a row for each."""
    return systems.new_zeros(len(systems), links, dtype=torch.float64)


def propagate(
    place: Tensor, rate: Tensor, ratio: Tensor, freedom: Tensor, period: float, time: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Move the chains by `time`: the reversible second-order step of Martyna et al., Mol. Phys. 87, 1117 (1996).

    Args:
        place: (systems, links) eta.
        rate: (systems, links) eta'.
        ratio: (systems,) kinetic over target temperature, 2 K / (N kT), of what the chains hold.
        freedom: (systems,) its degrees of freedom N.
        period: tau, in the unit of `time`.

    Returns:
        place and rate after it, and the factor (systems,) by which the velocities of those degrees were scaled.
    """
    weights = _weights(freedom, rate.shape[1])
    rates = list(rate.unbind(dim=1))

    def push(j: int) -> None:
        source = ratio if j == 0 else weights[j - 1] * (period * rates[j - 1]).square()
        damping = torch.exp(-time / 4 * rates[j + 1]) if j + 1 < len(rates) else 1.0
        rates[j] = (rates[j] * damping + time / 2 * (source - 1) / period**2) * damping

    for j in reversed(range(len(rates))):
        push(j)
    scale = torch.exp(-time * rates[0])
    place = place + time * torch.stack(rates, dim=1)
    ratio = ratio * scale.square()
    for j in range(len(rates)):
        push(j)
    return place, torch.stack(rates, dim=1), scale


def energy(place: Tensor, rate: Tensor, freedom: Tensor, kt: Tensor | float, period: float) -> Tensor:
    """(systems,) sum of Q_j eta_j'^2 / 2 + N kT eta_1 + kT (eta_2 + ...), in the unit of `kt`."""
    weights = torch.stack(_weights(freedom, rate.shape[1]), dim=1)
    return kt * (weights * (0.5 * (period * rate).square() + place)).sum(dim=1)


def _weights(freedom: Tensor, links: int) -> list[Tensor]:
    """Q_j / (kT tau^2) of every link: N, 1, 1, ..."""
    one = torch.ones_like(freedom)
    return [freedom, *[one] * (links - 1)]
