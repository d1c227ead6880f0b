"""Where the next atom of a fragment goes, as probabilities and as a density in space.

    rho(x) = sum_ie p(focus i, element e) p(x - x_i | i, e)                                            per Angstrom^3

Its integral over space is 1 - p(stop). Foci without an open valence are left out, and a
stop that leaves valences open, as while molecules grow; distances to other atoms are not looked at.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from atomsml.generative.molecules.model import check_known
from atomsml.generative.molecules.molecules import Scaffold
from atomsml.generative.molecules.symphony.distribution import DirectionDistribution, DistanceDistribution
from atomsml.generative.molecules.symphony.growing import Growing, check_fragment, describe
from atomsml.generative.molecules.symphony.model import Symphony

SELDOM = 1e-3  # a focus and an element below this probability are left out of the density
THIN = 1e-5  # per Angstrom: so are distances of a smaller density
POINTS_AT_ONCE = 4096
RADIUS_STEP = 0.002  # Angstrom: 0.2 % of the density of an embedded model is then elsewhere


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
            near = torch.nonzero(radial > np.log(THIN))[:, 0]
            for rows, angular in self._angular(focus, kind, x[near], r[near]):
                density = torch.exp(radial[near[rows]] + angular - 2 * torch.log(r[near[rows]]))
                found[near[rows].cpu().numpy()] += self.probabilities[focus, kind] * density.double().cpu().numpy()
        return found

    def _angular(
        self, focus: int, kind: int, x: torch.Tensor, r: torch.Tensor
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Places of points at x (n, 3) and distances r (n,) from a focus, and there log p(u | r): by linear
        interpolation between a few hundred distances, as every one asks the network and integrates over a sphere.
        """
        if len(r) == 0:
            return
        radii = torch.arange(float(r.min()), float(r.max()) + 2 * RADIUS_STEP, RADIUS_STEP).to(r)
        features = self._features[focus].expand(len(radii), -1, -1)
        kinds = torch.full((len(radii),), kind, device=r.device)
        table = self.model.network.heads.position(features, kinds).directions(radii)
        log_normaliser = table.log_normaliser()
        for rows in torch.arange(len(r), device=r.device).split(POINTS_AT_ONCE):
            place = (r[rows] - radii[0]) / RADIUS_STEP
            low, share = place.long(), place.frac()
            coefficients = torch.lerp(table.coefficients[low], table.coefficients[low + 1], share[:, None, None])
            here = DirectionDistribution(coefficients, table.latitudes)
            log_z = torch.lerp(log_normaliser[low], log_normaliser[low + 1], share)
            yield rows, here.log_weight(x[rows] / r[rows, None]) - log_z


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
