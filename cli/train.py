"""`atomsml train`: a potential from labelled structures, new or fine-tuned."""

from __future__ import annotations

import ctypes
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from atomsml.cli.options import (
    ConfigTypeKeyOption,
    EnergyKeyOption,
    ForcesKeyOption,
    GroupKeyOption,
    JsonOption,
    StressKeyOption,
    VirialKeyOption,
)

if TYPE_CHECKING:
    from atomsml.training.base_run import Progress
    from atomsml.training.config import TrainingConfig
    from atomsml.training.run import Run

DEFAULT_MINUTES = 60.0


class TrainingPrecision(StrEnum):
    float32 = "float32"
    float64 = "float64"
    bfloat16 = "bfloat16"


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
        str | None, typer.Option("--model", "-m", help="Architecture; `--init` lists them. [mace]")
    ] = None,
    size: Annotated[str | None, typer.Option(help="One of the architecture's sizes. [small]")] = None,
    finetune: Annotated[str | None, typer.Option(help="Start from this embedded model or model file.")] = None,
    max_minutes: Annotated[float | None, typer.Option(help="Time for the training itself.")] = None,
    max_epochs: Annotated[int | None, typer.Option(help="Passes over the training set.")] = None,
    max_steps: Annotated[int | None, typer.Option(help="Steps of the optimiser.")] = None,
    references: Annotated[
        str | None, typer.Option(help='Energies of atoms: auto, "isolated atoms", "least squares", model, zero. [auto]')
    ] = None,
    energy_key: EnergyKeyOption = None,
    forces_key: ForcesKeyOption = None,
    stress_key: StressKeyOption = None,
    virial_key: VirialKeyOption = None,
    config_type_key: ConfigTypeKeyOption = None,
    group_key: GroupKeyOption = None,
    precision: Annotated[TrainingPrecision | None, typer.Option(help="Of the network. [float32]")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda, cuda:1, ... [auto]")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of everything random. [0]")] = None,
    settings: Annotated[
        list[str], typer.Option("--set", metavar="KEY=VALUE", help="Any key of the config, as in loss.forces=10.")
    ] = [],  # noqa: B006
    committee: Annotated[int, typer.Option(min=1, help="Train so many models, which differ in their seeds.")] = 1,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in the output folder.")] = False,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="Folder of the run.")] = Path("run"),
    as_json: JsonOption = False,
) -> None:
    """Train a potential on labelled structures.

    What the command line says wins over the config file. The best model lands in DIR/model.safetensors, its errors and
    curves in DIR/report.html; without a limit a run takes 60 minutes.
    """
    from dataclasses import replace

    from atomsml.cli.output import print_json
    from atomsml.dataset import LabelKeys
    from atomsml.training.config import config_from_values, read_values, starter_config

    if init:
        from atomsml.potentials import POTENTIALS

        typer.echo(starter_config(POTENTIALS), nl=False)
        return
    if config is None and resume:
        config = (output if committee == 1 else output / "member-0") / "config.yaml"
    values = {} if config is None else read_values(config)
    for key, value in (
        ("data.train", train_files or None),
        ("data.valid", _amount_or_file(valid)),
        ("data.test", _amount_or_file(test)),
        ("model", model),
        ("size", size),
        ("finetune.model", finetune),
        ("max_minutes", max_minutes),
        ("max_epochs", max_epochs),
        ("max_steps", max_steps),
        ("references", references),
        ("precision", precision and precision.value),
        ("device", device),
        ("seed", seed),
        *map(_parse, settings),
    ):
        _put(values, key, value)
    if not any(values.get(limit) for limit in ("max_minutes", "max_epochs", "max_steps")):
        values["max_minutes"] = DEFAULT_MINUTES
    keys = LabelKeys(energy_key, forces_key, stress_key, virial_key, config_type_key, group_key)
    try:
        parsed = config_from_values(values, keys)
    except ValueError as error:
        raise ValueError(f"{config}: {error}" if config else str(error)) from None
    results = [
        _train_one(replace(parsed, seed=parsed.seed + i), folder, resume, quiet=as_json)
        for i, folder in enumerate([output] if committee == 1 else [output / f"member-{i}" for i in range(committee)])
    ]
    if as_json:
        print_json(results[0] if committee == 1 else results)
    elif committee > 1:
        typer.echo(f"the {committee} models act as one: --model {output}")


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
    import yaml

    key, equals, text = setting.partition("=")
    if not equals:
        raise ValueError(f"--set takes KEY=VALUE, as in --set loss.forces=10; got {setting!r}")
    try:
        return key.strip(), yaml.safe_load(text)
    except yaml.YAMLError:
        raise ValueError(f"--set {key}: {text!r} is no YAML value; quote it") from None


