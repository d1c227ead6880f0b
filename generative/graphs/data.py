"""Read graphs for generators: lists of SMILES (.smi, .csv, also compressed), and HDF5 with `smiles`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from atomsml.dataset.content import hash_bytes
from atomsml.generative.graphs.graphs import MolecularGraphs, graph_of
from atomsml.generative.graphs.set import GraphSet
from atomsml.io import parse_smiles
from atomsml.io.formats.run_trajectory import HDF5
from atomsml.io.formats.smiles import smiles_lines
from atomsml.io.formats.source import Source, format_suffix
from atomsml.io.hdf5_safety import open_hdf5, read_array

LISTS = (".smi", ".smiles", ".csv")


def read_graphs(paths: Sequence[str | Path]) -> GraphSet:
    """The graphs of some files, one after the other, without stereochemistry.

    Generators draw connected and neutral molecules with paired electrons. Others are left out and counted among the
    warnings.

    Raises:
        OSError: no such file.
        ValueError: a file of another format, a SMILES that cannot be read, or a file without a graph.
    """
    return GraphSet.concatenate([_read(Path(path)) for path in paths])


def _read(path: Path) -> GraphSet:
    from rdkit import Chem
    from rdkit.rdBase import BlockLogs

    if not path.is_file():
        raise FileNotFoundError(f"no file {path}; check the path")
    rows, names, unfit = [], [], defaultdict[str, list[str]](list)
    with BlockLogs():
        for where, smiles in _smiles(path):
            mol = Chem.MolFromSmiles(smiles)
            try:
                if mol is None or "." in smiles:
                    parse_smiles(smiles)  # says what is wrong
            except ValueError as error:
                raise ValueError(f"{path}, {where}: {error}") from None
            if set("+-") & set(smiles) and Chem.GetFormalCharge(mol):
                unfit["are not neutral"].append(where)
                continue
            try:
                rows.append(graph_of(mol))
            except ValueError:
                unfit["have atoms or bonds that no such graph has"].append(where)
                continue
            names.append(hash_bytes(Chem.MolToSmiles(mol, isomericSmiles=False).encode()))
    if not rows:
        raise ValueError(f"{path}: holds no neutral molecule; check that it is complete")
    total = len(rows) + sum(map(len, unfit.values()))
    warnings = [
        f"{path}: {len(places)} of {total} molecules {what} and are left out (the first is {places[0]})"
        for what, places in unfit.items()
    ]
    return GraphSet(MolecularGraphs.from_rows(rows).to(torch.int8), np.array(names, np.uint64), tuple(warnings))


def _smiles(path: Path) -> Iterator[tuple[str, str]]:
    """Where each SMILES of a file stands, and the SMILES."""
    suffix = format_suffix(path)
    if suffix in LISTS:
        try:
            yield from ((f"line {line}", smiles) for line, smiles, _ in smiles_lines(Source(path)))
        except UnicodeError:
            raise ValueError(f"{path}: is no text") from None
    elif suffix in HDF5:
        with open_hdf5(path) as file:
            if "smiles" not in file:
                raise ValueError(f"{path}: has no SMILES; a generator of graphs learns from an array smiles")
            texts = read_array(file["smiles"], text=True)
        yield from ((f"molecule {index} (counted from 0)", text) for index, text in enumerate(texts))
    else:
        raise ValueError(f"{path}: is no list of SMILES; give {', '.join(LISTS)}, also compressed, or .h5 with smiles")
