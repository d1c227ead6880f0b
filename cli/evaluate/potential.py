"""`atomsml evaluate`: errors of a model on labelled structures."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from atomsml.cli.options import (
    ChargesKeyOption,
    ConfigOption,
    ConfigTypeKeyOption,
    DeviceOption,
    DipoleKeyOption,
    EnergyKeyOption,
    ExactOption,
    ForcesKeyOption,
    JsonOption,
    PrecisionOption,
    QuadrupoleKeyOption,
    StressKeyOption,
    StrictOption,
    VirialKeyOption,
)

if TYPE_CHECKING:
    import ase
    import numpy as np

    from atomsml.cli.evaluate.labelled import Labelled
    from atomsml.graph import AtomicGraph
    from atomsml.interfaces.ase import AtomsMLCalculator
    from atomsml.io import OutputSet
    from atomsml.potential import Prediction
    from atomsml.training.evaluation.metrics import Collected, ErrorTable, Table

MEASURED = 150  # batches by which labels are compared with predictions for a factor between them
SHIFTED = 20.0  # meV/atom: an energy error above it that constants per element explain is worth a warning


def evaluate(
    context: typer.Context,
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A model's name, a file, or a committee's folder.")],
    inputs: Annotated[
        list[str],
        typer.Argument(metavar="DATA...", help="Labelled structures, of any format of `energy`, or HDF5."),
    ],
    energy_key: EnergyKeyOption = None,
    forces_key: ForcesKeyOption = None,
    stress_key: StressKeyOption = None,
    virial_key: VirialKeyOption = None,
    charges_key: ChargesKeyOption = None,
    dipole_key: DipoleKeyOption = None,
    quadrupole_key: QuadrupoleKeyOption = None,
    config_type_key: ConfigTypeKeyOption = None,
    batch_atoms: Annotated[int, typer.Option(min=1, help="How many atoms are computed at once.")] = 2000,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "mixed",
    exact: ExactOption = False,
    strict: StrictOption = False,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write structures with labels and predictions, .extxyz.")
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw predictions against labels, e.g. parity.png.")] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Errors of a model on labelled structures (of generated molecules: `atomsml evaluate molecules --help`).

    The table has a row for each config type; of several files, structures without one count under the file's name. In
    the file of -o, labels are REF_energy, REF_forces and REF_stress; energy, forces and stress are the model's.
    Energies in eV, forces in eV/A, stress in eV/A^3.
    """
    from atomsml.cli.evaluate.labelled import check_states, read_labelled
    from atomsml.cli.files import open_outputs
    from atomsml.cli.job import name_refused
    from atomsml.cli.output import Facts, check_picture, check_trajectory, write_summary
    from atomsml.dataset import LabelKeys
    from atomsml.interfaces.ase import AtomsMLCalculator

    started = time.perf_counter()
    if output is not None:
        check_trajectory(output)
    if plot is not None:
        check_picture(plot)
    calculator = AtomsMLCalculator(model, device, precision, exact=exact)
    named = charges_key or "", dipole_key or "", quadrupole_key or ""
    keys = LabelKeys(energy_key, forces_key, stress_key, virial_key, config_type_key, "", *named)
    if calculator.potential.has_charges:
        keys = keys.with_multipoles()
    data = read_labelled(inputs, keys, calculator.potential.elements, strict)
    check_states(data, calculator.potential.electronic_state)
    data.say()
    with open_outputs(context, output or plot, [output, plot]) as files:
        found = _compute(data, calculator, batch_atoms, files, output, keep=plot is not None)
        report = _report(data, found)
        if plot is not None:
            from atomsml.training.evaluation.metrics import Collected
            from atomsml.training.evaluation.plots import parity_plot

            files.write(plot, lambda beside: parity_plot(Collected.concatenate(found.collected), beside))
        outputs = [path for path in (output, plot) if path is not None]
        failed = [{"structure": data.where(i), "reason": "no finite prediction"} for i in found.not_finite]
        if outputs:
            facts = Facts(model, str(calculator.device), len(data.dataset), started, report)
            refusals = [{"structure": str(each).partition(": ")[0], "reason": each.reason} for each in data.refused]
            write_summary(files, outputs[0], context, facts, outputs, [*failed, *refusals])
    _print(report, found.errors, as_json)
    if failed:
        typer.echo(
            f"error: no finite prediction for {len(failed)} structures, first {failed[0]['structure']}", err=True
        )
    name_refused(data.refused, len(data.dataset) + len(data.refused))
    if failed or data.refused:
        raise typer.Exit(1)


@dataclass
class _Found:
    """What one pass over the data gathers."""

    errors: ErrorTable
    energy_errors: list[np.ndarray] = field(default_factory=list)  # eV/atom, of each batch
    collected: list[Collected] = field(default_factory=list)
    not_finite: list[int] = field(default_factory=list)  # structures of which the prediction is not
    measured: list[tuple[np.ndarray, Collected]] = field(default_factory=list)  # batches, with their structures


def _compute(
    data: Labelled, calculator: AtomsMLCalculator, batch_atoms: int, files: OutputSet, output: Path | None, keep: bool
) -> _Found:
    """Predict every structure, count its errors and write it; `keep` labels and predictions for a plot."""
    import numpy as np

    from atomsml.cli.output import follow, trajectory_writer
    from atomsml.dataset import plan_batches
    from atomsml.training.evaluation.metrics import Collected, ErrorTable

    dataset = data.dataset
    found = _Found(ErrorTable(np.unique(data.types).tolist(), dataset.elements))
    plan = plan_batches(np.arange(len(dataset)), dataset.num_atoms, max_atoms=batch_atoms)
    every = 1 + len(plan) // MEASURED
    with trajectory_writer(files, output) as write_frame:
        for number, indices in enumerate(
            follow(plan, len(plan), "evaluate", lambda batch: f"structure {batch[0]} of {len(dataset)}")
        ):
            graph, names = dataset.batch(indices), data.types[indices].tolist()
            prediction = _predict(calculator, graph)
            found.errors.add(prediction, graph, names)
            batch = Collected.from_batch(prediction, graph, names)
            found.energy_errors.append(batch.energy_predicted - batch.energy_label)
            found.not_finite += indices[_not_finite(batch)].tolist()
            if number % every == 0:
                found.measured.append((indices, batch))
            if keep:
                found.collected.append(batch)
            if output is not None:
                for atoms in _images(batch, graph):
                    write_frame(atoms)
    return found


