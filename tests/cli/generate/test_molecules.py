"""`atomsml generate molecules`: what it obeys, writes, refuses, and keeps when it is interrupted."""

from __future__ import annotations

import csv
import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ase
import ase.io
import numpy as np
import pytest
import torch
from ase.build import molecule
from ase.collections import g2
from rdkit import Chem
from rdkit.Chem.rdMolDescriptors import CalcMolFormula
from safetensors.torch import load_file, save_file

from atomsml import AtomsMLCalculator
from atomsml.cli.generate.records import Generated
from atomsml.cli.generate.relax import relax_and_rank
from atomsml.generative import GENERATORS
from atomsml.generative.core.modelfile import save_generator
from atomsml.generative.graphs.graphs import MolecularGraphs
from atomsml.generative.graphs.model import GraphModel
from atomsml.generative.graphs.set import GraphSet
from atomsml.generative.molecules.flow.model import NetworkConfig
from atomsml.generative.molecules.graph_flow.model import GraphFlow
from atomsml.generative.molecules.metrics.perception import perceive
from atomsml.generative.molecules.modelfile import load_generator
from atomsml.generative.molecules.set import MoleculeSet
from atomsml.io import mol_bonded, with_bond_orders
from atomsml.modelfile import read_metadata
from tests.browser import viewer_data

Run = Callable[..., Any]

# what the little generator has seen: closed-shell molecules of the G2 set with 4 to 10 atoms of H, C, N, O
SEEN = [
    atoms
    for atoms in map(molecule, g2.names)
    if set(atoms.numbers) <= {1, 6, 7, 8} and 4 <= len(atoms) <= 10 and atoms.numbers.sum() % 2 == 0
]


TINY = NetworkConfig(channels=8, pair_channels=8, vectors=2, hidden=8, num_layers=1)
OPTIONS: dict[str, dict[str, Any]] = {
    "flow": {"skeleton": TINY, "hydrogens": TINY},
    "edm": {"channels": 8, "num_layers": 1},
    "graph-flow": {"skeleton": TINY, "hydrogens": TINY},
}


def test_no_generator_of_molecules_is_left_out() -> None:
    kinds = {name: generator for name, generator in GENERATORS.items() if generator.kind == "molecules"}
    assert set(OPTIONS) == set(kinds) - {"symphony"}  # which takes neither conditions nor scaffolds: test_fragments.py


def graph_model() -> GraphModel:
    """Of the molecules that the little generator has seen."""
    graphs = MolecularGraphs.from_mols([with_bond_orders(mol_bonded(atoms), 0) for atoms in SEEN])
    samples = GraphSet(graphs.to(torch.int8), np.arange(len(SEEN), dtype=np.uint64))
    model = GraphModel(
        GraphModel.Config(
            **GraphModel.measure(samples), channels=8, pair_channels=8, triangle_channels=4, hidden=8, num_layers=1
        )
    )
    model.fit(samples)
    return model


