"""The model of a run: an architecture fitted to what its training set is like, or a trained one to go on from."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from atomsml.config import BOUNDS
from atomsml.dataset import Dataset, isolated_atom_references, isolated_atoms, least_squares_references
from atomsml.electronic_state import ElectronicState
from atomsml.modelfile import load, read_metadata
from atomsml.potential import Potential, check_elements
from atomsml.training.architecture import check_has_charges, find_architecture, model_config, new_model_of
from atomsml.training.config import TrainingConfig
from atomsml.training.finetune import check_fits, prepare, refit_references, with_charges
from atomsml.training.loader import Graphs

SAMPLED = 1000  # structures from which the statistics are taken
MEANINGLESS_ENERGIES = "learned from forces alone: energies mean nothing absolute, nor differences of compositions"

MEASURED = {
    "avg_num_neighbors": "the mean number of neighbors of an atom",
    "scale": "the root mean square force component (eV/A), or without forces the spread of energies per atom (eV),",
    "shift": "the mean energy per atom (eV) beyond those of free atoms",
}


@dataclass(frozen=True)
class Statistics:
    """What a model is scaled by; its fields are those of the architectures' configs that carry the same names."""

    avg_num_neighbors: float
    scale: float  # root mean square force component, eV/A; without forces, spread of the energies per atom, eV
    shift: float  # mean energy per atom beyond the references, eV: what atoms gain by being together


def statistics(dataset: Dataset, graphs: Graphs, elements: Sequence[int], references: Tensor) -> Statistics:
    """Taken from at most SAMPLED structures spread over the set, isolated atoms left out."""
    chosen = torch.linspace(0, len(dataset) - 1, min(len(dataset), SAMPLED), dtype=torch.float64).round().long()
    sample = [graphs[i] for i in chosen.unique().tolist()]
    bound = [g for g in sample if g.num_edges > 0] or sample
    known = torch.tensor(elements)
    energies = torch.cat(
        [
            (g.system_data["energy"] - references[torch.searchsorted(known, g.numbers)].sum()) / g.num_atoms
            for g in bound
        ]
    )
    energies = energies[~torch.isnan(energies)]
    forces = torch.cat([g.atom_data["forces"].flatten() for g in bound])
    forces = forces[~torch.isnan(forces)]
    scale = forces.square().mean().sqrt() if len(forces) else energies.std(correction=0)
    return Statistics(
        avg_num_neighbors=max(sum(g.num_edges for g in bound) / sum(g.num_atoms for g in bound), 1.0),
        scale=scale.item() if scale > 1e-3 else 1.0,  # a set of a single geometry has no spread
        shift=energies.mean().item() if len(energies) else 0.0,
    )


def start_model(config: TrainingConfig, dataset: Dataset) -> tuple[Potential, str]:
    """The model with which a run begins, new or to be fine-tuned, and of which kind its references are.

    Raises:
        ValueError: a model, option, or kind of references that do not fit the data.
    """
    generator = torch.Generator().manual_seed(config.seed)
    if config.finetune.model is None:
        potential, references_kind = new_model(config, dataset)
        potential.electronic_state = state_to_hold_for(config, dataset, ElectronicState())
        check_charges(config, dataset, potential)
        return potential, references_kind
    potential = with_charges(load(config.finetune.model), config.charges, config.seed)
    potential.electronic_state = state_to_hold_for(config, dataset, potential.electronic_state)
    check_charges(config, dataset, potential)
    check_fits(potential, dataset)
    without = bool(np.isnan(dataset.energy).all())
    fitted = "model" if without or config.finetune.only_charges else "least squares"
    kind: str = fitted if config.references == "auto" else config.references
    if kind == "least squares":  # around those of the model
        refit_references(potential, dataset)
    elif kind == "model":
        kind = str(read_metadata(config.finetune.model).get("references_kind", "given"))
    else:
        potential.references = references_of_kind(kind, dataset, potential.elements, config.reference_energies)
    return prepare(potential, config.finetune, generator), kind


