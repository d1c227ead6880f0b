"""Model files: what goes in comes out, and what is no model file is refused in one line before it costs anything."""

import dataclasses
import hashlib
import json
import struct

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from atomsml import modelfile
from atomsml.config import BOUNDS
from atomsml.electronic_state import ElectronicState
from atomsml.generative import GENERATORS
from atomsml.potential import Potential
from atomsml.potentials import POTENTIALS


@pytest.fixture(autouse=True)
def registered(pair_potential, monkeypatch):
    """The architecture as a user would add one: a line in the dict."""
    monkeypatch.setitem(POTENTIALS, "pair", type(pair_potential))


@pytest.fixture
def path(tmp_path, pair_potential):
    path = tmp_path / "pair.safetensors"
    modelfile.save(pair_potential, path, {"kind": "crystals", "metrics": {"force_mae": 0.03}, "licence": "MIT"})
    return path


def rewrite(path, *, drop=(), tensors=None, metadata=None, **changes):
    """Change a model file as its damaged or hostile versions would be."""
    description = modelfile.read_metadata(path) | changes
    description = {key: value for key, value in description.items() if key not in drop}
    metadata = {"atomsml": json.dumps(description)} if metadata is None else metadata
    save_file(load_file(path) | (tensors or {}), path, metadata=metadata)


def message_of(path):
    with pytest.raises(ValueError, match=r".") as caught:
        modelfile.load(path)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 500
    return message


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_round_trip(tmp_path, pair_potential, dtype):
    with torch.no_grad():
        pair_potential.sigma += torch.tensor([0.1, -1 / 3])
    pair_potential.cast(dtype)
    modelfile.save(pair_potential, tmp_path / "a.safetensors", {})
    again = modelfile.load(tmp_path / "a.safetensors")
    assert type(again) is type(pair_potential)
    assert again.config == pair_potential.config
    assert again.dtype == dtype
    assert again.references.dtype == torch.float64
    assert not again.training
    for name, tensor in pair_potential.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor)


def test_loading_leaves_the_random_state_alone(path):
    before = torch.get_rng_state()
    modelfile.load(path)
    assert torch.equal(torch.get_rng_state(), before)


def test_metadata(path, pair_potential):
    assert modelfile.read_metadata(path) == {
        "format": 1,
        "architecture": "pair",
        "config": {"elements": [1, 18], "cutoff": 5.0, "epsilon": 0.1},
        "elements": ["H", "Ar"],
        "references": dict(zip(["H", "Ar"], pair_potential.references.tolist(), strict=True)),
        "references_kind": "given",
        "cutoff": 5.0,
        "parameters": 2,
        "name": "pair",
        "kind": "crystals",
        "charge": None,
        "spin": None,
        "metrics": {"force_mae": 0.03},
        "licence": "MIT",
    }


def test_charge_and_spin(path, pair_potential, tmp_path):
    assert modelfile.load(path).electronic_state == ElectronicState()
    rewrite(path, drop=["charge", "spin"])  # as files of 0.1.0
    assert modelfile.load(path).electronic_state == ElectronicState()
    pair_potential.electronic_state = ElectronicState(-1, 2)
    modelfile.save(pair_potential, tmp_path / "anion.safetensors", {})
    again = modelfile.load(tmp_path / "anion.safetensors")
    assert again.electronic_state == ElectronicState(-1, 2)
    modelfile.save(again, tmp_path / "other.safetensors", {"charge": 0, "spin": None})
    assert modelfile.load(tmp_path / "other.safetensors").electronic_state == ElectronicState(0, None)


def test_what_the_potential_says_wins_over_old_metadata(path, pair_potential, tmp_path):
    old = modelfile.read_metadata(path) | {"cutoff": 99.0, "name": "tuned"}
    modelfile.save(pair_potential, tmp_path / "b.safetensors", old)
    assert modelfile.read_metadata(tmp_path / "b.safetensors") == modelfile.read_metadata(path) | {"name": "tuned"}


def test_saving_replaces_a_file_whole_or_not_at_all(path, pair_potential):
    before = path.read_bytes()
    for wrong in ({"mae": float("nan")}, {"model": pair_potential}):
        with pytest.raises(ValueError, match="must be plain JSON without NaN"):
            modelfile.save(pair_potential, path, wrong)
    assert path.read_bytes() == before
    modelfile.save(pair_potential, path, {"name": "other"})
    assert modelfile.read_metadata(path)["name"] == "other"
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_an_architecture_that_could_not_be_loaded_is_not_saved(tmp_path, pair_potential, monkeypatch):
    monkeypatch.delitem(POTENTIALS, "pair")
    with pytest.raises(ValueError, match="a SmoothLennardJones has none; there are mace,"):
        modelfile.save(pair_potential, tmp_path / "a.safetensors", {})
    assert not list(tmp_path.iterdir())


def test_model_hash(path):
    assert modelfile.model_hash(path) == hashlib.sha256(path.read_bytes()).hexdigest()


