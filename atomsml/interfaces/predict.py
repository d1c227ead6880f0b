"""predict(): what a model says of one graph or of many, by the fastest way there is."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from functools import lru_cache, partial
from itertools import chain
from pathlib import Path
from typing import overload
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from atomsml.dispersion import D3, WithD3
from atomsml.dispersion.functionals import doubts_about
from atomsml.electronic_state import check_graph
from atomsml.graph import AtomicGraph
from atomsml.interfaces.models import Model, open_model, theory_of
from atomsml.modelfile import find_model
from atomsml.neighbors.checks import check_indices, connect_checked
from atomsml.potential import Potential, Prediction, Predictor, finite
from atomsml.uncertainty import Committee

MOST_ATOMS = 1000  # in a batch: more take more memory and no less time for each


class Weights:
    """The tensors of a model, and what tells that they have changed.

    Nothing does where they are changed behind autograd's back, through `.data` or in inference mode.
    """

    def __init__(self, model: Potential) -> None:
        self.tensors = [*model.parameters(), *model.buffers()]  # kept, so that their places are not given to others
        self.states = [_state(x) for x in self.tensors]

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Weights)
            and self.states == other.states
            and all(a is b for a, b in zip(self.tensors, other.tensors, strict=True))
        )


def _state(x: Tensor) -> tuple[int, int, torch.dtype]:
    return x.data_ptr(), 0 if x.is_inference() else x._version, x.dtype


# programs hold copies of weights, not the potentials themselves
_programs: WeakKeyDictionary[Potential, tuple[Weights, Predictor | None]] = WeakKeyDictionary()


@overload
def predict(
    model: str | Path | Model, graphs: AtomicGraph, forces: bool = True, stress: bool = False, d3: str | None = None
) -> Prediction: ...


@overload
def predict(
    model: str | Path | Model,
    graphs: Sequence[AtomicGraph],
    forces: bool = True,
    stress: bool = False,
    d3: str | None = None,
) -> list[Prediction]: ...


def predict(
    model: str | Path | Model,
    graphs: AtomicGraph | Sequence[AtomicGraph],
    forces: bool = True,
    stress: bool = False,
    d3: str | None = None,
) -> Prediction | list[Prediction]:
    """Energies, and unless told otherwise forces, of one graph, or of each of many, which are batched.

        >>> from atomsml import AtomicGraph, predict
        >>> water, ethanol = predict("organic-xtb", [AtomicGraph.from_smiles(smiles) for smiles in ("O", "CCO")])
        >>> water.energy.shape, ethanol.forces.shape
        (torch.Size([1]), torch.Size([9, 3]))

    `model` is a name, a file, a committee's folder, or a loaded model. Type and device are those of the
    graphs and of the model; a model that is named goes to the device of the graphs. What an architecture makes ready
    for its weights is kept as long as the model lives, and made anew once they have changed (see `Weights`). Nothing
    can be differentiated further; `evaluate` is for that. Radial functions may be tabulated, and `d3` adds dispersion,
    as by the calculator.

    Raises:
        ValueError: an unknown model or functional, an element, total charge or spin that it was not made for, or edges
            that name atoms that are not there.
        ImpossibleGeometry: atoms in one place, or another geometry whose energy or forces are not finite.
    """
    many = [graphs] if isinstance(graphs, AtomicGraph) else list(graphs)
    if not many:
        return []
    opened = _named(model, many[0].device) if isinstance(model, str | Path) else model
    name = f"the model {model if isinstance(model, str | Path) else type(model).__name__}"
    for graph in many:
        check_graph(graph, opened.electronic_state, name)
    predictor = _predictor(opened)
    if d3 is not None:
        predictor = WithD3(predictor, D3.of(d3))
        doubts = doubts_about(d3, theory_of(str(model))) if isinstance(model, str | Path) else ""
        if doubts:
            warnings.warn(f"{model}: {doubts}", stacklevel=2)
    if isinstance(graphs, AtomicGraph):
        return finite(predictor(connect_checked(graphs, opened.cutoff), forces, stress))
    # labels and conditions may differ from graph to graph, and no model reads them
    bare = [graph.replace(atom_data={}, system_data={}) for graph in many]
    for i, graph in enumerate(bare):
        _check_one(graph, i)  # while it can be said which graph is wrong
    ask = partial(_together, predictor, opened.cutoff)
    return list(chain.from_iterable(ask(batch, forces, stress) for batch in _batches(bare)))


def _check_one(graph: AtomicGraph, i: int) -> None:
    try:
        check_indices(graph)
    except ValueError as error:
        raise ValueError(f"graph {i}: {error}") from None


def _together(
    predictor: Predictor, cutoff: float, graphs: list[AtomicGraph], forces: bool, stress: bool
) -> list[Prediction]:
    found = finite(predictor(connect_checked(AtomicGraph.from_list(graphs), cutoff), forces, stress))
    return found.split([graph.num_atoms for graph in graphs], [graph.num_systems for graph in graphs])


def _batches(graphs: Sequence[AtomicGraph]) -> Iterator[list[AtomicGraph]]:
    """In order, with at most MOST_ATOMS each unless a single graph has more; with edges and without never together."""
    batch: list[AtomicGraph] = []
    atoms = 0
    for graph in graphs:
        other_kind = batch and (graph.edge_index is None) != (batch[0].edge_index is None)
        if batch and (other_kind or atoms + graph.num_atoms > MOST_ATOMS):
            yield batch
            batch, atoms = [], 0
        batch.append(graph)
        atoms += graph.num_atoms
    yield batch


def _predictor(model: Model) -> Predictor:
    """That of a model as it is now."""
    if isinstance(model, Committee):
        return partial(model.mean, [_predictor(member) for member in model.members])
    if not isinstance(model, Potential):
        return model  # the last-layer uncertainty
    weights = Weights(model)
    known = _programs.get(model)
    if known is None or known[0] != weights:
        known = _programs[model] = weights, model.program()
    return model.predictor(exact=True) if known[1] is None else known[1]


def _named(model: str | Path, device: torch.device) -> Model:
    file = Path(model) if Path(model).is_dir() else find_model(model)
    return _opened(str(model), device, file.stat().st_mtime_ns, file.stat().st_size)


@lru_cache(maxsize=4)
def _opened(model: str, device: torch.device, changed: int, size: int) -> Model:
    found = open_model(model, head=None)[1]
    return found.requires_grad_(False).eval().to(device)
