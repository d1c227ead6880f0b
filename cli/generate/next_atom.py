"""`atomsml generate next-atom`: where a generator that grows molecules would add an atom to a fragment."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from atomsml.cli.generate.samples import GROWING
from atomsml.cli.options import ConfigOption, DeviceOption, JsonOption

if TYPE_CHECKING:
    import ase
    import numpy as np

    from atomsml.generative.molecules.symphony.next_atom import NextAtom

MARGIN = 2.6  # A about the fragment: bonds are shorter
PICTURE_SPACING = 0.1  # A
BLUR = 0.7  # spacings: a normal distribution so wide is summed to 1e-4 by a grid
SHOWN = 8  # rows of the table: the likeliest
MOST_POINTS = 4_000_000


def next_atom(
    context: typer.Context,
    fragment: Annotated[Path, typer.Argument(help="File of one molecule to which an atom is to be added.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Density per cubic Angstrom as .cube; or its map, .png, .svg, .pdf.")
    ] = Path("next_atom.png"),
    model: Annotated[
        str, typer.Option("--model", "-m", help="Name or file of a generator that grows molecules.")
    ] = GROWING,
    element: Annotated[str | None, typer.Option(help="Of this element alone, e.g. O. [default: all]")] = None,
    spacing: Annotated[float, typer.Option(help="Between the points of a .cube file, in Angstrom.")] = 0.1,
    device: DeviceOption = "auto",
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show where the next atom goes: which atom it is bonded to, its element, and its place.

    The density is p(focus, element) p(place | focus, element), summed over all that may be added. Its integral is the
    probability that an atom is added, 1 - p(stop).
    """
    from atomsml.cli.files import open_outputs
    from atomsml.cli.generate.requests import read_fragment
    from atomsml.cli.output import Facts, print_json, print_table, write_summary
    from atomsml.generative.molecules.symphony import next_atom as growth

    started = time.perf_counter()
    _check(output, spacing)
    generator = _open(model, device)
    held = read_fragment(fragment)
    chosen = _element(element, generator.config.elements)
    found = growth.next_atom(generator, held)
    report = _report(found, chosen)
    with open_outputs(context, output, [output]) as files:
        if output.suffix == ".cube":
            files.write(output, lambda beside: _write_cube(beside, found, chosen, spacing))
        else:
            files.write(output, lambda beside: _draw(beside, output.suffix[1:], found, chosen))
        facts = Facts(model, str(generator.formulas.device), 1, started, report)
        write_summary(files, output, context, facts, [output], [])
    if as_json:
        print_json(report)
    else:
        rows = [
            [f"{row['symbol']}{row['focus']}", row["element"], f"{row['probability']:.3f}"] for row in report["next"]
        ]
        print_table(("added to", "element", "probability"), [*rows, ["stop", "", f"{report['stop']:.3f}"]])
        typer.echo(f"the density is in {output}")


def _check(output: Path, spacing: float) -> None:
    from atomsml.cli.output import check_writable

    check_writable(output)
    if output.suffix not in (".cube", ".png", ".svg", ".pdf"):
        raise ValueError(f"cannot write a density to {output}; use the suffix .cube, .png, .svg or .pdf")
    if not 0.02 <= spacing <= 1:
        raise ValueError(f"--spacing must lie between 0.02 and 1 Angstrom, got {spacing:g}")


def _open(name: str, device: str) -> Any:
    from atomsml.device import select_device
    from atomsml.generative.molecules.modelfile import load_generator
    from atomsml.generative.molecules.symphony.model import Symphony

    generator = load_generator(name, select_device(device, "float32"))
    if not isinstance(generator, Symphony):
        raise ValueError(
            f"{name} does not grow molecules atom by atom; take {GROWING}, or one that `-m symphony` trained"
        )
    return generator


def _element(symbol: str | None, elements: tuple[int, ...]) -> int | None:
    """Its place among the elements of the model."""
    from ase.data import chemical_symbols

    symbols = [chemical_symbols[z] for z in elements]
    if symbol is not None and symbol not in symbols:
        raise ValueError(f"the model does not know the element {symbol!r}; its elements are {', '.join(symbols)}")
    return None if symbol is None else symbols.index(symbol)


