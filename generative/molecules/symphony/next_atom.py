"""Where the next atom of a fragment goes, as probabilities and as a density in space.

    rho(x) = sum_ie p(focus i, element e) p(x - x_i | i, e)                                            per Angstrom^3

Its integral over space is 1 - p(stop). Foci without an open valence are left out, and a
stop that leaves valences open, as while molecules grow; distances to other atoms are not looked at.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from atomsml.generative.molecules.model import check_known
from atomsml.generative.molecules.molecules import Scaffold
from atomsml.generative.molecules.symphony.distribution import DistanceDistribution, PositionDistribution
from atomsml.generative.molecules.symphony.growing import Growing, check_fragment, describe
from atomsml.generative.molecules.symphony.model import Symphony

SELDOM = 1e-3  # a focus and an element below this probability are left out of the density
THIN = 1e-5  # per Angstrom: so are distances of a smaller density
POINTS_AT_ONCE = 512


@dataclass(frozen=True)
class NextAtom:
    """What may be added to a fragment."""

    model: Symphony
    fragment: Scaffold
    probabilities: np.ndarray  # (atoms, elements) of focus and element
    stop: float
    _features: torch.Tensor  # (atoms, components, channels)

    @torch.no_grad()
    def density(self, points: np.ndarray, element: int | None = None, blur: float = 0.0) -> np.ndarray:
        """(points,) per Angstrom^3 at points (points, 3), Angstrom, in the frame of the fragment.

        Args:
            element: of this one alone, a place in the model's list.
            blur: distributions of distances are at least so wide, Angstrom, for a grid to resolve them.
        """
        found = np.zeros(len(points))
        places = self.fragment.positions.detach().cpu().double().numpy()
        for focus, kind in np.argwhere(self.probabilities > SELDOM).tolist():
            if element not in (None, kind):
                continue
            x = torch.from_numpy(points - places[focus]).to(self._features)
            head = self.model.network.heads.position(self._features[focus][None], torch.tensor([kind], device=x.device))
            r = torch.linalg.vector_norm(x, dim=1).clamp(min=1e-3)
            distances = _blurred(head.distances, blur)
            radial = _repeated(distances, len(x)).log_prob(r)
            for rows in torch.nonzero(radial > np.log(THIN))[:, 0].split(POINTS_AT_ONCE):
                features = self._features[focus].expand(len(rows), -1, -1)
                p = self.model.network.heads.position(features, torch.full_like(rows, kind))
                p = PositionDistribution(_repeated(distances, len(rows)), p.directions)
                density = p.log_prob(x[rows]).exp().double().cpu().numpy()
                found[rows.cpu().numpy()] += self.probabilities[focus, kind] * density
        return found


@torch.no_grad()
def next_atom(model: Symphony, fragment: Scaffold) -> NextAtom:
    """What may be added to all the atoms of `fragment`.

    Raises:
        ValueError: an element that the model does not know, an atom with too many neighbours, or no open valence.
    """
    check_known(model, fragment.numbers)
    elements = model.config.elements
    positions = fragment.positions.detach().cpu().double().numpy()
    numbers = list(fragment.numbers)
    molecule = Growing(np.random.default_rng(0), numbers, positions, 1 not in numbers, None, True)
    check_fragment(molecule)
    features = model.network(describe(model.network, [molecule], elements))
    logits = model.network.heads.next_atom(features).double().cpu().flatten()
    p = torch.softmax(torch.cat([logits, logits.new_zeros(1)]), dim=0).numpy() * molecule.allowed(elements)
    if not molecule.may_stop():
        p[-1] = 0
    p /= p.sum()
    return NextAtom(model, fragment, p[:-1].reshape(len(numbers), -1), float(p[-1]), features)


def _blurred(distances: DistanceDistribution, blur: float) -> DistanceDistribution:
    widths = torch.sqrt(distances.widths.square() + (blur / distances.centres.exp()).square())
    return DistanceDistribution(distances.log_weights, distances.centres, widths)


def _repeated(distances: DistanceDistribution, n: int) -> DistanceDistribution:
    tables = (distances.log_weights, distances.centres, distances.widths)
    return DistanceDistribution(*(table.expand(n, -1) for table in tables))