def _predict(calculator: AtomsMLCalculator, graph: AtomicGraph) -> Prediction:
    """Without the labels, which stay behind, and in float64."""
    bare = graph.replace(atom_data={}, system_data={})
    return calculator.predict_batch(bare, stress=bool(graph.pbc.any()))


def _not_finite(batch: Collected) -> np.ndarray:
    """(structures,) whether the predicted energy or a force is not."""
    import numpy as np

    broken_atoms = ~np.isfinite(batch.forces_predicted).all(axis=1)
    return ~np.isfinite(batch.energy_predicted) | np.logical_or.reduceat(broken_atoms, _starts(batch))


def _images(batch: Collected, graph: AtomicGraph) -> Iterator[ase.Atoms]:
    """The structures for a file: labels under REF_ names where there are any, predictions as a calculator's results."""
    import ase
    import numpy as np
    from ase.calculators.singlepoint import SinglePointCalculator
    from ase.stress import full_3x3_to_voigt_6_stress

    for i, (start, count) in enumerate(zip(_starts(batch), batch.num_atoms, strict=True)):
        mine = slice(start, start + count)
        atoms = ase.Atoms(batch.numbers[mine], graph.positions[mine].numpy(), cell=graph.cell[i].numpy())
        atoms.pbc = graph.pbc[i].numpy()
        if batch.config_types[i]:
            atoms.info["config_type"] = str(batch.config_types[i])
        if np.isfinite(batch.energy_label[i]):
            atoms.info["REF_energy"] = batch.energy_label[i] * count
        if np.isfinite(batch.stress_label[i]).any():
            atoms.info["REF_stress"] = batch.stress_label[i].ravel()
        if np.isfinite(batch.forces_label[mine]).any():
            atoms.set_array("REF_forces", batch.forces_label[mine])
        results = {"energy": batch.energy_predicted[i] * count, "forces": batch.forces_predicted[mine]}
        if np.isfinite(batch.stress_predicted[i]).all():
            results["stress"] = full_3x3_to_voigt_6_stress(batch.stress_predicted[i])
        atoms.calc = SinglePointCalculator(atoms, **results)
        yield atoms


def _starts(batch: Collected) -> np.ndarray:
    """(structures,) first atom of each."""
    import numpy as np

    return np.cumsum(batch.num_atoms) - batch.num_atoms


def _factors(data: Labelled, found: _Found) -> list[dict[str, Any]]:
    """What labels of a file are a multiple of the model's predictions, and by what."""
    import numpy as np

    from atomsml.training.evaluation.factors import label_factors
    from atomsml.training.evaluation.metrics import Collected

    rows = np.concatenate([indices for indices, _ in found.measured])
    collected = Collected.concatenate([batch for _, batch in found.measured])
    columns = data.dataset.columns(rows)
    volume = np.abs(np.linalg.det(columns.cell))
    volume[~columns.pbc.any(axis=1) | (volume == 0)] = np.nan
    factors = []
    for i, file in enumerate(data.files):
        mine = np.flatnonzero(data.file_of[rows] == i)
        if len(mine):
            for factor in label_factors(collected.take(mine), volume[mine]):
                factors.append({"file": file, **vars(factor)})
    return factors


def _report(data: Labelled, found: _Found) -> dict[str, Any]:
    """The JSON object: errors by config type and by element, and the energy RMSE without shifts of the references."""
    import numpy as np

    from atomsml.cli.output import finite
    from atomsml.training.evaluation.metrics import rmse_without_shifts

    def clean(table: Table) -> dict[str, dict[str, float | None]]:
        return {name: {key: finite(value) for key, value in errors.items()} for name, errors in table.items()}

    elements = list(data.dataset.elements)
    composition = np.concatenate([counts[:, elements] for _, counts in data.dataset.compositions()])
    shifted = rmse_without_shifts(np.concatenate(found.energy_errors), composition)
    return {
        "errors": clean(found.errors.table()),
        "elements": clean(found.errors.by_element()),
        "energy_rmse_without_shifts": None if shifted is None else finite(1000 * shifted),
        "factors": _factors(data, found),
    }


def _print(report: dict[str, Any], errors: ErrorTable, as_json: bool) -> None:
    from atomsml.cli.output import print_json, print_table
    from atomsml.training.evaluation.metrics import format_table

    if as_json:
        print_json(report)
    else:
        print_table(*format_table(errors.table()))
        if by_element := errors.by_element():
            typer.echo("")
            print_table(*format_table(by_element, "element"))
    for factor in report["factors"]:
        typer.echo(f"warning: {factor['file']}: {factor['message']}", err=True)
    rmse, without = errors.table()["all"].get("energy_rmse"), report["energy_rmse_without_shifts"]
    if rmse is not None and without is not None and rmse > SHIFTED and without < 0.1 * rmse:
        typer.echo(
            f"warning: model and labels count energies from different levels: the energy RMSE of {rmse:.2f} meV/atom "
            f"is {without:.2f} once one constant per element is taken off; judge by that and by the forces, or "
            "fine-tune the model with references fitted to these data",
            err=True,
        )
