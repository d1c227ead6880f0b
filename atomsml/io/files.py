"""Structure files, folders of them, and SMILES: everything that a command can be given."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import ase

from atomsml.io.formats.run_trajectory import HDF5, is_trajectory
from atomsml.io.formats.source import DAMAGED, Source, format_suffix, plain_name
from atomsml.io.formats.table import format_name, reader_of
from atomsml.io.molecules import atoms_from_smiles, parse_smiles
from atomsml.io.records import Refused, StructureRecord, fault, record_of

# in a folder the files of one VASP run are one input: the first of these that is there
VASP_RUN = ("vasprun.xml", "OUTCAR", "CONTCAR", "POSCAR")


def read(inputs: str | Path | Sequence[str | Path], format: str | None = None) -> list[ase.Atoms]:
    """All structures of files, folders or SMILES, in order.

        >>> from atomsml.io import read
        >>> [str(atoms.symbols) for atoms in read(["O", "CO"])]
        ['OH2', 'COH4']

    The format follows from the name of a file, whether it is compressed (.gz, .bz2, .xz) or not; `format` overrules.
    `atoms.info` has what a file states about charge, spin and bonds, see `StructureRecord`.

    Raises:
        FileNotFoundError: an input that is neither a file nor a SMILES string.
        ValueError: the first structure that `read_records` refuses.
    """
    one = [inputs] if isinstance(inputs, str | Path) else inputs
    images = []
    for record in read_records([str(text) for text in one], format):
        if isinstance(record, Refused):
            raise ValueError(str(record))
        images.append(record.atoms)
    return images


def read_records(inputs: Sequence[str], format: str | None = None) -> Iterator[StructureRecord | Refused]:
    """Structures of all inputs one after the other, and in their places those that cannot be treated.

    An input is a file, a SMILES string where no such file exists, or a folder, which stands for its files and those of
    its folders, sorted by name. Files of a folder that are of no known format are left out with a warning.

    Raises:
        FileNotFoundError: an input that is neither a file nor a SMILES string; before anything is read.
        ValueError: a format that is not known.
    """
    sources: list[str | Path] = []
    for text in inputs:
        if os.path.isdir(text):
            sources += _files_of(Path(text), format)
        elif os.path.exists(text):
            sources.append(Path(text))
        else:
            _require_smiles(text)
            sources.append(text)
    return _records(sources, format)


def _records(sources: Sequence[str | Path], format: str | None) -> Iterator[StructureRecord | Refused]:
    for source in sources:
        for record in _read_smiles(source) if isinstance(source, str) else _read_file(Source(source), format):
            reason = None if isinstance(record, Refused) else fault(record.atoms)
            yield record if reason is None else Refused(record.file, record.index, reason)


def _read_file(source: Source, format: str | None) -> Iterator[StructureRecord | Refused]:
    empty = True
    reader = reader_of(source.path, format)
    try:
        for record in reader(source):
            yield record
            empty = False
    except MemoryError as error:
        raise MemoryError(f"reading {source.name}") from error
    except DAMAGED as error:
        yield Refused(source.name, None, f"cannot be read ({error}); check that it is complete")
    except ValueError as error:
        yield Refused(source.name, None, str(error))
    else:
        if empty:
            yield Refused(source.name, None, "holds no structure; check that it is complete")


def _read_smiles(smiles: str) -> Iterator[StructureRecord | Refused]:
    try:
        yield record_of(smiles, 0, atoms_from_smiles(smiles), {"smiles": smiles})
    except ValueError as error:
        yield Refused(smiles, 0, str(error))


def _require_smiles(text: str) -> None:
    try:
        parse_smiles(text)
    except ValueError as error:
        raise FileNotFoundError(f"no file {text!r}, check the path; nor a molecule: {error}") from error


def _files_of(folder: Path, format: str | None) -> list[Path]:
    """The files of a folder that hold structures; warns of those that are left out.

    Raises:
        ValueError: there are none.
    """
    taken: list[Path] = []
    left_out: list[Path] = []
    for files in files_below(folder):
        run = _vasp_run(files)
        for file in files:
            known = format is not None or _holds_structures(file)
            (taken if file == run or (run is None and known) else left_out).append(file)
    if not taken:
        raise ValueError(f"{folder}: has no file of a known format; name the files, and their --format")
    warn_of_left_out(folder, left_out)
    return taken


def files_below(folder: Path) -> Iterator[list[Path]]:
    """The files of a folder, then those of each of its folders, by name and without hidden ones."""
    for place, subfolders, names in os.walk(folder):
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        yield [Path(place, name) for name in sorted(names) if not name.startswith(".")]


def warn_of_left_out(folder: Path, files: Sequence[Path]) -> None:
    """Name some of the files of a folder that hold nothing to read, if there are any."""
    if files:
        more = f" and {len(files) - 5} more" if len(files) > 5 else ""
        names = ", ".join(map(str, files[:5]))
        warnings.warn(f"{folder}: left out {names}{more}, no structures to read", stacklevel=4)


def _vasp_run(files: Sequence[Path]) -> Path | None:
    by_name = {plain_name(file): file for file in files}
    return next((by_name[name] for name in VASP_RUN if name in by_name), None)


def _holds_structures(file: Path) -> bool:
    """By its name; tables are asked whether they have SMILES, HDF5 whether it is of a run; summaries are none."""
    if plain_name(file).endswith(".summary.json"):
        return False
    if format_suffix(file) == ".csv":
        with Source(file).open_text() as text:
            return "smiles" in text.readline().lower()
    if format_suffix(file) in HDF5:
        return is_trajectory(file)
    return format_name(file) is not None
