"""Bonds, angles and torsions against gemmi; ideal chains, broken ones and mirror images."""

from __future__ import annotations

import gemmi
import numpy as np
import pytest

from atomsml.generative.proteins.metrics.geometry import IDEAL, geometry, phi_psi_omega, z_scores
from tests.generative.proteins.metrics.shapes import FIXTURES, HELIX, chain_of, fixture, ideal


def test_scores_and_torsions_are_gemmis() -> None:
    chain = fixture("1pdo")
    residues = list(gemmi.read_structure(str(FIXTURES / "1pdo.pdb.gz"))[0][0])
    scores, angles = z_scores(chain), phi_psi_omega(chain)
    for i in range(1, len(residues) - 1):
        before, here, after = residues[i - 1 : i + 2]
        n, ca, c, o, n_after, ca_after = (
            residue.find_atom(name, "*").pos
            for residue, name in ((here, "N"), (here, "CA"), (here, "C"), (here, "O"), (after, "N"), (after, "CA"))
        )
        values = {
            "N-CA": n.dist(ca),
            "CA-C": ca.dist(c),
            "C=O": c.dist(o),
            "C-N": c.dist(n_after),
            "N-CA-C": np.degrees(gemmi.calculate_angle(n, ca, c)),
            "CA-C=O": np.degrees(gemmi.calculate_angle(ca, c, o)),
            "CA-C-N": np.degrees(gemmi.calculate_angle(ca, c, n_after)),
            "O=C-N": np.degrees(gemmi.calculate_angle(o, c, n_after)),
            "C-N-CA": np.degrees(gemmi.calculate_angle(c, n_after, ca_after)),
        }
        for name, (mean, deviation) in IDEAL.items():
            assert scores[name][i] == pytest.approx((values[name] - mean) / deviation, abs=1e-6)
        expected = np.degrees([*gemmi.calculate_phi_psi(before, here, after), gemmi.calculate_omega(here, after)])
        np.testing.assert_allclose(angles[i], expected, atol=1e-6)


def test_an_ideal_helix_is_faultless_and_its_image_is_a_mirror_image() -> None:
    helix = ideal(*HELIX, 12)
    right, left = geometry([chain_of(helix)]), geometry([chain_of(helix * [1, 1, -1])])
    assert right.failures == ("",)
    assert left.failures == ("a mirror image",)
    assert left.metrics["positive_phi"].value == 1
    for found in (right, left):
        assert found.metrics["ca_ca"].value == found.metrics["unbroken"].value == 1
        assert found.metrics["bond_rms"].value < 1e-9
        assert found.types["CA-C-N"].value == pytest.approx(abs(116.6 - 117.2) / 2.2)


def test_natural_chains_are_faultless_and_their_images_mirror_images() -> None:
    chains = [fixture(name) for name in ("1guu", "2xcj", "2xdg", "1pdo")]
    found = geometry(chains)
    assert found.failures == ("",) * 4
    assert found.metrics["ca_ca"].value > 0.99
    assert found.metrics["bond_outliers"].value < 0.001
    assert geometry([chain_of(-chain.coordinates) for chain in chains]).metrics["mirror_images"].value == 1


def test_breaks_cis_and_twisted_bonds_are_found() -> None:
    chain = ideal(*HELIX, 12)
    chain[5:] += 3.0
    found = geometry([chain_of(chain), chain_of(ideal(*HELIX, 12))])
    assert found.failures == ("broken after 5", "")
    assert found.metrics["unbroken"].value == 0.5
    assert found.metrics["ca_ca"].value == pytest.approx(21 / 22)
    assert found.columns["ca_ca"] == (10 / 11, 1.0)


@pytest.mark.parametrize(("residues", "of"), [(1, 0), (2, 1)])
def test_few_residues(residues: int, of: int) -> None:
    found = geometry([chain_of(ideal(*HELIX, residues))])
    assert found.metrics["ca_ca"].of == of
    assert np.isnan(found.metrics["ca_ca"].value) == (of == 0)
    assert found.failures == ("",)
