"""`atomsml uncertainty`: give a single model standard deviations of its energies."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from atomsml.cli.options import DeviceOption, EnergyKeyOption, JsonOption

if TYPE_CHECKING:
    from atomsml.dataset import Dataset


def uncertainty(
    context: typer.Context,
    model: Annotated[
        str, typer.Argument(metavar="DIR|MODEL", help="Folder of a training run; or a model, with --train and --valid.")
    ],
    train: Annotated[list[str], typer.Option(metavar="FILE", help="What a MODEL was trained on; repeatable.")] = [],  # noqa: B006
    valid: Annotated[list[str], typer.Option(metavar="FILE", help="Other structures with energies; repeatable.")] = [],  # noqa: B006
    energy_key: EnergyKeyOption = None,
    device: DeviceOption = "auto",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="[default: MODEL.uncertainty.safetensors beside the model]")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Give a single model standard deviations of its energies.

    Its last layer is taken for Bayesian linear regression on the training set, calibrated on the validation set. The
    file that this writes goes wherever a model goes: `atomsml energy INPUT -m FILE`.
    """
    from atomsml.cli.files import check_distinct
    from atomsml.cli.output import check_writable, print_json
    from atomsml.device import select_device
    from atomsml.modelfile import find_model, load, named_model
    from atomsml.uncertainty.last_layer import LastLayerUncertainty

    if named_model(model) is None and Path(model).is_dir():
        if train or valid:
            raise ValueError(f"{model} is the folder of a run, whose own sets are taken; leave out --train and --valid")
        training, validation = _sets_of_run(Path(model))
        model = str(Path(model) / "model.safetensors")
    else:
        training, validation = _read(train, "--train", energy_key), _read(valid, "--valid", energy_key)
    name = f"{find_model(model).stem}.uncertainty.safetensors"
    if output is None:
        output = Path(name) if named_model(model) is not None else Path(model).with_name(name)
    check_writable(output)
    check_distinct([output], context)
    fitted = LastLayerUncertainty.fit(load(model, select_device(device, "mixed")), training, validation)
    fitted.save(output, model)
    facts = fitted.facts
    if as_json:
        print_json({"file": str(output), **facts})
        return
    typer.echo(
        f"alpha {1000 * facts['alpha']:.3g} meV/atom, zeta {facts['zeta']:.3g} eV/atom, "
        f"from {facts['train']} training and {facts['valid']} validation structures\n"
        f"validation energies: RMSE {1000 * facts['rmse']:.3g} meV/atom, {100 * facts['within_one_sigma']:.0f} % of "
        f"the errors within one standard deviation (of Gaussian errors 68 %)\n"
        f"wrote {output}; use it as a model: -m {output}"
    )


def _sets_of_run(folder: Path) -> tuple[Dataset, Dataset]:
    """What a run was trained and chosen on, from its config."""
    from atomsml.dataset import Dataset
    from atomsml.modelfile import read_metadata
    from atomsml.training.config import config_from_values
    from atomsml.training.run import identity_of
    from atomsml.training.splits import read_splits
    from atomsml.yaml_file import read_mapping

    if not (folder / "config.yaml").is_file():
        raise ValueError(f"{folder} is no folder of a training run: it has no config.yaml; name a model file instead")
    config = config_from_values(read_mapping(folder / "config.yaml"))
    splits = read_splits(config)
    training = read_metadata(folder / "model.safetensors").get("training", {})
    if training.get("run") != identity_of(config, splits):
        raise ValueError(
            f"{folder}: its data have changed since, or are divided otherwise by this version of atomsml; name "
            f"{folder / 'model.safetensors'} with --train and --valid FILE instead"
        )
    parts = [splits.train] if splits.replay is None else [splits.train, splits.replay]
    return Dataset.concatenate(parts), splits.valid


def _read(files: list[str], option: str, energy_key: str | None) -> Dataset:
    """All structures of some files; of their labels, the energies are all that counts here."""
    from atomsml.dataset import Dataset, LabelKeys, read_dataset

    if not files:
        raise ValueError(f"give {option} FILE, or the folder of a training run instead of the model")
    keys = LabelKeys(energy=energy_key, forces="", stress="", virial="")
    return Dataset.concatenate([read_dataset(file, keys) for file in files])
