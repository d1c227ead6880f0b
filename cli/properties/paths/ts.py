"""`atomsml ts`: transition states near guesses, and the minima on both sides of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import typer

from atomsml.cli.properties.command import PropertyCommand
from atomsml.cli.properties.options import Shared, with_shared_options

if TYPE_CHECKING:
    import ase
    from matplotlib.figure import Figure

    from atomsml.io import Refused, StructureRecord
    from atomsml.properties.engine import Engine
    from atomsml.properties.paths.ts import Descent, TransitionState, TsSettings
    from atomsml.properties.task import Failure, Start


@with_shared_options
def ts(
    context: typer.Context,
    shared: Shared,
    path: Annotated[
        bool,
        typer.Option(
            "--path",
            help="Each file is a path, as neb/NAME-band.extxyz: begin at its highest image, go up along it, and "
            "compare the minima with its ends.",
        ),
    ] = False,
    fmax: Annotated[float, typer.Option(help="A saddle point has no larger force, eV/A.")] = 0.005,
    steps: Annotated[int, typer.Option(help="Give up a search after this many steps.")] = 200,
    irc_step: Annotated[float, typer.Option(help="Between points of the ways down, A.")] = 0.1,
    irc_points: Annotated[int, typer.Option(help="How many points a way down has at most.")] = 200,
    irc_fmax: Annotated[float, typer.Option(help="A way down ends where no force is larger, eV/A.")] = 0.02,
    relax_fmax: Annotated[float, typer.Option(help="Minima at its end have no larger force, eV/A.")] = 0.005,
    relax_steps: Annotated[int, typer.Option(help="Give up a relaxation to such a minimum after this many.")] = 500,
) -> None:
    """Transition states: saddle points with one imaginary mode, and the minima on both sides.

    Inputs are guesses, such as neb/NAME-top.extxyz; the search goes up along the lowest mode.
    """
    from atomsml.cli.job import importing
    from atomsml.cli.properties.run import run

    with importing():
        from atomsml.properties.paths.ts import TsSettings
        from atomsml.properties.task import Start

    settings = TsSettings(fmax, steps, irc_step, irc_points, irc_fmax)
    run(context, Ts(settings, Start(relax_fmax, relax_steps), path), shared)


class Ts(PropertyCommand["TransitionState"]):
    name = "ts"
    columns: ClassVar[Mapping[str, str]] = {
        "energy": "energy eV",
        "imaginary_frequency": "imaginary frequency i cm^-1",
        "first_barrier": "above first minimum eV",
        "second_barrier": "above second minimum eV",
        "is_expected": "minima of the path",
        "residual": "residual force eV/A",
        "steps": "steps",
    }

    def __init__(self, settings: TsSettings, start: Start, from_paths: bool) -> None:
        self.settings, self.start, self.from_paths = settings, start, from_paths

    def check(self, atoms: ase.Atoms) -> None:
        from atomsml.properties.paths.ts import check

        check(atoms)

    def combined(self, inputs: Sequence[StructureRecord | Refused]) -> list[StructureRecord | Refused]:
        from atomsml.cli.properties.paths.inputs import as_paths, files
        from atomsml.properties.paths.ts import Guess

        if not self.from_paths:
            return list(inputs)
        return as_paths(files(inputs), lambda images: Guess.of(images, [0.0] * len(images)))

    def given(self, structure: StructureRecord) -> Any:
        from atomsml.cli.properties.paths.inputs import PathRecord

        return structure.images if isinstance(structure, PathRecord) else [structure.atoms]

    def find(
        self, structures: Sequence[Sequence[ase.Atoms]], engine: Engine
    ) -> Iterable[tuple[int, TransitionState | Failure]]:
        from atomsml.properties.paths.ts import Guess, transition_states

        guesses = []
        for images in structures:
            if self.from_paths:
                energies = [image.get_potential_energy() for image in engine.evaluate(images)]
                guesses.append(Guess.of(images, energies))
            else:
                guesses.append(Guess(images[0]))
        return transition_states(guesses, engine, self.settings, self.start)

    def record(self, result: TransitionState) -> dict[str, Any]:
        first, second = result.ways
        return {
            "energy": result.energy,
            "imaginary_frequency": -float(result.frequencies[0]),
            "first_barrier": first.depth(result.energy),
            "second_barrier": second.depth(result.energy),
            "is_expected": result.is_expected,
            "residual": result.residual,
            "steps": result.steps,
            "hessians": result.hessians,
            "frequencies_per_cm": result.frequencies,
            "mode": result.mode,
            "apart_from_ends_A": result.expected,
            "ways": [_way(each) for each in result.ways],
            "notes": _notes(result),
        }

    def structures(self, result: TransitionState) -> dict[str, Sequence[ase.Atoms]]:
        import ase

        first, second = result.ways
        minima = [each.minimum for each in result.ways if isinstance(each.minimum, ase.Atoms)]
        found: dict[str, Sequence[ase.Atoms]] = {"-ts.extxyz": [result.atoms]}
        found["-irc.extxyz"] = [*first.images[:0:-1], *second.images]
        return {**found, "-minima.extxyz": minima} if minima else found

    def draw(self, record: Mapping[str, Any]) -> Figure:
        from matplotlib.figure import Figure

        figure = Figure(figsize=(6, 4), layout="constrained")
        axes = figure.subplots()
        depths = record["first_barrier"], record["second_barrier"]
        for sign, way, depth in zip((-1, 1), record["ways"], depths, strict=True):
            lengths = [sign * length for length in way["lengths_sqrt(u)A"]]
            energies = [energy - record["energy"] for energy in way["energies_eV"]]
            axes.plot(lengths, energies, ".-", color="C0", linewidth=1)
            if depth is not None:
                half = (0, 0.5) if sign < 0 else (0.5, 1)
                axes.axhline(-depth, *half, color="grey", linewidth=1)
        axes.plot(0, 0, "o", markersize=7, color="C1", label=f"{record['imaginary_frequency']:.0f}i cm$^{{-1}}$")
        farthest = max(abs(x) for x in axes.get_xlim())
        axes.set_xlim(-farthest, farthest)
        axes.set_xlabel(r"intrinsic reaction coordinate, $\sqrt{u}$ A; grey: the minima")
        axes.set_ylabel("energy above the transition state, eV")
        axes.set_title(f"{record['formula']}: transition state")
        axes.legend(frameon=False)
        return figure


def _way(descent: Descent) -> dict[str, Any]:
    way = descent.way
    return {"lengths_sqrt(u)A": way.lengths, "energies_eV": way.energies, "ended": way.ended}


def _notes(result: TransitionState) -> list[str]:
    from atomsml.properties.task import Failure

    notes = []
    for name, descent in zip(("first", "second"), result.ways, strict=True):
        if isinstance(descent.minimum, Failure):
            notes.append(f"the end of the {name} way down {descent.minimum.reason}")
        if not descent.way.ended:
            notes.append(f"the {name} way down was cut off before it was at its end; allow more points")
    if result.expected is not None and not result.is_expected:
        apart = " and ".join(f"{each:.2f}" for each in result.expected)
        notes.append(f"the minima are not those of the path: its ends are {apart} A for each atom from them")
    return notes
