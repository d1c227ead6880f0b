"""`atomsml data`: what is in files of labelled structures, and one HDF5 file made of them."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

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
    from atomsml.dataset import Columns, Dataset, Found, LabelKeys
    from atomsml.dataset.inspection.survey import Survey
    from atomsml.io import OutputSet, Refused

SHOWN_ROWS, SHOWN_TYPES = 8, 30  # in the tables; --json has all

Files = Annotated[
    list[Path],
    typer.Argument(metavar="FILE...", help="Any format of `atomsml energy`, or HDF5."),
]


app = typer.Typer(help="Look into labelled structures, and pack them.", no_args_is_help=True)


@app.command()
def info(
    files: Files,
    energy_key: EnergyKeyOption = None,
    forces_key: ForcesKeyOption = None,
    stress_key: StressKeyOption = None,
    virial_key: VirialKeyOption = None,
    charges_key: ChargesKeyOption = None,
    dipole_key: DipoleKeyOption = None,
    quadrupole_key: QuadrupoleKeyOption = None,
    config_type_key: ConfigTypeKeyOption = None,
    group_key: GroupKeyOption = None,
    strict: StrictOption = False,
    as_json: JsonOption = False,
) -> None:
    """Describe files of labelled structures: keys, elements, ranges, and rows that look wrong.

    Rows are counted from 0. What looks wrong is only reported: the exit status is 0, unless structures cannot be read.
    """
    from atomsml.cli.job import name_refused, refusal
    from atomsml.cli.output import print_json
    from atomsml.dataset import LabelKeys, read_dataset
    from atomsml.dataset.inspection.check import shared_geometries

    named = charges_key or "", dipole_key or "", quadrupole_key or ""
    keys = LabelKeys(energy_key, forces_key, stress_key, virial_key, config_type_key, group_key, *named)
    refused: list[Refused] = []
    datasets = [read_dataset(file, keys, None if strict else refused) for file in files]
    reports = [_describe(dataset) for dataset in datasets]
    shared = [
        {"file": str(files[j]), "structures": count, "in": str(files[i])} for i, j, count in shared_geometries(datasets)
    ]
    if as_json:
        print_json({"files": reports, "shared": shared, "failed": [refusal(each) for each in refused]})
    else:
        for report, dataset in zip(reports, datasets, strict=True):
            _print(report, dataset.found[0])
        for row in shared:
            typer.echo(f"{row['structures']} structures of {row['file']} have geometries that are in {row['in']} too")
    name_refused(refused, sum(map(len, datasets)) + len(refused))
    if refused:
        raise typer.Exit(1)


@app.command()
def build(
    context: typer.Context,
    files: Files,
    output: Annotated[Path, typer.Option("--output", "-o", help="HDF5 file to write, .h5.")],
    energy_key: EnergyKeyOption = None,
    forces_key: ForcesKeyOption = None,
    stress_key: StressKeyOption = None,
    virial_key: VirialKeyOption = None,
    charges_key: ChargesKeyOption = None,
    dipole_key: DipoleKeyOption = None,
    quadrupole_key: QuadrupoleKeyOption = None,
    config_type_key: ConfigTypeKeyOption = None,
    group_key: GroupKeyOption = None,
    split: Annotated[
        str | None,
        typer.Option(help="Write parts, for example 'train=0.9 valid=0.05 test=0.05': OUTPUT.train.h5 and so on."),
    ] = None,
    split_by: Annotated[
        str,
        one_of(("content", "group"), "content: identical structures stay together; group: those of a group key do."),
    ] = "content",
    strict: StrictOption = False,
) -> None:
    """Pack labelled structures into one compressed HDF5 file, or into one for each part of a split."""
    from atomsml.cli.files import open_outputs
    from atomsml.cli.job import name_refused
    from atomsml.cli.output import check_writable
    from atomsml.dataset import LabelKeys

    if output.suffix != ".h5":
        raise ValueError(f"a dataset must have the suffix .h5, got {output}")
    fractions = _fractions(split) if split else None
    targets = [output] if fractions is None else [_part(output, name) for name in fractions]
    for target in targets:
        check_writable(target)
    named = charges_key or "", dipole_key or "", quadrupole_key or ""
    keys = LabelKeys(energy_key, forces_key, stress_key, virial_key, config_type_key, group_key, *named)
    refused: list[Refused] = []
    kept = None if strict else refused
    whole = output if fractions is None else _part(output, "before-split")
    with open_outputs(context, None, list(dict.fromkeys([whole, *targets]))) as outputs:
        if fractions is None:
            counts = {output: outputs.write(output, lambda beside: _pack(beside, files, keys, kept))}
        else:
            split_up = partial(_pack_parts, outputs, output, files, keys, kept, fractions, split_by)
            counts = outputs.write(whole, split_up)
            outputs.discard(whole)
    for target, structures in counts.items():
        _say_written(target, structures)
    name_refused(refused, sum(counts.values()) + len(refused))
    if refused:
        raise typer.Exit(1)


@app.command()
def backbones(
    context: typer.Context,
    files: Annotated[
        list[Path],
        typer.Argument(metavar="FILE...", help="PDB or mmCIF, also compressed; folders and .tar archives of them."),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="HDF5 file to write, .h5.")],
) -> None:
    """Pack backbones of proteins into one HDF5 file, which `atomsml train` reads in place of many files.

    Of several models of a file the first is taken. Files that cannot be read are named; the exit status is then 1.
    """
    from atomsml.cli.files import open_outputs
    from atomsml.cli.job import name_refused, require_some_of
    from atomsml.cli.output import check_writable
    from atomsml.generative.proteins.io import read_files, store_chains
    from atomsml.generative.proteins.set import first_model
    from atomsml.io import Refused

    if output.suffix != ".h5":
        raise ValueError(f"a set of backbones must have the suffix .h5, got {output}")
    check_writable(output)
    found = list(read_files(files))
    require_some_of(found)
    taken = [first_model(chains) for chains in found if not isinstance(chains, Refused)]
    with open_outputs(context, None, [output]) as outputs:
        outputs.write(output, lambda beside: store_chains(beside, taken))
    residues = sum(len(chain) for chains in taken for chain in chains)
    typer.echo(f"wrote {output}: {sum(map(len, taken))} chains of {residues} residues, of {len(taken)} files")
    refused = [each for each in found if isinstance(each, Refused)]
    name_refused(refused, len(found))
    if refused:
        raise typer.Exit(1)


def _pack(output: Path, files: Sequence[Path], keys: LabelKeys, refused: list[Refused] | None) -> int:
    """Write all structures of the files, a bounded number of them in memory at a time; returns how many.

    `refused` takes those that cannot be used; without it the first is an error.
    """
    from atomsml.dataset.formats.storage import describe_source, write_dataset
    from atomsml.dataset.read import open_blocks

    opened = [open_blocks(file, keys, refused) for file in files]  # finds the keys of all before the work begins
    for found, _ in opened:
        typer.echo("\n".join(found.lines()))
        for warning in found.warnings:
            typer.echo(f"warning: {found.path}: {warning}", err=True)
    blocks = itertools.chain.from_iterable(blocks for _, blocks in opened)
    total = sum(found.structures for found, _ in opened)
    structures = write_dataset(output, _follow(blocks, total), [describe_source(found) for found, _ in opened])
    _say_suspicious(output)
    return structures


def _say_suspicious(path: Path) -> None:
    """What about the packed structures looks wrong; rows are those of all files together."""
    from dataclasses import replace

    from atomsml.dataset import Dataset, read_dataset
    from atomsml.dataset.inspection.check import suspicious

    packed = read_dataset(path)
    for line in suspicious(Dataset(packed.sources, [replace(found, path=path.name) for found in packed.found])):
        typer.echo(f"warning: {line}", err=True)


def _say_written(path: Path, structures: int) -> None:
    from atomsml.dataset import read_dataset

    labels = ", ".join(f"{name} {count}" for name, count in read_dataset(path).label_counts().items())
    typer.echo(f"wrote {path}: {structures} structures ({labels}), {path.stat().st_size / 1e6:.1f} MB")


def _pack_parts(
    outputs: OutputSet,
    output: Path,
    files: Sequence[Path],
    keys: LabelKeys,
    refused: list[Refused] | None,
    fractions: dict[str, float],
    by: Any,
    whole: Path,
) -> dict[Path, int]:
    """The same in one file for each part, by way of a `whole`; returns how many structures each has."""
    from atomsml.dataset import read_dataset, split
    from atomsml.dataset.formats.storage import StoredColumns, write_dataset

    _pack(whole, files, keys, refused)
    sources, counts = StoredColumns(whole).sources, {}
    for name, part in split(read_dataset(whole), fractions, by).items():
        blocks = (columns for _, columns in part.blocks())
        target = _part(output, name)
        counts[target] = outputs.write(target, partial(write_dataset, blocks=blocks, sources=sources))
    return counts


def _part(output: Path, name: str) -> Path:
    return output.with_name(f"{output.stem}.{name}.h5")


def _fractions(text: str) -> dict[str, float]:
    """Of 'train=0.9 valid=0.1'; a comma may stand for the space."""
    try:
        pairs = [part.split("=") for part in text.replace(",", " ").split()]
        fractions = {name: float(value) for name, value in pairs}
    except ValueError as error:
        raise ValueError(f"--split must read like 'train=0.9 valid=0.05 test=0.05', got {text!r}") from error
    if len(fractions) < len(pairs) or not all(name.isidentifier() for name in fractions):
        raise ValueError(f"--split needs different names made of letters and digits, got {text!r}")
    return fractions


def _follow(blocks: Iterable[Columns], total: int) -> Iterator[Columns]:
    """Pass blocks on, with a progress bar on a terminal."""
    if not sys.stderr.isatty():
        yield from blocks
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    with Progress(BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=Console(stderr=True)) as bar:
        task = bar.add_task("structures", total=total)
        for columns in blocks:
            yield columns
            bar.advance(task, len(columns))


def _describe(dataset: Dataset) -> dict[str, Any]:
    """Everything that `info` says about one file."""
    import dataclasses

    import numpy as np

    from atomsml.dataset.inspection.check import check
    from atomsml.dataset.inspection.survey import survey

    (found,) = dataset.found
    numbers = survey(dataset)
    types, counts = np.unique(dataset.config_types.astype(str), return_counts=True)
    named = {str(name): int(count) for name, count in zip(types, counts, strict=True) if name}
    groups = set(dataset.groups) - {""}
    return {
        **{name: value for name, value in dataclasses.asdict(found).items() if name != "warnings"},
        "labels": dataset.label_counts(),
        "elements": _elements(dataset),
        "config_types": dict(sorted(named.items(), key=lambda item: -item[1])),
        "groups": len(groups),
        "ranges": _ranges(dataset, numbers),
        "suspicious": [
            *({"kind": "labels", "message": warning, "rows": []} for warning in found.warnings),
            *({"kind": s.kind, "message": s.message, "rows": s.rows.tolist()} for s in check(dataset, numbers)),
        ],
    }


def _elements(dataset: Dataset) -> dict[str, dict[str, int]]:
    """By symbol: how many structures have the element, and how many atoms they have of it."""
    from ase.data import chemical_symbols

    structures, atoms = dataset.element_counts()
    return {chemical_symbols[z]: {"structures": int(structures[z]), "atoms": int(atoms[z])} for z in dataset.elements}


def _ranges(dataset: Dataset, numbers: Survey) -> dict[str, list[float]]:
    """Lowest, median and highest value of each quantity that is there."""
    import numpy as np

    values = {
        "atoms per structure": dataset.num_atoms,
        "energy per atom (eV)": dataset.energy / dataset.num_atoms,
        "largest |force| of a structure (eV/A)": numbers.max_force,
        "forces, root mean square (eV/A)": np.sqrt(numbers.mean_square_force),
        "pressure, -trace(stress)/3 (eV/A^3)": -np.trace(numbers.stress, axis1=1, axis2=2) / 3,
        "volume per atom (A^3)": numbers.volume / dataset.num_atoms,
    }
    known = {name: array[~np.isnan(array)] for name, array in values.items()}
    return {
        name: [float(array.min()), float(np.median(array)), float(array.max())]
        for name, array in known.items()
        if len(array)
    }


def _print(report: dict[str, Any], found: Found) -> None:
    from atomsml.cli.output import print_table

    typer.echo("\n".join(found.lines()))
    total, chosen = report["structures"], set(report["keys"].values())
    labels = ", ".join(f"{name} {count}" for name, count in report["labels"].items())
    typer.echo(f"  labelled structures: {labels}")
    others = [f"{name} ({count})" for name, count in sorted(report["fields"].items()) if name not in chosen]
    if others:
        typer.echo(f"  other keys: {', '.join(others)}")
    if report["groups"]:
        typer.echo(f"  groups: {report['groups']}")
    rows = [(name, str(row["structures"]), str(row["atoms"])) for name, row in report["elements"].items()]
    typer.echo()
    print_table(("element", "structures", "atoms"), rows)
    if report["config_types"]:
        types = list(report["config_types"].items())
        rest = [("...", str(len(types) - SHOWN_TYPES))] if len(types) > SHOWN_TYPES else []
        typer.echo()
        print_table(("config type", "structures"), [(name, str(n)) for name, n in types[:SHOWN_TYPES]] + rest)
    typer.echo()
    ranges = [(name, *(f"{value:.6g}" for value in values)) for name, values in report["ranges"].items()]
    print_table(("range", "lowest", "median", "highest"), ranges)
    typer.echo("\nsuspicious" if report["suspicious"] else f"\nnothing suspicious in {total} structures")
    for suspicion in report["suspicious"]:
        _print_suspicion(suspicion)
    typer.echo()


def _print_suspicion(suspicion: dict[str, Any]) -> None:
    rows = suspicion["rows"]
    typer.echo(f"  {suspicion['kind']}: {suspicion['message']}")
    if rows:
        shown = ", ".join(map(str, rows[:SHOWN_ROWS]))
        typer.echo(f"    rows {shown}{', ...' if len(rows) > SHOWN_ROWS else ''}")
