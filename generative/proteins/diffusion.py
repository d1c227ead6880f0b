"""BackboneDiffusion: diffusion of frames, after FrameDiff (Yim et al., arXiv:2302.02277).

Of every residue, with t = 0 data and t = 1 noise,

    places     dx = -beta(t) x / 2 dt + sqrt(beta(t)) dw     in 10 Angstrom, about the centre: `LinearVP`
    rotations  Brownian motion, IGSO(3) of sigma(t)          `LogarithmicHeat`

(section 3 there; schedules: appendix I.1.) The network predicts clean frames; the score of a rotation is that of the
heat kernel from the predicted one, and the place stands for its own score (section 4.2). The loss is

    |x - x_0|^2 + |s - s_0|^2 / E|s_0|^2 + 1/4 atoms [t < 1/4],      s = grad log p(r_t given r)

(equation 9 and section 4.2; of places what score matching means with weights such that errors of x_0 count evenly).
Samples are drawn by the geodesic random walk (algorithm 1), with noise that may be scaled, to t = 0.01, where the last
prediction is the result.

| | here | there |
|---|---|---|
| network | that of network.py | invariant point attention and transformers, and a head for psi |
| O | placed by the N that follows | placed by psi |
| atoms of the loss | N, CA, C | with O |
"""

from __future__ import annotations

from torch import Tensor

from atomsml.generative.core.fields import Field, Fields, State
from atomsml.generative.core.processes.gaussian import LinearVP
from atomsml.generative.core.processes.geodesic import LogarithmicHeat
from atomsml.generative.core.spaces.so3 import SO3
from atomsml.generative.proteins.given import AnchoredPositions, Given
from atomsml.generative.proteins.losses import late_atom_error, place_error, rotation_score_error
from atomsml.generative.proteins.model import BackboneModel

HEAT = LogarithmicHeat()
ATOM_WEIGHT = 0.25


class BackboneDiffusion(BackboneModel):
    """The generator of the module docstring."""

    default_sampler = "random-walk"
    time_power = 1.0  # beta is largest at t = 1: long steps there are unstable

    def fields(self, given: Given, drawing: bool) -> Fields:
        return {
            "rotations": Field(SO3(), HEAT),
            "positions": Field(AnchoredPositions(given.known.any(dim=1)), LinearVP()),
        }

    def errors(self, found: State, clean: State, noisy: State, t: Tensor, free: Tensor) -> Tensor:
        rotations = rotation_score_error(found, clean, noisy, t, HEAT, free)
        return place_error(found, clean, free) + rotations + ATOM_WEIGHT * late_atom_error(found, clean, t, free)

    def as_data(self, found: State, state: State, t: Tensor) -> State:
        score = SO3().heat_score(state["rotations"], found["rotations"], HEAT.sigma(t))
        return {**found, "rotations": HEAT.denoised(SO3(), state["rotations"], score, t)}
