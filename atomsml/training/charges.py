"""What a run that learns charges asks of its data and of its model."""

from __future__ import annotations

import dataclasses

import numpy as np

from atomsml.dataset import Dataset
from atomsml.potential import Potential
from atomsml.training.architecture import new_model_of
from atomsml.training.config import TrainingConfig


def check_architecture(model_class: type[Potential]) -> None:
    """Refuse an architecture without charges.

    Raises:
        ValueError: names it.
    """
    if "charges" not in {field.name for field in dataclasses.fields(model_class.Config)}:
        raise ValueError(f"charges: a {model_class.__name__} has none; train a mace")


def with_charges(potential: Potential, config: TrainingConfig) -> Potential:
    """A trained potential with a charge head, a new one if it has none, if the run learns charges, else without.

    Charges that are not trained would no longer go with weights that are.

    Raises:
        ValueError: the architecture has no charges.
    """
    if config.charges:
        check_architecture(type(potential))
    if potential.has_charges == config.charges:
        return potential
    with_or_without = dataclasses.replace(potential.config, charges=config.charges)
    changed = new_model_of(type(potential), with_or_without, config.seed).cast(potential.dtype)
    known = potential.state_dict()
    changed.load_state_dict({name: known.get(name, new) for name, new in changed.state_dict().items()}, assign=True)
    changed.electronic_state = potential.electronic_state
    return changed


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
