"""`atomsml generate`: draw molecules from a generator, and with --relax bring them to the minima of a potential."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from atomsml.cli.generate.samples import GROWING, default_generator
from atomsml.cli.options import (
    ConfigOption,
    DeviceOption,
    JsonOption,
    PrecisionOption,
    SeedOption,
)
from atomsml.cli.report import ReportOption

if TYPE_CHECKING:
    from atomsml.cli.generate.records import Generated
    from atomsml.cli.generate.requests import Wishes
    from atomsml.cli.generate.run import Run
    from atomsml.generative.molecules.model import MoleculeModel
    from atomsml.interfaces.ase import AtomsMLCalculator
    from atomsml.io import OutputSet


def molecules(
    context: typer.Context,
    number: Annotated[int, typer.Option("--number", "-n", help="How many molecules.")] = 10,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Where they go: .sdf, .xyz, .extxyz, or .csv of SMILES.")
    ] = Path("molecules.sdf"),
    model: Annotated[
        str | None,
        typer.Option("--model", "-m", help="Name of an embedded generator, or a file. [default: the embedded one]"),
    ] = None,
    seed: SeedOption = 0,
    steps: Annotated[
        int | None, typer.Option(help="Steps from noise to molecule. [default: what suits the model]")
    ] = None,
    sampler: Annotated[str | None, typer.Option(help="How to step. [default: what suits the model]")] = None,
    atoms: Annotated[int | None, typer.Option(help="Number of atoms. [default: drawn, as in training]")] = None,
    formula: Annotated[str | None, typer.Option(help="Composition, e.g. C6H6O; obeyed exactly.")] = None,
    scaffold: Annotated[
        Path | None, typer.Option(help="File of a molecule whose heavy atoms are held exactly where they are.")
    ] = None,
    fragment: Annotated[
        Path | None,
        typer.Option(
            help="File of a molecule whose atoms, hydrogens too, are all held; a model that grows, unless named "
            "qm9-symphony, adds others."
        ),
    ] = None,
    condition: Annotated[
        list[str], typer.Option(metavar="NAME=NUMBER", help="A property, if the model has it; may be repeated.")
    ] = [],  # noqa: B006
    smiles: Annotated[
        str | None,
        typer.Option(help="Place the atoms of this molecule, or of each in a file of SMILES, -n times."),
    ] = None,
    guidance: Annotated[float, typer.Option(help="How strongly to follow conditions; 1 is as trained.")] = 1.0,
    only_valid: Annotated[bool, typer.Option(help="Draw until so many are valid and connected; keep those.")] = False,
    relax: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="Relax with this potential, rank by strain, leave out what reacts or does not converge.",
        ),
    ] = None,
    picture: Annotated[Path | None, typer.Option(help="Draw the molecules, .png or .svg.")] = None,
    report: ReportOption = None,
    batch: Annotated[
        int | None, typer.Option(help="Molecules at once; changes none of them. [default: what the device likes]")
    ] = None,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "mixed",
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Draw molecules.

    Molecule i depends on --seed and i alone: the first ten of a thousand are those of -n 10. Ctrl-C keeps what is
    finished and exits with status 130.
    """
    from atomsml.cli.files import open_outputs
    from atomsml.cli.generate.records import write_molecules
    from atomsml.cli.generate.report import make_report, page_parts, print_report
    from atomsml.cli.generate.requests import read_wishes
    from atomsml.cli.generate.run import Run, SamplingSettings
    from atomsml.cli.output import Facts, write_summary
    from atomsml.cli.report import write_report

    started = time.perf_counter()
    _check_outputs(output, picture, report)
    _check_sampling({"-n": number, "--steps": steps, "--batch": batch, "--atoms": atoms}, guidance, condition)
    wishes = read_wishes(atoms, formula, scaffold, condition, smiles, fragment)
    name, generator = _open(model, wishes, device, precision)
    if sampler is not None:
        generator.check_sampler(sampler)
    wishes.requests(generator, seed, range(len(wishes.smiles) or 1))
    for note in wishes.notes(generator):
        typer.echo(f"note: {note}", err=True)
    potential = None if relax is None else _potential(relax, device, precision, wishes, generator)
    if len(wishes.smiles) > 1 and only_valid:
        raise ValueError("--only-valid counts the valid molecules of all SMILES together; give one SMILES")
    number *= len(wishes.smiles) or 1
    steps, sampler = steps or generator.default_steps, sampler or generator.default_sampler
    settings = SamplingSettings(seed, steps, sampler, guidance, batch)
    with open_outputs(context, output, [output, picture, report]) as files:
        run = Run(generator, wishes, settings, partial(write_molecules, files, output))
        drawn = run.draw_valid(number) if only_valid else run.draw(number)
        kept = _relaxed(drawn, run, potential)
        files.interrupted = run.stop is not None
        outputs = _write(files, kept, output, picture)
        if kept:
            judged = make_report(kept, run)
            facts = Facts(name, str(generator.formulas.device), len(kept), started, judged)
            outputs += [] if report is None else [report]
            summary = write_summary(files, output, context, facts, outputs, run.failed)
            if report is not None:
                write_report(files, report, f"Molecules from {name}", page_parts(kept, judged), summary)
    if kept:
        print_report(judged, as_json)
    _end(files, run, len(kept), len(drawn), number, output)


