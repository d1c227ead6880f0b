"""Files of generators: what goes in comes out, and neither a potential nor a hostile file is taken for one."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from atomsml import modelfile
from atomsml.generative.core.modelfile import save_generator
from atomsml.generative.molecules.edm.model import EDM, EDMConfig
from atomsml.generative.molecules.model import draw_requests
from atomsml.generative.molecules.modelfile import load_generator
from atomsml.generative.molecules.set import MoleculeSet

WATER, METHANE, ETHANOL = [8, 1, 1], [6, 1, 1, 1, 1], [6, 6, 8, 1, 1, 1, 1, 1, 1]


@pytest.fixture
def generator() -> EDM:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = EDMConfig((1, 6, 8), ("gap",), num_formulas=3, channels=8, num_layers=1, num_timesteps=10)
        model = EDM(config)
    rows = [np.array(row) for row in (WATER, METHANE, METHANE, ETHANOL)]
    places = [np.zeros((len(row), 3)) for row in rows]
    model.fit(MoleculeSet.from_rows(rows, places, [None] * 4, {"gap": np.array([1.0, 2.0, 3.0, 6.0])}))
    return model


@pytest.fixture
def path(tmp_path: Path, generator: EDM) -> Path:
    path = tmp_path / "tiny.safetensors"
    save_generator(generator, path, {"licence": "MIT", "metrics": {"stable_molecules": 0.5}})
    return path


def rewrite(path: Path, tensors: dict[str, torch.Tensor] | None = None, **changes: Any) -> None:
    description = modelfile.read_metadata(path) | changes
    save_file(load_file(path) | (tensors or {}), path, metadata={"atomsml": json.dumps(description)})


def message_of(path: str | Path) -> str:
    with pytest.raises(ValueError, match=r".") as caught:
        load_generator(path)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 500
    return message


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_round_trip(tmp_path: Path, generator: EDM, dtype: torch.dtype) -> None:
    generator.to(dtype)
    save_generator(generator, tmp_path / "a.safetensors", {})
    again = load_generator(tmp_path / "a.safetensors")
    assert type(again) is EDM
    assert again.config == generator.config
    assert not again.training
    assert not any(p.requires_grad for p in again.parameters())
    assert again.state_dict().keys() == generator.state_dict().keys()
    for name, tensor in generator.state_dict().items():
        assert again.state_dict()[name].dtype == tensor.dtype
        assert torch.equal(again.state_dict()[name], tensor)
    requests = draw_requests(generator, [1, 2, 3], conditions={"gap": 2.5})
    assert draw_requests(again, [1, 2, 3], conditions={"gap": 2.5}) == requests
    *_, ours = generator.sample(requests, 3, "ddim")
    *_, theirs = again.sample(requests, 3, "ddim")
    assert torch.equal(ours.positions, theirs.positions)
    assert torch.equal(ours.numbers, theirs.numbers)


def test_metadata(path: Path, generator: EDM) -> None:
    assert modelfile.read_metadata(path) == {
        "format": 1,
        "kind": "generator of molecules",
        "generates": "molecules",
        "architecture": "edm",
        "config": json.loads(json.dumps(dataclasses.asdict(generator.config))),
        "elements": ["H", "C", "O"],
        "conditions": ["gap"],
        "condition_ranges": {"gap": [1.0, 6.0]},
        "molecules": 4,
        "smallest": 3,
        "largest": 9,
        "parameters": sum(p.numel() for p in generator.parameters()),
        "name": "tiny",
        "licence": "MIT",
        "metrics": {"stable_molecules": 0.5},
    }


def test_older_files_say_no_ranges(path: Path, generator: EDM) -> None:
    about = modelfile.read_metadata(path)
    del about["condition_ranges"]
    save_file(load_file(path), path, metadata={"atomsml": json.dumps(about)})
    assert load_generator(path).condition_ranges == {}
    assert generator.condition_ranges == {"gap": (1.0, 6.0)}


def test_what_the_generator_says_wins(tmp_path: Path, path: Path, generator: EDM) -> None:
    old = modelfile.read_metadata(path) | {"kind": "molecules", "largest": 99}
    save_generator(generator, tmp_path / "b.safetensors", old)
    assert modelfile.read_metadata(tmp_path / "b.safetensors") == modelfile.read_metadata(path)


def test_a_generator_is_no_potential_and_the_other_way_round(path: Path) -> None:
    with pytest.raises(ValueError, match=r"tiny.safetensors is a generator of molecules, not a potential; draw"):
        modelfile.load(path)
    assert message_of("organic-xtb").startswith("organic-xtb is a potential, not a generator; `atomsml models`")
    assert "unknown model 'absent'" in message_of("absent")


def test_an_architecture_that_could_not_be_loaded_is_not_saved(tmp_path: Path, generator: EDM) -> None:
    class Mine(EDM):
        pass

    with pytest.raises(
        ValueError,
        match=r"a Mine has none; there are flow, graph-flow, edm, .*an entry point of the group atomsml.generators",
    ):
        save_generator(Mine(generator.config), tmp_path / "a.safetensors", {})
    with pytest.raises(ValueError, match="plain JSON without NaN"):
        save_generator(generator, tmp_path / "a.safetensors", {"loss": float("nan")})
    assert not list(tmp_path.iterdir())


def test_files_that_do_not_agree_with_themselves(path: Path, generator: EDM) -> None:
    whole = path.read_bytes()
    config = dataclasses.asdict(generator.config)

    def message(tensors: dict[str, torch.Tensor] | None = None, **changes: Any) -> str:
        path.write_bytes(whole)
        rewrite(path, tensors, **changes)
        return message_of(path)

    assert "unknown architecture 'mace'; this atomsml has" in message(architecture="mace")
    assert "unknown config keys ['width']" in message(config=config | {"width": 3})
    assert "'channels' must be int" in message(config=config | {"channels": "8"})
    assert "shape (3, 3), its config asks for (4, 3)" in message(config=config | {"num_formulas": 4})
    assert "would be far larger than its file" in message(config=config | {"channels": 4096})
    assert "unexpected tensor 'more'" in message({"more": torch.zeros(1)})
    assert "has type" in message({"formulas": torch.zeros(3, 3)})
    for impossible in (torch.zeros(3, 3).long(), torch.full((3, 3), -1), torch.full((3, 3), 2**40)):
        assert "is damaged" in message({"formulas": impossible})
    assert "is damaged" in message({"formula_counts": torch.zeros(3).long()})
    for ranges in (5, {"gap": 1.0}, {"gap": [6.0, 1.0]}, {"mu": [1.0, 6.0]}, {"gap": ["low", "high"]}):
        assert "condition_ranges are not two numbers" in message(condition_ranges=ranges)
    path.write_bytes(whole[:-8])
    assert "truncated or damaged" in message_of(path)


def test_a_generator_that_was_not_trained_asks_for_a_formula() -> None:
    model = EDM(EDMConfig((1, 6, 8), channels=8, num_layers=1))
    with pytest.raises(ValueError, match="knows no compositions, because it was not trained; give the whole --formula"):
        draw_requests(model, [0])
