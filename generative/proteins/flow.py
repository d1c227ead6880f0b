"""BackboneFlow: flow matching on frames, after FrameFlow (Yim et al., arXiv:2310.05297).

Time runs from data, t = 0, to noise, t = 1: the other way round than there. Of every residue

    x_t = (1 - t) x_0 + t noise                          places, noise of 10 Angstrom in each coordinate
    r_t = exp(r_0, t log(r_0, noise))                    rotations, noise uniform

(equations 3 and 4 there; Chen & Lipman, arXiv:2302.03660, section 3.2.) The loss of predicted clean frames is that of
the vector fields (equations 7 and 8), whose 1 / t is bounded, with the atoms where there is little noise:

    min(2 |x - x_0|^2 / (3 u^2), 5) + |log(r_t, r) - log(r_t, r_0)|^2 / (3 u^2)
        + 1/4 atoms [t < 1/4] + 2 peptide bonds [t < 1/2],                                           u = max(t, 0.1)

Rotations are drawn with the exponential schedule, so that they are settled early (section 3.2). What differs:

| | here | there |
|---|---|---|
| noise of rotations in training | uniform, as in sampling | IGSO(3) of sigma = 1.5, then uniform |
| network | that of network.py | invariant point attention and transformers of FrameDiff |
| atoms | the loss of FrameDiff (losses.py) | none in the final configuration |
| peptide bonds | a term of their own (losses.py) | none |
| optimal transport of batches | none | described |
| sampling | places by a stochastic equation | all by the ordinary one: the sampler euler |
| steps | equal in sqrt(t): bonds close better | equal in t |
"""

from __future__ import annotations

from torch import Tensor

from atomsml.generative.core.fields import Field, Fields, State
from atomsml.generative.core.processes.gaussian import LinearInterpolant
from atomsml.generative.core.processes.geodesic import Geodesic
from atomsml.generative.core.spaces.so3 import SO3
from atomsml.generative.proteins.given import AnchoredPositions, Given
from atomsml.generative.proteins.losses import late_atom_error, peptide_error, place_error, rotation_flow_error
from atomsml.generative.proteins.model import BackboneModel

ROTATION_RATE = 10.0  # of the exponential schedule
SMALLEST_TIME = 0.1  # by which errors are divided
PLACE_WEIGHT, LARGEST_PLACE_LOSS = 2.0, 5.0
ATOM_WEIGHT = 0.25
PEPTIDE_WEIGHT, PEPTIDE_TIME = 2.0, 0.5


class BackboneFlow(BackboneModel):
    """The generator of the module docstring."""

    default_sampler = "random-walk"  # noise of places takes clashes away again
    time_power = 2.0

    def fields(self, given: Given, drawing: bool) -> Fields:
        return {
            "rotations": Field(SO3(), Geodesic(ROTATION_RATE if drawing else 0.0)),
            "positions": Field(AnchoredPositions(given.known.any(dim=1)), LinearInterpolant()),
        }

    def errors(self, found: State, clean: State, noisy: State, t: Tensor, free: Tensor) -> Tensor:
        steepness = t.clamp_min(SMALLEST_TIME).square().reciprocal() / 3
        places = (PLACE_WEIGHT * steepness * place_error(found, clean, free)).clamp_max(LARGEST_PLACE_LOSS)
        rotations = steepness * rotation_flow_error(found, clean, noisy, free)
        bonds = peptide_error(found, clean, free) * (t < PEPTIDE_TIME)
        return places + rotations + ATOM_WEIGHT * late_atom_error(found, clean, t, free) + PEPTIDE_WEIGHT * bonds

    def as_data(self, found: State, state: State, t: Tensor) -> State:
        return found
