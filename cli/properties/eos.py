"""`atomsml eos`: equations of state of crystals."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import typer

from atomsml.cli.options import one_of
from atomsml.cli.properties.command import PropertyCommand
from atomsml.cli.properties.options import FmaxOption, RelaxOption, Shared, StepsOption, with_shared_options

if TYPE_CHECKING:
    import ase
    from matplotlib.figure import Figure

    from atomsml.properties.engine import Engine
    from atomsml.properties.eos import EosSettings, EquationOfState
    from atomsml.properties.task import Failure, Start


ROUGH = 2.0  # meV/atom: a larger residual is told


@with_shared_options
def eos(
    context: typer.Context,
    shared: Shared,
    form: Annotated[str, one_of(("birch-murnaghan", "vinet"), "Which curve is fitted.")] = "birch-murnaghan",
    volumes: Annotated[int, typer.Option(help="How many volumes.")] = 11,
    range: Annotated[float, typer.Option(help="From (1 - RANGE) V to (1 + RANGE) V of the minimum.")] = 0.1,
    relax: RelaxOption = True,
    fmax: FmaxOption = 0.005,
    steps: StepsOption = 500,
) -> None:
    """Equations of state of crystals: volume, bulk modulus and its derivative.

    Crystals are relaxed, and shape and positions again at each volume. With --no-relax they are scaled as they are.
    """
    from atomsml.cli.job import importing
    from atomsml.cli.properties.run import run

    with importing():
        from atomsml.properties.eos import EosSettings
        from atomsml.properties.task import Start

    run(context, Eos(EosSettings(form, volumes, range), Start(fmax, steps, cell=True, relax=relax)), shared)


class Eos(PropertyCommand["EquationOfState"]):
    name = "eos"
    columns: ClassVar[Mapping[str, str]] = {
        "volume": "volume A^3",
        "volume_per_atom": "A^3/atom",
        "energy_per_atom": "energy eV/atom",
        "bulk_modulus": "bulk modulus GPa",
        "derivative": "dB/dp",
        "residual": "residual meV/atom",
    }

    def __init__(self, settings: EosSettings, start: Start) -> None:
        self.settings, self.start = settings, start

    def check(self, atoms: ase.Atoms) -> None:
        from atomsml.properties.eos import check

        check(atoms)

    def find(self, structures: Sequence[ase.Atoms], engine: Engine) -> Iterable[tuple[int, EquationOfState | Failure]]:
        from atomsml.properties.eos import equations_of_state

        return equations_of_state(structures, engine, self.settings, self.start)

    def record(self, result: EquationOfState) -> dict[str, Any]:
        atoms = len(result.atoms)
        pressures = result.pressure(result.volumes)
        notes = []
        if 1000 * result.residual / atoms > ROUGH:
            notes.append("the curve misses the energies: the crystal may change its phase in this range of volumes")
        return {
            "volume": result.v0,
            "volume_per_atom": result.v0 / atoms,
            "energy_per_atom": result.e0 / atoms,
            "bulk_modulus": result.b0,
            "derivative": result.b1,
            "residual": 1000 * result.residual / atoms,
            "form": result.form,
            "volumes_A^3": result.volumes,
            "energies_eV": result.energies,
            "pressures_GPa": pressures,
            "notes": notes,
        }

    def structures(self, result: EquationOfState) -> dict[str, Sequence[ase.Atoms]]:
        return {"-relaxed.extxyz": [result.atoms]}

    def draw(self, record: Mapping[str, Any]) -> Figure:
        import numpy as np
        from matplotlib.figure import Figure

        from atomsml.properties.eos import FORMS
        from atomsml.units import GPA

        atoms = record["volume"] / record["volume_per_atom"]
        volumes, energies = np.array(record["volumes_A^3"]), np.array(record["energies_eV"])
        smooth = np.linspace(volumes.min(), volumes.max(), 200)
        e0, b0 = record["energy_per_atom"] * atoms, record["bulk_modulus"] * GPA
        curve = FORMS[record["form"]](smooth, e0, record["volume"], b0, record["derivative"])
        figure = Figure(figsize=(6, 4), layout="constrained")
        axes = figure.subplots()
        axes.plot(smooth / atoms, 1000 * (curve - e0) / atoms, linewidth=1, label=record["form"])
        axes.plot(volumes / atoms, 1000 * (energies - e0) / atoms, "o", markersize=4, label="computed")
        axes.set_xlabel("volume, A^3/atom")
        axes.set_ylabel("energy above the minimum, meV/atom")
        axes.set_title(f"{record['formula']}: {record['bulk_modulus']:.1f} GPa")
        axes.legend(frameon=False)
        return figure
