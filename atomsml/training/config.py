"""What the training run of a potential is told, beside what every run is (`base_config.py`)."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

from atomsml.config import config_from_json
from atomsml.dataset import LabelKeys
from atomsml.training.base_config import RunConfig, commented_config
from atomsml.training.losses import LossConfig

References = Literal["auto", "isolated atoms", "least squares", "model", "given", "zero"]
Precision = Literal["float32", "float64", "bfloat16"]
FINETUNING_RATE = 0.005  # learning rate of fine-tuning: trained weights want smaller steps than random ones


@dataclass(frozen=True)
class SourceConfig:
    """A file of labelled structures."""

    file: str  # extended XYZ (also .gz, .xz), HDF5, ASE db, or pymatgen JSON
    weight: float = 1.0  # multiplies the loss of its structures
    keys: LabelKeys = field(default_factory=LabelKeys)  # what the labels are called; null: found among the usual names


@dataclass(frozen=True)
class DataConfig:
    """Which structures are trained on, and by which the model is chosen and judged."""

    train: tuple[SourceConfig, ...] = ()  # files
    valid: tuple[SourceConfig, ...] | float = 0.05  # files; or held out of train: a fraction, or from 1 on a number
    test: tuple[SourceConfig, ...] | float = ()  # the same; never seen before the end
    split_by: Literal["content", "group"] = "content"  # group: frames of one trajectory or molecule stay together
    strict: bool = False  # end at the first structure that cannot be used, instead of leaving it out
    workers: int = 0  # processes that read structures and find neighbours; 0 does both here and keeps them in memory


@dataclass(frozen=True)
class BatchConfig:
    """How many structures make one step; whichever bound is reached first ends a batch."""

    structures: int | None = 5  # at most; null: any number
    atoms: int | None = None  # at most
    edges: int | None = None  # at most; costs a pass over the data at the start

    def __post_init__(self) -> None:
        bounds = [bound for bound in (self.structures, self.atoms, self.edges) if bound is not None]
        if not bounds or min(bounds) < 1:
            raise ValueError("batch needs at least one positive bound: structures, atoms or edges")


@dataclass(frozen=True)
class StageTwoConfig:
    """A last part of the run with other weights of the loss, as a rule in favour of the energy."""

    start: float | None = None  # fraction of the run after which it begins; null: there is none
    energy: float = 10.0  # loss.energy from then on
    forces: float = 1.0  # loss.forces from then on
    stress: float = 10.0  # loss.stress from then on


@dataclass(frozen=True)
class FinetuneConfig:
    """A trained model to start from instead of random weights."""

    model: str | None = None  # embedded name or model file; null: train from scratch
    method: Literal["naive", "freeze", "lora"] = "naive"  # train all weights, some, or low-rank changes
    trainable: tuple[str, ...] = ()  # for freeze: patterns of the weights that are trained, as in ["readout*"]
    lora_rank: int = 8  # for lora: size of the factors
    lora_alpha: float = 8.0  # the change of a matrix is lora_alpha / lora_rank times its two factors
    replay: tuple[SourceConfig, ...] = ()  # structures of the model's own training set, against forgetting
    replay_weight: float = 1.0  # replayed structures for each new one: their weight in the loss, and in the time

    @property
    def only_charges(self) -> bool:
        """Whether nothing but a charge head is trained, so that energies stay what they are."""
        return self.method == "freeze" and all(pattern.startswith("charge_head") for pattern in self.trainable)

    def __post_init__(self) -> None:
        if self.replay and self.model is None:
            raise ValueError("finetune.replay needs finetune.model; without one, list the files under data.train")
        if (self.method == "freeze") != bool(self.trainable):
            raise ValueError(
                "finetune.trainable names what the method freeze leaves free: give both or neither, "
                f"got method {self.method!r} and trainable {list(self.trainable)}"
            )
        if self.lora_rank < 1 or self.lora_alpha <= 0:
            raise ValueError(
                f"finetune.lora_rank and lora_alpha must be positive, got {self.lora_rank} and {self.lora_alpha}"
            )
        if self.replay_weight < 0:
            raise ValueError(f"finetune.replay_weight must be 0 or more, got {self.replay_weight}")


@dataclass(frozen=True)
class TrainingConfig(RunConfig):
    """A whole run of a potential."""

    data: DataConfig = field(default_factory=DataConfig)
    model: str = "mace"  # architecture; docs/architectures.md compares them
    size: str = "small"  # one of the architecture's sizes, which fill its options
    model_options: dict[str, Any] = field(default_factory=dict)  # single options, such as {channels: 32, cutoff: 4.5}
    charge: int | None = None  # total charge for which the model will hold, e; null: what the training data state
    spin: int | None = None  # multiplicity 2S + 1 for which it will hold; null: what the training data state
    references: References = "auto"  # energies of atoms; auto: isolated atoms where there are, else least squares
    charges: bool = False  # learn charges, dipoles and quadrupoles as well, where the data have any of them
    reference_energies: dict[str, float] = field(default_factory=dict)  # eV, for references: given
    finetune: FinetuneConfig = field(default_factory=FinetuneConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    stage_two: StageTwoConfig = field(default_factory=StageTwoConfig)
    batch: BatchConfig = field(default_factory=BatchConfig)
    precision: Precision = "float32"  # of the network; geometry and energies are float64
    clip: float = 10.0  # largest norm of the gradient
    ema_decay: float = 0.99  # of the averaged weights, which are evaluated and kept

    def __post_init__(self) -> None:
        super().__post_init__()
        if "charges" in self.model_options:
            raise ValueError("charges is a key of its own, not one of model_options: charges: true")
        if not self.charges and self.loss.energy + self.loss.forces + self.loss.stress == 0:
            raise ValueError("all weights of the loss are zero; give at least one of energy, forces and stress")
        if self.charges and self.finetune.method == "lora":
            raise ValueError("finetune.method lora trains no charges; take naive, or freeze with [charge_head*]")
        if self.finetune.only_charges and not self.charges:
            raise ValueError("finetune.trainable names the charge head, which only a run with charges: true has")


def config_from_values(values: dict[str, Any], keys: LabelKeys = LabelKeys()) -> TrainingConfig:  # noqa: B008 (frozen)
    """A config from nested plain values; a source may be a bare file name, and one source need not be a list.

    File names are relative to the folder from which the program runs. `keys` are those of sources without their own.
    A model that is fine-tuned gets FINETUNING_RATE unless a learning rate is given.

    Raises:
        ValueError: an unknown key, or an impossible value; names it.
    """
    values = dict(values)
    for section in ("data", "finetune"):
        if isinstance(values.get(section), dict):
            values[section] = {name: _sources(name, value, keys) for name, value in values[section].items()}
    optimizer = values.get("optimizer", {})
    if isinstance(values.get("finetune"), dict) and values["finetune"].get("model") and isinstance(optimizer, dict):
        values["optimizer"] = {"learning_rate": FINETUNING_RATE, **optimizer}
    config: TrainingConfig = config_from_json(TrainingConfig, values, by_hand=True)
    return config


def _sources(name: str, value: Any, keys: LabelKeys) -> Any:
    if name not in ("train", "valid", "test", "replay") or isinstance(value, int | float):
        return value
    items = value if isinstance(value, list) else [value]
    sources = [{"file": item} if isinstance(item, str) else item for item in items]
    return [{"keys": dataclasses.asdict(keys), **source} if isinstance(source, dict) else source for source in sources]


def starter_config(architectures: Iterable[str]) -> str:
    """A YAML file with every key, its default and its comment, for a new user to edit; it names the architectures."""
    example = DataConfig(train=(SourceConfig("train.extxyz"),))
    lines = ["# Configuration of `atomsml train`; every key may be left out."]
    lines += [f"# Architectures, for the key model: {', '.join(architectures)}.", ""]
    lines += commented_config(TrainingConfig(data=example, max_minutes=60.0))
    return "\n".join(lines) + "\n"
