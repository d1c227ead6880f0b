from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms

from atomsml.generative.proteins.metrics.radius_of_gyration import compactness
from tests.generative.proteins.metrics.shapes import STRAND, chain_of, fixture, ideal


def test_radius_is_that_of_moments_of_inertia() -> None:
    """Half of the trace of the tensor of inertia of points of mass 1 is sum |x - mean x|^2."""
    chain = fixture("2xdg")
    atoms = Atoms("H" * len(chain), chain.coordinates[:, 1])
    atoms.set_masses(np.ones(len(chain)))
    (radius,) = compactness([chain]).columns["radius"]
    assert radius == pytest.approx(np.sqrt(atoms.get_moments_of_inertia().sum() / 2 / len(chain)))


def test_folded_chains_are_compact_and_a_strand_of_sixty_is_not() -> None:
    folded = [fixture(name) for name in ("1guu", "1brf", "1pdo")]
    strand, squeezed = chain_of(ideal(*STRAND, 60)), chain_of(folded[2].coordinates / 2)
    found = compactness([*folded, strand, squeezed])
    assert found.failures == ("", "", "", "not compact", "too compact")
    assert found.metrics["within"].value == 0.6
