"""`atomsml generate graphs`: draw which atoms of molecules are bonded to which, as SMILES."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from atomsml.cli.generate.samples import default_generator, draw_samples, open_generator
from atomsml.cli.options import ConfigOption, DeviceOption, JsonOption, SeedOption

if TYPE_CHECKING:
    from rdkit.Chem import Mol

    from atomsml.generative.graphs.model import GraphModel, GraphRequest


def graphs(
    context: typer.Context,
    number: Annotated[int, typer.Option("--number", "-n", help="How many graphs.")] = 10,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Where their SMILES go: .smi, or .csv with a column smiles.")
    ] = Path("graphs.smi"),
    model: Annotated[
        str | None,
        typer.Option("--model", "-m", help="Name of an embedded generator, or a file. [default: the embedded one]"),
    ] = None,
    seed: SeedOption = 0,
    steps: Annotated[int | None, typer.Option(help="Steps of each graph. [default: what suits the model]")] = None,
    atoms: Annotated[
        int | None, typer.Option(help="Number of atoms, with hydrogens. [default: drawn, as in training]")
    ] = None,
    formula: Annotated[str | None, typer.Option(help="Composition, e.g. C6H6O; obeyed exactly.")] = None,
    scaffold: Annotated[
        str | None,
        typer.Option(
            metavar="SMILES", help="Atoms that come first and keep their bonds; the rest takes places of hydrogens."
        ),
    ] = None,
    picture: Annotated[Path | None, typer.Option(help="Draw the first graphs, .png or .svg.")] = None,
    batch: Annotated[
        int | None, typer.Option(help="Graphs at once; changes none of them. [default: what the device likes]")
    ] = None,
    device: DeviceOption = "auto",
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Draw bond graphs of molecules: connected, neutral, every valence used up.

    Graph i depends on --seed and i alone. Ctrl-C keeps what is finished and exits with status 130.
    """
    from atomsml.cli.files import end_interrupted, open_outputs
    from atomsml.cli.generate.picture import check_molecules_picture, draw_graphs
    from atomsml.cli.output import Facts, check_writable, print_json, write_summary
    from atomsml.device import select_device

    started = time.perf_counter()
    for option, value in {"-n": number, "--steps": steps, "--batch": batch, "--atoms": atoms}.items():
        if value is not None and value < 1:
            raise ValueError(f"{option} must be at least 1, got {value}")
    check_writable(output)
    if picture is not None:
        check_molecules_picture(picture)
    name = model or default_generator("graphs")
    generator: GraphModel = open_generator(name, "graphs", select_device(device, "float32"))
    if output.suffix not in generator.suffixes:
        raise ValueError(f"cannot write graphs to {output}; use the suffix {', '.join(generator.suffixes)}")
    requests = _requests(generator, seed, number, atoms, formula, scaffold)
    steps, sampler = steps or generator.default_steps, generator.default_sampler
    report = {"command": "generate graphs", "steps": steps}
    with open_outputs(context, output, [output, picture]) as files:

        def write(mols: Mapping[int, Mol]) -> None:
            files.write(output, lambda beside: generator.write(beside, list(mols.values())))

        drawn, stop = draw_samples(generator, requests, steps, sampler, batch, write)
        files.interrupted = stop is not None
        if drawn:
            write(drawn)
            outputs = [output]
            if picture is not None:
                draw_graphs(files, picture, list(drawn.values()))
                outputs.append(picture)
            report |= {"drawn": len(drawn), **generator.judge(list(drawn.values()))}
            facts = Facts(name, str(generator.sets.device), len(drawn), started, report)
            write_summary(files, output, context, facts, outputs, [])
    if drawn and as_json:
        print_json(report)
    elif drawn:
        typer.echo(f"{len(drawn)} graphs are in {output}, {report['unique']:.1%} of them different")
    if stop is not None:
        where = f"{len(drawn)} graphs are in {output}" if drawn else "nothing is written"
        end_interrupted(files, stop, f"{where}, of the {number} asked for")


def _requests(
    model: GraphModel, seed: int, number: int, atoms: int | None, formula: str | None, scaffold: str | None
) -> list[GraphRequest]:
    """One for each graph.

    Raises:
        ValueError: a formula or a scaffold that no such molecule has, or elements that the model does not know.
    """
    from atomsml.generative.core.sampling import sample_seed
    from atomsml.generative.graphs.graphs import MolecularGraphs
    from atomsml.generative.graphs.model import GraphRequest
    from atomsml.generative.molecules.compositions import atoms_of, parse_formula
    from atomsml.generative.molecules.valences import check_formula
    from atomsml.io import parse_smiles

    held = None if scaffold is None else MolecularGraphs.from_mols([parse_smiles(scaffold)])
    first = [] if held is None else held.numbers[0].tolist()
    numbers = hydrogens = None
    if formula is not None:
        counts = parse_formula(formula)
        check_formula(counts)
        if atoms is not None:
            raise ValueError("--formula says how many atoms there are; leave out --atoms")
        hydrogens = counts.pop(1, 0)
        if not counts:
            raise ValueError(f"{formula} has no heavy atoms, of which graphs are made; add some")
        numbers = atoms_of(counts, first)
    model.check_elements({*first, *(numbers or ())})
    return [GraphRequest(sample_seed(seed, i), numbers, hydrogens, atoms, held) for i in range(number)]