def _check_sampling(counts: dict[str, int | None], guidance: float, conditions: Sequence[str]) -> None:
    """Refuse settings that mean nothing; `counts` are by option."""
    for option, value in counts.items():
        if value is not None and value < 1:
            raise ValueError(f"{option} must be at least 1, got {value}")
    if not math.isfinite(guidance):
        raise ValueError(f"--guidance must be a finite number, got {guidance}")
    if guidance != 1 and not conditions:
        raise ValueError("--guidance follows conditions, and none is given; add --condition NAME=NUMBER")


def _check_outputs(output: Path, picture: Path | None, report: Path | None) -> None:
    from atomsml.cli.generate.picture import check_molecules_picture
    from atomsml.cli.generate.records import check_molecules_output
    from atomsml.cli.report import check_report

    check_molecules_output(output)
    if picture is not None:
        check_molecules_picture(picture)
    check_report(report)


def _open(model: str | None, wishes: Wishes, device: str, precision: str) -> tuple[str, MoleculeModel]:
    """The name of a generator, and the generator where and how it is to compute.

    Raises:
        ValueError: no such generator, or none or several embedded ones where none is named.
    """
    import torch

    from atomsml.device import select_device
    from atomsml.generative.molecules.modelfile import load_generator

    model = model or (GROWING if wishes.grows else default_generator("molecules"))
    generator = load_generator(model, select_device(device, precision))
    generator.to(torch.float64 if precision == "float64" else torch.float32)
    return model, generator


def _potential(model: str, device: str, precision: str, wishes: Wishes, generator: MoleculeModel) -> AtomsMLCalculator:
    """What relaxes; refused before the sampling if it lacks an element that may be drawn."""
    from atomsml.interfaces.ase import AtomsMLCalculator
    from atomsml.potential import check_elements

    calculator = AtomsMLCalculator(model, device, precision)
    try:
        check_elements(sorted(wishes.formula or generator.config.elements), calculator.potential.elements)
    except ValueError as error:
        raise ValueError(f"--relax {model}: {error}; take another potential, or give a --formula") from None
    return calculator


def _relaxed(drawn: list[Generated], run: Run, potential: AtomsMLCalculator | None) -> list[Generated]:
    """Relaxed and ranked if there is a potential; the run takes note of what is left out."""
    from atomsml.cli.generate.relax import relax_and_rank

    if potential is None or run.stop is not None:
        return drawn
    scaffold = run.wishes.scaffold
    ranking = relax_and_rank(drawn, potential, held=0 if scaffold is None else len(scaffold.numbers))
    run.failed += ranking.dropped
    run.stop = ranking.stop
    return ranking.kept


def _write(files: OutputSet, kept: list[Generated], output: Path, picture: Path | None) -> list[Path]:
    """Returns the files; none without molecules."""
    from atomsml.cli.generate.picture import draw_molecules
    from atomsml.cli.generate.records import write_molecules

    if not kept:
        files.discard(output)
        return []
    write_molecules(files, output, kept)
    if picture is None:
        return [output]
    draw_molecules(files, picture, kept)
    return [output, picture]


def _end(files: OutputSet, run: Run, kept: int, drawn: int, number: int, output: Path) -> None:
    """The last line and the exit status, unless all went as asked.

    Raises:
        ValueError: there are fewer molecules than asked for, other than by --relax.
    """
    from atomsml.cli.files import end_interrupted

    where = f"{kept} molecules are in {output}" if kept else "nothing is written"
    if run.stop is not None:
        end_interrupted(files, run.stop, f"{where}, of the {number} asked for")
    if drawn < number:
        raise ValueError(f"after {run.drawn} tries there are {drawn} of the {number} molecules asked for: {where}")
    if not kept:
        raise ValueError("no molecule was left after relaxing: nothing is written; draw more, or another --relax MODEL")
