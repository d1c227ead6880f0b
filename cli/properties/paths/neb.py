"""`atomsml neb`: paths of least energy between minima, and the barriers on them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import typer

from atomsml.cli.options import one_of
from atomsml.cli.properties.command import PropertyCommand
from atomsml.cli.properties.options import Shared, with_shared_options

if TYPE_CHECKING:
    import ase
    from matplotlib.figure import Figure

    from atomsml.io import Refused, StructureRecord
    from atomsml.properties.engine import Engine
    from atomsml.properties.paths.neb import NebSettings, Path
    from atomsml.properties.task import Failure, Start

WholePathOption = Annotated[bool, typer.Option("--path", help="Each file is a whole path, its images in order.")]


@with_shared_options
def neb(
    context: typer.Context,
    shared: Shared,
    path: WholePathOption = False,
    images: Annotated[int, typer.Option(help="How many images between the end points.")] = 7,
    fmax: Annotated[float, typer.Option(help="Converged when no force across the path is larger, eV/A.")] = 0.02,
    steps: Annotated[int, typer.Option(help="Give up a band after this many steps.")] = 500,
    spring: Annotated[float, typer.Option(help="Stiffness of the springs between images, eV/A^2.")] = 0.1,
    climb_below: Annotated[
        float, typer.Option(help="The highest image climbs once forces across the path are below this, eV/A; 0: never.")
    ] = 0.5,
    start: Annotated[
        str, one_of(("idpp", "linear"), "How images lie at first: by distances between atoms, or on straight lines.")
    ] = "idpp",
    order: Annotated[
        str,
        one_of(
            ("refuse", "reorder", "keep"),
            "What becomes of end points whose atoms of an element seem to be numbered differently.",
        ),
    ] = "refuse",
    relax: Annotated[bool, typer.Option("--relax/--no-relax", help="Relax the end points first.")] = True,
    relax_fmax: Annotated[float, typer.Option(help="End points are relaxed when no force is larger, eV/A.")] = 0.005,
    relax_steps: Annotated[int, typer.Option(help="Give up the relaxation of an end point after this many.")] = 500,
) -> None:
    """Nudged elastic bands: the path of least energy between two minima, and its barrier.

    Inputs are end points, two by two: FIRST LAST of one band, or files with as many pairs as you like, one after the
    other. All images of all bands are computed together.
    """
    from atomsml.cli.job import importing
    from atomsml.cli.properties.run import run

    with importing():
        from atomsml.properties.paths.neb import NebSettings
        from atomsml.properties.task import Start

    settings = NebSettings(images, fmax, steps, spring, climb_below, start, order)
    run(context, Neb(settings, Start(relax_fmax, relax_steps, relax=relax), path), shared)


class Neb(PropertyCommand["Path"]):
    name = "neb"
    columns: ClassVar[Mapping[str, str]] = {
        "barrier": "barrier eV",
        "reverse_barrier": "reverse barrier eV",
        "reaction_energy": "reaction energy eV",
        "length": "path A",
        "residual": "residual force eV/A",
        "steps": "steps",
    }

    def __init__(self, settings: NebSettings, start: Start, whole: bool) -> None:
        self.settings, self.start, self.whole = settings, start, whole

    def check(self, atoms: ase.Atoms) -> None:
        from atomsml.simulate.constraints import projectors

        projectors(atoms)

    def combined(self, inputs: Sequence[StructureRecord | Refused]) -> list[StructureRecord | Refused]:
        from atomsml.cli.properties.paths.inputs import as_paths, files, pairs
        from atomsml.properties.paths.alignment import prepared

        def check(images: Sequence[ase.Atoms]) -> None:
            if len(images) == 1:
                remedy = "give the file of a path --path" if self.whole else "end points are given two by two"
                raise ValueError(f"has no other end point; {remedy}")
            prepared(images, self.settings.order)

        return as_paths(files(inputs) if self.whole else pairs(inputs), check)

    def given(self, structure: StructureRecord) -> Any:
        from atomsml.cli.properties.paths.inputs import PathRecord

        assert isinstance(structure, PathRecord)
        return structure.images

    def find(self, structures: Sequence[Sequence[ase.Atoms]], engine: Engine) -> Iterable[tuple[int, Path | Failure]]:
        from atomsml.properties.paths.neb import elastic_bands

        return elastic_bands(structures, engine, self.settings, self.start)

    def record(self, result: Path) -> dict[str, Any]:
        return {
            "barrier": result.barrier,
            "reverse_barrier": result.reverse_barrier,
            "reaction_energy": result.reaction_energy,
            "length": float(result.lengths[-1]),
            "residual": result.residual,
            "steps": result.steps,
            "curvature_eV_per_A^2": result.curvature,
            "top": result.top,
            "climbed": result.climbed,
            "lengths_A": result.lengths,
            "energies_eV": result.energies,
            "slopes_eV_per_A": result.slopes,
            "notes": _notes(result),
        }

    def structures(self, result: Path) -> dict[str, Sequence[ase.Atoms]]:
        return {"-band.extxyz": result.images, "-top.extxyz": [result.images[result.top]]}

    def draw(self, record: Mapping[str, Any]) -> Figure:
        import numpy as np
        from matplotlib.figure import Figure
        from scipy.interpolate import CubicHermiteSpline

        lengths, energies = np.array(record["lengths_A"]), np.array(record["energies_eV"])
        smooth = np.linspace(0, lengths[-1], 300)
        curve = CubicHermiteSpline(lengths, energies - energies[0], record["slopes_eV_per_A"])(smooth)
        figure = Figure(figsize=(6, 4), layout="constrained")
        axes = figure.subplots()
        axes.plot(smooth, curve, linewidth=1)
        axes.plot(lengths, energies - energies[0], "o", markersize=4, color="C0")
        axes.plot(lengths[record["top"]], record["barrier"], "o", markersize=7, color="C1", label="highest image")
        axes.set_xlabel("path, A")
        axes.set_ylabel("energy above the first end point, eV")
        axes.set_title(f"{record['formula']}: {record['barrier']:.3f} eV, back {record['reverse_barrier']:.3f} eV")
        axes.legend(frameon=False)
        return figure


def _notes(result: Path) -> list[str]:
    notes = []
    if not result.is_interior:
        notes.append("the energy has no maximum between the end points: from the higher one there is no barrier")
    elif not result.climbed:
        notes.append("no image climbed: the barrier is that of the highest image, and the saddle point may be higher")
    if result.dips:
        images = ", ".join(map(str, result.dips))
        notes.append(f"the path leads through a minimum at image {images}: take it as an end point, of two bands")
    return notes