def test_embedded_models_each_have_a_card_and_load():
    assert {"organic-xtb", "refractory-pbe", "universal-small"} <= modelfile.embedded_models().keys()
    for name, path in modelfile.embedded_models().items():
        assert path.with_suffix(".md").is_file()
        assert modelfile.find_model(name) == path
        assert modelfile.read_metadata(name)["name"] == name
        if modelfile.generated_kind(modelfile.read_metadata(name)) is None:
            assert modelfile.load(name).elements


def test_unknown_names(tmp_path):
    for unknown in ("no-such-model", str(tmp_path / "absent.safetensors"), tmp_path, ""):
        message = message_of(unknown)
        assert message.startswith(f"unknown model {str(unknown)!r}: no such file, and the embedded models are: ")
        assert all(name in message for name in modelfile.embedded_models())


@pytest.mark.parametrize(
    "content",
    [b"", b"ab", b"not a model at all, just text", b"\x80\x02}q\x00X\x05\x00\x00\x00model", b"PK\x03\x04" + bytes(100)],
)
def test_other_files(tmp_path, content):
    path = tmp_path / "x.model"
    path.write_bytes(content)
    message = message_of(path)
    assert "x.model is not a .safetensors model file" in message
    assert "atomsml convert" in message


def test_truncated_anywhere(path):
    content = path.read_bytes()
    for length in range(0, len(content), 7):
        path.write_bytes(content[:length])
        message = message_of(path)
        assert "is not a .safetensors" in message or "is truncated or damaged" in message
    path.write_bytes(content[:-1])
    assert "is truncated or damaged" in message_of(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"metadata": {"format": "pt"}}, "without atomsml metadata; it was not written by atomsml"),
        ({"metadata": {"atomsml": "{"}}, "metadata that is no valid JSON"),
        ({"metadata": {"atomsml": "[" * 100_000}}, "metadata that is no valid JSON"),
        ({"metadata": {"atomsml": "[1]"}}, "metadata that is no JSON object"),
        ({"drop": ["config", "cutoff"]}, "its metadata lacks config, cutoff"),
        ({"format": 2}, "has format 2, this atomsml reads up to 1; update atomsml"),
        ({"format": "one"}, "its metadata has an unknown format 'one'"),
        ({"architecture": "no-such"}, "unknown architecture 'no-such'; this atomsml has "),
        ({"architecture": ["pair"]}, "unknown architecture"),
        ({"architecture": "os.system"}, "unknown architecture 'os.system'"),
        ({"config": [1]}, "the config must be a JSON object, got [1]"),
        (
            {"config": {"elements": [1, 18], "cutoff": 5.0, "epsilon": 0.1, "run": "rm"}},
            "unknown config keys ['run']; PairConfig has",
        ),
        ({"config": {"elements": "H", "cutoff": 5.0, "epsilon": 0.1}}, "config key 'elements' must be tuple[int, ...]"),
        ({"config": {"elements": [1, 18.0], "cutoff": 5.0, "epsilon": 0.1}}, "config key 'elements' must be int"),
        (
            {"config": {"elements": [1, 18], "cutoff": True, "epsilon": 0.1}},
            "config key 'cutoff' must be float, got True",
        ),
        (
            {"config": {"elements": [1, 18], "cutoff": float("inf"), "epsilon": 0.1}},
            "config key 'cutoff' must be float, got inf",
        ),
        (
            {"config": {"elements": [1, 18], "cutoff": 5.0, "epsilon": "1" * 10**6}},
            "config key 'epsilon' must be float, got '1111",
        ),
        (
            {"config": {"elements": [1, 18, 36], "cutoff": 5.0, "epsilon": 0.1}},
            "tensor 'sigma' has shape (2,), its config asks for (3,)",
        ),
        ({"charge": 0.5}, "its charge must be null or a whole number from -1000 to 1000, got 0.5"),
        ({"charge": True}, "its charge must be null or a whole number"),
        ({"spin": 0}, "its spin must be null or a whole number from 1 to 1000, got 0"),
        ({"spin": "singlet"}, "its spin must be null or a whole number"),
        ({"spin": 10**400}, "its spin must be null or a whole number"),
        ({"elements": ["Ar", "H"]}, "contradicts itself: it says elements ['Ar', 'H'], but the model has ['H', 'Ar']"),
        ({"elements": ["H", "H"]}, "contradicts itself: it says elements"),
        ({"elements": 7}, "contradicts itself: it says elements"),
        ({"cutoff": 6.0}, "contradicts itself: it says cutoff 6.0, but the model has 5.0"),
        ({"cutoff": None}, "contradicts itself: it says cutoff None"),
        ({"references": {"H": 1.0}}, "contradicts itself: it says references"),
        ({"references": {"H": float("nan"), "Ar": 0.0}}, "contradicts itself: it says references"),
        ({"tensors": {"sigma": torch.tensor([1.0, torch.nan])}}, "tensor 'sigma' has numbers that are not finite"),
        ({"tensors": {"references": torch.tensor([1.0, torch.inf]).double()}}, "'references' has numbers that are not"),
        ({"tensors": {"extra": torch.zeros(1)}}, "has an unexpected tensor 'extra'"),
        ({"tensors": {"sigma": torch.zeros(2, dtype=torch.int64)}}, "tensor 'sigma' has type I64"),
        ({"tensors": {"sigma": torch.zeros(2, dtype=torch.float16)}}, "tensor 'sigma' has type F16"),
    ],
)
def test_wrong_contents(path, change, message):
    rewrite(path, **change)
    found = message_of(path)
    assert message in found
    assert str(path) in found


