"""How much memory a batch takes, predicted from two small ones: never by filling the memory.

What an evaluation takes at its peak is close to linear, per_atom * atoms + per_edge * edges: features of atoms, and
what is kept along edges. Some atoms without neighbours give the one, the same with their neighbours the other.
"""

from __future__ import annotations

import ctypes
import gc
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import ase
import numpy as np
import torch

from atomsml.geometry import ImpossibleGeometry
from atomsml.graph import AtomicGraph
from atomsml.simulate.batching.in_flight import ON_A_CPU, Room, Size
from atomsml.simulate.model import Model
from atomsml.simulate.state import State

FEW = 1000  # atoms that have room anyway
PROBE_ATOMS = 100  # at least
SHARE = 0.7  # of the free memory that batches may take: a prediction may be too low by a third


def measure_room(model: Model, structures: Sequence[ase.Atoms], device: torch.device, stress: bool = False) -> Room:
    """Room for batches of structures like the first ones, in the memory that is free; two small evaluations tell.

    On a CPU it is that of ON_A_CPU at most. Where an operating system does not tell what a process uses (it does on
    CUDA and on Linux), memory has no limit.
    """
    atoms = ON_A_CPU.atoms if device.type == "cpu" else np.inf
    if sum(map(len, structures)) <= FEW:
        return Room(atoms)
    some = _first_possible(structures, model)
    if not some:
        return Room(atoms)
    graph = State.of(some, device).graph

    def evaluate(graph: AtomicGraph) -> None:
        model.predict(graph, forces=True, stress=stress)

    few = _one_of_each_element(graph)  # what is made ready for elements, and machine code, does not count
    if model.reach is None:
        evaluate(few)
        first, edges = peak_bytes(lambda: evaluate(graph), device), 0
        second = first
    else:
        reach = model.reach
        evaluate(few.with_neighbors(reach))
        edges = graph.with_neighbors(reach).num_edges
        first = peak_bytes(lambda: evaluate(_unlinked(graph)), device)
        second = peak_bytes(lambda: evaluate(graph.with_neighbors(reach)), device)
    if first is None or second is None:
        return Room(atoms)
    per_edge = max(0.0, (second - first) / max(edges, 1))
    return Room(atoms, SHARE * free_bytes(device), first / graph.num_atoms, per_edge)


def _first_possible(structures: Sequence[ase.Atoms], model: Model) -> list[ase.Atoms]:
    """Structures of PROBE_ATOMS atoms together, of which each has neighbours."""
    found = list[ase.Atoms]()
    for atoms in structures:
        if sum(map(len, found)) >= PROBE_ATOMS:
            break
        with suppress(ImpossibleGeometry):
            AtomicGraph.from_ase(atoms).with_neighbors(model.reach or 1.0)
            found.append(atoms)
    return found


def size_of(atoms: ase.Atoms, model: Model, room: Room) -> Size:
    """What a structure takes as it is; edges are counted where they take room."""
    if model.reach is None or room.per_edge == 0:
        return Size(len(atoms))
    try:
        return Size(len(atoms), AtomicGraph.from_ase(atoms).with_neighbors(model.reach).num_edges)
    except ImpossibleGeometry:  # the model will say that it has no answer
        return Size(len(atoms))


def _unlinked(graph: AtomicGraph) -> AtomicGraph:
    """The same without neighbours."""
    none = graph.batch.new_empty
    return graph.with_edges(none(2, 0), none(0, 3))


def _one_of_each_element(graph: AtomicGraph) -> AtomicGraph:
    places = np.unique(graph.numbers.cpu().numpy(), return_index=True)[1]
    atoms = torch.from_numpy(places).to(graph.device)
    return AtomicGraph(
        graph.positions[atoms], graph.numbers[atoms], graph.cell[:1], graph.pbc[:1], torch.zeros_like(atoms)
    )


def peak_bytes(call: Callable[[], object], device: torch.device) -> int | None:
    """By how much a call raises the memory that the device, or on a CPU the process, has in use; None: unknown."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        call()
        return torch.cuda.max_memory_allocated(device) - before
    try:
        ctypes.CDLL(None).malloc_trim(0)  # memory that was given back must not be taken again unseen
        Path("/proc/self/clear_refs").write_text("5")  # the peak is what it is now
        before = _status("VmRSS")
    except (OSError, AttributeError):  # not Linux, or no glibc
        return None
    call()
    return _status("VmHWM") - before


def _status(key: str) -> int:
    """Bytes."""
    found = re.search(rf"^{key}:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert found is not None
    return 1024 * int(found[1])


def free_bytes(device: torch.device) -> float:
    """What a device, or on a CPU the process, may take beyond what it has; infinite where nothing tells."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    try:
        found = re.search(r"^MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text(), re.MULTILINE)
        groups = re.findall(r"^0::(/.*)$", Path("/proc/self/cgroup").read_text(), re.MULTILINE)
    except OSError:
        return np.inf
    assert found is not None
    root = Path("/sys/fs/cgroup")
    own = root / groups[0].strip("/") if groups else root
    folders = [folder for folder in (own, *own.parents) if folder.is_relative_to(root)]
    return min(1024.0 * int(found[1]), *map(_left_in_group, folders))


def _left_in_group(folder: Path) -> float:
    """Bytes that a control group, as batch systems and containers make them, leaves its processes."""
    try:
        most, now = ((folder / name).read_text().strip() for name in ("memory.max", "memory.current"))
    except OSError:  # the outermost has no limit
        return np.inf
    return np.inf if most == "max" else float(most) - float(now)