@pytest.fixture(scope="session")
def generators(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Paths of generators with random weights, which make no sensible molecules, but obey; by architecture."""
    seen = MoleculeSet.from_rows(
        [atoms.numbers for atoms in SEEN],
        [atoms.positions for atoms in SEEN],
        [None] * len(SEEN),
        {"gap": np.linspace(2, 8, len(SEEN))},
    )
    folder, paths = tmp_path_factory.mktemp("generators"), {}
    for name in OPTIONS:
        generator = GENERATORS[name]
        with torch.random.fork_rng():
            torch.manual_seed(0)
            graphs = graph_model()
            own = {"graphs": graphs.config} if name == "graph-flow" else {"conditions": ("gap",)}
            model = generator(generator.Config(**own, **generator.measure(seen), **OPTIONS[name]))
        model.fit(seen)
        if isinstance(model, GraphFlow):
            assert model.graphs is not None
            model.graphs.load_state_dict(graphs.state_dict())
        paths[name] = str(folder / f"{name}.safetensors")
        save_generator(model, paths[name], {"licence": "MIT"})
    return paths


@pytest.fixture(params=["flow"])
def generator(generators: dict[str, str], request: pytest.FixtureRequest) -> str:
    return generators[request.param]


both = pytest.mark.parametrize("generator", list(OPTIONS), indirect=True)


@pytest.fixture
def generate(run: Run, generator: str) -> Run:
    """Run the command with the little generator and few steps."""

    def call(*words: object) -> Any:
        return run("generate", "molecules", "-m", generator, "--steps", 4, *words)

    return call


@pytest.fixture
def carbon_dioxide(run: Run) -> str:
    """A file whose heavy atoms are all of CO2, away from the origin: held, they are a valid molecule."""
    atoms = molecule("CO2")
    atoms.positions += [5.0, -3.0, 1.0]
    ase.io.write("co2.xyz", atoms)
    return "co2.xyz"


def records(path: str) -> list[Any]:
    return list(Chem.SDMolSupplier(path, removeHs=False))


class TestObeys:
    def test_number_and_compositions_of_the_training_set(self, generate: Run) -> None:
        result = generate("-n", 30, "-o", "out.extxyz")
        assert result.status == 0
        images = ase.io.read("out.extxyz", ":")
        assert len(images) == 30
        assert {len(atoms) for atoms in images} <= {len(atoms) for atoms in SEEN}
        assert len({len(atoms) for atoms in images}) > 3

    @both
    def test_formula(self, generate: Run) -> None:
        generate("-n", 7, "--formula", "C2H5NO", "-o", "out.extxyz")
        assert [str(atoms.symbols.formula.format("hill")) for atoms in ase.io.read("out.extxyz", ":")] == ["C2H5NO"] * 7

    @both
    def test_number_of_atoms(self, generate: Run) -> None:
        generate("-n", 7, "--atoms", 6, "-o", "out.extxyz")
        assert [len(atoms) for atoms in ase.io.read("out.extxyz", ":")] == [6] * 7

    @both
    @pytest.mark.parametrize("words", [(), ("--formula", "C3H6O"), ("--atoms", 9)])
    def test_scaffold_stays_where_it_is(self, generate: Run, words: tuple[object, ...]) -> None:
        core = molecule("CH3CHO")
        core.positions += [4.0, 0.0, -7.0]
        ase.io.write("core.xyz", core)
        result = generate("-n", 5, "--scaffold", "core.xyz", *words, "-o", "out.xyz")
        assert "3 heavy atoms of core.xyz are held; its 4 hydrogens are left out" in result.err
        heavy = core[core.numbers > 1]
        for atoms in ase.io.read("out.xyz", ":"):
            assert atoms.numbers[:3].tolist() == heavy.numbers.tolist()
            # written with 8 decimals
            assert np.abs(atoms.positions[:3] - heavy.positions).max() < 1e-7

    def test_first_of_many_are_the_same(self, generate: Run) -> None:
        generate("-n", 4, "--seed", 5, "-o", "few.extxyz")
        generate("-n", 20, "--seed", 5, "--batch", 3, "-o", "many.extxyz")
        few, many = ase.io.read("few.extxyz", ":"), ase.io.read("many.extxyz", ":")
        for one, other in zip(few, many, strict=False):
            assert one.info["seed"] == other.info["seed"]
            assert one.numbers.tolist() == other.numbers.tolist()
            # single precision, of matrix products of other shapes
            assert np.abs(one.positions - other.positions).max() < 1e-3 * np.abs(one.positions).max()
        assert len({atoms.info["seed"] for atoms in many}) == 20

    def test_another_seed_is_another_run(self, generate: Run) -> None:
        generate("-n", 1, "--atoms", 6, "--seed", 1, "-o", "one.extxyz")
        generate("-n", 1, "--atoms", 6, "--seed", 2, "-o", "two.extxyz")
        assert np.abs(ase.io.read("one.extxyz").positions - ase.io.read("two.extxyz").positions).max() > 1e-2


class TestWrites:
    def test_sdf_has_a_record_for_every_molecule(self, generate: Run) -> None:
        generate("-n", 12, "-o", "out.sdf")
        mols = records("out.sdf")
        assert len(mols) == 12
        for index, mol in enumerate(mols):
            about = mol.GetPropsAsDict()
            assert about["index"] == index
            assert about["valid"] == "no"
            assert about["reason"]
            assert about["bonds"] in ("perceived", "distances only", "none")
            assert CalcMolFormula(mol).split("+")[0].split("-")[0] == about["formula"]

    def test_valid_molecules_have_bonds(self, generate: Run, carbon_dioxide: str) -> None:
        generate("-n", 2, "--scaffold", carbon_dioxide, "--formula", "CO2", "-o", "out.sdf")
        for mol in records("out.sdf"):
            assert Chem.MolToSmiles(mol) == "O=C=O"
            about = mol.GetPropsAsDict()
            assert (about["SMILES"], about["valid"], about["bonds"]) == ("O=C=O", "yes", "perceived")

    def test_csv(self, generate: Run, carbon_dioxide: str) -> None:
        generate("-n", 2, "--scaffold", carbon_dioxide, "--formula", "CO2", "-o", "out.csv")
        rows = list(csv.DictReader(Path("out.csv").read_text().splitlines()))
        assert [(row["index"], row["smiles"], row["valid"], row["reason"]) for row in rows] == [
            ("0", "O=C=O", "yes", ""),
            ("1", "O=C=O", "yes", ""),
        ]

    def test_json_and_summary(self, generate: Run, generator: str) -> None:
        result = generate("-n", 6, "--seed", 3, "--json", "-o", "out.sdf")
        report, summary = json.loads(result.out), json.loads(Path("out.summary.json").read_text())
        assert (report["drawn"], report["written"], report["left_out"]) == (6, 6, 0)
        assert report["suites"]["strict"]["metrics"]["valid"]["of"] == 6
        assert (summary["command"], summary["seed"], summary["model"]["name"]) == ("generate molecules", 3, generator)
        assert {**summary, **report} == summary
        # Euler's method: one of each network a step
        assert report["evaluations_per_molecule"] == {"skeleton": 4, "hydrogens": 4}

    def test_picture(self, generate: Run) -> None:
        from matplotlib.image import imread

        generate("-n", 8, "--picture", "out.png")
        picture = imread("out.png")
        assert picture.shape[:2] == (2 * 230, 6 * 240)
        assert picture[..., :3].min() < 0.5
        generate("-n", 1, "--picture", "out.svg")
        assert "<svg" in Path("out.svg").read_text()

    def test_report(self, generate: Run) -> None:
        result = generate("-n", 8, "-o", "out.extxyz", "--report", "out.html", "--json")
        text = Path("out.html").read_text(encoding="utf-8")
        images = ase.io.read("out.extxyz", ":")
        scenes = viewer_data(text)["scenes"]
        assert [scene["numbers"] for scene in scenes] == [atoms.numbers.tolist() for atoms in images]
        for scene, atoms in zip(scenes, images, strict=True):
            assert np.allclose(np.reshape(scene["frames"][0]["places"], (-1, 3)) / 1000, atoms.positions, atol=6e-4)
        assert text.count('<td class="text">no: ') == len(images)
        found = json.loads(result.out)["suites"]["edm"]["metrics"]["atom_stability"]["value"]
        assert f'<td class="text">atom stability</td><td>{100 * found:.2f}</td>' in text
        summary = json.loads(Path("out.summary.json").read_text())
        assert summary["outputs"] == ["out.extxyz", "out.html"]
        assert summary["model"]["sha256"] in text

    def test_only_valid_goes_on_until_there_are_enough(self, generate: Run, carbon_dioxide: str) -> None:
        result = generate("-n", 3, "--scaffold", carbon_dioxide, "--formula", "CO2", "--only-valid", "--json")
        assert result.status == 0
        assert (json.loads(result.out)["drawn"], json.loads(result.out)["written"]) == (3, 3)

    def test_only_valid_gives_up(self, generate: Run) -> None:
        result = generate("-n", 2, "--steps", 1, "--sampler", "euler", "--only-valid", "-o", "out.sdf")
        assert result.status == 1
        assert result.err.splitlines()[-1] == (
            "error: after 40 tries there are 0 of the 2 molecules asked for: nothing is written"
        )
        assert not Path("out.sdf").exists()

    def test_condition_from_a_file(self, generate: Run) -> None:
        Path("c.yaml").write_text("condition: [gap=5.2]\nnumber: 2\n")
        assert generate("--config", "c.yaml").status == 0
        assert json.loads(Path("molecules.summary.json").read_text())["options"]["condition"] == ["gap=5.2"]

    def test_a_wish_outside_of_the_training_set_is_said(self, generate: Run) -> None:
        assert "note: " not in generate("-n", 1, "--condition", "gap=7.9").err
        assert json.loads(Path("molecules.summary.json").read_text())["notes"] == []
        (note,) = [line for line in generate("-n", 1, "--condition", "gap=8.1").err.splitlines() if "note: " in line]
        assert note == "note: gap=8.1 extrapolates: the training molecules span 2 to 8"
        assert json.loads(Path("molecules.summary.json").read_text())["notes"] == [note.removeprefix("note: ")]

    def test_a_wish_far_from_most_of_the_training_set_is_said(self, run: Run, generator: str) -> None:
        """Of an older file, which has no ranges, as it would be of a rare value."""
        about = read_metadata(generator)
        ranges = about.pop("condition_ranges")
        assert ranges == {"gap": [2.0, 8.0]}
        save_file(load_file(generator), "older.safetensors", metadata={"atomsml": json.dumps(about)})
        spread = 4 * np.abs(np.linspace(2, 8, len(SEEN)) - 5).mean()
        words = ("generate", "molecules", "-m", "older.safetensors", "--steps", 4, "-n", 1, "--condition")
        assert "note: " not in run(*words, f"gap={5 + 0.99 * spread}").err
        (note,) = [line for line in run(*words, "gap=500").err.splitlines() if "note: " in line]
        assert note.startswith("note: gap=500 is far from what the model was trained on: mean 5, ")
        assert note.endswith(f"hence hardly anything outside of {5 - spread:.3g} to {5 + spread:.3g}")

    def test_progress_is_plain_lines_in_a_log(self, generate: Run) -> None:
        err = generate("-n", 40).err
        lines = [line for line in err.splitlines() if line.startswith("generate  step ")]
        assert 8 <= len(lines) <= 14
        assert "\r" not in err
        assert "\x1b" not in err

    @both
    @pytest.mark.parametrize("steps", [4, 70])  # the hydrogens of a flow take 50 at most
    def test_progress_counts_the_states_that_come(self, generator: str, steps: int) -> None:
        model = load_generator(generator)
        for sampler in ("ddpm", "heun"):
            states = sum(1 for _ in model.sample(model.requests([1, 2, 3]), steps, sampler))
            assert model.num_states(steps, sampler) == states
        assert model.num_states(steps, "adaptive") is None

    def test_progress_ends_at_the_end(self, run: Run, generator: str) -> None:
        result = run("generate", "molecules", "-m", generator, "-n", 2, "--steps", 200, "--batch", 2, "-o", "out.xyz")
        lines = [line for line in result.err.splitlines() if line.startswith("generate  step ")]
        assert [line.split()[2] for line in lines] == [f"{step}/250" for step in range(0, 250, 25)]

    def test_progress_of_a_sampler_that_chooses_its_steps(self, run: Run, generators: dict[str, str]) -> None:
        words = ("-m", generators["edm"], "-n", 2, "--sampler", "adaptive", "-o", "out.xyz")
        assert "generate  step 0  0 of 2 molecules" in run("generate", "molecules", *words).err


class TestRelaxes:
    def test_ranked_by_strain_and_only_what_keeps_its_bonds(self) -> None:
        """Molecules pulled from their minimum by more and more, and one whose atoms will find each other."""
        calculator = AtomsMLCalculator("organic-xtb")
        water, images = molecule("H2O"), []
        for stretch in (1.08, 1.0, 1.04):
            images.append(water.copy())
            images[-1].positions *= stretch
        images.append(molecule("CO2"))
        images[-1].set_distance(0, 1, 2.0, fix=0)  # no bond yet
        drawn = [
            Generated(i, 100 + i, atoms, perceived, "")
            for i, (atoms, perceived) in enumerate(zip(images, perceive(images), strict=True))
        ]
        ranking = relax_and_rank(drawn, calculator, held=0)
        assert [kept.index for kept in ranking.kept] == [1, 2, 0]
        assert ranking.dropped == [{"index": 3, "reason": "its bonding changed"}]
        for kept in ranking.kept:
            start, end = images[kept.index].copy(), kept.atoms.copy()
            start.calc = end.calc = calculator
            fall = start.get_potential_energy() - end.get_potential_energy()
            assert kept.strain == pytest.approx(fall / (ase.units.kcal / ase.units.mol), abs=1e-3)
            assert np.linalg.norm(end.get_forces(), axis=1).max() < 0.051

    def test_radicals_are_not_for_a_model_of_closed_shells(self, capsys: pytest.CaptureFixture[str]) -> None:
        images = [molecule("CH4"), ase.Atoms("CH3", molecule("CH3").positions)]
        drawn = [
            Generated(i, i, atoms, one, "") for i, (atoms, one) in enumerate(zip(images, perceive(images), strict=True))
        ]
        ranking = relax_and_rank(drawn, AtomsMLCalculator("organic-xtb"), held=0)
        assert [kept.index for kept in ranking.kept] == [0]
        ((index, reason),) = [row.values() for row in ranking.dropped]
        assert index == 1
        assert str(reason).startswith("it has an odd number of electrons (9), the model was made for")
        assert ", and the model was not made for 1; they are left out" in capsys.readouterr().err

    def test_scaffold_is_held_also_then(self, generate: Run) -> None:
        """Acetylene all of whose carbon is held, too far apart; its hydrogens alone move."""
        ase.io.write("core.xyz", ase.Atoms("C2", [[0, 0, 0], [0, 0, 1.3]]))
        drawn = ase.Atoms("C2H2", [[0, 0, 0], [0, 0, 1.3], [0, 0, -1.0], [0, 0, 2.4]])
        (perceived,) = perceive([drawn])
        ranking = relax_and_rank([Generated(0, 1, drawn, perceived, "")], AtomsMLCalculator("organic-xtb"), held=2)
        assert np.array_equal(ranking.kept[0].atoms.positions[:2], drawn.positions[:2])
        assert np.abs(ranking.kept[0].atoms.positions[2:] - drawn.positions[2:]).max() > 0.01

    def test_in_the_same_run(self, generate: Run, carbon_dioxide: str) -> None:
        words = ("--scaffold", carbon_dioxide, "--formula", "CO2", "--relax", "organic-xtb", "-o", "out.sdf")
        result = generate("-n", 2, *words)
        assert result.status == 0
        assert [mol.GetPropsAsDict()["strain_kcal_mol"] for mol in records("out.sdf")] == [0.0, 0.0]
        assert "median strain" in result.out


class TestRefuses:
    @pytest.mark.parametrize(
        ("words", "message"),
        [
            (("-n", 0), "-n must be at least 1, got 0"),
            (("--formula", "C6H6Xx"), "'C6H6Xx' is no chemical formula"),
            (("--formula", "C6H6O+"), "the formula C6H6O+ has a charge, and generators draw neutral molecules"),
            (("--formula", "C2H5"), "has 17 electrons, an odd number"),
            (("--formula", "CH6"), "CH6 cannot be one molecule"),
            (("--formula", "CH4", "--atoms", 6), "--formula CH4 has 5 atoms, --atoms is 6; give one"),
            (("--formula", "CH4S"), "the model does not know S; its elements are H, C, N, O"),
            (("--atoms", 99), "the model knows no composition with 99 atoms"),
            (("--condition", "gap"), "is not NAME=NUMBER"),
            (("--condition", "gap=1", "--condition", "gap=2"), "--condition gap is given twice"),
            (("--condition", "mu=1"), "the model has no condition 'mu'; its conditions are: gap"),
            (("--guidance", 2), "--guidance follows conditions, and none is given"),
            (("--scaffold", "nothing.sdf"), "no file nothing.sdf"),
            (("--scaffold", "water.xyz", "--formula", "CH4"), "lacks O of the scaffold"),
            (("--scaffold", "two.sdf"), "two.sdf: has 2 molecules; a scaffold is one"),
            (("--scaffold", "hydrogen.xyz"), "has no heavy atoms"),
            (("--sampler", "fog"), "unknown sampler 'fog'"),
            (("-o", "out.pdb"), "cannot write molecules to out.pdb; use the suffix"),
            (("-o", "water.xyz/out.sdf"), "cannot write water.xyz/out.sdf"),
            (("--picture", "out.pdf"), "cannot draw out.pdf; use the suffix .png or .svg"),
            (("--report", "out.htm"), "cannot write the report out.htm; use the suffix .html"),
            (("--report", "water.xyz/out.html"), "cannot write water.xyz/out.html"),
            (("--relax", "refractory-pbe"), "--relax refractory-pbe: the model does not know H, C, N, O"),
            (
                ("-m", "qm9-graph-flow", "--condition", "gap=5"),
                "the model has no condition 'gap'; its conditions are: none; take qm9-flow, which has it",
            ),
            (("-m", "organic-xtb"), "organic-xtb is a potential, not a generator"),
        ],
    )
    def test_in_one_line_without_writing(self, generate: Run, words: tuple[object, ...], message: str) -> None:
        ase.io.write("water.xyz", molecule("H2O"))
        ase.io.write("hydrogen.xyz", molecule("H2"))
        record = Chem.MolToMolBlock(Chem.MolFromSmiles("O"))
        Path("two.sdf").write_text(f"{record}$$$$\n{record}$$$$\n")
        before = sorted(Path().iterdir())
        result = generate(*words)
        assert result.status == 1
        assert message in result.err.splitlines()[-1]
        assert result.err.splitlines()[-1].startswith("error: ")
        assert "Traceback" not in result.err
        assert sorted(Path().iterdir()) == before


def test_ctrl_c_keeps_what_is_finished(generator: str, tmp_path: Path) -> None:
    words = ["-m", generator, "-n", "300", "--steps", "20", "--batch", "4", "-o", "out.extxyz"]
    command = [sys.executable, "-m", "atomsml.cli", "generate", "molecules", *words]
    with subprocess.Popen(
        command,
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a suite in the background ignores it
    ) as process:
        assert process.stderr is not None
        started, tenth = process.stderr.readline(), process.stderr.readline()
        process.send_signal(signal.SIGINT)
        lines = process.stderr.read().splitlines()
        assert process.wait() == 130
    assert started.startswith("generate  step 0/")
    finished = int(tenth.split()[3])
    images = ase.io.read(tmp_path / "out.extxyz", ":")
    assert finished <= len(images) < 300
    assert lines[-1] == f"interrupted: {len(images)} molecules are in out.extxyz, of the 300 asked for"
    assert json.loads((tmp_path / "out.summary.json").read_text())["written"] == len(images)


@pytest.mark.parametrize("generator", ["graph-flow"], indirect=True)
class TestGivenBonds:
    def test_a_file_of_smiles(self, generate: Run) -> None:
        """Each in turn, with its bonds, whatever the positions are."""
        Path("some.smi").write_text("CCO ethanol\nN#CC=O\n")
        assert generate("--smiles", "some.smi", "-n", 3, "-o", "out.sdf").status == 0
        for number, mol in enumerate(records("out.sdf")):
            assert Chem.MolToSmiles(Chem.RemoveHs(mol)) == ("CCO", "N#CC=O")[number % 2]
            assert mol.GetProp("bonds") == "drawn"
        assert number == 5

    def test_molecules_do_not_depend_on_how_many_there_are(self, generate: Run) -> None:
        generate("--smiles", "CCO", "-n", 2, "-o", "few.xyz")
        generate("--smiles", "CCO", "-n", 4, "--batch", 1, "-o", "more.xyz")
        for few, more in zip(ase.io.read("few.xyz", ":"), ase.io.read("more.xyz", ":2"), strict=True):
            np.testing.assert_allclose(few.positions, more.positions, atol=1e-4)  # float32, through eight networks

    def test_stereochemistry_is_that_of_the_smiles_or_left_out(self, generate: Run) -> None:
        """Networks with random weights put atoms anywhere: half are mirrored, none is of the other kind."""
        result = generate("--smiles", "C[C@H](O)C#N", "-n", 6, "-o", "out.sdf")
        assert result.status == 0
        mols = records("out.sdf")
        assert len(mols) == 6
        for mol in mols:
            Chem.AssignStereochemistryFrom3D(mol)
            assert Chem.MolToSmiles(Chem.RemoveHs(mol)) == Chem.CanonSmiles("C[C@H](O)C#N")

    def test_positions_that_say_other_bonds_are_not_valid(self, generate: Run) -> None:
        """As those of random weights, in every format."""
        generate("--smiles", "CCO", "-n", 4, "-o", "out.csv")
        with open("out.csv", newline="") as file:
            rows = list(csv.DictReader(file))
        assert {row["smiles"] for row in rows} == {"CCO"}
        assert {row["valid"] for row in rows} == {"no"}
        assert all(row["reason"] for row in rows)

    @pytest.mark.parametrize(
        ("words", "message"),
        [
            (("--smiles", "CC("), "SMILES 'CC(' cannot be parsed; check its brackets, ring closures and elements"),
            (
                ("--smiles", "CCO", "--atoms", 9),
                "--smiles says what the molecule is, so that --atoms has nothing to add",
            ),
            (("--smiles", "CCCl"), "the model does not know Cl; its elements are H, C, N, O"),
            (("--smiles", "bad.smi"), "bad.smi, line 2: SMILES 'C1CC' cannot be parsed"),
            (("--smiles", "empty.smi"), "empty.smi: has no SMILES; write one on each line"),
            (("--smiles", "two.smi", "--only-valid"), "--only-valid counts the valid molecules of all SMILES together"),
        ],
    )
    def test_refusals_are_one_line(self, generate: Run, words: tuple[object, ...], message: str) -> None:
        Path("bad.smi").write_text("CCO\nC1CC\n")
        Path("empty.smi").write_text("# nothing\n")
        Path("two.smi").write_text("C\nCC\n")
        result = generate(*words, "-o", "out.sdf")
        assert result.status == 1
        assert result.err.startswith(f"error: {message}")
        assert result.err.count("\n") == 1
        assert not Path("out.sdf").exists()

    def test_a_scaffold_of_unknown_bonds_is_refused(self, generate: Run, carbon_dioxide: str) -> None:
        result = generate("--scaffold", carbon_dioxide, "--formula", "C2H4O2", "-o", "out.sdf")
        assert (result.status, result.err.count("error: ")) == (1, 1)
        assert "error: the bonds of the scaffold are not known" in result.err


def test_a_generator_that_draws_bonds_itself_takes_no_smiles(generate: Run) -> None:
    result = generate("--smiles", "CCO", "-o", "out.sdf")
    assert (result.status, result.err) == (
        1,
        "error: the model draws the bonds of its molecules itself; give --smiles to a graph-flow\n",
    )