def test_a_config_older_than_a_field(path, pair_potential):
    """What is written today lacks the fields of tomorrow: their defaults mean what was done without them."""
    pair_potential.config = dataclasses.replace(pair_potential.config, epsilon=0.3)
    modelfile.save(pair_potential, path, {})
    assert modelfile.load(path).config.epsilon == 0.3
    rewrite(path, config={"elements": [1, 18], "cutoff": 5.0})
    assert modelfile.load(path).config.epsilon == 0.1


def test_a_missing_tensor(path):
    description = path.read_bytes()
    tensors = load_file(path)
    del tensors["sigma"]
    save_file(tensors, path, metadata={"atomsml": json.dumps(modelfile.read_metadata(path))})
    assert path.read_bytes() != description
    assert "lacks tensor 'sigma'" in message_of(path)


def test_headers_that_lie_about_sizes(path):
    header = {"a": {"dtype": "F64", "shape": [10**9, 10**3], "data_offsets": [0, 8 * 10**12]}}
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(64))
    assert "is truncated or damaged" in message_of(path)
    path.write_bytes(struct.pack("<Q", 2**40) + b"{}")
    assert "is not a .safetensors model file" in message_of(path)


@dataclasses.dataclass(frozen=True)
class WideConfig:
    elements: tuple[int, ...] = (1,)
    width: int = 2
    cutoff: float = 5.0


class Wide(Potential):
    """Its weights grow with the square of a number in the config."""

    Config = WideConfig

    def __init__(self, config: WideConfig) -> None:
        super().__init__(config)
        self.linear = nn.Linear(config.width, config.width)

    def forward(self, graph):
        raise NotImplementedError


@pytest.mark.parametrize(
    ("width", "message"),
    [
        (3, "tensor 'linear.weight' has shape (2, 2), its config asks for (3, 3)"),
        (10**6, "has an impossible config: the model would be far larger than its file"),  # 4 TB
        (10**12, "has an impossible config"),
        (10**30, "width must lie between"),
        (-3, "has an impossible config"),
    ],
)
def test_absurd_configs_are_refused_before_memory_is_spent(path, monkeypatch, width, message):
    monkeypatch.setitem(POTENTIALS, "wide", Wide)
    modelfile.save(Wide(WideConfig()), path, {})
    rewrite(path, config={"elements": [1], "width": width})
    assert message in message_of(path)


def test_a_model_file_has_the_permissions_of_any_other_file(path):
    other = path.with_name("other")
    other.write_bytes(b"")
    assert path.stat().st_mode == other.stat().st_mode


# Numbers in the config of every architecture

CLASSES = {name: known[name] for known in (POTENTIALS, GENERATORS) for name in known if name != "pair"}
TOO_MUCH = [10**400, -(10**400), 10**13, -(10**13), 1e308, float("nan"), float("inf"), -float("inf"), True, "5", [5]]


def numbers_of(config, prefix=()):
    """The path of every number of a config, through nested ones and into lists."""
    for field in dataclasses.fields(config):
        value, path = getattr(config, field.name), (*prefix, field.name)
        if dataclasses.is_dataclass(value):
            yield from numbers_of(value, path)
        elif isinstance(value, tuple) and value and not isinstance(value[0], str):
            yield from ((*path, i) for i in range(len(value)))
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield path


@pytest.mark.parametrize("name", CLASSES)
def test_every_number_of_a_config_has_bounds(name, tmp_path):
    config_class = CLASSES[name].Config
    atomic = "elements" in {field.name for field in dataclasses.fields(config_class)}
    config = config_class(elements=(1, 6, 8)) if atomic else config_class()
    paths = list(numbers_of(config))
    assert len(paths) > 8
    for path in paths:
        words = [word for word in path if isinstance(word, str)]
        assert words[-1] in BOUNDS, path
        for value in TOO_MUCH:
            values = json.loads(json.dumps(dataclasses.asdict(config)))
            place = values
            for word in path[:-1]:
                place = place[word]
            place[path[-1]] = value
            with pytest.raises(ValueError, match=r"^model file [^\n]{1,400}$"):
                modelfile.checked_config(tmp_path, {"config": values}, config_class)


@pytest.mark.parametrize(("name", "value"), [("cutoff", 1e-300), ("cutoff", -0.0), ("scale", 1e-300), ("shift", 1e9)])
def test_numbers_that_only_later_would_overflow(name, value):
    with pytest.raises(ValueError, match=f"^{name} must "):
        POTENTIALS["mace"].Config(elements=(1,), **{name: value})


def test_long_lists_are_refused():
    with pytest.raises(ValueError, match="radial_mlp must have at most 118 entries, got 1000"):
        POTENTIALS["mace"].Config(elements=(1,), radial_mlp=(8,) * 1000)
