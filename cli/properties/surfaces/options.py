"""Options of slabs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from atomsml.cli.options import one_of

if TYPE_CHECKING:
    from atomsml.properties.surfaces.slabs import Miller


def miller_option(otherwise: str) -> Any:
    return typer.Option("--miller", help=f"Indices of a plane of the conventional cell, such as 1,1,0. {otherwise}")


ThicknessOption = Annotated[float, typer.Option(help="Of slabs, A, at least: layers times their spacing.")]
VacuumOption = Annotated[float, typer.Option(help="In the cells of slabs that are written, A; models do not see it.")]
HoldOption = Annotated[str, one_of(("none", "middle", "bottom"), "Which part of a slab keeps its positions.")]
HeldOption = Annotated[float, typer.Option(help="How much of the thickness that is.")]


def parse_miller(words: list[str] | None) -> tuple[Miller, ...]:
    """
    Raises:
        ValueError: what are not three integers with commas between them, or four of a hexagonal crystal.
    """
    return tuple(_indices(word) for word in words or [])


def _indices(word: str) -> Miller:
    try:
        numbers = [int(part) for part in word.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) == 4 and sum(numbers[:3]) == 0:  # hkil, of which i follows from h and k
        del numbers[2]
    if len(numbers) != 3:
        raise ValueError(f"--miller is three integers such as 1,1,0, or four of a hexagonal crystal, got {word!r}")
    h, k, l = numbers
    return h, k, l
