"""`atomsml train`: a potential from labelled structures, new or fine-tuned, or a generator from samples."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from atomsml.cli.config import naming_config
from atomsml.cli.options import (
    ChargesKeyOption,
    ConfigTypeKeyOption,
    DipoleKeyOption,
    EnergyKeyOption,
    ForcesKeyOption,
    GroupKeyOption,
    JsonOption,
    QuadrupoleKeyOption,
    StressKeyOption,
    StrictOption,
    VirialKeyOption,
    one_of,
)

if TYPE_CHECKING:
    from atomsml.cli.train.trainers import Trainer

DEFAULT_MINUTES, DEFAULT_MODEL = 60.0, "mace"


def train(
    config: Annotated[Path | None, typer.Argument(metavar="CONFIG", help="YAML file; `--init` prints one.")] = None,
    init: Annotated[bool, typer.Option("--init", help="Print a commented config to start from, and exit.")] = False,
    train_files: Annotated[list[str], typer.Option("--train", metavar="FILE", help="Training structures.")] = [],  # noqa: B006
    valid: Annotated[
        str | None, typer.Option(metavar="FILE|FRACTION", help="Validation structures, or how many to hold out. [0.05]")
    ] = None,
    test: Annotated[
        str | None, typer.Option(metavar="FILE|FRACTION", help="Structures on which the final model is judged.")
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", "-m", help="Architecture, or a generator; `--init` lists them. [mace]")
    ] = None,
    size: Annotated[str | None, typer.Option(help="One of the architecture's sizes. [small]")] = None,
    finetune: Annotated[str | None, typer.Option(help="Start from this model, by name or file.")] = None,
    max_minutes: Annotated[float | None, typer.Option(help="Time for the training itself.")] = None,
    max_epochs: Annotated[int | None, typer.Option(help="Passes over the training set.")] = None,
    max_steps: Annotated[int | None, typer.Option(help="Steps of the optimiser.")] = None,
    references: Annotated[
        str | None, typer.Option(help='Energies of atoms: auto, "isolated atoms", "least squares", model, zero. [auto]')
    ] = None,
    charges: Annotated[bool, typer.Option("--charges", help="Learn charges, dipoles and quadrupoles as well.")] = False,
    energy_key: EnergyKeyOption = None,
    forces_key: ForcesKeyOption = None,
    stress_key: StressKeyOption = None,
    virial_key: VirialKeyOption = None,
    charges_key: ChargesKeyOption = None,
    dipole_key: DipoleKeyOption = None,
    quadrupole_key: QuadrupoleKeyOption = None,
    config_type_key: ConfigTypeKeyOption = None,
    group_key: GroupKeyOption = None,
    precision: Annotated[str | None, one_of(("float32", "float64", "bfloat16"), "Of the network. [float32]")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda, cuda:N or mps. [auto]")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of everything random. [0]")] = None,
    settings: Annotated[
        list[str], typer.Option("--set", metavar="KEY=VALUE", help="Any key of the config, as in loss.forces=10.")
    ] = [],  # noqa: B006
    committee: Annotated[int, typer.Option(min=1, help="Train so many models, which differ in their seeds.")] = 1,
    strict: StrictOption = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in the output folder.")] = False,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="Folder of the run.")] = Path("run"),
    as_json: JsonOption = False,
) -> None:
    """Train a potential on labelled structures, or a generator on molecules or what else it generates.

    What the command line says wins over the config file. The best potential lands in DIR/model.safetensors, its errors
    and curves in DIR/report.html; of a generator the last one, with samples that it drew. Without a limit a run takes
    60 minutes. Structures that cannot be used are left out and listed before the first step; the exit status is then 1.
    """
    from dataclasses import replace

    from atomsml.cli.job import importing
    from atomsml.cli.output import print_json
    from atomsml.yaml_file import read_mapping

    with importing():
        from atomsml.dataset import LabelKeys

    if init:
        name = model or DEFAULT_MODEL
        typer.echo(_trainer(name).starter(name), nl=False)
        return
    if config is None and resume:
        config = (output if committee == 1 else output / "member-0") / "config.yaml"
    values = {} if config is None else read_mapping(config)
    for key, value in (
        ("data.train", train_files or None),
        ("data.valid", _amount_or_file(valid)),
        ("data.test", _amount_or_file(test)),
        ("data.strict", strict or None),
        ("model", model),
        ("size", size),
        ("finetune.model", finetune),
        ("max_minutes", max_minutes),
        ("max_epochs", max_epochs),
        ("max_steps", max_steps),
        ("references", references),
        ("charges", charges or None),
        ("precision", precision),
        ("device", device),
        ("seed", seed),
        *map(_parse, settings),
    ):
        _put(values, key, value)
    if not any(values.get(limit) for limit in ("max_minutes", "max_epochs", "max_steps")):
        values["max_minutes"] = DEFAULT_MINUTES
    named = charges_key or "", dipole_key or "", quadrupole_key or ""
    keys = LabelKeys(energy_key, forces_key, stress_key, virial_key, config_type_key, group_key, *named)
    folders = [output] if committee == 1 else [output / f"member-{i}" for i in range(committee)]
    with naming_config(config):
        trainer = _trainer(values.get("model", DEFAULT_MODEL))
        parsed = trainer.parse(values, keys, committee)
        seeded = [(replace(parsed, seed=parsed.seed + i), folder) for i, folder in enumerate(folders)]
        results = [trainer.train(member, folder, resume, as_json) for member, folder in seeded]
    if as_json:
        print_json(results[0] if committee == 1 else results)
    elif committee > 1:
        typer.echo(f"the {committee} models act as one: --model {output}")
    left_out = len(results[0].get("failed", ()))
    if left_out:
        typer.echo(
            f"{left_out} structures were left out, which could not be used: see the start of train.log", err=True
        )
        raise typer.Exit(1)


def _trainer(model: Any) -> Trainer:
    """Who trains a model of this name.

    Raises:
        ValueError: nobody; lists the known names.
    """
    from atomsml.cli.train.trainers import TRAINERS
    from atomsml.config import did_you_mean

    for trainer in TRAINERS:
        if isinstance(model, str) and model in trainer.architectures:
            return trainer
    known = [name for trainer in TRAINERS for name in trainer.architectures]
    listed = " and ".join(f"the {trainer.what} {', '.join(trainer.architectures)}" for trainer in TRAINERS)
    raise ValueError(f"unknown model {model!r}; {did_you_mean(str(model), known)}there are {listed}")


def _put(values: dict[str, Any], path: str, value: Any) -> None:
    """Set a nested key, unless there is nothing to set."""
    if value is None:
        return
    *sections, last = path.split(".")
    for section in sections:
        values = values.setdefault(section, {})
        if not isinstance(values, dict):
            raise ValueError(f"{path!r} is no key of the config: {section!r} has no keys of its own")
    values[last] = value


def _amount_or_file(text: str | None) -> float | str | None:
    try:
        return None if text is None else float(text)
    except ValueError:
        return text


def _parse(setting: str) -> tuple[str, Any]:
    from atomsml.yaml_file import parse_yaml

    key, equals, text = setting.partition("=")
    if not equals:
        raise ValueError(f"--set takes KEY=VALUE, as in --set loss.forces=10; got {setting!r}")
    try:
        return key.strip(), parse_yaml(text)
    except ValueError as error:
        raise ValueError(f"--set {key}: {text!r} is no YAML value; quote it ({error})") from None
