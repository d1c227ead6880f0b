"""`atomsml melting`: melting points of crystals by two-phase coexistence."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import typer

from atomsml.cli.options import SeedOption
from atomsml.cli.properties.command import PropertyCommand
from atomsml.cli.properties.options import FmaxOption, Shared, with_shared_options

if TYPE_CHECKING:
    import ase
    from matplotlib.figure import Figure

    from atomsml.properties.engine import Engine
    from atomsml.properties.melting import Melting, MeltingSettings
    from atomsml.properties.task import Failure, Standing, Start


@with_shared_options
def melting(
    context: typer.Context,
    shared: Shared,
    temperature: Annotated[float, typer.Option(help="A guess of the melting point, K.")],
    spread: Annotated[
        float, typer.Option(help="The first temperatures lie from (1 - SPREAD) to (1 + SPREAD) times the guess.")
    ] = 0.3,
    runs: Annotated[int, typer.Option(help="Temperatures of a round, side by side.")] = 5,
    rounds: Annotated[int, typer.Option(help="The next round lies between those that bracket the melting point.")] = 2,
    atoms: Annotated[int, typer.Option(help="Of a run, at least.")] = 400,
    steps: Annotated[int, typer.Option(help="Of a run.")] = 10_000,
    timestep: Annotated[float, typer.Option(help="fs.")] = 2.0,
    pressure: Annotated[float, typer.Option(help="GPa.")] = 0.0,
    seed: SeedOption = 0,
    fmax: FmaxOption = 0.005,
) -> None:
    """Melting points of crystals: at which temperature crystal and melt stand side by side.

    Half of a supercell is molten, and copies run at several temperatures: where the crystal grows it is below its
    melting point, where it shrinks above. Crystals run one after the other, the temperatures of one together.
    """
    from atomsml.cli.job import importing
    from atomsml.cli.properties.run import run

    with importing():
        from atomsml.properties.melting import MeltingSettings
        from atomsml.properties.task import Start

    settings = MeltingSettings(temperature, spread, runs, rounds, atoms, steps, timestep, pressure, seed)
    run(context, MeltingCommand(settings, Start(fmax, cell=True)), shared)


class MeltingCommand(PropertyCommand["Melting"]):
    name = "melting"
    columns: ClassVar[Mapping[str, str]] = {
        "structure": "structure",
        "melting_point": "melting point K",
        "uncertainty": "+- K",
        "grew_at": "crystal grew at K",
        "shrank_at": "shrank at K",
        "atoms": "atoms",
    }

    def __init__(self, settings: MeltingSettings, start: Start) -> None:
        self.settings, self.start = settings, start

    def check(self, atoms: ase.Atoms) -> None:
        from atomsml.properties.melting import check

        check(atoms)

    def find(
        self, structures: Sequence[ase.Atoms], engine: Engine
    ) -> Iterable[tuple[int, Melting | Failure | Standing]]:
        from atomsml.properties.melting import melting_points

        return melting_points(structures, engine, self.settings, self.start)

    def record(self, result: Melting) -> dict[str, Any]:
        return {
            "structure": result.kind,
            "melting_point": result.temperature,
            "uncertainty": (result.upper - result.lower) / 2,
            "grew_at": result.lower,
            "shrank_at": result.upper,
            "atoms": len(result.runs[0].last),
            "pressure_GPa": self.settings.pressure,
            "runs": [
                {"temperature_K": run.temperature, "verdict": run.verdict, "times_fs": run.times, "solid": run.solid}
                for run in result.runs
            ],
        }

    def structures(self, result: Melting) -> dict[str, Sequence[ase.Atoms]]:
        return {"-last.extxyz": [run.last for run in result.runs]}

    def draw(self, record: Mapping[str, Any]) -> Figure:
        import numpy as np
        from matplotlib import colormaps
        from matplotlib.figure import Figure

        figure = Figure(figsize=(7, 4), layout="constrained")
        axes = figure.subplots()
        colours = colormaps["coolwarm"](np.linspace(0, 1, len(record["runs"])))
        for run, colour in zip(record["runs"], colours, strict=True):
            label = f"{run['temperature_K']:.0f} K {run['verdict']}"
            axes.plot(np.array(run["times_fs"]) / 1000, run["solid"], color=colour, linewidth=1, label=label)
        axes.set_xlabel("time, ps")
        axes.set_ylabel("solid, of the whole crystal")
        axes.set_ylim(bottom=0)
        axes.margins(x=0)
        axes.set_title(f"{record['formula']}: {record['melting_point']:.0f} ± {record['uncertainty']:.0f} K")
        axes.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
        return figure
