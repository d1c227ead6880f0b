"""`atomsml conformers`: its numbers are those of the library, and its files hold them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ase.io
import pytest
from ase.build import bulk
from rdkit import Chem

from atomsml import AtomsMLCalculator
from atomsml.io.molecules import atoms_from_smiles
from atomsml.properties.conformers.ensembles import ConformerSettings, conformers
from atomsml.properties.engine import Engine

Run = Callable[..., Any]


def test_is_what_the_library_finds_and_writes_it(run: Run) -> None:
    names = ("CCCC", "OCCO")
    result = run("conformers", *names, "--seeds", 10, "--seed", 3, "--temperature", 350, "--json")
    engine = Engine.of(AtomsMLCalculator("organic-xtb"))
    found = dict(conformers([atoms_from_smiles(s) for s in names], engine, ConformerSettings(10, 3, 350.0)))
    for i, record in enumerate(json.loads(result.out)):
        assert record["conformers"] == len(found[i].conformers)
        assert record["energies_above_lowest_eV"] == pytest.approx(found[i].energies.tolist(), abs=2e-4)
        assert record["weights"] == pytest.approx(found[i].weights.tolist(), abs=5e-3)
        assert record["degeneracies"] == found[i].degeneracies.tolist()
        assert sum(record["seeds_that_led_to_each"]) + sum(record["lost_seeds"].values()) == 11
        frames = ase.io.read(f"conformers/{names[i]}-conformers.extxyz", ":")
        assert [frame.info["weight"] for frame in frames] == pytest.approx(record["weights"])
        energies = [frame.get_potential_energy() - record["lowest"] for frame in frames]
        assert energies == pytest.approx(record["energies_above_lowest_eV"], abs=1e-6)
        mols = list(Chem.SDMolSupplier(f"conformers/{names[i]}-conformers.sdf", removeHs=False))
        assert {Chem.CanonSmiles(Chem.MolToSmiles(Chem.RemoveHs(mol))) for mol in mols} == {names[i]}
        for mol, weight, energy in zip(mols, record["weights"], record["energies_above_lowest_kcal/mol"], strict=True):
            assert float(mol.GetProp("weight")) == pytest.approx(weight, rel=1e-5)
            assert float(mol.GetProp("relative_energy_kcal_per_mol")) == pytest.approx(energy, rel=1e-5, abs=1e-9)
        assert Path(f"conformers/{names[i]}.png").exists()


def test_notes_say_what_was_drawn_and_that_more_may_be_there(run: Run) -> None:
    result = run("conformers", "CC(O)CCO", "--seeds", 12, "--no-pictures")
    assert "note: CC(O)CCO, frame 0: stereochemistry was left open (atoms 1); the conformers are of C[C@" in result.err
    assert "by the last quarter of the seeds only: the ensemble may be unfinished" in result.err


def test_what_has_no_conformers_is_named(run: Run) -> None:
    ase.io.write("W.cif", bulk("W"))
    result = run("conformers", "W.cif", "C", "-m", "universal-small", "--seeds", 2, "--no-pictures")
    assert result.status == 1
    assert "refused: W.cif, frame 0: conformers are of molecules, and this is periodic" in result.err
    assert run("conformers", "CCO", "--seeds", 0).status == 1
    charged = run("conformers", "CC(=O)[O-]")
    assert charged.status == 1
    assert "charge" in charged.err
