"""A trained MACE with a longer cutoff and the short-range core, as close as it can be to what it was."""

from __future__ import annotations

import dataclasses

import torch

from atomsml.potentials.mace import MACE
from atomsml.radial.bases import bessel_basis, polynomial_envelope

SHORTEST = 0.5  # A; below it radial functions count for nothing


def reach_further(model: MACE, cutoff: float, num_bessel: int, inner_cutoff: float) -> MACE:
    """`model` with other cutoffs (A), `num_bessel` radial functions and ZBL repulsion; to be trained on.

    Radial networks have no biases: their first layer W acts on the basis b(r). The new one is the least-squares
    solution of W' b'(r) = W b(r) up to the old cutoff and = 0 from there to the new one, so that what the network has
    learned stands, but for the repulsion and the error of the fit.
    """
    old = model.config
    core = {"inner_cutoff": inner_cutoff, "zbl": True, "scale_zbl": False}
    config = dataclasses.replace(old, cutoff=cutoff, num_bessel=num_bessel, **core)
    wider = MACE(config).to(model.dtype)
    wider.references.copy_(model.references)
    r = torch.linspace(SHORTEST, cutoff, 2000, dtype=torch.float64)
    before = _basis(r, old.cutoff, old.num_bessel, old.envelope_power) * (r < old.cutoff)[:, None]
    change = torch.linalg.lstsq(_basis(r, cutoff, num_bessel, config.envelope_power), before).solution
    weights = dict(model.state_dict())
    scale = (num_bessel / old.num_bessel) ** 0.5  # a perceptron divides its matrices by the root of their rows
    for name in [name for name in weights if name.endswith("radial.weights.0")]:
        weights[name] = scale * (change @ weights[name].double()).to(model.dtype)
    wider.load_state_dict({**wider.state_dict(), **weights})
    return wider


def _basis(r: torch.Tensor, cutoff: float, num: int, power: int) -> torch.Tensor:
    return bessel_basis(r, cutoff, num) * polynomial_envelope(r, cutoff, power)[:, None]
