"""Input files of LAMMPS in which `pair_style atomsml` stands for a model.

    units      metal
    read_data  water.data
    pair_style atomsml
    pair_coeff * * H O          elements of the atom types, in their order
    run        1000

The two lines are no commands of LAMMPS. A file is cut behind each such pair_coeff: LAMMPS reads the first part, is
given the model, and reads on. Loops and jumps stay within a part.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

SKIN = 1.0  # A, of LAMMPS where the file sets none: atoms that move less far have the same ghosts
STYLE = "atomsml"
OURS = ("neighbor", "comm_modify", "comm_style", "pair_style", "pair_coeff")  # not to be changed behind our back


@dataclass(frozen=True)
class Part:
    """Lines of an input file, after which the model is attached, or the end."""

    text: str
    elements: tuple[str, ...] | None  # that pair_coeff names; None at the end
    skin: float


def read_script(path: Path) -> list[Part]:
    """The parts of an input file; all but the last are followed by a model.

    Raises:
        ValueError: no `pair_style atomsml`, one without its `pair_coeff * *`, or a command that would take away what
            the model needs; names the line.
    """
    parts: list[Part] = []
    lines: list[str] = []
    asked, attached, skin, continued = False, False, SKIN, False
    for number, line in enumerate(path.read_text().splitlines(), 1):
        words = line.split("#")[0].split()
        command = words[0] if words and not continued else ""
        continued = line.rstrip().endswith("&")
        where = f"{path}, line {number}"
        if command == "clear":
            asked = attached = False
        if command == "pair_style" and words[1:2] == [STYLE]:
            if words[2:]:
                raise ValueError(f"{where}: `pair_style {STYLE}` takes nothing more, the model is named by --model")
            asked, attached = True, False
            line = f"# {line}"
        elif command == "pair_coeff" and asked:
            if words[1:3] != ["*", "*"]:
                raise ValueError(f"{where}: pair_coeff of `pair_style {STYLE}` is `pair_coeff * *` and the elements")
            parts.append(Part("\n".join([*lines, ""]), tuple(words[3:]), skin))
            lines, asked, attached = [""] * number, False, True  # LAMMPS counts lines as the file does
            continue
        elif command == "neighbor" and not attached:
            skin = _skin(words, where)
        elif command in OURS and attached:
            raise ValueError(f"{where}: `{command}` would take away what the model needs; write it before pair_coeff")
        lines.append(line)
    if asked:
        raise ValueError(f"{path}: `pair_style {STYLE}` is not followed by `pair_coeff * *` and the elements")
    if not parts:
        raise ValueError(
            f"{path} has no line `pair_style {STYLE}`, so the model would not be used; write it and "
            "`pair_coeff * * H O` (the elements of the atom types) behind read_data or create_box"
        )
    return [*parts, Part("\n".join([*lines, ""]), None, skin)]


def _skin(words: list[str], where: str) -> float:
    try:
        skin = float(words[1])
    except (IndexError, ValueError):
        raise ValueError(f"{where}: the skin of `neighbor` must be a number, such as neighbor 1.0 bin") from None
    if not 0 < skin < 100:
        raise ValueError(f"{where}: the skin of `neighbor` must be more than 0 A, got {skin:g}")
    return skin


def agreed(in_script: tuple[str, ...], given: tuple[str, ...]) -> tuple[str, ...]:
    """The elements that pair_coeff or whoever runs the script names.

    Raises:
        ValueError: neither does, or they differ.
    """
    if not in_script and not given:
        raise ValueError("no elements are named for the atom types; write pair_coeff * * H O, or give --elements H,O")
    if in_script and given and in_script != given:
        raise ValueError(f"pair_coeff names {' '.join(in_script)}, and --elements {' '.join(given)}; name them once")
    return in_script or given
