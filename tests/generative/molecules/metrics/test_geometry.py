"""Suite geometry: internal coordinates against ASE, distances against scipy and against shifts that are known."""

from functools import cache, partial

import ase
import numpy as np
import pytest
from scipy.stats import wasserstein_distance

from atomsml.generative.molecules.metrics.geometry import Distance, geometry, internals
from atomsml.generative.molecules.metrics.perception import Perceived, perceive
from atomsml.generative.molecules.relaxation import RelaxedMolecule
from atomsml.io import atoms_from_smiles


@cache
def _acetaldehyde() -> tuple[ase.Atoms, Perceived]:
    atoms = atoms_from_smiles("CC=O")  # C C O H H H H
    return atoms, next(iter(perceive([atoms])))


def test_internal_coordinates_are_those_of_ase() -> None:
    atoms, found = _acetaldehyde()
    measured = internals([atoms], [found])
    lengths = [atoms.get_distance(i, j) for i, j in [(0, 1), (1, 2), (0, 3), (0, 4), (0, 5), (1, 6)]]
    np.testing.assert_allclose(np.sort(measured["bond_length"].values), np.sort(lengths))
    corners = [(i, 0, j) for i, j in [(1, 3), (1, 4), (1, 5), (3, 4), (3, 5), (4, 5)]]
    corners += [(i, 1, j) for i, j in [(0, 2), (0, 6), (2, 6)]]
    angles = [atoms.get_angle(*corner) for corner in corners]
    np.testing.assert_allclose(np.sort(measured["angle"].values), np.sort(angles))
    dihedrals = [atoms.get_dihedral(h, 0, 1, end) for h in (3, 4, 5) for end in (2, 6)]
    folded = [min(d, 360 - d) for d in dihedrals]
    np.testing.assert_allclose(np.sort(measured["torsion"].values), np.sort(folded), atol=1e-6)
    assert [len(np.unique(measured[name].types)) for name in measured] == [3, 4, 2]  # H-C-C on both sides is one type


def test_straight_chains_have_no_torsion_and_rings_of_three_none_inside() -> None:
    molecules = [atoms_from_smiles("C#CC"), atoms_from_smiles("C1CC1")]
    measured = internals(molecules, list(perceive(molecules)))
    torsions = np.bincount(measured["torsion"].molecule, minlength=2)
    # cyclopropane: around each of three bonds H-C-C-H four times and H-C-C-C four times
    assert torsions.tolist() == [0, 24]


@pytest.mark.parametrize(("ours", "theirs"), [(1, 1), (7, 3), (200, 150)])
def test_distance_is_that_of_scipy(ours: int, theirs: int) -> None:
    rng = np.random.default_rng(ours)
    values, reference = rng.normal(size=ours).round(1), rng.normal(0.3, 2, size=theirs).round(1)  # with ties
    weights = rng.integers(0, 4, size=ours)
    weights[0] += 1
    found = Distance(values, reference)(weights)
    assert found == pytest.approx(wasserstein_distance(values, reference, weights), rel=1e-10, abs=1e-12)


def _shaken(count: int, seed: int) -> list[ase.Atoms]:
    rng = np.random.default_rng(seed)
    copies = [_acetaldehyde()[0].copy() for _ in range(count)]
    for atoms in copies:
        atoms.rattle(0.02, rng=rng)
    return copies


def test_molecules_one_per_cent_too_large() -> None:
    """Each length is 1.01 of one of the reference, so that W is 0.01 of the mean; angles are the same."""
    reference = _shaken(120, seed=0)
    large = [ase.Atoms(atoms.numbers, 1.01 * atoms.positions) for atoms in reference]
    perceived = [_acetaldehyde()[1]] * 120
    result = geometry(large, perceived, (reference, perceived))
    mean = internals(reference, perceived)["bond_length"].values.mean()  # all three types are frequent
    found = result.metrics["bond_length_distance"]
    assert found.value == pytest.approx(0.01 * mean, rel=1e-9)
    assert (found.of, found.unit) == (120, "A")
    assert 0 <= found.low < found.value < found.high
    for name in ("angle_distance", "torsion_distance"):
        assert result.metrics[name].value == pytest.approx(0, abs=1e-6)
    assert set(result.types) == {
        *("bond_length C-H", "bond_length C-C", "bond_length O=C"),
        *("angle H-C-H", "angle C-C-H", "angle O=C-H", "angle O=C-C"),
        *("torsion H-C-C-H", "torsion O=C-C-H"),
    }


def test_interval_holds_the_distance_of_another_sample() -> None:
    """Two samples of one distribution: what 40 molecules differ by is noise, and the interval is as wide."""
    few, many = _shaken(40, seed=1), _shaken(400, seed=2)
    one = _acetaldehyde()[1]
    found = geometry(few, [one] * 40, (many, [one] * 400)).metrics["bond_length_distance"]
    assert found.low < 0.005
    assert found.high < 0.01


def test_types_that_are_missing_say_so() -> None:
    reference = _shaken(120, seed=0)
    water = atoms_from_smiles("O")
    result = geometry([water], list(perceive([water])), (reference, [_acetaldehyde()[1]] * 120))
    assert all(np.isnan(metric.value) for metric in result.types.values())
    assert result.metrics["angle_distance"].to_json()["value"] is None


def test_strain() -> None:
    atoms, found = _acetaldehyde()
    relaxed = partial(RelaxedMolecule, atoms=atoms)
    done = [
        relaxed(index=0, converged=True, strain=3.0, bonds_kept=True),
        relaxed(index=2, converged=True, strain=5.0, bonds_kept=False),
        relaxed(index=3, converged=False, strain=100.0, bonds_kept=True),
    ]
    result = geometry([atoms] * 4, [found, Perceived("hangs"), found, found], None, done)
    assert {name: metric.value for name, metric in result.metrics.items()} == {
        "converged": 2 / 3,
        "bonds_kept": 1 / 3,
        "strain_median": 4.0,
        "strain_90_percent": pytest.approx(4.8),
    }
    assert result.failures == ("", "hangs", "bonds changed", "did not relax")
    np.testing.assert_array_equal(result.columns["strain_kcal_mol"], [3.0, np.nan, 5.0, 100.0])
