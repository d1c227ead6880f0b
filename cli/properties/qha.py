"""`atomsml qha`: what crystals do with temperature, in the quasi-harmonic approximation."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import typer

from atomsml.cli.options import one_of
from atomsml.cli.properties.command import PropertyCommand
from atomsml.cli.properties.options import FmaxOption, RelaxOption, Shared, StepsOption, with_shared_options
from atomsml.cli.properties.phonons import (
    DistanceOption,
    LengthOption,
    MeshOption,
    SupercellOption,
    TMaxOption,
    TStepOption,
)

if TYPE_CHECKING:
    import ase
    from matplotlib.figure import Figure

    from atomsml.properties.engine import Engine
    from atomsml.properties.qha import QhaSettings, QuasiHarmonic
    from atomsml.properties.task import Failure, Start


@with_shared_options
def qha(
    context: typer.Context,
    shared: Shared,
    form: Annotated[str, one_of(("birch-murnaghan", "vinet"), "Which curve is fitted.")] = "birch-murnaghan",
    volumes: Annotated[int, typer.Option(help="How many volumes.")] = 9,
    low: Annotated[float, typer.Option(help="The smallest, of that of the minimum.")] = 0.96,
    high: Annotated[float, typer.Option(help="The largest, of that of the minimum.")] = 1.08,
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
    """Quasi-harmonic properties of crystals: thermal expansion, bulk modulus and C_p against the temperature.

    Phonons are found at several volumes, shape and positions relaxed at each; the free energy of each temperature
    tells the volume.
    """
    from atomsml.cli.job import importing
    from atomsml.cli.properties.run import run

    with importing():
        from atomsml.properties.phonons.harmonic import TOLERANCE, PhononSettings
        from atomsml.properties.qha import QhaSettings
        from atomsml.properties.task import Start

    phonons = PhononSettings(supercell, length, distance, mesh, t_max, t_step)
    start = Start(fmax, steps, cell=True, relax=relax, symmetry=TOLERANCE)
    run(context, Qha(QhaSettings(phonons, form, volumes, low, high), start), shared)


class Qha(PropertyCommand["QuasiHarmonic"]):
    name = "qha"
    columns: ClassVar[Mapping[str, str]] = {
        "volume": "V(300 K) A^3",
        "expansion": "alpha(300 K) 1e-6/K",
        "bulk_modulus": "B(300 K) GPa",
        "heat_capacity": "C_p(300 K) J/K/mol",
        "grueneisen": "Grueneisen(300 K)",
        "hottest": "up to K",
    }

    def __init__(self, settings: QhaSettings, start: Start) -> None:
        self.settings, self.start = settings, start

    def check(self, atoms: ase.Atoms) -> None:
        from atomsml.properties.phonons.harmonic import check

        check(atoms)

    def find(self, structures: Sequence[ase.Atoms], engine: Engine) -> Iterable[tuple[int, QuasiHarmonic | Failure]]:
        from atomsml.properties.qha import quasi_harmonic

        return quasi_harmonic(structures, engine, self.settings, self.start)

    def record(self, result: QuasiHarmonic) -> dict[str, Any]:
        from atomsml.properties.phonons.harmonic import ROOM_TEMPERATURE
        from atomsml.units import KJ_PER_MOL

        joule, temperatures = KJ_PER_MOL / 1000, result.temperatures.tolist()
        followed = {
            "volume": result.volume,
            "expansion": 1e6 * result.expansion,
            "bulk_modulus": result.bulk_modulus,
            "heat_capacity": result.heat_capacity / joule,
            "grueneisen": result.grueneisen,
        }
        room = temperatures.index(ROOM_TEMPERATURE) if ROOM_TEMPERATURE in temperatures else None
        asked = result.vibrations[0].temperatures[-2]
        notes = []
        if temperatures[-1] < asked:
            notes.append(
                f"nothing is told above {temperatures[-1]:g} K, where the volume leaves those that were computed; "
                "give a larger --high"
            )
        return {
            **{key: None if room is None else float(values[room]) for key, values in followed.items()},
            "hottest": temperatures[-1],
            "temperatures_K": result.temperatures,
            "volumes_A^3": result.volume,
            "expansions_1e-6/K": followed["expansion"],
            "bulk_moduli_GPa": result.bulk_modulus,
            "heat_capacities_J/K/mol": followed["heat_capacity"],
            "gibbs_energies_eV": result.gibbs,
            "grueneisen_parameters": result.grueneisen,
            "computed_volumes_A^3": result.volumes,
            "computed_energies_eV": result.energies,
            "computed_temperatures_K": result.vibrations[0].temperatures,
            "computed_free_energies_eV": [each.free_energy for each in result.vibrations],
            "computed_heat_capacities_J/K/mol": [each.heat_capacity / joule for each in result.vibrations],
            "computed_entropies_J/K/mol": [each.entropy / joule for each in result.vibrations],
            "notes": notes,
        }

    def structures(self, result: QuasiHarmonic) -> dict[str, Sequence[ase.Atoms]]:
        return {"-relaxed.extxyz": [result.atoms]}

    def draw(self, record: Mapping[str, Any]) -> Figure:
        from matplotlib.figure import Figure

        figure = Figure(figsize=(8, 6), layout="constrained")
        panels = {
            "volumes_A^3": "volume, A^3",
            "expansions_1e-6/K": "thermal expansion, 1e-6/K",
            "bulk_moduli_GPa": "bulk modulus, GPa",
            "heat_capacities_J/K/mol": "C_p, J/K/mol",
        }
        for axes, (key, heading) in zip(figure.subplots(2, 2, sharex=True).flat, panels.items(), strict=True):
            axes.plot(record["temperatures_K"], record[key], linewidth=1.5)
            axes.set_ylabel(heading)
            axes.set_xlim(0, record["temperatures_K"][-1])
        for axes in figure.axes[2:]:
            axes.set_xlabel("temperature, K")
        figure.suptitle(record["formula"])
        return figure
