"""Labels in another unit, with another sign, per atom or times the volume are named; noise and other levels are not."""

from __future__ import annotations

import numpy as np
import pytest
from ase import units

from atomsml.training.evaluation.factors import label_factors
from atomsml.training.evaluation.metrics import Collected

STRUCTURES = 40
RNG = np.random.default_rng(0)
ATOMS = RNG.integers(2, 9, STRUCTURES)
VOLUME = RNG.uniform(20, 300, STRUCTURES)
NUMBERS = RNG.choice([1, 8], ATOMS.sum())
ENERGY = RNG.normal(size=STRUCTURES) * ATOMS + np.add.reduceat(
    np.where(NUMBERS == 1, -13.0, -400.0), np.cumsum(ATOMS) - ATOMS
)
FORCES = RNG.normal(size=(ATOMS.sum(), 3))
STRESS = RNG.normal(size=(STRUCTURES, 3, 3)) * 0.05


def found(
    energy: np.ndarray = ENERGY, forces: np.ndarray = FORCES, stress: np.ndarray = STRESS, volume: np.ndarray = VOLUME
) -> dict[str, str]:
    """Messages by label, for labels in a file and a model whose errors are a tenth of what it predicts."""
    rng = np.random.default_rng(1)

    def near(values: np.ndarray) -> np.ndarray:
        noise: np.ndarray = values + 0.1 * rng.normal(size=values.shape)
        return noise

    collected = Collected(
        config_types=np.full(STRUCTURES, ""),
        num_atoms=ATOMS,
        numbers=NUMBERS,
        energy_label=energy / ATOMS,
        energy_predicted=near(ENERGY / ATOMS),
        forces_label=forces,
        forces_predicted=near(FORCES),
        stress_label=stress,
        stress_predicted=STRESS + 0.005 * rng.normal(size=STRESS.shape),
    )
    return {factor.label: factor.message for factor in label_factors(collected, volume)}


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ({"stress": -STRESS}, "times the model's: the other sign"),
        ({"stress": STRESS / units.GPa}, "looks like GPa"),
        ({"stress": -STRESS / units.GPa}, "looks like GPa with the other sign"),
        ({"stress": -10 * STRESS / units.GPa}, "looks like kbar with the other sign"),
        ({"stress": STRESS * units.GPa}, "converted from GPa although it was in eV already"),
        ({"stress": -STRESS * VOLUME[:, None, None]}, "a virial, not divided by the volume"),
        ({"stress": STRESS * VOLUME[:, None, None]}, "not divided by the volume and with the other sign"),
        ({"stress": -STRESS * (VOLUME / ATOMS)[:, None, None]}, "a virial per atom"),
        ({"forces": -FORCES}, "times the model's: the other sign"),
        ({"forces": FORCES * units.Bohr / units.Hartree}, "looks like hartree/bohr"),
        ({"forces": FORCES * units.Bohr}, "looks like eV/bohr"),
        ({"forces": FORCES / (units.kcal / units.mol)}, "looks like kcal/mol/A"),
        ({"energy": ENERGY / units.Hartree}, "looks like hartree"),
        ({"energy": ENERGY / (units.kcal / units.mol)}, "looks like kcal/mol"),
        ({"energy": ENERGY * units.Hartree}, "converted from hartree although it was in eV already"),
        ({"energy": ENERGY / ATOMS}, "per atom, where those of whole structures are wanted"),
        ({"energy": -ENERGY}, "the other sign"),
        ({"forces": 3.0 * FORCES}, "looks like another unit"),
    ],
)
def test_what_labels_are_is_named(labels: dict[str, np.ndarray], message: str) -> None:
    (kind,) = labels
    messages = found(**labels)
    assert list(messages) == [kind]
    assert message in messages[kind]


def test_a_few_wrong_labels_do_not_hide_what_the_rest_is() -> None:
    stress = -STRESS.copy()
    stress[:4] = 30.0 * STRESS[:4]
    stress[5] = np.nan
    assert found(stress=stress)["stress"].endswith("the other sign")


def test_right_labels_noise_and_another_level_of_energies_are_left_alone() -> None:
    counts = np.add.reduceat((NUMBERS == 1).astype(float), np.cumsum(ATOMS) - ATOMS)
    rng = np.random.default_rng(2)
    assert found() == {}
    assert found(energy=ENERGY + 7.0 * counts - 900.0 * ATOMS) == {}
    assert found(rng.normal(size=STRUCTURES), rng.normal(size=FORCES.shape), rng.normal(size=STRESS.shape)) == {}
    missing = np.full(STRUCTURES, np.nan)
    assert found(missing, np.full_like(FORCES, np.nan), np.zeros_like(STRESS), missing) == {}
