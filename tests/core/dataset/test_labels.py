"""Which key is the energy, and what labels must look like."""

from __future__ import annotations

import numpy as np
import pytest
from ase.stress import full_3x3_to_voigt_6_stress

from atomsml.dataset import LabelKeys
from atomsml.dataset.labels import as_energy, as_forces, as_matrix, find_keys, stress_of_virial


def found(*names: str, keys: LabelKeys | None = None) -> LabelKeys:
    return find_keys(dict.fromkeys(names, 5), 5, keys or LabelKeys(), "set.xyz")


@pytest.mark.parametrize(
    ("names", "energy", "forces"),
    [
        (("energy", "forces"), "energy", "forces"),
        (("REF_energy", "REF_forces", "energy", "forces"), "REF_energy", "REF_forces"),
        (("dft_energy", "dft_force"), "dft_energy", "dft_force"),
        (("DFT_energy", "DFT_forces", "stress_note"), "DFT_energy", "DFT_forces"),
        (("U0", "gap"), "U0", None),
        (("Energy", "Forces"), "Energy", "Forces"),
    ],
)
def test_usual_names(names: tuple[str, ...], energy: str, forces: str | None) -> None:
    keys = found(*names)
    assert (keys.energy, keys.forces, keys.stress) == (energy, forces, None)


def test_a_given_key_is_taken_even_beside_usual_ones() -> None:
    keys = found("REF_energy", "mine", "my_forces", keys=LabelKeys(energy="mine", forces="my_forces"))
    assert (keys.energy, keys.forces) == ("mine", "my_forces")


def test_an_empty_key_leaves_a_label_out() -> None:
    keys = found("REF_energy", "REF_forces", "REF_stress", "group", keys=LabelKeys(forces="", stress="", group=""))
    assert keys == LabelKeys(energy="REF_energy")


def test_a_wrong_key_is_an_error_that_lists_what_is_there() -> None:
    present = {"REF_energy": 5, "dipole": 3}
    with pytest.raises(ValueError, match=r"energy key 'Energy_dft'.*5 structures: REF_energy \(5\), dipole \(3\)"):
        find_keys(present, 5, LabelKeys(energy="Energy_dft"), "set.xyz")


def test_no_energy_is_an_error_that_lists_what_is_there() -> None:
    with pytest.raises(ValueError, match=r"--energy-key.*dipole \(5\)"):
        found("dipole")
    with pytest.raises(ValueError, match="keys of its 5 structures: none"):
        found()


def test_forces_alone_are_taken_where_no_key_could_be_an_energy() -> None:
    assert found("REF_forces", "config_type") == LabelKeys(forces="REF_forces", config_type="config_type")
    with pytest.raises(ValueError, match="--energy-key '' to do with forces alone"):
        found("REF_forces", "e_tot")
    assert found("REF_forces", "e_tot", keys=LabelKeys(energy="")) == LabelKeys(forces="REF_forces")
    with pytest.raises(ValueError, match="neither energies nor forces"):
        found("energy", "dipole", keys=LabelKeys(energy="", forces=""))


def test_several_candidates_are_refused() -> None:
    with pytest.raises(ValueError, match="dft_energy and energy could all be the energy; choose one with --energy-key"):
        found("energy", "dft_energy")
    with pytest.raises(ValueError, match="--forces-key"):
        found("energy", "force", "forces")


def test_labels_of_two_methods_are_never_mixed() -> None:
    with pytest.raises(ValueError, match="--forces-key forces, or --forces-key ''"):
        found("REF_energy", "forces")
    assert found("REF_energy", "forces", keys=LabelKeys(forces="forces")).forces == "forces"


def test_a_stress_wins_over_a_virial_unless_that_was_asked_for() -> None:
    names = ("energy", "stress", "virial")
    assert (found(*names).stress, found(*names).virial) == ("stress", None)
    asked = found(*names, keys=LabelKeys(virial="virial"))
    assert (asked.stress, asked.virial) == (None, "virial")
    assert found("energy", "virials").virial == "virials"
    with pytest.raises(ValueError, match="not both"):
        found(*names, keys=LabelKeys(stress="stress", virial="virial"))


def test_config_type_and_group() -> None:
    keys = found("energy", "smiles", "tag", "mol_id")
    assert (keys.config_type, keys.group) == ("tag", "smiles")


def test_energy_is_one_number() -> None:
    assert as_energy("-1.5", "here") == as_energy([-1.5], "here") == -1.5
    for wrong in ([1.0, 2.0], "low", {}, []):
        with pytest.raises(ValueError, match="here"):
            as_energy(wrong, "here")


def test_forces_have_three_components_for_each_atom() -> None:
    np.testing.assert_array_equal(as_forces([[1, 2, 3]], 1, "here"), [[1.0, 2.0, 3.0]])
    for wrong in ([1, 2, 3], [[1, 2]], [[1, 2, 3], [4, 5]]):
        with pytest.raises(ValueError, match="here"):
            as_forces(wrong, 1, "here")


def test_matrix_from_nine_and_from_six_numbers_in_the_order_of_ase() -> None:
    stress = np.random.default_rng(0).normal(size=(4, 3, 3))
    stress += stress.transpose(0, 2, 1)
    voigt = np.array([full_3x3_to_voigt_6_stress(s) for s in stress])
    np.testing.assert_allclose(as_matrix(voigt, "here"), stress, atol=1e-15)
    np.testing.assert_array_equal(as_matrix(voigt[0].tolist(), "here"), as_matrix(voigt, "here")[0])
    np.testing.assert_array_equal(as_matrix(stress.reshape(4, 9), "here"), stress)
    for wrong in (1.0, [1.0, 2.0], "high"):
        with pytest.raises(ValueError, match="here"):
            as_matrix(wrong, "here")


def test_stress_of_a_virial() -> None:
    """E = V k tr(strain) has stress k and virial -k V, so that stress = -virial / V."""
    cells = np.stack([np.diag([2.0, 3.0, 4.0]), -np.eye(3), np.zeros((3, 3))])
    stress = stress_of_virial(np.broadcast_to(np.diag([-48.0, -24.0, 0.0]), (3, 3, 3)), cells)
    np.testing.assert_allclose(stress[0], np.diag([2.0, 1.0, 0.0]))
    np.testing.assert_allclose(stress[1], np.diag([48.0, 24.0, 0.0]))  # a left-handed cell has a volume too
    assert np.isnan(stress[2]).all()