def new_model(config: TrainingConfig, dataset: Dataset) -> tuple[Potential, str]:
    """A model with random weights by the config's seed, and the kind of its references.

    Options of the architecture that describe the data (the fields of Statistics) are measured unless they are given.
    References that are "auto" are isolated atoms where the training set has one of every element, else least squares;
    zero where it has no energies.

    Raises:
        ValueError: an unknown architecture, size or option; lists the known ones.
    """
    from atomsml.potentials import POTENTIALS

    model_class = find_architecture(POTENTIALS, config.model, config.size)
    options = {"elements": dataset.elements, **model_class.sizes[config.size], **config.model_options}
    if config.charges:
        check_has_charges(model_class)
        options["charges"] = True
    trial = model_config(model_class, options)  # because only the model knows its cutoff and elements
    check_elements(list(dataset.elements), trial.elements)
    kind: str = config.references
    if kind == "auto" and np.isnan(dataset.energy).all():
        kind, references = "zero", torch.zeros(len(trial.elements), dtype=torch.float64)
    elif kind == "auto":
        try:
            kind, references = "isolated atoms", isolated_atom_references(dataset, trial.elements)
        except ValueError:
            kind, references = "least squares", least_squares_references(dataset, trial.elements)
    else:
        references = references_of_kind(kind, dataset, trial.elements, config.reference_energies)
    graphs = Graphs(dataset, trial.cutoff, keep=False)
    measured = dataclasses.asdict(statistics(dataset, graphs, trial.elements, references))
    wanted = {field.name for field in dataclasses.fields(model_class.Config)} - set(options)
    options |= _sound({name: value for name, value in measured.items() if name in wanted}, dataset)
    potential = new_model_of(model_class, model_config(model_class, options), config.seed)
    potential.references = references
    return potential, kind


def _sound(measured: dict[str, float], dataset: Dataset) -> dict[str, float]:
    """What was measured, if a model can have it.

    Raises:
        ValueError: extreme labels or positions; names the files.
    """
    for name, value in measured.items():
        low, high = BOUNDS[name]
        if not low <= value <= high:
            files = ", ".join(found.path for found in dataset.found)
            raise ValueError(
                f"{files}: {MEASURED[name]} is {value:.3g}, and {low:g} to {high:g} can be trained on; correct or "
                "remove what is extreme, which `atomsml data info` lists"
            )
    return measured


def reference_warnings(config: TrainingConfig, dataset: Dataset, kind: str) -> list[str]:
    """What is to be said of references of this kind, which `start_model` took."""
    if config.finetune.only_charges:
        return []
    if np.isnan(dataset.energy).all():
        return [f"no structure has an energy; the model is {MEANINGLESS_ENERGIES}"]
    isolated = isolated_atoms(dataset) & ~np.isnan(dataset.energy)
    if config.references != "auto" or kind != "least squares" or not isolated.any():
        return []
    try:
        isolated_atom_references(dataset, dataset.elements)
    except ValueError as error:
        return [f"{error}; references are by least squares now, from which the isolated atoms are left out"]
    return []


def state_to_hold_for(config: TrainingConfig, dataset: Dataset, before: ElectronicState) -> ElectronicState:
    """The charge and spin of the config, else what all structures state, else, where none does, those of `before`.

    Raises:
        ValueError: the config says something else than all structures.
    """
    held: dict[str, int | None] = {}
    for name in ("charge", "spin"):
        given, stated = getattr(config, name), stated_values(dataset, name)
        common = int(stated[0]) if len(stated) == 1 and stated[0] is not None and stated[0] == int(stated[0]) else None
        if None not in (given, common) and given != common:
            raise ValueError(f"the config says {name} {given}, the training data {common}; correct one of them")
        unstated = getattr(before, name) if stated == [None] else None
        held[name] = next((value for value in (given, common, unstated) if value is not None), None)
    if config.charges and held["charge"] is None:  # to which charges must sum
        listed = [f"{value:g}" for value in stated_values(dataset, "charge") if value is not None]
        if len(listed) > 1:
            raise ValueError(
                f"charges: the training set has structures of charge {', '.join(listed)}, and a model holds for one; "
                "leave the others out"
            )
        held["charge"] = 0
    return ElectronicState(**held)