def _report(found: NextAtom, chosen: int | None) -> dict[str, Any]:
    """The likeliest additions first."""
    import numpy as np
    from ase.data import chemical_symbols

    p = found.probabilities if chosen is None else found.probabilities[:, chosen : chosen + 1]
    elements = found.model.config.elements if chosen is None else found.model.config.elements[chosen : chosen + 1]
    order = np.argsort(-p, axis=None, kind="stable")[:SHOWN]
    return {
        "command": "generate next-atom",
        "next": [
            {
                "focus": focus,
                "symbol": chemical_symbols[found.fragment.numbers[focus]],
                "element": chemical_symbols[elements[kind]],
                "probability": round(float(p[focus, kind]), 6),
            }
            for focus, kind in (divmod(int(i), len(elements)) for i in order)
        ],
        "stop": round(found.stop, 6),
    }


def _atoms(found: NextAtom) -> ase.Atoms:
    import ase

    return ase.Atoms(found.fragment.numbers, found.fragment.positions.numpy())


def _on_grid(
    found: NextAtom,
    chosen: int | None,
    axes: list[np.ndarray],
    place: Callable[[np.ndarray], np.ndarray] = lambda points: points,
) -> np.ndarray:
    """(x, y, z) density on the product of three axes, Angstrom, whose points `place` takes to the fragment's frame."""
    import numpy as np

    counts = [len(axis) for axis in axes]
    if np.prod(counts) > MOST_POINTS:
        raise ValueError(f"a grid of {np.prod(counts):,} points is too large; take a wider --spacing")
    points = place(np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3))
    return found.density(points, chosen, BLUR * (axes[0][1] - axes[0][0])).reshape(counts)


def _axes(positions: np.ndarray, spacing: float) -> list[np.ndarray]:
    import numpy as np

    low, high = positions.min(axis=0) - MARGIN, positions.max(axis=0) + MARGIN
    return [
        start + spacing * np.arange(int((stop - start) / spacing) + 1) for start, stop in zip(low, high, strict=True)
    ]


def _write_cube(path: Path, found: NextAtom, chosen: int | None, spacing: float) -> None:
    import numpy as np
    from ase.io.cube import write_cube

    atoms = _atoms(found)
    axes = _axes(atoms.positions, spacing)
    density = _on_grid(found, chosen, axes)
    atoms.cell = np.diag([spacing * len(axis) for axis in axes])
    with path.open("w", encoding="utf-8") as file:
        write_cube(
            file, atoms, density, [axis[0] for axis in axes], "probability density of the next atom, 1/Angstrom^3"
        )


def _draw(path: Path, kind: str, found: NextAtom, chosen: int | None) -> None:
    """The density summed along the direction in which the fragment is thinnest."""
    import numpy as np
    from ase.data import chemical_symbols
    from ase.data.colors import jmol_colors
    from matplotlib.figure import Figure

    positions = found.fragment.positions.numpy()
    _, _, directions = np.linalg.svd(positions - positions.mean(axis=0))
    flat = (positions - positions.mean(axis=0)) @ directions.T
    axes = _axes(flat, PICTURE_SPACING)
    total = _on_grid(found, chosen, axes, lambda points: points @ directions + positions.mean(axis=0))
    figure = Figure(figsize=(7, 6), layout="constrained")
    plot = figure.subplots()
    image = plot.pcolormesh(axes[0], axes[1], total.sum(axis=2).T * PICTURE_SPACING, cmap="Blues", rasterized=True)
    figure.colorbar(image, label="probability per Å², seen from above")
    for i, (number, place) in enumerate(zip(found.fragment.numbers, flat, strict=True)):
        plot.text(place[0], place[1], f"{chemical_symbols[number]}{i}", ha="center", va="center", fontsize=9,
                  bbox={"boxstyle": "circle", "facecolor": jmol_colors[number], "edgecolor": "black"})  # fmt: skip
    plot.set_aspect("equal")
    plot.set_xlabel("Å")
    plot.set_ylabel("Å")
    shares = zip(found.model.config.elements, found.probabilities.sum(axis=0), strict=True)
    parts = [f"{chemical_symbols[z]} {share:.0%}" for z, share in shares if share > 0.005]
    plot.set_title("next atom: " + ", ".join([*parts, f"none {found.stop:.0%}"]))
    figure.savefig(path, format=kind, dpi=150)
