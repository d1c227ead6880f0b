"""What energy, relax and md begin with: structures that are read and checked, and a calculator for them."""

from __future__ import annotations

import gc
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import typer

from atomsml.cli.output import Facts
from atomsml.errors import one_line

if TYPE_CHECKING:
    import ase

    from atomsml.interfaces.ase import AtomsMLCalculator
    from atomsml.io import Refused, StructureRecord


MOST_TOLD = 3  # reasons in one line


@dataclass
class Job:
    """Checked structures, those that were refused, and the calculator for the others."""

    inputs: list[StructureRecord | Refused]  # in the order in which they were given
    calculator: AtomsMLCalculator
    model: str  # name or path
    started: float  # time.perf_counter() before anything was read

    @property
    def structures(self) -> list[StructureRecord]:
        from atomsml.io import StructureRecord

        return [each for each in self.inputs if isinstance(each, StructureRecord)]

    @property
    def refused(self) -> list[Refused]:
        from atomsml.io import Refused

        return [each for each in self.inputs if isinstance(each, Refused)]

    def refuse(self, structure: StructureRecord, reason: str) -> Refused:
        """Take a structure among those that cannot be treated."""
        from atomsml.io import Refused

        place = next(i for i, each in enumerate(self.inputs) if each is structure)
        refused = self.inputs[place] = Refused(structure.file, structure.index, reason)
        return refused

    def why_no_answer(self, structure: StructureRecord) -> str:
        """Why the model says nothing of a structure as it was given."""
        atoms = structure.atoms.copy()
        atoms.calc = self.calculator
        try:
            atoms.get_potential_energy()
        except ValueError as error:  # atoms that overlap, for example
            return str(error)
        return "the model gives no finite energy and forces; do atoms overlap?"

    def in_order(self, records: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """JSON objects of the treated structures, and in their places those of the refused."""
        from atomsml.io import Refused

        treated = iter(records)
        return [refusal(each) if isinstance(each, Refused) else next(treated) for each in self.inputs]

    def refusals(self) -> list[dict[str, Any]]:
        """For `failed` in the summary."""
        return [refusal(each) for each in self.refused]

    def require_some(self) -> None:
        """Refuse to go on where no structure is left.

        Raises:
            ValueError: as `require_some_of`.
        """
        require_some_of(self.inputs)

    def end(self, failed: bool = False) -> None:
        """Name on stderr what was refused; the exit status is 1 if anything was, or `failed`."""
        name_refused(self.refused, len(self.inputs))
        if self.refused or failed:
            raise typer.Exit(1)

    def facts(self, devices: Sequence[str] = ()) -> Facts:
        """For the summary; `devices` are several that shared the work."""
        device = ",".join(devices) if len(devices) > 1 else str(self.calculator.device)
        return Facts(self.model, device, len(self.structures), self.started)


@contextmanager
def importing() -> Iterator[None]:
    """For libraries as large as torch, the first time: they stay, and are no garbage.

    To look for some among them, while they are imported, ever after and once more at the end of the process, takes a
    third of the time of a short command.
    """
    first = "torch" not in sys.modules
    if first:
        gc.disable()
    try:
        yield
    finally:
        if first:
            gc.freeze()
            gc.enable()


def prepare(
    inputs: Sequence[str],
    format: str | None,
    model: str | None,
    device: str,
    precision: str,
    exact: bool,
    strict: bool,
    check: Callable[[ase.Atoms], None] = lambda atoms: None,
    elements: Set[str] = frozenset(),
    d3: str | None = None,
) -> Job:
    """Read all inputs, choose and load the model, and check every structure before the first is computed.

    Args:
        strict: whether the first structure that cannot be treated ends everything.
        check: raises a ValueError for a structure that the settings of the command do not fit.
        elements: which the model must know beside those of the inputs.
        d3: the functional whose dispersion is added.

    Raises:
        ValueError: a model, a functional or a device that is not there, or no structure that can be treated; says why.
        OSError: an input that is missing.
    """
    started = time.perf_counter()
    with importing():
        from ase.data import atomic_numbers

        from atomsml.interfaces.ase import AtomsMLCalculator
        from atomsml.potential import check_elements

    records: list[StructureRecord | Refused] = []
    for record in read_records_aloud(inputs, format):
        records.append(_checked(record, check))
        stop_if(strict, records[-1])
    require_some_of(records)
    if model is None:
        model, records = _choose(records, elements)
        note = _potentials()[model].get("note")
        what = f": {note}" if note else ""
        typer.echo(f"model: {model}, chosen by the elements (--model takes another){what}", err=True)
    with _warnings_aloud():
        calculator = AtomsMLCalculator(model, device, precision, exact=exact, d3=d3)
    check_elements([atomic_numbers[symbol] for symbol in elements], calculator.potential.elements)
    records = [_checked(record, calculator.check) for record in records]
    for record in records:
        stop_if(strict, record)
    require_some_of(records)
    return Job(records, calculator, model, started)


def read_records_aloud(inputs: Sequence[str], format: str | None) -> Iterator[StructureRecord | Refused]:
    """Records of the inputs; what was left out of folders, or takes long, is said on stderr."""
    from atomsml.io import read_records

    with _warnings_aloud():
        yield from read_records(inputs, format)


@contextmanager
def _warnings_aloud() -> Iterator[None]:
    """Warnings as lines on stderr."""
    with warnings.catch_warnings():
        warnings.simplefilter("always", UserWarning)
        warnings.showwarning = lambda message, *_, **__: typer.echo(f"warning: {one_line(str(message))}", err=True)
        yield


def _checked(record: StructureRecord | Refused, check: Callable[[ase.Atoms], None]) -> StructureRecord | Refused:
    """The record, or why it is not treated: what a check says of it."""
    from atomsml.io import Refused

    if isinstance(record, Refused):
        return record
    try:
        check(record.atoms)
    except ValueError as error:
        return Refused(record.file, record.index, str(error))
    return record


def name_refused(refused: Sequence[Refused], inputs: int) -> None:
    """On stderr, one a line, and how many of the inputs they are."""
    for each in refused:
        typer.echo(f"refused: {each}", err=True)
    if refused:
        typer.echo(f"{len(refused)} of {inputs} inputs were refused and left out", err=True)


def stop_if(strict: bool, record: StructureRecord | Refused) -> None:
    """Refuse to go on after the first structure that cannot be treated, if the command is `strict`."""
    from atomsml.io import Refused

    if strict and isinstance(record, Refused):
        raise ValueError(f"{record} (without --strict it is left out and the others are treated)")


def require_some_of(records: Sequence[object]) -> None:
    """Something that can be treated.

    Raises:
        ValueError: names the first that was refused for each reason, MOST_TOLD at most.
    """
    from atomsml.io import Refused

    refused = [record for record in records if isinstance(record, Refused)]
    if not records:
        raise ValueError("the inputs hold no structure")
    if len(refused) == len(records):
        reasons = {each.reason: each for each in reversed(refused)}  # the first that has it
        told = sorted(map(refused.index, reasons.values()))[:MOST_TOLD]
        more = len(refused) - len(told)
        others = [] if more == 0 else [f"{more} other{'s' if more > 1 else ''}"]
        raise ValueError("; also ".join([*(str(refused[i]) for i in told), *others]))


def refusal(refused: Refused) -> dict[str, Any]:
    """The JSON object of a structure that cannot be treated."""
    return {"file": refused.file, "index": refused.index, "refused": refused.reason}


def _choose(
    records: Sequence[StructureRecord | Refused], more: Set[str]
) -> tuple[str, list[StructureRecord | Refused]]:
    """The embedded model for the structures; those with elements that none knows are refused, if there are others."""
    from atomsml.io import Refused, StructureRecord

    potentials = _potentials()

    def checked(record: StructureRecord | Refused) -> StructureRecord | Refused:
        if isinstance(record, Refused):
            return record
        kind, elements = _kind(record), more | set(record.atoms.symbols)
        unknown = elements - {symbol for about in _made_for(kind, potentials).values() for symbol in about["elements"]}
        if not unknown:
            return record
        known = [name for name, about in potentials.items() if elements <= set(about["elements"])]
        which = f"{' '.join(sorted(unknown))}, which no embedded model for {kind} knows"
        return Refused(record.file, record.index, f"has {which}; {_remedy(known, potentials)}")

    checked_records = [checked(record) for record in records]
    structures = [record for record in checked_records if isinstance(record, StructureRecord)]
    if structures:
        return choose_model(structures, more), checked_records
    return choose_model([record for record in records if isinstance(record, StructureRecord)], more), checked_records


def _potentials() -> dict[str, dict[str, Any]]:
    """What the embedded models that are potentials say of themselves, by name."""
    from atomsml.modelfile import embedded_models, generated_kind, read_metadata

    descriptions = {name: read_metadata(name) for name in embedded_models()}
    return {name: about for name, about in descriptions.items() if generated_kind(about) is None}


def _kind(structure: StructureRecord) -> str:
    return "crystals" if structure.atoms.pbc.any() else "molecules"


def _made_for(kind: str, potentials: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {name: about for name, about in potentials.items() if about["kind"] == kind}


def _remedy(known: Sequence[str], potentials: dict[str, dict[str, Any]]) -> str:
    """What to do where no embedded model is the default; `known`: those that know the elements."""
    if not known:
        return "choose another with --model; `atomsml models` lists all"
    names = ", ".join(f"{name} (made for {potentials[name]['kind']})" for name in known)
    return (
        f"choose one with --model (`atomsml models` lists all); of the embedded ones these know the elements: {names}"
    )


def choose_model(structures: Sequence[StructureRecord], more: Set[str] = frozenset()) -> str:
    """The embedded model that knows all elements and was made for molecules, or for crystals, as the inputs are.

    It knows those of `more` as well. Of several it is the one with the fewest elements, which was made for them more
    than the others were.

    Raises:
        ValueError: molecules and crystals are mixed, or no model fits; lists those that know the elements.
    """
    potentials = _potentials()
    kinds = sorted({_kind(structure) for structure in structures})
    elements = {symbol for structure in structures for symbol in structure.atoms.symbols} | more
    known = [name for name, about in potentials.items() if elements <= set(about["elements"])]
    fitting = [name for name in known if [potentials[name]["kind"]] == kinds]
    if fitting:
        return min(fitting, key=lambda name: len(potentials[name]["elements"]))
    what = f"{' and '.join(kinds)} of {' '.join(sorted(elements))}"
    raise ValueError(f"no default model for {what}; {_remedy(known, potentials)}")


def label(structure: StructureRecord) -> str:
    return f"{structure.file}, frame {structure.index}"


def identity(structure: StructureRecord) -> dict[str, str | int]:
    """The keys with which the JSON object of a structure begins."""
    return {"file": structure.file, "index": structure.index, "formula": structure.atoms.get_chemical_formula()}


def warn_of_potential(job: Job, with_direct_forces: str, with_jumps: str) -> None:
    """Say, once and before the work, what forces that are no gradient, and energies that jump, mean for it."""
    potential = job.calculator.potential
    if potential.direct_forces:
        what = f"the forces of {job.model} are not minus the gradient of its energy (direct_forces)"
        typer.echo(f"warning: {what}: {with_direct_forces}", err=True)
    if potential.jumps_at_cutoff:
        what = f"the energy of {job.model} jumps where two atoms cross its cutoff of {potential.cutoff:g} A (paper)"
        typer.echo(f"warning: {what}: {with_jumps}", err=True)


@contextmanager
def naming(structure: StructureRecord) -> Iterator[None]:
    """Let an error say in which structure it happened."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{label(structure)}: {error}") from None