def charge_warnings(config: TrainingConfig) -> list[str]:
    """That charges of a base model, which would no longer go with the other weights, are left out."""
    base = config.finetune.model
    if base is None or config.charges or not read_metadata(base)["config"].get("charges"):
        return []
    return [f"{base} has charges, which this run does not train, so that its model has none; charges: true trains them"]


def state_warnings(dataset: Dataset) -> list[str]:
    """Charges or spins that differ within a training set, which a potential cannot see."""
    warnings = []
    for name in ("charge", "spin"):
        values = [value for value in stated_values(dataset, name) if value is not None]
        if len(values) > 1:
            listed = ", ".join(f"{value:g}" for value in values)
            warnings.append(f"the training set has structures of {name} {listed}, which a potential cannot tell apart")
    return warnings


def stated_values(dataset: Dataset, name: str) -> list[float | None]:
    """The distinct charges, or spins, that structures of the files state; None first, if some state none."""
    values = {getattr(state, name) for found in dataset.found for state, _ in found.states}
    return sorted(values or {None}, key=lambda value: (value is not None, value))


def references_of_kind(kind: str, dataset: Dataset, elements: Sequence[int], given: dict[str, float]) -> Tensor:
    """(elements,) energies in eV.

    Raises:
        ValueError: energies that the data or the config do not provide; names the elements that lack.
    """
    from ase.data import chemical_symbols

    if kind == "model":
        raise ValueError("references: model needs finetune.model, whose references it takes")
    if kind == "zero":
        return torch.zeros(len(elements), dtype=torch.float64)
    if kind == "least squares":
        return least_squares_references(dataset, elements)
    if kind == "isolated atoms":
        return isolated_atom_references(dataset, elements)
    missing = [chemical_symbols[z] for z in elements if chemical_symbols[z] not in given]
    if missing:
        raise ValueError(f"references: given lacks {' '.join(missing)}; add them to reference_energies")
    return torch.tensor([given[chemical_symbols[z]] for z in elements], dtype=torch.float64)


def check_charges(config: TrainingConfig, dataset: Dataset, potential: Potential) -> None:
    """Refuse data by which charges cannot be learned, or from which nothing but charges can.

    Raises:
        ValueError: no labels, or charges that do not sum to the total charge for which the potential will hold.
    """
    if not config.charges:
        return
    counts = dataset.label_counts()
    if not any(counts.get(name, 0) for name in ("charges", "dipole", "quadrupole")):
        raise ValueError(
            "charges: no structure of the training set has charges, a dipole or a quadrupole under a usual name; give "
            "their keys with --charges-key, --dipole-key or --quadrupole-key, or train without charges"
        )
    if config.finetune.model and not config.finetune.only_charges and counts["energy"] + counts["forces"] == 0:
        raise ValueError(
            "the training set has neither energies nor forces, which training all weights would spoil; train the "
            "charge head alone: finetune.method freeze, finetune.trainable [charge_head*]"
        )
    _check_sums(dataset, potential.total_charge)


def _check_sums(dataset: Dataset, total: float) -> None:
    if "charges" not in dataset.multipoles:
        return
    for start, columns in dataset.blocks():
        sums = np.add.reduceat(columns.multipole("charges"), columns.offsets[:-1])  # NaN where one lacks
        wrong = np.flatnonzero(np.abs(sums - total) > 0.5)
        if len(wrong):
            raise ValueError(
                f"the charges of structure {start + wrong[0]} of the training set sum to {sums[wrong[0]]:.2f} e, and "
                f"the model will hold for a total charge of {total:g}: a model has one; state it (charge: ...), and "
                "leave structures of other charges out"
            )