def _train_one(config: TrainingConfig, folder: Path, resume: bool, quiet: bool) -> dict[str, Any]:
    """Train one model in its folder; processes other than the first say and return nothing."""
    from atomsml.training.judge import judge
    from atomsml.training.run import Run

    _keep_freed_memory()
    run = Run(config, folder, resume)
    with _stopping_gently(run), _log_file(run) as say:
        for line in _describe(run):
            say(line)
        for progress in _with_bar(run):
            if progress.metrics is not None:
                say(_line(progress.metrics))
        if run.stop_requested:
            raise ValueError(f"stopped at step {run.state.step}; go on with `atomsml train --resume -o {folder}`")
        run.world.close()
        if not run.world.is_first:
            return {}
        result = judge(run)
        if not quiet:
            _print_result(result, folder)
        return result


def _keep_freed_memory() -> None:
    """Tell glibc to reuse what is freed: page faults of fresh buffers are a tenth of a step. Elsewhere do nothing."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        for option in (-1, -3):  # M_TRIM_THRESHOLD, M_MMAP_THRESHOLD
            mallopt(option, 10**9)


@contextmanager
def _stopping_gently(run: Run) -> Iterator[None]:
    """Let Ctrl-C and a batch system's SIGTERM end the run with a checkpoint; a second Ctrl-C ends it at once."""

    def request(number: int, frame: object) -> None:
        run.stop_requested = True
        signal.signal(signal.SIGINT, signal.default_int_handler)

    before = {number: signal.signal(number, request) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _log_file(run: Run) -> Iterator[Callable[[str], None]]:
    """A function that prints a line on stderr and appends it to train.log."""
    if not run.world.is_first:
        yield lambda line: None
        return
    run.folder.mkdir(parents=True, exist_ok=True)
    with (run.folder / "train.log").open("a", encoding="utf-8") as file:

        def say(line: str) -> None:
            typer.echo(line, err=True)
            file.write(line + "\n")
            file.flush()

        yield say


def _describe(run: Run) -> Iterator[str]:
    """What the run found before its first step."""
    for found in run.splits.found():
        yield from found.lines()
    for row in run.splits.counts():
        labels = ", ".join(f"{row[name]} {name}" for name in ("energy", "forces", "stress"))
        yield f"{row['set']}: {row['structures']} structures with labels: {labels}"
    for warning in run.splits.warnings:
        yield f"warning: {warning}"
    potential = run.state.model
    parameters = sum(p.numel() for p in potential.parameters() if p.requires_grad)
    yield (
        f"{run.config.model}: {parameters:,} weights to train, cutoff {potential.cutoff:g} A, references by "
        f"{run.references_kind}, {run.config.precision} on {run.device}"
    )
    if run.state.step:
        yield f"resumed at step {run.state.step}, epoch {run.state.epoch + 1}"


def _with_bar(run: Run) -> Iterator[Progress]:
    """The steps of a run, with a progress bar on a terminal."""
    if not (sys.stderr.isatty() and run.world.is_first):
        yield from run.steps()
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = (BarColumn(), TaskProgressColumn(), TimeRemainingColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("train", total=1.0)
        for progress in run.steps():
            step = progress.step
            bar.update(
                task,
                completed=progress.done,
                description=f"epoch {step.epoch + 1}  step {step.number:,}  loss {step.loss:.4g}",
            )
            yield progress


def _line(metrics: dict[str, Any]) -> str:
    parts = [
        f"epoch {metrics['epoch']:4d}",
        f"step {metrics['step']:7,d}",
        f"{metrics['minutes']:7.2f} min",
        f"rate {metrics['learning_rate']:.1e}",
        f"loss {metrics['train_loss']:.4g} train {metrics['valid_loss']:.4g} valid",
    ]
    for name, title, unit in (("energy", "E", "meV/atom"), ("forces", "F", "meV/A"), ("stress", "S", "meV/A^3")):
        if f"{name}_mae" in metrics:
            parts.append(f"{title} {metrics[f'{name}_mae']:.2f} MAE {metrics[f'{name}_rmse']:.2f} RMSE {unit}")
    return "  ".join([*parts, *(["best"] if metrics["best"] else [])])


def _print_result(result: dict[str, Any], folder: Path) -> None:
    from atomsml.cli.output import print_table
    from atomsml.training.metrics import format_table

    typer.echo(f"errors on the {result['set']} set of {folder / 'model.safetensors'}")
    print_table(*format_table(result["errors"]))
    typer.echo(f"report: {folder / 'report.html'}")
