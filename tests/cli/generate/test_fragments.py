"""`--fragment`, and `atomsml generate next-atom`: what is given stays, what is written can be read, what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
import torch
from ase.build import molecule
from ase.io.cube import read_cube_data

from atomsml.generative.core.modelfile import save_generator
from atomsml.generative.molecules.set import MoleculeSet
from atomsml.generative.molecules.symphony.model import Symphony, SymphonyConfig


@pytest.fixture(scope="module")
def symphony(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The file of a generator with random weights."""
    images = [molecule(name) for name in ("CH3CH2OH", "CH3CHO", "C2H4", "H2CO")]
    samples = MoleculeSet.from_rows([a.numbers for a in images], [a.positions for a in images], [None] * 4, {})
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Symphony(
            SymphonyConfig(**Symphony.measure(samples), channels=8, hidden=8, num_layers=1, readout_channels=16)
        )
    model.fit(samples)
    path = str(tmp_path_factory.mktemp("symphony") / "symphony.safetensors")
    save_generator(model, path, {"licence": "MIT"})
    return path


@pytest.fixture
def fragments(tmp_path: Path) -> None:
    """core.xyz, a methyl group, turned and away from the origin; whole.xyz, methane; two.xyz; crowded.xyz."""
    core = molecule("CH4")[:4]
    core.rotate(33, (1, 2, 3))
    core.translate((7.1234567, -3.7654321, 0.1111111))
    whole = molecule("CH4")
    ase.io.write(tmp_path / "core.xyz", core)
    ase.io.write(tmp_path / "whole.xyz", whole)
    ase.io.write(tmp_path / "two.xyz", [core, whole])
    ase.io.write(tmp_path / "foreign.xyz", molecule("CH3Cl"))


@pytest.mark.usefixtures("fragments")
def test_a_fragment_stays_where_it_is(run: Any, symphony: str, tmp_path: Path) -> None:
    words = ("generate", "molecules", "-m", symphony, "--fragment", "core.xyz", "-n", 3, "-o", "out.xyz")
    assert run(*words, "--formula", "C2H6O").status == 0
    core, grown = ase.io.read("core.xyz"), ase.io.read("out.xyz", ":")
    assert len(grown) == 3
    for atoms in grown:
        assert (atoms.positions[:4] == core.positions).all()
        assert atoms.numbers[:4].tolist() == core.numbers.tolist()
        assert atoms.get_chemical_formula() == "C2H6O"


@pytest.mark.usefixtures("fragments")
def test_the_density_of_the_next_atom_is_read_by_ase(run: Any, symphony: str, tmp_path: Path) -> None:
    """Its integral is the probability that an atom is added, but for what is too seldom to be counted."""
    words = ("generate", "next-atom", "core.xyz", "-m", symphony, "--element", "O")
    result = run(*words, "-o", "next.cube", "--spacing", 0.2, "--json")
    assert result.status == 0, result.err
    density, atoms = read_cube_data("next.cube")
    np.testing.assert_allclose(atoms.positions, ase.io.read("core.xyz").positions, rtol=0, atol=1e-5)  # digits in Bohr
    wanted = sum(row["probability"] for row in json.loads(result.out)["next"])
    # random weights are smooth on this grid; within 2.6 A of the fragment lie all but the tails of a distance
    assert density.sum() * 0.2**3 == pytest.approx(wanted, abs=0.05)
    assert run(*words, "-o", "map.svg").status == 0
    assert Path("map.svg").read_text().startswith("<?xml")


@pytest.mark.usefixtures("fragments")
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("molecules", "--fragment", "whole.xyz"), "the fragment has no open valence"),
        (("molecules", "--fragment", "two.xyz"), "two.xyz: has 2 molecules; a fragment is one"),
        (("molecules", "--fragment", "nothing.xyz"), "no file nothing.xyz; check the path of --fragment"),
        (("molecules", "--fragment", "foreign.xyz"), "the model does not know Cl"),
        (("molecules", "--fragment", "core.xyz", "--scaffold", "core.xyz"), "give one of the two"),
        (("molecules", "--fragment", "core.xyz", "--atoms", 3), "--fragment core.xyz has 4 atoms, --atoms is 3"),
        (("molecules", "--fragment", "core.xyz", "--formula", "CH2O"), "lacks H of the scaffold"),
        (("molecules", "--scaffold", "core.xyz"), "give --fragment, not --scaffold"),
        (("molecules", "--sampler", "ddpm"), "symphony has no sampler 'ddpm'; it has masked, plain"),
        (("next-atom", "whole.xyz"), "the fragment has no open valence"),
        (("next-atom", "core.xyz", "-o", "next.txt"), "use the suffix .cube, .png, .svg or .pdf"),
        (("next-atom", "core.xyz", "--element", "Fe"), "the model does not know the element 'Fe'"),
        (("next-atom", "core.xyz", "--spacing", 0), "--spacing must lie between"),
    ],
)
def test_what_cannot_be_is_one_line(run: Any, symphony: str, words: tuple[object, ...], said: str) -> None:
    result = run("generate", *words, "-m", symphony)
    assert result.status != 0
    assert said in result.err
    assert not Path("molecules.sdf").exists()


@pytest.mark.usefixtures("fragments")
def test_an_embedded_generator_grows_what_is_given(run: Any) -> None:
    assert run("generate", "molecules", "--fragment", "core.xyz", "-n", 1, "-o", "out.xyz").status == 0
    assert json.loads(Path("out.summary.json").read_text())["model"]["name"] == "qm9-symphony"
    for atoms in ase.io.read("out.xyz", ":"):
        assert (atoms.positions[:4] == ase.io.read("core.xyz").positions).all()
    assert run("generate", "next-atom", "core.xyz").status == 0


@pytest.mark.usefixtures("fragments")
def test_other_generators_refuse_fragments(run: Any) -> None:
    result = run("generate", "molecules", "-m", "qm9-flow", "--fragment", "core.xyz")
    assert result.status != 0
    assert "this model holds heavy atoms alone" in result.err
    assert "does not grow molecules" in run("generate", "next-atom", "core.xyz", "-m", "qm9-flow").err
