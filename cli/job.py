"""What energy, relax and md begin with: structures that are read and checked, and a calculator for them."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import typer

from atomsml.cli.output import Facts

if TYPE_CHECKING:
    from atomsml.interfaces.ase import AtomsMLCalculator
    from atomsml.io import StructureRecord


@dataclass(frozen=True)
class Job:
    """Checked structures and the calculator that will treat them."""

    structures: list[StructureRecord]
    calculator: AtomsMLCalculator
    model: str  # embedded name or path
    started: float  # time.perf_counter() before anything was read

    def facts(self) -> Facts:
        """For the summary."""
        device = next(self.calculator.potential.parameters()).device
        return Facts(self.model, str(device), len(self.structures), self.started)


def prepare(inputs: Sequence[str], model: str | None, device: str, precision: str, exact: bool) -> Job:
    """Read all inputs, choose and load the model, and check every structure before the first is computed.

    Raises:
        ValueError: an input, a model, a device, or a structure that the model cannot treat; says which.
        OSError: an input that is missing.
    """
    started = time.perf_counter()
    from atomsml.interfaces.ase import AtomsMLCalculator
    from atomsml.io import read_structures

    structures = read_structures(inputs)
    if model is None:
        model = choose_model(structures)
        typer.echo(f"model: {model}, chosen by the elements (--model takes another)", err=True)
    calculator = AtomsMLCalculator(model, device, precision, exact=exact)
    for structure in structures:
        with naming(structure):
            calculator.check(structure.atoms)
    return Job(structures, calculator, model, started)


def choose_model(structures: Sequence[StructureRecord]) -> str:
    """The one embedded model that knows all elements and was made for molecules, or for crystals, as the inputs are.

    Raises:
        ValueError: molecules and crystals are mixed, or no or several models fit; lists those that know the elements.
    """
    from atomsml.modelfile import embedded_models, generated_kind, read_metadata

    kinds = sorted({"crystals" if structure.atoms.pbc.any() else "molecules" for structure in structures})
    elements = {symbol for structure in structures for symbol in structure.atoms.symbols}
    descriptions = {name: read_metadata(name) for name in embedded_models()}
    known = {
        name: about["kind"]
        for name, about in descriptions.items()
        if generated_kind(about) is None and elements <= set(about["elements"])
    }
    fitting = [name for name, kind in known.items() if [kind] == kinds]
    if len(fitting) == 1:
        return fitting[0]
    raise ValueError(
        f"no single default model for {' and '.join(kinds)} of {' '.join(sorted(elements))}; choose one with --model; "
        f"models that know these elements: {', '.join(known) or 'none (`atomsml models` lists all)'}"
    )


def label(structure: StructureRecord) -> str:
    return f"{structure.file}, frame {structure.index}"


def identity(structure: StructureRecord) -> dict[str, str | int]:
    """The keys with which the JSON object of a structure begins."""
    return {"file": structure.file, "index": structure.index, "formula": structure.atoms.get_chemical_formula()}


def warn_of_direct_forces(job: Job, consequence: str) -> None:
    """Say, once and before the work, what forces that are no gradient mean for it."""
    if job.calculator.potential.direct_forces:
        what = f"the forces of {job.model} are not minus the gradient of its energy (direct_forces)"
        typer.echo(f"warning: {what}: {consequence}", err=True)


@contextmanager
def naming(structure: StructureRecord) -> Iterator[None]:
    """Let an error say in which structure it happened."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{label(structure)}: {error}") from None
