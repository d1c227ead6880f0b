"""`atomsml info`: what a model file says about itself, and what each precision brings and costs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from atomsml.cli.options import DeviceOption, JsonOption

if TYPE_CHECKING:
    from atomsml.interfaces.precision import PolicyReport
    from atomsml.io import StructureRecord


def info(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Name of an embedded or fetched model, or a file.")],
    precision_report: Annotated[
        str | None,
        typer.Option(
            metavar="STRUCTURE",
            help="Compare precisions on a structure (a file, or SMILES): deviations, NVE drift, speed.",
        ),
    ] = None,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Describe a model: elements, training, errors, licence."""
    import yaml

    from atomsml.cli.output import print_json
    from atomsml.fetch.kept import check_fetched
    from atomsml.modelfile import find_model, generated_kind, model_hash, read_metadata

    check_fetched(model)
    about = read_metadata(model)
    if generated_kind(about) is None:
        about = {**about, "charge": about.get("charge"), "spin": about.get("spin")}  # older files do not say
    about = {**about, "file": str(find_model(model)), "sha256": model_hash(model)}
    if precision_report is not None:
        _report_precision(model, precision_report, device, as_json)
    elif as_json:
        print_json(about)
    else:
        typer.echo(
            yaml.safe_dump(about, sort_keys=False, default_flow_style=None, width=100, allow_unicode=True), nl=False
        )


def _report_precision(model: str, source: str, device: str, as_json: bool) -> None:
    """Print a line, or a JSON object, for each policy."""
    from dataclasses import asdict

    import torch

    from atomsml.cli.job import identity, naming
    from atomsml.cli.output import follow, print_json
    from atomsml.interfaces.precision import POLICIES, SEED, SETTINGS, precision_report

    structure = _structure(source)
    with naming(structure):
        reports = precision_report(model, structure.atoms, device, SETTINGS)
        rows = list(follow(reports, len(POLICIES), "precision", lambda report: report.name))
    tables = _radial_tables(model, structure) if not all(row.exact for row in rows) else {}
    if as_json:
        settings = {"ensemble": "nve", **asdict(SETTINGS)}
        facts = {"model": model, **identity(structure), "atoms": len(structure.atoms), **settings, "seed": SEED}
        facts |= {"threads": torch.get_num_threads(), "radial_tables": tables}
        print_json({**facts, "policies": [asdict(row) for row in rows]})
    else:
        _print(rows, structure)
        for network, table in tables.items():
            typer.echo(
                f"Tables of radial functions for a {network} network: {table['pieces']} pieces, values within "
                f"{table['value_deviation']:.0e} and slopes within {table['slope_deviation']:.0e} of the largest."
            )


def _structure(source: str) -> StructureRecord:
    """The first structure of a file; says so where there are more."""
    from atomsml.cli.job import label, read_records_aloud
    from atomsml.io import Refused

    structure, *others = read_records_aloud([source], None)
    if isinstance(structure, Refused):
        raise ValueError(str(structure))
    if others:
        typer.echo(f"{source} holds {len(others) + 1} structures; the report is of {label(structure)}", err=True)
    return structure


def _radial_tables(model: str, structure: StructureRecord) -> dict[str, dict[str, float]]:
    """How far tables are from the radial functions that they stand for, given the elements of a structure."""
    import torch

    from atomsml.modelfile import load
    from atomsml.programs.predictor import PlannedPredictor

    found: dict[str, dict[str, float]] = {}
    for network, dtype in (("float64", torch.float64), ("float32", torch.float32)):
        predictor = load(model).cast(dtype).predictor()
        if isinstance(predictor, PlannedPredictor):
            weights = predictor.weights(tuple(sorted(set(structure.atoms.numbers.tolist()))))
            value, slope = weights.deviations
            found[network] = {"pieces": sum(weights.grid.pieces), "value_deviation": value, "slope_deviation": slope}
    return found


def _print(reports: list[PolicyReport], structure: StructureRecord) -> None:
    import torch

    from atomsml.cli.output import number, print_table
    from atomsml.interfaces.precision import SETTINGS

    def milli(value: float | None) -> str:
        return "-" if value is None else f"{1000 * value:.1e}"

    header = ["policy", "energy max meV/atom", "rms", "force max meV/A", "rms", "stress max meV/A^3", "rms"]
    header += ["drift meV/atom/ps", "rms meV/atom", "ms/step", "us/atom"]
    atoms = len(structure.atoms)
    rows = []
    for r in reports:
        deviations = (r.energy_max, r.energy_rms, r.forces_max, r.forces_rms, r.stress_max, r.stress_rms)
        conservation = (number(1000 * r.drift, 4), number(1000 * r.fluctuation, 4))
        speed = (number(1e3 * r.step_time, 2), number(1e6 * r.step_time / atoms, 1))
        rows.append([r.name, *map(milli, deviations), *conservation, *speed])
    devices = ", ".join(sorted({r.device for r in reports}))
    typer.echo(
        f"{structure.atoms.get_chemical_formula()}, {atoms} atoms, {devices}, threads: {torch.get_num_threads()}. "
        f"Deviations from {reports[0].name} along an NVE run at {SETTINGS.temperature:g} K, "
        f"{SETTINGS.steps} steps of {SETTINGS.timestep:g} fs; each policy's own run gives drift and speed.\n"
    )
    print_table(header, rows)
