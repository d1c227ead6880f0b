"""`atomsml phonons`: bands, densities of states and thermal properties of crystals."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import typer

from atomsml.cli.properties.command import PropertyCommand
from atomsml.cli.properties.options import FmaxOption, RelaxOption, Shared, StepsOption, with_shared_options

if TYPE_CHECKING:
    import ase
    from matplotlib.figure import Figure

    from atomsml.properties.engine import Engine
    from atomsml.properties.phonons.harmonic import Phonons, PhononSettings
    from atomsml.properties.task import Failure, Start

SupercellOption = Annotated[
    tuple[int, int, int] | None,
    typer.Option(help="How often the cell is repeated along each axis. [default: chosen by --length]"),
]
LengthOption = Annotated[float, typer.Option(help="No lattice vector of a chosen supercell is shorter, A.")]
DistanceOption = Annotated[float, typer.Option(help="By which atoms are displaced, A.")]
MeshOption = Annotated[float, typer.Option(help="MESH / a points along a lattice vector of the length a, A.")]
TMaxOption = Annotated[float, typer.Option(help="The highest temperature, K.")]
TStepOption = Annotated[float, typer.Option(help="From one temperature to the next, K.")]

DIGITS = 6  # after the point, of what is written
NAMED = 6  # imaginary modes that a note names


@with_shared_options
def phonons(
    context: typer.Context,
    shared: Shared,
    supercell: SupercellOption = None,
    length: LengthOption = 12.0,
    distance: DistanceOption = 0.01,
    mesh: MeshOption = 60.0,
    t_max: TMaxOption = 1000.0,
    t_step: TStepOption = 10.0,
    relax: RelaxOption = True,
    fmax: FmaxOption = 0.001,
    steps: StepsOption = 500,
) -> None:
    """Phonons of crystals: bands, density of states, free energy, entropy and heat capacity, imaginary modes.

    Crystals are relaxed with their cells, and keep their space group. Frequencies are in THz, imaginary ones negative;
    energies are those of a mole of the structure as it is given.
    """
    from atomsml.cli.job import importing
    from atomsml.cli.properties.run import run

    with importing():
        from atomsml.properties.phonons.harmonic import TOLERANCE, PhononSettings
        from atomsml.properties.task import Start

    settings = PhononSettings(supercell, length, distance, mesh, t_max, t_step)
    start = Start(fmax, steps, cell=True, relax=relax, symmetry=TOLERANCE)
    run(context, PhononsOfCrystals(settings, start), shared)


class PhononsOfCrystals(PropertyCommand["Phonons"]):
    name = "phonons"
    columns: ClassVar[Mapping[str, str]] = {
        "lowest": "lowest THz",
        "highest": "highest THz",
        "zero_point": "zero-point kJ/mol",
        "free_energy": "F(300 K) kJ/mol",
        "entropy": "S(300 K) J/K/mol",
        "heat_capacity": "C_V(300 K) J/K/mol",
    }

    def __init__(self, settings: PhononSettings, start: Start) -> None:
        self.settings, self.start = settings, start

    def check(self, atoms: ase.Atoms) -> None:
        from atomsml.properties.phonons.harmonic import check

        check(atoms)

    def find(self, structures: Sequence[ase.Atoms], engine: Engine) -> Iterable[tuple[int, Phonons | Failure]]:
        from atomsml.properties.phonons.harmonic import phonons

        return phonons(structures, engine, self.settings, self.start)

    def record(self, result: Phonons) -> dict[str, Any]:
        from atomsml.properties.phonons.harmonic import ROOM_TEMPERATURE
        from atomsml.units import KJ_PER_MOL

        joule, thermal, primitive = KJ_PER_MOL / 1000, result.thermal, result.primitive
        room = thermal.temperatures.tolist().index(ROOM_TEMPERATURE)
        frequencies = [result.mesh.frequencies, *result.bands.frequencies]
        return {
            "lowest": round(min(float(each.min()) for each in frequencies), 4) + 0.0,  # and not -0.0
            "highest": max(float(each.max()) for each in frequencies),
            "zero_point": thermal.zero_point / KJ_PER_MOL,
            "free_energy": thermal.free_energy[room] / KJ_PER_MOL,
            "entropy": thermal.entropy[room] / joule,
            "heat_capacity": thermal.heat_capacity[room] / joule,
            "supercell_atoms": len(result.phonopy.supercell),
            "supercell_vectors_A": result.phonopy.supercell.cell,
            "displacements": len(result.phonopy.displacements),
            "primitive_cell_A": primitive.cell.array,
            "primitive_symbols": primitive.get_chemical_symbols(),
            "primitive_positions_A": primitive.positions,
            "mesh": result.mesh.numbers,
            "temperatures_K": thermal.temperatures,
            "free_energies_kJ/mol": (thermal.free_energy / KJ_PER_MOL).round(DIGITS),
            "entropies_J/K/mol": (thermal.entropy / joule).round(DIGITS),
            "heat_capacities_J/K/mol": (thermal.heat_capacity / joule).round(DIGITS),
            "dos_THz": result.density.frequencies.round(DIGITS),
            "dos_1/THz": result.density.states.round(DIGITS),
            "bands": [
                {
                    "from": begin,
                    "to": end,
                    "q": points.round(DIGITS),
                    "distances_1/A": distances.round(DIGITS),
                    "frequencies_THz": frequencies.round(DIGITS),
                }
                for (begin, end), points, distances, frequencies in zip(
                    result.bands.ends,
                    result.bands.points,
                    result.bands.distances,
                    result.bands.frequencies,
                    strict=True,
                )
            ],
            "imaginary": [
                {"where": each.where, "q": each.point, "frequencies_THz": each.frequencies} for each in result.imaginary
            ],
            "imaginary_share": result.mesh.unstable,
            "notes": _notes(result),
        }

    def structures(self, result: Phonons) -> dict[str, Sequence[ase.Atoms]]:
        return {"-relaxed.extxyz": [result.atoms]}

    def texts(self, result: Phonons) -> dict[str, str]:
        return {"-phonopy.yaml": str(result.phonopy.to_phonopy_yaml(settings={"force_constants": True}))}

    def draw(self, record: Mapping[str, Any]) -> Figure:
        from matplotlib.figure import Figure

        figure = Figure(figsize=(8, 4.5), layout="constrained")
        left, right = figure.subplots(1, 2, sharey=True, width_ratios=[4, 1])
        places, names = list[float](), list[str]()
        for each in record["bands"]:
            distances = each["distances_1/A"]
            left.plot(distances, each["frequencies_THz"], color="tab:blue", linewidth=1)
            if not places:
                places, names = [distances[0]], [each["from"]]
            elif names[-1] != each["from"]:
                names[-1] += f"|{each['from']}"
            places.append(distances[-1])
            names.append(each["to"])
        left.set_xticks(places, names)
        left.set_xlim(places[0], places[-1])
        left.grid(axis="x", color="0.8", linewidth=0.8)
        left.set_ylim(min(0, 1.05 * record["lowest"]), 1.05 * record["highest"])
        left.set_ylabel("frequency, THz" + (" (imaginary below 0)" if record["imaginary"] else ""))
        left.set_title(record["formula"])
        right.plot(record["dos_1/THz"], record["dos_THz"], color="tab:blue", linewidth=1)
        right.fill_betweenx(record["dos_THz"], 0, record["dos_1/THz"], alpha=0.3)
        right.set_xlim(left=0)
        right.set_xlabel("states, 1/THz")
        for axes in (left, right):
            axes.axhline(0, color="0.5", linewidth=0.8)
        return figure


def _notes(result: Phonons) -> list[str]:
    notes = []
    if result.imaginary:
        lowest = sorted(result.imaginary, key=lambda each: each.frequencies[0])
        words = [f"{len(each.frequencies)} {each.where} (from {each.frequencies[0]:.2f} THz)" for each in lowest]
        more = f" and at {len(words) - NAMED} other points" if len(words) > NAMED else ""
        notes.append(f"imaginary modes: {', '.join(words[:NAMED])}{more}")
    if result.mesh.unstable > 0:
        notes.append(
            f"{result.mesh.unstable:.2%} of the modes have no real frequency: energies, entropies and heat capacities "
            "are of the others alone"
        )
    if result.reach is not None and result.length < 2 * result.reach:
        notes.append(
            f"the supercell keeps an atom {result.length:.1f} A from its images, less than twice the model's cutoff of "
            f"{result.reach:g} A: give a larger one"
        )
    return notes
