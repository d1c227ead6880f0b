"""Files of proteins: alone, in folders and in archives; read as chains, and written."""

from __future__ import annotations

import gzip
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import IO

from atomsml.generative.proteins.backbones import Chain
from atomsml.generative.proteins.io.mmcif import mmcif_atoms, mmcif_text
from atomsml.generative.proteins.io.pdb import pdb_atoms, pdb_text
from atomsml.generative.proteins.io.residues import chains_of
from atomsml.generative.proteins.io.stored import are_stored, stored_chains
from atomsml.io import Refused, write_atomically
from atomsml.io.files import files_below, warn_of_left_out
from atomsml.io.formats.run_trajectory import HDF5
from atomsml.io.formats.source import DAMAGED, OPENERS, format_suffix

READERS = {".pdb": pdb_atoms, ".ent": pdb_atoms, ".cif": mmcif_atoms, ".mmcif": mmcif_atoms}
WRITERS = {".pdb": pdb_text, ".cif": mmcif_text}
ARCHIVES = (".tar", ".tgz", ".txz")  # .tar also compressed
SUFFIXES = (*READERS, *ARCHIVES, *HDF5)
LARGEST = 2**30  # bytes of one file, decompressed; the largest of the Protein Data Bank have half of it
LONGEST_NAME = 2**16  # bytes of a name in an archive


def read_chains(path: str | Path, split: bool = True) -> list[Chain]:
    """The chains of a PDB file (.pdb, .ent) or an mmCIF file (.cif, .mmcif), compressed (.gz, .bz2, .xz) or not.

    Residues that have N, CA and C, not on one line, count, with the twenty names or others; nucleic acids, water and
    what is bound do not. Where the next N is further than 2 A from C, as where residues are missing, another chain
    begins; without `split` what the file calls a chain stays whole, which shows the breaks. Of several places of a
    residue the one of the highest mean occupancy counts, the first of equal ones. A missing O is placed by geometry.
    All models are read.

    Raises:
        OSError: no such file.
        ValueError: another format, a damaged file, or one without a backbone; or mmCIF, and gemmi is not installed.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}; check the path")
    if format_suffix(path) not in READERS:
        raise ValueError(f"{path}: is no file of a protein; give {', '.join(READERS)}, also compressed")
    with path.open("rb") as file:
        return _read(file, str(path), split)


def read_files(paths: Sequence[str | Path], split: bool = True) -> Iterator[list[Chain] | Refused]:
    """The chains of one file after the other, as `read_chains` has them; in their places those that cannot be read.

    A path is a file, an archive of files (.tar, also compressed), HDF5 of `store_chains`, or a folder, which stands for
    what of these it has and its folders have, by name; what else it has is left out with a warning. Archives are read
    without writing anything.

    Raises:
        OSError: no such file.
        ValueError: a folder without such files, or a file of another format.
    """
    files: list[Path] = []
    for path in map(Path, paths):
        if not path.exists():
            raise FileNotFoundError(f"no file or folder {path}; check the path")
        if not path.is_dir() and format_suffix(path) not in SUFFIXES:
            raise ValueError(f"{path}: is no file of proteins; give {', '.join(SUFFIXES)}, also compressed")
        files += _files_of(path) if path.is_dir() else [path]
    return (each for file in files for each in _read_any(file, split))


def _files_of(folder: Path) -> list[Path]:
    files = [file for files in files_below(folder) for file in files]
    taken = [file for file in files if _holds_chains(file)]
    if not taken:
        raise ValueError(f"{folder}: has no file of proteins; give {', '.join(SUFFIXES)}, also compressed")
    warn_of_left_out(folder, sorted(set(files) - set(taken)))
    return taken


def _holds_chains(path: Path) -> bool:
    """By its name; HDF5 is asked, and one that does not answer is tried, so that it is named."""
    if format_suffix(path) not in HDF5:
        return format_suffix(path) in SUFFIXES
    try:
        return are_stored(path)
    except ValueError:
        return True


def _read_any(path: Path, split: bool) -> Iterator[list[Chain] | Refused]:
    try:
        if format_suffix(path) in ARCHIVES:
            yield from _read_archive(path, split)
        elif format_suffix(path) in HDF5:
            yield from stored_chains(path)
        else:
            yield read_chains(path, split)
    except (OSError, ValueError) as error:
        yield Refused(str(path), None, str(error).removeprefix(f"{path}: "))


def _read_archive(path: Path, split: bool) -> Iterator[list[Chain] | Refused]:
    """Members of other formats, as what programs say of a structure, are passed over, and so are links."""
    try:
        with tarfile.open(path, "r|*", tarinfo=_Member) as archive:
            for member in archive:
                inner = PurePosixPath(member.name)
                if not member.isfile() or inner.name.startswith(".") or format_suffix(Path(inner)) not in READERS:
                    continue
                where = f"{path}/{inner}".encode("ascii", "backslashreplace").decode()
                file = archive.extractfile(member)
                assert file is not None  # of a file there always is one
                try:
                    chains = _read(file, where, split)
                except ValueError as error:
                    yield Refused(where, None, str(error).removeprefix(f"{where}: "))
                else:
                    yield chains
    except (*DAMAGED, tarfile.TarError, OSError) as error:
        yield Refused(str(path), None, f"cannot be read to its end ({error}); check that it is complete")


class _Member(tarfile.TarInfo):
    """A member whose name is not read into memory where it is longer than any name."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> _Member:
        member = super().frombuf(buf, encoding, errors)
        names = (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XHDTYPE, tarfile.XGLTYPE)
        if member.type in (*names, tarfile.SOLARIS_XHDTYPE) and member.size > LONGEST_NAME:
            raise tarfile.ReadError(f"a name of {member.size} bytes")
        return member


def _read(file: IO[bytes], where: str, split: bool) -> list[Chain]:
    """The chains of an open file, compressed as its name says."""
    name = Path(where)
    try:
        opener = OPENERS.get(name.suffix.lower())
        content = opener(file).read(LARGEST + 1) if opener else file.read(LARGEST + 1)
    except DAMAGED as error:
        raise ValueError(f"{where}: cannot be read ({error}); check that it is complete") from error
    if len(content) > LARGEST:
        raise ValueError(f"{where}: has more than {LARGEST:,} bytes; give its chains in several files")
    text = content.decode("latin-1").replace("\r\n", "\n").replace("\r", "\n")
    try:
        chains = chains_of(READERS[format_suffix(name)](text), where, split)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error
    if not chains:
        raise ValueError(f"{where}: holds no backbone of a protein: no residue has N, CA and C, not on one line")
    return chains


def write_chains(path: str | Path, chains: Sequence[Chain]) -> None:
    """Write chains to one file, .pdb or .cif, also .gz; each of several is a model of its own.

    Coordinates have three decimals, scores, in the place of B-factors, two. `path` is complete or untouched.

    Raises:
        OSError: `path` cannot be written.
        ValueError: another suffix, no chain, or one that does not fit into the columns of PDB; names it.
    """
    path = Path(path)
    packed = path.suffix.lower() == ".gz"
    suffix = format_suffix(path)
    if suffix not in WRITERS or (path.suffix.lower() in OPENERS and not packed):
        raise ValueError(f"{path}: chains are written as {', '.join(WRITERS)}, also with .gz")
    if not chains:
        raise ValueError(f"{path}: no chain to write")
    try:
        content = WRITERS[suffix](chains).encode("ascii")
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    if packed:
        content = gzip.compress(content, mtime=0)
    write_atomically(path, lambda beside: beside.write_bytes(content))
