"""`atomsml scan`: the energy of molecules along torsions, angles and bonds."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import typer

from atomsml.cli.properties.command import PropertyCommand
from atomsml.cli.properties.options import FmaxOption, RelaxOption, Shared, StepsOption, with_shared_options

if TYPE_CHECKING:
    import ase
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from atomsml.properties.engine import Engine
    from atomsml.properties.scan.driven import Driven
    from atomsml.properties.scan.landscape import Stationary
    from atomsml.properties.scan.scans import Scan, ScanSettings
    from atomsml.properties.task import Failure, Start

NUMBERS = re.compile(r"\d+(,\d+)*")
TURN = "-180,180,10"

TorsionOption = Annotated[
    list[str] | None, typer.Option(help="Four atoms, counted from 0, such as 0,1,2,3, or a SMARTS pattern of four.")
]
AngleOption = Annotated[list[str] | None, typer.Option(help="Three atoms, or a SMARTS pattern of three.")]
BondOption = Annotated[list[str] | None, typer.Option(help="Two atoms, or a SMARTS pattern of two.")]
RangeOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="START,STOP,STEP",
        help="Degrees or A, one for each coordinate: torsions first, then angles, then bonds. "
        f"[default: {TURN} of torsions]",
    ),
]


@with_shared_options
def scan(
    context: typer.Context,
    shared: Shared,
    torsion: TorsionOption = None,
    angle: AngleOption = None,
    bond: BondOption = None,
    range: RangeOption = None,
    rigid: Annotated[bool, typer.Option("--rigid", help="Move nothing else; otherwise all else is relaxed.")] = False,
    neighbours: Annotated[
        bool, typer.Option("--neighbours/--no-neighbours", help="Try each point from those beside it as well.")
    ] = True,
    relax: RelaxOption = True,
    fmax: FmaxOption = 0.005,
    steps: StepsOption = 500,
) -> None:
    """Energies of molecules along one or two torsions, angles or bonds: minima, barriers, a curve or a map.

    Molecules are relaxed, then the coordinates driven, and held exactly while the rest relaxes. With --no-relax a scan
    begins at the geometry that is given.
    """
    from atomsml.cli.job import importing
    from atomsml.cli.properties.run import run

    with importing():
        from atomsml.properties.scan.scans import ScanSettings
        from atomsml.properties.task import Start

    settings = ScanSettings(_driven(torsion or [], angle or [], bond or [], range or []), rigid, neighbours)
    run(context, ScanCommand(settings, Start(fmax, steps, relax=relax)), shared)


def _driven(
    torsions: Sequence[str], angles: Sequence[str], bonds: Sequence[str], ranges: Sequence[str]
) -> tuple[Driven, ...]:
    """
    Raises:
        ValueError: no coordinate, not as many ranges as coordinates, or what Driven refuses.
    """
    from atomsml.properties.scan.driven import Driven

    kinds = {"torsion": torsions, "angle": angles, "bond": bonds}
    named = [(kind, each) for kind, some in kinds.items() for each in some]
    if not named:
        raise ValueError("say what is scanned: --torsion, --angle or --bond, such as --torsion 0,1,2,3")
    if not ranges and not angles and not bonds:
        ranges = [TURN] * len(named)
    if len(ranges) != len(named):
        raise ValueError(f"{len(named)} coordinates need as many ranges (--range START,STOP,STEP), got {len(ranges)}")
    found = []
    for (kind, name), text in zip(named, ranges, strict=True):
        atoms = tuple(map(int, name.split(","))) if NUMBERS.fullmatch(name) else name
        try:
            start, stop, step = map(float, text.split(","))
        except ValueError:
            raise ValueError(f"--range is START,STOP,STEP, three numbers, got {text!r}") from None
        found.append(Driven(kind, atoms, start, stop, step))
    return tuple(found)


class ScanCommand(PropertyCommand["Scan"]):
    name = "scan"
    columns: ClassVar[Mapping[str, str]] = {
        "scanned": "scanned",
        "points": "points",
        "lowest_at": "lowest at, deg or A",
        "barrier": "barrier kcal/mol",
        "highest": "highest point kcal/mol",
    }

    def __init__(self, settings: ScanSettings, start: Start) -> None:
        self.settings, self.start = settings, start

    def check(self, atoms: ase.Atoms) -> None:
        from atomsml.properties.scan.scans import check

        check(atoms)

    def find(self, structures: Sequence[ase.Atoms], engine: Engine) -> Iterable[tuple[int, Scan | Failure]]:
        from atomsml.properties.scan.scans import scans

        return scans(structures, engine, self.settings, self.start)

    def record(self, result: Scan) -> dict[str, Any]:
        import numpy as np

        from atomsml.units import KCAL

        lowest = float(result.energies.min())
        place = np.unravel_index(int(result.energies.argmin()), result.energies.shape)
        at = [float(each.values[i]) for each, i in zip(result.coordinates, place, strict=True)]
        return {
            "scanned": ", ".join(each.name for each in result.coordinates),
            "points": result.energies.size,
            "lowest_at": ", ".join(f"{value:g}" for value in at),
            **_landscape(result, lowest),
            "highest": float(result.energies.max() - lowest) / KCAL,
            "coordinates": [
                {
                    "kind": each.kind,
                    "atoms": each.atoms,
                    "unit": each.unit,
                    "closed": each.closed,
                    "values": each.values,
                }
                for each in result.coordinates
            ],
            "relaxed": result.relaxed,
            "energies_eV": result.energies,
            "energies_above_lowest_kcal/mol": (result.energies - lowest) / KCAL,
            "points_improved_by_neighbours": result.improved,
            "notes": notes(result),
        }

    def structures(self, result: Scan) -> dict[str, Sequence[ase.Atoms]]:
        return {"-scan.extxyz": result.frames}

    def draw(self, record: Mapping[str, Any]) -> Figure:
        from matplotlib.figure import Figure

        figure = Figure(figsize=(6, 4.5), layout="constrained")
        axes = figure.subplots()
        if len(record["coordinates"]) == 1:
            _draw_curve(axes, record)
        else:
            _draw_map(figure, axes, record)
        kind = "relaxed" if record["relaxed"] else "rigid"
        axes.set_title(f"{record['formula']}, {kind}")
        return figure


def _landscape(result: Scan, lowest: float) -> dict[str, Any]:
    """Minima and what is between them, above the lowest point, and the lowest barrier that leads away from there."""
    from atomsml.properties.scan.landscape import curve, grid
    from atomsml.units import KCAL

    def record(each: Stationary) -> dict[str, Any]:
        return {"values": each.values, "energy_kcal/mol": (each.energy - lowest) / KCAL}

    values = [each.values for each in result.coordinates]
    closed = [each.closed for each in result.coordinates]
    if len(values) == 1:
        minima, maxima = curve(values[0], result.energies, closed[0])
        found = {"minima": [record(each) for each in minima], "maxima": [record(each) for each in maxima]}
        ways = [each.energy for each in maxima] if minima else []
        start = min((each.energy for each in minima), default=lowest)
    else:
        minima, passes = grid(values, result.energies, closed)
        found = {
            "minima": [record(each) for each in minima],
            "passes": [{"between": [a, b], **record(each)} for a, b, each in passes],
        }
        ways = [each.energy for a, _, each in passes if a == 0]
        start = minima[0].energy
    return {"barrier": (min(ways) - start) / KCAL if ways else None, **found}


def notes(result: Scan) -> list[str]:
    """What a user must know of a scan."""

    def at(point: Sequence[int]) -> str:
        values = [f"{each.values[i]:g}" for each, i in zip(result.coordinates, point, strict=True)]
        return f"{' '.join(values)} {result.coordinates[0].unit}"

    found = []
    for each in result.coordinates:
        if each.matches > 1:
            found.append(f"the pattern fits {each.matches} places; the first, {each.name}, is scanned")
        if each.double:
            found.append(f"{each.name} turns a double bond, which breaks on the way: few models were made for that")
    if result.broken:
        found.append(
            f"the scanned bond is broken, or made, from {at(result.broken[0])} on: few models were made for that"
        )
    if result.jumps:
        one, other = result.jumps[0]
        more = f" and at {len(result.jumps) - 1} other places" if len(result.jumps) > 1 else ""
        what = f"the geometry jumps between {at(one)} and {at(other)}{more}: there the scan changes from one valley to"
        found.append(f"{what} another, and a barrier between them is a lower bound")
    if not result.settled:
        found.append("trials from neighbours still found lower points when they ended; energies are upper bounds")
    if result.reacted:
        found.append(f"bonds are made or broken at {len(result.reacted)} points, first at {at(result.reacted[0])}")
    place = divmod(int(result.energies.argmin()), result.energies.shape[-1])[-result.energies.ndim :]
    for each, i in zip(result.coordinates, place, strict=True):
        if not each.closed and i in (0, len(each.values) - 1) and len(each.values) > 1:
            found.append(f"the lowest point is at an end of the range of {each.name}; a minimum may lie beyond")
    return found


def _draw_curve(axes: Axes, record: Mapping[str, Any]) -> None:
    [coordinate] = record["coordinates"]
    values, energies = list(coordinate["values"]), list(record["energies_above_lowest_kcal/mol"])
    if coordinate["closed"]:
        values.append(2 * values[-1] - values[-2])
        energies.append(energies[0])
    axes.plot(values, energies, "o-", markersize=3, linewidth=1)
    for some, offset in ((record["maxima"], 6), (record["minima"], -14)):
        for each in some:
            place, energy = (each["values"][0], each["energy_kcal/mol"]), round(each["energy_kcal/mol"], 2) + 0.0
            axes.annotate(f"{energy:.2f}", place, (0, offset), textcoords="offset points", ha="center")
    axes.margins(y=0.12)
    if coordinate["kind"] == "torsion" and coordinate["closed"]:
        axes.set_xticks([values[0] + i * (values[-1] - values[0]) / 6 for i in (0, 1, 2, 3, 4, 5, 6)])
    axes.set_xlabel(_axis(coordinate))
    axes.set_ylabel("energy above the lowest point, kcal/mol")


def _draw_map(figure: Figure, axes: Axes, record: Mapping[str, Any]) -> None:
    import numpy as np

    one, other = record["coordinates"]
    energies = np.array(record["energies_above_lowest_kcal/mol"])
    image = axes.pcolormesh(other["values"], one["values"], energies, shading="nearest", cmap="viridis")
    if min(energies.shape) > 1:
        axes.contour(other["values"], one["values"], energies, colors="white", linewidths=0.5)
    for each in record["minima"]:
        y, x = each["values"]
        axes.plot(x, y, "r+", markersize=8)
        axes.annotate(f"{each['energy_kcal/mol']:.1f}", (x, y), (4, 4), textcoords="offset points", color="white")
    axes.set_xlabel(_axis(other))
    axes.set_ylabel(_axis(one))
    figure.colorbar(image, label="energy above the lowest point, kcal/mol")


def _axis(coordinate: Mapping[str, Any]) -> str:
    return f"{coordinate['kind']} {'-'.join(map(str, coordinate['atoms']))}, {coordinate['unit']}"
