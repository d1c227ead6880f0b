"""`atomsml train` of a generator of molecules."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from atomsml.generative.molecules.config import GeneratorConfig
    from atomsml.generative.molecules.training import MoleculeRun


def train_generator(config: GeneratorConfig, folder: Path, resume: bool, quiet: bool) -> dict[str, Any]:
    """Train a generator in its folder; returns what summary.json holds."""
    from atomsml.cli.train.run import train_to_the_end
    from atomsml.generative.molecules.judge import judge
    from atomsml.generative.molecules.training import MoleculeRun

    run = MoleculeRun(config, folder, resume)
    train_to_the_end(run, _describe(run), lambda metrics: ())
    result = judge(run)
    if not quiet:
        _print_result(result, folder)
    return result


def _describe(run: MoleculeRun) -> Iterator[str]:
    """What the run found before its first step."""
    for name, molecules in (("train", run.train), ("valid", run.valid)):
        sizes = molecules.sizes
        yield (
            f"{name}: {len(molecules):,} molecules of {sizes.min()} to {sizes.max()} atoms, "
            f"{int(molecules.bonds_known.sum()):,} with bonds; properties: {', '.join(molecules.properties) or 'none'}"
        )
    for warning in run.train.warnings:
        yield f"warning: {warning}"
    if not run.train.bonds_known.any() and run.config.model == "flow":
        yield "warning: without bonds a flow does not learn to grow scaffolds; an SDF file has them"
    parameters = sum(p.numel() for p in run.state.model.parameters() if p.requires_grad)
    conditions = ", ".join(run.config.conditions) or "none"
    yield f"{run.config.model}: {parameters:,} weights to train, conditions: {conditions}, on {run.device}"


def _print_result(result: dict[str, Any], folder: Path) -> None:
    typer.echo(f"generator: {result['model']}")
    if "samples" in result:
        found = result["samples"]
        typer.echo(
            f"of {found['molecules']} molecules drawn in {found['steps']} steps by {found['sampler']}: "
            f"{100 * found['stable_atoms']:.1f} % of the atoms and {100 * found['stable_molecules']:.1f} % of the "
            f"molecules are stable ({found['suite']}); they are in {folder / 'samples.extxyz'}"
        )
