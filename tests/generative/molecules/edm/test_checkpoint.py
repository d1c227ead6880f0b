"""Files of EDM's authors are read without running anything in them; they are made here of the golden weights."""

from __future__ import annotations

import argparse
import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase.build import molecule
from ase.io import write

from atomsml.cli.main import main
from atomsml.generative.core.modelfile import load_generator
from atomsml.generative.molecules.edm.checkpoint import convert, is_checkpoint
from atomsml.generative.molecules.edm.model import EDM
from atomsml.generative.molecules.model import draw_requests

# what their program writes, as far as it matters
ARGUMENTS = {
    **{"exp_name": "edm_qm9", "model": "egnn_dynamics", "probabilistic_model": "diffusion", "diffusion_steps": 1000},
    **{"diffusion_noise_schedule": "polynomial_2", "diffusion_noise_precision": 1e-5, "condition_time": True},
    **{"nf": 16, "n_layers": 2, "inv_sublayers": 1, "tanh": True, "attention": True, "norm_constant": 1},
    **{"sin_embedding": False, "dataset": "qm9", "remove_h": True, "conditioning": [], "context_node_nf": 0},
    **{"normalize_factors": [1, 4, 10], "include_charges": True, "normalization_factor": 1, "cuda": True},
}
CONDITIONAL = {
    **{"conditioning": ["gap"], "context_node_nf": 1, "inv_sublayers": 2, "include_charges": False},
    "normalize_factors": [1, 8, 1],
}


def write_files(folder: Path, kind: str = "plain", **changes: Any) -> Path:
    """The weights of make_edm_golden.py, whose four elements are taken for C, N, O and F, and the arguments."""
    with np.load(Path(__file__).parents[3] / "data" / "edm" / "golden.npz") as file:
        start = f"{kind}/weight/"
        weights = {n.removeprefix(start): torch.from_numpy(file[n]).float() for n in file.files if n.startswith(start)}
    path = folder / "generative_model_ema.npy"
    torch.save(OrderedDict(weights), path)
    (folder / "args.pickle").write_bytes(pickle.dumps(argparse.Namespace(**{**ARGUMENTS, **changes})))
    return path


def training_set(folder: Path) -> Path:
    images = [molecule(name) for name in ("CO", "CF4", "N2", "CO2")]
    for number, atoms in enumerate(images):
        atoms.info["gap"] = float(number)
    write(folder / "train.extxyz", images)
    return folder / "train.extxyz"


def run(*arguments: str | Path) -> None:
    with pytest.raises(SystemExit) as ended:
        main([str(each) for each in arguments])
    assert ended.value.code == 0


def test_convert_and_draw(tmp_path: Path) -> None:
    path = write_files(tmp_path)
    run("convert", path, "-o", tmp_path / "edm.safetensors")
    model = load_generator(tmp_path / "edm.safetensors")
    assert isinstance(model, EDM)
    assert model.describe()["molecules"] == 100_000
    stored = torch.load(path, weights_only=True)
    assert torch.equal(model.network.embedding.weight, stored["dynamics.egnn.embedding.weight"])
    assert torch.equal(model.network.readout.bias, stored["dynamics.egnn.embedding_out.bias"][:5])
    requests = draw_requests(model, [0, 1], num_atoms=4)
    *_, drawn = model.sample(requests, 3)
    assert drawn.sizes.tolist() == [4, 4]


def test_a_conditional_model_takes_its_deviations_from_the_training_set(tmp_path: Path) -> None:
    path = write_files(tmp_path, "conditional", dataset="qm9", **CONDITIONAL)
    with pytest.raises(ValueError, match="does not hold the means and deviations of gap; give the training set by"):
        convert(path)
    model, _ = convert(path, EDM.read([training_set(tmp_path)]))
    assert (model.condition_mean.item(), model.condition_scale.item()) == (1.5, 1.0)
    assert model.config.number_scale is None
    assert model.formula_counts.sum() == 4


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tanh": False}, "unsupported EDM: tanh = False; supported is True"),
        ({"dataset": "mine"}, "its data set 'mine'"),
        ({"diffusion_steps": 500}, "its noise schedule"),
        ({"normalize_factors": [2, 4, 10]}, "positions divided by 2"),
        ({"nf": 32}, "damaged"),
        ({"dataset": "geom", "remove_h": False}, "does not hold the sizes"),
    ],
)
def test_what_would_be_computed_differently_is_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        convert(write_files(tmp_path, **changes))


def test_weights_alone_are_not_enough(tmp_path: Path) -> None:
    path = write_files(tmp_path)
    (tmp_path / "args.pickle").unlink()
    assert is_checkpoint(path)
    with pytest.raises(ValueError, match=r"holds weights only; put args\.pickle"):
        convert(path)


def test_arguments_that_ask_for_more_are_refused(tmp_path: Path) -> None:
    path = write_files(tmp_path)

    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return print, ("never",)

    (tmp_path / "args.pickle").write_bytes(pickle.dumps(argparse.Namespace(exp_name=Evil())))
    with pytest.raises(ValueError, match=r"refused: the file asks for builtins\.print"):
        convert(path)
