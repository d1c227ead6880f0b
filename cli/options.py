"""The options that several commands share, as annotations, so that they read the same everywhere."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Protocol

import typer

from atomsml.cli.config import load_config
from atomsml.config import choose


class Described(Protocol):
    """What an option can name: it says in a few words what it is."""

    @property
    def about(self) -> str: ...


def one_of(names: Iterable[str], help: str) -> Any:
    """An option whose value is one of some names, in any case; the other options' way to refuse says too little."""

    def meant(parameter: typer.CallbackParam, word: str | None) -> str | None:
        return None if word is None else choose(parameter.opts[0], word, names)

    def complete(incomplete: str) -> list[str]:
        return [name for name in names if name.startswith(incomplete.lower())]

    return typer.Option(callback=meant, autocompletion=complete, metavar=f"<{'|'.join(names)}>", help=help)


def _complete_device(incomplete: str) -> list[str]:
    return [name for name in ("auto", "cpu", "cuda", "mps") if name.startswith(incomplete.lower())]


def key_of(nouns: Mapping[str, Described], more: str = "") -> Any:
    """An option whose value is a key of a dict; `--help` says what each is."""
    return one_of(nouns, "; ".join(f"{name}: {each.about}" for name, each in nouns.items()) + f".{more}")


Inputs = Annotated[list[str], typer.Argument(metavar="INPUT...", help="Structure files, folders of them, or SMILES.")]
FormatOption = Annotated[
    str | None,
    typer.Option("--format", help="Format of the files, whatever their names: extxyz, sdf, smiles, a name of ASE, ..."),
]
StrictOption = Annotated[bool, typer.Option(help="Stop at the first structure that cannot be treated.")]
ModelOption = Annotated[
    str | None,
    typer.Option(
        "--model",
        "-m",
        help="Name of an embedded or a fetched model, a file, or the folder of a committee. "
        "[default: what such structures need]",
    ),
]
DeviceOption = Annotated[
    str,
    typer.Option(
        autocompletion=_complete_device,
        help="Where to compute: cpu, cuda, cuda:N or mps; auto takes a GPU if there is one.",
    ),
]
PrecisionOption = Annotated[
    str, one_of(("mixed", "float32", "float64"), "mixed: geometry and sums in float64, the network in float32.")
]
ExactOption = Annotated[bool, typer.Option(help="Compute radial functions instead of tabulating them.")]
D3Option = Annotated[
    str | None,
    typer.Option(
        "--d3",
        metavar="FUNCTIONAL",
        help="Add the dispersion of D3(BJ) for the functional that the model learned, as pbe, "
        "or as pbe+atm with the three-body term.",
    ),
]
SeedOption = Annotated[int, typer.Option(min=0, help="Seed of everything random.")]
ConfigOption = Annotated[
    Path | None,
    typer.Option(
        callback=load_config, is_eager=True, help="YAML file whose keys are option names; the command line wins."
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
EnergyKeyOption = Annotated[
    str | None, typer.Option(help="Key of the energy, eV. [default, as for the other keys: found among usual names]")
]
ForcesKeyOption = Annotated[str | None, typer.Option(help="Key of the forces, eV/A; '' leaves them out.")]
StressKeyOption = Annotated[str | None, typer.Option(help="Key of the stress, eV/A^3; '' leaves it out.")]
VirialKeyOption = Annotated[str | None, typer.Option(help="Key of the virial, eV, instead of a stress.")]
ChargesKeyOption = Annotated[str | None, typer.Option(help="Key of the charges of atoms, e.")]
DipoleKeyOption = Annotated[str | None, typer.Option(help="Key of the dipole of a molecule, e A.")]
QuadrupoleKeyOption = Annotated[str | None, typer.Option(help="Key of its quadrupole, e A^2.")]
ConfigTypeKeyOption = Annotated[str | None, typer.Option(help="Key of the kind of structure, a table row for each.")]
GroupKeyOption = Annotated[str | None, typer.Option(help="Key of the trajectory or molecule that a frame is of.")]
