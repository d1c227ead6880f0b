"""`atomsml conformers`: the conformers of molecules, their energies and weights."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import typer

from atomsml.cli.options import SeedOption
from atomsml.cli.properties.command import PropertyCommand
from atomsml.cli.properties.options import FmaxOption, Shared, StepsOption, with_shared_options

if TYPE_CHECKING:
    import ase
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from atomsml.properties.conformers.ensembles import ConformerSettings, Ensemble
    from atomsml.properties.engine import Engine
    from atomsml.properties.task import Failure, Start

MOST_DRAWN = 40  # conformers in a picture


@with_shared_options
def conformers(
    context: typer.Context,
    shared: Shared,
    seeds: Annotated[
        int | None, typer.Option(help="Geometries to begin with. [default: 50, 200 or 300, by the rotatable bonds]")
    ] = None,
    seed: SeedOption = 0,
    temperature: Annotated[float, typer.Option(help="Of the weights, K.")] = 298.15,
    window: Annotated[float, typer.Option(help="Keep conformers up to so far above the lowest, kcal/mol.")] = 6.0,
    rmsd: Annotated[float, typer.Option(help="Nearer ones are the same, A.")] = 0.125,
    fmax: FmaxOption = 0.005,
    steps: StepsOption = 500,
) -> None:
    """Conformers of molecules: ETKDG seeds relaxed in one batch, the same ones left out, with Boltzmann weights.

    What reacts or inverts on the way is left out and counted. The geometry that is given is a seed as well.
    """
    from atomsml.cli.job import importing
    from atomsml.cli.properties.run import run

    with importing():
        from atomsml.properties.conformers.ensembles import ConformerSettings
        from atomsml.properties.task import Start

    settings = ConformerSettings(seeds, seed, temperature, window, rmsd)
    run(context, Conformers(settings, Start(fmax, steps)), shared)


class Conformers(PropertyCommand["Ensemble"]):
    name = "conformers"
    columns: ClassVar[Mapping[str, str]] = {
        "conformers": "conformers",
        "lowest": "lowest eV",
        "lowest_weight": "its weight",
        "free_energy": "-kT ln Z kcal/mol",
        "seeds": "seeds",
        "lost": "lost",
    }

    def __init__(self, settings: ConformerSettings, start: Start) -> None:
        self.settings, self.start = settings, start

    def check(self, atoms: ase.Atoms) -> None:
        from atomsml.properties.conformers.ensembles import check

        check(atoms)

    def find(self, structures: Sequence[ase.Atoms], engine: Engine) -> Iterable[tuple[int, Ensemble | Failure]]:
        from atomsml.properties.conformers.ensembles import conformers

        return conformers(structures, engine, self.settings, self.start)

    def record(self, result: Ensemble) -> dict[str, Any]:
        from atomsml.units import KCAL

        weights = result.weights
        above = {reason: count for reason, count in result.lost.items() if reason != "above the window"}
        return {
            "conformers": len(result.conformers),
            "lowest": result.conformers[0].get_potential_energy(),
            "lowest_weight": weights[0],
            "free_energy": result.free_energy / KCAL,
            "seeds": result.seeds,
            "lost": sum(above.values()),
            "isomer": result.isomer,
            "temperature_K": result.temperature,
            "free_energy_eV": result.free_energy,
            "energies_above_lowest_eV": result.energies,
            "energies_above_lowest_kcal/mol": result.energies / KCAL,
            "degeneracies": result.degeneracies,
            "weights": weights,
            "seeds_that_led_to_each": [len(some) for some in result.found_by],
            "first_seed_of_each": [some[0] for some in result.found_by],
            "lost_seeds": result.lost,
            "torsions": result.torsions,
            "torsions_deg": [[_angle(atoms, each) for each in result.torsions] for atoms in result.conformers],
            "notes": notes(result),
        }

    def structures(self, result: Ensemble) -> dict[str, Sequence[ase.Atoms]]:
        from atomsml.units import KCAL

        frames = []
        rows = zip(result.conformers, result.energies / KCAL, result.degeneracies, result.weights, strict=True)
        for atoms, energy, degeneracy, weight in rows:
            frames.append(atoms.copy())
            frames[-1].calc = atoms.calc
            frames[-1].info |= {
                "relative_energy_kcal_per_mol": float(energy),
                "degeneracy": float(degeneracy),
                "weight": float(weight),
            }
        return {"-conformers.sdf": frames, "-conformers.extxyz": frames}

    def draw(self, record: Mapping[str, Any]) -> Figure:
        from matplotlib.figure import Figure

        shown, torsions = min(record["conformers"], MOST_DRAWN), record["torsions"]
        width = 5 + (1.5 + 0.45 * len(torsions) if torsions else 0)
        figure = Figure(figsize=(width, 2 + 0.22 * shown), layout="constrained")
        if torsions:
            energies, angles = figure.subplots(1, 2, sharey=True, width_ratios=[4, 0.6 + 0.45 * len(torsions)])
            _draw_torsions(figure, angles, record, shown)
        else:
            energies = figure.subplots()
        _draw_energies(energies, record, shown)
        some = f", the lowest {shown} of {record['conformers']}" if shown < record["conformers"] else ""
        figure.suptitle(f"{record['formula']}: conformers{some}, {record['temperature_K']:g} K")
        return figure


def notes(result: Ensemble) -> list[str]:
    """What a user must know of an ensemble."""
    found = []
    if result.undefined and set(result.isomer) & set("@/\\"):  # cubane has places of stereochemistry, but no isomers
        found.append(f"stereochemistry was left open ({result.undefined}); the conformers are of {result.isomer}")
    if result.perceived:
        found.append(f"bonds were not given; by the distances it is {result.isomer}")
    if result.late:
        found.append(
            f"{result.late} of {len(result.conformers)} conformers were found by the last quarter of the seeds only: "
            "the ensemble may be unfinished; take more --seeds"
        )
    lost = {reason: count for reason, count in result.lost.items() if reason != "above the window"}
    if lost:
        why = ", ".join(f"{count} {reason}" for reason, count in lost.items())
        found.append(f"of {result.seeds + 1} seeds, with the given geometry, are left out: {why}")
    if not result.complete:
        found.append("like atoms can be numbered in too many ways: some conformers may be there twice")
    return found


def _angle(atoms: ase.Atoms, torsion: Sequence[int]) -> float:
    """Between -180 and 180 degrees."""
    return float((atoms.get_dihedral(*torsion) + 180) % 360 - 180)


def _draw_energies(axes: Axes, record: Mapping[str, Any], shown: int) -> None:
    energies, weights = record["energies_above_lowest_kcal/mol"][:shown], record["weights"][:shown]
    axes.barh(range(1, shown + 1), energies, height=0.5, color="tab:blue")
    for place, (energy, weight) in enumerate(zip(energies, weights, strict=True), 1):
        axes.annotate(f"{weight:.1%}", (energy, place), (4, 0), textcoords="offset points", va="center", fontsize=8)
    axes.set_ylim(shown + 0.7, 0.3)
    axes.set_yticks(range(1, shown + 1))
    axes.set_xlim(0, 1.2 * max([*energies, 0.5]))
    axes.set_xlabel("energy above the lowest, kcal/mol; weight")
    axes.set_ylabel("conformer")


def _draw_torsions(figure: Figure, axes: Axes, record: Mapping[str, Any], shown: int) -> None:
    names = ["-".join(map(str, each)) for each in record["torsions"]]
    angles = record["torsions_deg"][:shown]
    extent = (-0.5, len(names) - 0.5, shown + 0.5, 0.5)
    image = axes.imshow(angles, cmap="twilight", vmin=-180, vmax=180, aspect="auto", extent=extent)
    axes.set_xticks(range(len(names)), names, rotation=90, fontsize=7)
    axes.set_xlabel("torsion")
    figure.colorbar(image, label="deg", ticks=[-180, -120, -60, 0, 60, 120, 180])
