"""`atomsml bind`: interaction energies of complexes of molecules."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import typer

from atomsml.cli.options import one_of
from atomsml.cli.properties.command import PropertyCommand
from atomsml.cli.properties.options import FmaxOption, RelaxOption, Shared, StepsOption, with_shared_options

if TYPE_CHECKING:
    import ase
    from matplotlib.figure import Figure

    from atomsml.properties.bind.fragments import Fragments
    from atomsml.properties.bind.interaction import BindSettings, Curve, Interaction
    from atomsml.properties.bind.separation import Separations
    from atomsml.properties.engine import Engine
    from atomsml.properties.task import Failure, Start

RANGES = re.compile(r"\d+(-\d+)?(\+\d+(-\d+)?)*(,\d+(-\d+)?(\+\d+(-\d+)?)*)*")


@with_shared_options
def bind(
    context: typer.Context,
    shared: Shared,
    fragments: Annotated[
        str | None,
        typer.Option(
            help="Atoms of each fragment, counted from 0, such as 0-5,6-11 or 0-2+6,3-5. [default: molecules, by bonds]"
        ),
    ] = None,
    curve: Annotated[
        str | None,
        typer.Option(
            metavar="START,STOP,POINTS",
            help="Pull two fragments apart, to multiples of their distance, such as 0.9,2.0,12.",
        ),
    ] = None,
    along: Annotated[
        str, one_of(("nearest", "centres"), "The line of a curve: through two nearest atoms, or centres of mass.")
    ] = "nearest",
    relax: RelaxOption = True,
    fmax: FmaxOption = 0.005,
    steps: StepsOption = 500,
) -> None:
    """Interaction energies of complexes of molecules: what holds their fragments together, with curves of separation.

    Complexes are relaxed, and their fragments alone as well. With --no-relax a complex is taken as it is.
    """
    from atomsml.cli.job import importing
    from atomsml.cli.properties.run import run

    with importing():
        from atomsml.properties.bind.interaction import BindSettings
        from atomsml.properties.task import Start

    named = None if fragments is None else _named(fragments)
    separations = None if curve is None else _separations(curve, along)
    run(context, Bind(BindSettings(named, separations), Start(fmax, steps, relax=relax)), shared)


def _named(text: str) -> Fragments:
    """
    Raises:
        ValueError: no such list of atoms.
    """
    if not RANGES.fullmatch(text):
        raise ValueError(f"--fragments is a list such as 0-5,6-11 or 0-2+6,3-5, got {text!r}")
    found = []
    for fragment in text.split(","):
        ends = [each.split("-") for each in fragment.split("+")]
        found.append(tuple(i for each in ends for i in range(int(each[0]), int(each[-1]) + 1)))
    return tuple(found)


def _separations(text: str, along: str) -> Separations:
    """
    Raises:
        ValueError: not three numbers, or as Separations.
    """
    from atomsml.properties.bind.separation import Separations

    try:
        start, stop, points = text.split(",")
        numbers = float(start), float(stop), int(points)
    except ValueError:
        raise ValueError(f"--curve is START,STOP,POINTS, such as 0.9,2.0,12, got {text!r}") from None
    return Separations(*numbers, along)


class Bind(PropertyCommand["Interaction"]):
    name = "bind"
    columns: ClassVar[Mapping[str, str]] = {
        "fragments": "fragments",
        "nearest": "nearest atoms A",
        "interaction": "interaction eV",
        "interaction_kcal": "interaction kcal/mol",
        "deformation_kcal": "deformation kcal/mol",
        "binding_kcal": "binding kcal/mol",
    }

    def __init__(self, settings: BindSettings, start: Start) -> None:
        self.settings, self.start = settings, start

    def check(self, atoms: ase.Atoms) -> None:
        from atomsml.properties.bind.interaction import check

        check(atoms, self.settings)

    def find(self, structures: Sequence[ase.Atoms], engine: Engine) -> Iterable[tuple[int, Interaction | Failure]]:
        from atomsml.properties.bind.interaction import interactions

        return interactions(structures, engine, self.settings, self.start)

    def record(self, result: Interaction) -> dict[str, Any]:
        from atomsml.units import KCAL

        def kcal(energy: float | None) -> float | None:
            return None if energy is None else energy / KCAL

        kinds = Counter(each.atoms.get_chemical_formula() for each in result.fragments)
        return {
            "fragments": " + ".join(f"{count} {formula}" if count > 1 else formula for formula, count in kinds.items()),
            "nearest": min(each.nearest for each in result.fragments),
            "interaction": result.energy,
            "interaction_kcal": kcal(result.energy),
            "deformation_kcal": kcal(result.deformation),
            "binding_kcal": kcal(result.binding),
            "energy_eV": float(result.atoms.get_potential_energy()),
            "parts": [
                {
                    "formula": each.atoms.get_chemical_formula(),
                    "atoms": each.indices,
                    "energy_eV": float(each.atoms.get_potential_energy()),
                    "relaxed_energy_eV": None if each.relaxed is None else float(each.relaxed.get_potential_energy()),
                    "nearest_A": each.nearest,
                }
                for each in result.fragments
            ],
            "curve": None if result.curve is None else _points(result.curve),
            "notes": notes(result),
        }

    def structures(self, result: Interaction) -> dict[str, Sequence[ase.Atoms]]:
        relaxed = [each.relaxed for each in result.fragments if each.relaxed is not None]
        found: dict[str, Sequence[ase.Atoms]] = {}
        if relaxed:
            found = {"-relaxed.extxyz": [result.atoms], "-fragments.extxyz": relaxed}
        return found if result.curve is None else {**found, "-curve.extxyz": result.curve.frames}

    def draw(self, record: Mapping[str, Any]) -> Figure | None:
        """The curve, if there is one."""
        from matplotlib.figure import Figure

        curve = record["curve"]
        if curve is None:
            return None
        figure = Figure(figsize=(6, 4), layout="constrained")
        axes = figure.subplots()
        axes.axhline(0, color="0.8", linewidth=1)
        axes.plot(curve["distances_A"], curve["interactions_kcal/mol"], "o-", markersize=4, linewidth=1, label="curve")
        axes.plot(curve["distance_of_the_complex_A"], record["interaction_kcal"], "s", color="C1", label="complex")
        of = "nearest atoms" if curve["along"] == "nearest" else "centres of mass"
        axes.set_xlabel(f"distance of the {of}, A")
        axes.set_ylabel("interaction energy, kcal/mol")
        axes.set_title(f"{record['fragments']}: {record['interaction_kcal']:.2f} kcal/mol")
        axes.legend(frameon=False)
        return figure


def _points(curve: Curve) -> dict[str, Any]:
    from atomsml.units import KCAL

    return {
        "along": curve.along,
        "distance_of_the_complex_A": curve.unscaled,
        "distances_A": curve.distances,
        "nearest_atoms_A": curve.contacts,
        "interactions_eV": curve.energies,
        "interactions_kcal/mol": curve.energies / KCAL,
    }


def notes(result: Interaction) -> list[str]:
    """What a user must know of the energies."""
    found = []
    if result.binding is not None and result.binding > 0:
        found.append("it is not bound: apart, its fragments have less energy; start from another geometry")
    if result.reacted:
        found.append("bonds were made or broken while the complex was relaxed: it is another one than was given")
    if result.cut:
        pairs = ", ".join(f"{i}-{j}" for i, j in result.cut[:10])
        found.append(f"the fragments cut the bonds {pairs}: they are radicals, and their interaction is a bond")
    for each in result.fragments:
        formula = each.atoms.get_chemical_formula()
        if each.reacted:
            found.append(f"{formula} has other bonds alone: its deformation contains a reaction")
        if result.cutoff is not None and each.nearest > result.cutoff:
            found.append(
                f"{formula} is {each.nearest:.2f} A from all others, farther than the model sees "
                f"({result.cutoff:g} A): nothing acts on it but what --d3 adds"
            )
    return found + ([] if result.curve is None else _notes_of_curve(result.curve, result.cutoff))


def _notes_of_curve(curve: Curve, cutoff: float | None) -> list[str]:
    found = []
    if curve.joined.any():
        found.append(f"the fragments are bonded to each other up to {curve.distances[curve.joined].max():.2f} A")
    if cutoff is not None and (curve.contacts > cutoff).any():
        found.append(
            f"from {curve.distances[curve.contacts > cutoff].min():.2f} A on the fragments are farther apart than the "
            f"model sees ({cutoff:g} A): nothing acts there but what --d3 adds"
        )
    return found
