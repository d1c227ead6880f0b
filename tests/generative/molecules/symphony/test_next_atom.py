"""The density of the next atom is that of the network's distribution at every point."""

from __future__ import annotations

import numpy as np
import torch
from ase.build import molecule

from atomsml.generative.molecules.modelfile import load_generator
from atomsml.generative.molecules.molecules import Scaffold
from atomsml.generative.molecules.symphony.model import Symphony
from atomsml.generative.molecules.symphony.next_atom import SELDOM, NextAtom, next_atom


def one_by_one(found: NextAtom, points: np.ndarray) -> np.ndarray:
    """The sum of the module docstring, by `PositionDistribution.log_prob`."""
    density = np.zeros(len(points))
    places = found.fragment.positions.numpy()
    with torch.no_grad():
        for focus, kind in np.argwhere(found.probabilities > SELDOM).tolist():
            features = found._features[focus].expand(len(points), -1, -1)
            distribution = found.model.network.heads.position(features, torch.full((len(points),), kind))
            x = torch.from_numpy(points - places[focus]).float()
            density += found.probabilities[focus, kind] * distribution.log_prob(x).exp().double().numpy()
    return density


def test_interpolation_between_distances_is_fine_enough() -> None:
    """Of a trained model, whose directions change with the distance as they may."""
    model = load_generator("qm9-symphony", torch.device("cpu"))
    assert isinstance(model, Symphony)
    heavy = molecule("CH3CH2OH")[:3]
    found = next_atom(model, Scaffold(tuple(heavy.numbers.tolist()), torch.from_numpy(heavy.positions.copy())))
    points = heavy.positions.mean(axis=0) + np.random.default_rng(0).normal(scale=1.2, size=(1000, 3))
    expected = one_by_one(found, points)
    assert expected.max() > 0.1
    assert np.abs(found.density(points) - expected).sum() < 0.01 * expected.sum()
