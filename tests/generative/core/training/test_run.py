"""A run of a generator learns, repeats itself, resumes bit for bit, keeps the last average and says what is wrong."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ase
import ase.io
import numpy as np
import pytest
import torch
from ase.build import molecule
from rdkit import Chem
from rdkit.Chem import rdDistGeom

from atomsml.generative.core.training.config import GeneratorConfig, generator_config, starter_generator_config
from atomsml.generative.core.training.judge import judge
from atomsml.generative.core.training.run import GeneratorRun
from atomsml.generative.molecules.data import read_molecules
from atomsml.generative.molecules.metrics.edm import stability
from atomsml.generative.molecules.modelfile import load_generator
from atomsml.modelfile import read_metadata
from atomsml.training.loop import CLIP_AFTER, CLIP_HISTORY, largest_norm
from atomsml.yaml_file import read_mapping

NAMES = ("H2O", "CH4", "CH3OH", "H2CO")
TINY = {
    "model": "edm",
    "model_options": {"channels": 8, "num_layers": 1},
    "batch": {"samples": 8},
    "evaluate_epochs": 1,
    "judge": {"samples": 4, "steps": 3},
}

Config = Callable[..., GeneratorConfig]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    rng, images = np.random.default_rng(0), []
    for i in range(40):
        atoms = molecule(NAMES[i % 4])
        atoms.positions += rng.normal(scale=0.03, size=atoms.positions.shape)
        atoms.info["gap"] = float(i % 4)
        images.append(atoms)
    ase.io.write(tmp_path / "molecules.extxyz", images)
    return tmp_path / "molecules.extxyz"


@pytest.fixture
def config(data: Path) -> Config:
    def make(**changes: Any) -> GeneratorConfig:
        return generator_config({**TINY, "data": {"train": str(data), "valid": 8}, "max_steps": 12, **changes})

    return make


def train(config: GeneratorConfig, folder: Path, resume: bool = False, stop_after: int | None = None) -> GeneratorRun:
    run = GeneratorRun(config, folder, resume)
    for progress in run.steps():
        run.stop_requested = progress.step.number == stop_after
    return run


def rows(folder: Path) -> list[dict[str, Any]]:
    """Lines of metrics.jsonl, but for the clock."""
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [{key: value for key, value in json.loads(line).items() if key != "minutes"} for line in lines]


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    return load_generator(folder / "model.safetensors").state_dict()


def test_training_learns(config: Config, tmp_path: Path) -> None:
    run = train(config(max_steps=40, evaluate_epochs=5, ema_decay=0.8), tmp_path / "run")
    losses = [row["valid_loss"] for row in rows(tmp_path / "run")]
    assert losses[-1] < 0.75 * losses[0]
    assert run.counts() == {"train": 32, "valid": 8}


def test_the_kept_model_is_the_last_average_with_the_tables_of_the_data(
    config: Config, data: Path, tmp_path: Path
) -> None:
    run = train(config(conditions=["gap"]), tmp_path / "run")
    kept = load_generator(tmp_path / "run" / "model.safetensors")
    for name, tensor in run.state.averaged.state_dict().items():
        assert torch.equal(tensor, kept.state_dict()[name]), name
    assert kept.config.elements == (1, 6, 8)
    seen = {tuple(np.bincount(row, minlength=9)[[1, 6, 8]].tolist()) for row in run.train.rows()}
    assert {tuple(row) for row in kept.formulas.tolist()} == seen
    assert kept.formula_counts.sum() == 32
    gaps = run.train.properties["gap"]
    assert kept.condition_mean.item() == pytest.approx(gaps.mean())
    assert kept.condition_scale.item() == pytest.approx(np.abs(gaps - gaps.mean()).mean())
    about = read_metadata(tmp_path / "run" / "model.safetensors")
    assert (about["kind"], about["generates"]) == ("generator of molecules", "molecules")
    assert about["conditions"] == ["gap"]
    assert about["training"]["data"] == {"train": 32, "valid": 8}
    assert about["metrics"]["valid"]["step"] == 12
    written = generator_config(read_mapping(tmp_path / "run" / "config.yaml"))
    assert written == run.config


def test_a_stopped_run_ends_as_one_that_was_not(config: Config, tmp_path: Path) -> None:
    train(config(), tmp_path / "whole")
    train(config(), tmp_path / "parts", stop_after=5)
    assert len(rows(tmp_path / "parts")) < len(rows(tmp_path / "whole"))
    train(config(), tmp_path / "parts", resume=True)
    assert rows(tmp_path / "parts") == rows(tmp_path / "whole")
    whole, parts = tensors(tmp_path / "whole"), tensors(tmp_path / "parts")
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    train(config(seed=1), tmp_path / "other")
    assert [row["train_loss"] for row in rows(tmp_path / "other")] != [
        r["train_loss"] for r in rows(tmp_path / "whole")
    ]
    with pytest.raises(ValueError, match="holds a run already; add --resume"):
        GeneratorRun(config(), tmp_path / "whole")
    with pytest.raises(ValueError, match="belongs to a run with other data, model or loss"):
        GeneratorRun(config(clip=1.0), tmp_path / "whole", resume=True)


def test_the_validation_loss_has_the_same_noise_at_every_evaluation(config: Config, tmp_path: Path) -> None:
    run = train(config(), tmp_path / "run")
    last = rows(tmp_path / "run")[-1]["valid_loss"]
    assert run.validation_loss() == run.validation_loss() == last


WIDTHS = {"channels": 8, "pair_channels": 8, "vectors": 2, "hidden": 8, "num_layers": 1}


@pytest.mark.parametrize(
    ("model", "options"),
    [("edm", {"channels": 8, "num_layers": 1}), ("flow", {"skeleton": WIDTHS, "hydrogens": WIDTHS})],
)
def test_every_generator_goes_on_bit_for_bit_on_molecules_with_bonds(
    tmp_path: Path, model: str, options: dict[str, Any]
) -> None:
    with Chem.SDWriter(str(tmp_path / "m.sdf")) as writer:
        for smiles in ("CCO", "CC=O", "c1ccoc1", "C#N", "CNC", "OCC#N", "NC=O", "CC"):
            mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
            rdDistGeom.EmbedMolecule(mol, randomSeed=1)
            writer.write(mol)
    data = {"train": str(tmp_path / "m.sdf"), "valid": 2}
    config = generator_config({**TINY, "model": model, "model_options": options, "data": data, "max_steps": 4})
    whole = train(config, tmp_path / "whole")
    train(config, tmp_path / "parts", stop_after=2)
    parts = train(config, tmp_path / "parts", resume=True)
    for name, tensor in whole.state.averaged.state_dict().items():
        assert torch.equal(tensor, parts.state.averaged.state_dict()[name]), name
    assert judge(parts)["samples"]["drawn"] == 4


def test_judgement(config: Config, tmp_path: Path) -> None:
    run = train(config(), tmp_path / "run")
    result = judge(run)
    assert json.loads((tmp_path / "run" / "summary.json").read_text()) == result
    images: list[ase.Atoms] = ase.io.read(tmp_path / "run" / "samples.extxyz", ":")
    assert len(images) == 4
    assert {len(atoms) for atoms in images} <= {3, 4, 5, 6}  # as in training
    found = stability(images)
    assert result["samples"]["stable_atoms"] == found.atom_fraction
    assert result["samples"]["seconds"] > 0
    assert result["samples"]["stable_molecules"] == found.molecule_fraction
    assert (result["steps"], result["data"]) == (12, {"train": 32, "valid": 8})
    assert result["likelihood"]["of"] + result["likelihood"]["infinite"] == 8
    assert result["likelihood"]["low"] < result["likelihood"]["nll_bound"] < result["likelihood"]["high"]
    quiet = train(config(judge={"samples": 0}), tmp_path / "quiet")
    assert "samples" not in judge(quiet)


def test_a_loss_that_is_not_finite_saves_its_batch(config: Config, tmp_path: Path) -> None:
    run = GeneratorRun(config(), tmp_path / "run")
    with torch.no_grad():
        next(run.state.model.parameters()).fill_(float("nan"))
    with pytest.raises(ValueError, match=r"the loss became nan .* at step 1; the batch of that step is in"):
        list(run.steps())
    images: list[ase.Atoms] = ase.io.read(tmp_path / "run" / "bad_batch.extxyz", ":")
    assert sorted(len(atoms) for atoms in images) == sorted(len(row) for row in _first_batch(run))


def _first_batch(run: GeneratorRun) -> list[list[int]]:
    return [run.train.rows()[i] for i in run.loader.plan(0)[0].tolist()]


def test_adaptive_clipping() -> None:
    assert largest_norm(3.0, [1.0] * 50) == 3.0
    assert largest_norm("adaptive", [1.0] * (CLIP_AFTER - 1)) == np.inf
    norms = np.random.default_rng(0).exponential(size=CLIP_HISTORY).tolist()
    assert largest_norm("adaptive", norms) == pytest.approx(1.5 * np.mean(norms) + 2 * np.std(norms))


def test_the_last_norms_are_remembered_as_they_were_clipped(config: Config, tmp_path: Path) -> None:
    run = GeneratorRun(config(max_steps=55, evaluate_epochs=50), tmp_path / "run")
    seen: list[list[float]] = []
    for _ in run.steps():
        seen.append(run.state.norms)
    assert [len(norms) for norms in seen] == [*range(1, 51), *[50] * 5]
    for before, after in zip(seen[CLIP_AFTER:], seen[CLIP_AFTER + 1 :], strict=False):
        assert after[:-1] == before[-49:]
        assert after[-1] <= largest_norm("adaptive", before)
    assert min(min(norms) for norms in seen) > 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": {}}, "no training data; give data.train"),
        ({"model": "edn"}, "unknown model 'edn'; did you mean 'edm'? there are"),
        ({"size": "huge"}, "unknown size 'huge'; edm has small"),
        ({"model_options": {"chanels": 4}}, "did you mean 'channels'?"),
        (
            {"conditions": ["gab"]},
            "the training set has no property 'gab'; did you mean 'gap'? its properties are: gap",
        ),
        ({"batch": {"structures": 4}}, "unknown config keys ['batch.structures']"),
        ({"references": "zero"}, "unknown config keys ['references']"),
        ({"max_steps": 0}, "max_steps must be positive, got 0"),
        ({"clip": -1.0}, "clip must be positive, got -1"),
        ({"judge": {"steps": 0}}, "judge needs"),
        ({"ema_decay": 1.0}, "ema_decay must lie in 0 .. 1"),
    ],
)
def test_bad_configs_get_one_line(config: Config, tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        GeneratorRun(config(**changes), tmp_path / "run")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("gap", "message"),
    [
        (np.nan, "'gap' is NaN or infinite for every sample of the training set"),
        (1e300, "more than single precision"),
    ],
)
def test_properties_that_say_nothing_are_refused(config: Config, data: Path, gap: float, message: str) -> None:
    images = ase.io.read(data, ":")
    for atoms in images:
        atoms.info["gap"] = gap
    ase.io.write(data, images)
    with pytest.raises(ValueError, match=message):
        GeneratorRun(config(conditions=["gap"]), data.parent / "run")


def test_one_molecule_cannot_be_split(config: Config, data: Path) -> None:
    ase.io.write(data, molecule("H2O"))
    with pytest.raises(ValueError, match="nothing can be held out of 1 sample; give more"):
        GeneratorRun(config(), data.parent / "run")


def test_validation_files_must_be_of_the_same_elements(config: Config, data: Path, tmp_path: Path) -> None:
    ase.io.write(tmp_path / "valid.extxyz", [molecule("H2O"), molecule("NH3")])
    sets = {"train": str(data), "valid": str(tmp_path / "valid.extxyz")}
    with pytest.raises(ValueError, match="the validation set has elements that the training set lacks: N;"):
        GeneratorRun(config(data=sets), tmp_path / "run")
    ase.io.write(tmp_path / "valid.extxyz", [molecule("H2O")] * 3)
    run = GeneratorRun(config(data=sets), tmp_path / "run")
    assert run.counts() == {"train": len(read_molecules([data])), "valid": 3}


def test_the_starter_config_is_a_config(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(starter_generator_config("edm", "molecules.sdf", ["flow", "edm"]))
    config = generator_config(read_mapping(path))
    assert config == generator_config({"model": "edm", "data": {"train": ["molecules.sdf"]}, "max_minutes": 60})
    assert "# Generators, for the key model: flow, edm." in starter_generator_config(
        "edm", "molecules.sdf", ["flow", "edm"]
    )
