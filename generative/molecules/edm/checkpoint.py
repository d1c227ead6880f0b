"""Files of EDM's authors become generators of this package, without running anything in them.

A training of theirs leaves `generative_model_ema.npy` and `generative_model.npy`, state dicts that torch.save wrote,
and beside them `args.pickle`, the arguments of the training. Both are read as inert data (modelfile/inert_pickle.py).

What a model draws from beside its weights is in neither: the sizes of the molecules of its training set, and of a
conditional model the means and deviations of its properties. They are measured on the training set where that is given.
Of QM9 their program knows the sizes, and so does this file; compositions stay unknown then, so that a row of H_n
stands for all molecules of n atoms.
"""

from __future__ import annotations

import reprlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from atomsml.generative.molecules.edm.config import EDMConfig
from atomsml.generative.molecules.edm.model import EDM
from atomsml.generative.molecules.set import MoleculeSet
from atomsml.modelfile.inert_pickle import Record, StoredTensor, load_inert_dict, load_inert_pickle
from atomsml.modelfile.official import converted

WHAT, WHAT_ARGUMENTS = "weights of EDM", "the arguments of a training of EDM"
# Arguments with which something else would be computed, and the value that is supported; absent ones mean it.
SUPPORTED: dict[str, Any] = {
    "model": "egnn_dynamics",
    "probabilistic_model": "diffusion",
    "diffusion_noise_schedule": "polynomial_2",
    "diffusion_noise_precision": 1e-5,
    "condition_time": True,
    "tanh": True,
    "attention": True,
    "norm_constant": 1,
    "sin_embedding": False,
    "aggregation_method": "sum",
}
ORGANIC = (1, 6, 7, 8, 9)
ELEMENTS = {
    ("qm9", False): ORGANIC,
    ("qm9_second_half", False): ORGANIC,
    ("qm9", True): ORGANIC[1:],
    ("geom", False): (1, 5, 6, 7, 8, 9, 13, 14, 15, 16, 17, 33, 35, 53, 80, 83),
}
# number of atoms -> molecules of their training set of QM9 that have so many
SIZES = {
    ("qm9", False): {
        **{3: 1, 4: 4, 5: 5, 6: 9, 7: 16, 8: 49, 9: 124, 10: 362, 11: 807, 12: 1689, 13: 3060, 14: 5136, 15: 7796},
        **{16: 10644, 17: 13025, 18: 13364, 19: 13832, 20: 9482, 21: 9970, 22: 3393, 23: 4848, 24: 539, 25: 1506},
        **{26: 48, 27: 266, 29: 25},
    },
    ("qm9", True): {1: 2, 2: 5, 3: 7, 4: 25, 5: 91, 6: 475, 7: 2404, 8: 13625, 9: 83366},
}
BLOCK, SUBLAYER = "dynamics.egnn.e_block_{}.", "gcl_{}."
PERCEPTRONS = {"edge_mlp.": "phi_e.", "node_mlp.": "phi_h.", "att_mlp.0.": "phi_inf."}


def is_checkpoint(path: str | Path) -> bool:
    """Whether a file holds weights of EDM, by the names in it; False for what cannot be read."""
    try:
        return any(str(name).startswith("dynamics.egnn.") for name in load_inert_dict(path, {}, WHAT))
    except ValueError:
        return False


def convert(path: str | Path, training_set: MoleculeSet | None = None) -> tuple[EDM, dict[str, Any]]:
    """The generator of a file of weights, in float32, and metadata for `save_generator`.

    Args:
        training_set: what it was trained on, for the sizes, and the means and deviations of its properties.

    Raises:
        ValueError: no arguments beside the weights, a model that would have to be computed differently, one that needs
            its training set, or a file that is damaged; says which.
        OSError: a file cannot be read.
    """
    path = Path(path)
    arguments = _arguments(path)
    stored = {k: v.values for k, v in load_inert_dict(path, {}, WHAT).items() if isinstance(v, StoredTensor)}
    try:
        model = _model(arguments, training_set)
        model.load_state_dict({**model.state_dict(), **network_weights(stored, model.config)})
        _check_schedule(stored["gamma.gamma"], model)
    except (RuntimeError, LookupError, TypeError, ArithmeticError) as error:
        reason = " ".join(str(error)[:200].split())  # shapes, names and sizes that do not fit together
        raise ValueError(f"{path} is damaged and cannot be read as {WHAT}: {reason}") from None
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    about = converted(path, "default", edm=reprlib.repr(arguments.get("exp_name")))
    return model.eval(), {key: about[key] for key in ("source",)}


def _arguments(path: Path) -> dict[str, Any]:
    """Of the training, from beside the weights: those of epoch n are args_n.pickle."""
    stem = path.stem.removeprefix("generative_model").removeprefix("_ema")
    epoch = stem if stem != path.stem else ""
    beside = path.with_name(f"args{epoch}.pickle")
    if not beside.is_file():
        raise ValueError(f"{path} holds weights only; put {beside.name}, which their program writes, into its folder")
    record: Record = load_inert_pickle(beside, {"argparse": ("Namespace",)}, WHAT_ARGUMENTS)
    if not isinstance(record.state, dict):
        raise ValueError(f"{beside} is damaged and cannot be read as {WHAT_ARGUMENTS}")
    return record.state


def _model(arguments: dict[str, Any], training_set: MoleculeSet | None) -> EDM:
    """With random weights, and the tables of its training set."""
    for name, value in SUPPORTED.items():
        if arguments.get(name, value) != value:
            raise ValueError(f"unsupported EDM: {name} = {reprlib.repr(arguments[name])}; supported is {value!r}")
    dataset = (arguments["dataset"], bool(arguments["remove_h"]))
    if dataset not in ELEMENTS:
        raise ValueError(
            f"unsupported EDM: its data set {reprlib.repr(dataset[0])} has elements that are not known here"
        )
    length, of_elements, of_numbers = arguments["normalize_factors"]
    if length != 1:
        raise ValueError(f"unsupported EDM: positions divided by {reprlib.repr(length)}; supported is 1")
    conditions = tuple(map(str, arguments["conditioning"]))
    if training_set is None and (conditions or dataset not in SIZES):
        what = f"the means and deviations of {', '.join(conditions)}" if conditions else "the sizes of its molecules"
        raise ValueError(f"the file does not hold {what}; give the training set by --train")
    if training_set is not None:
        _check_training_set(training_set, ELEMENTS[dataset], conditions)
    sizes = SIZES.get(dataset, {})
    measured = {"num_formulas": len(sizes)} if training_set is None else EDM.measure(training_set)
    config = EDMConfig(
        elements=ELEMENTS[dataset],
        conditions=conditions,
        num_formulas=measured["num_formulas"],
        channels=arguments["nf"],
        num_layers=arguments["n_layers"],
        num_sublayers=arguments["inv_sublayers"],
        avg_num_neighbors=float(arguments.get("normalization_factor", 1)),
        element_scale=1 / of_elements,
        number_scale=1 / of_numbers if arguments["include_charges"] else None,
        num_timesteps=arguments["diffusion_steps"],
        condition_dropout=0.0,
        paper=True,
    )
    model = EDM(config)
    if training_set is None:
        model.formulas[:, 0] = torch.tensor(list(sizes))
        model.formula_counts.copy_(torch.tensor(list(sizes.values())))
    else:
        model.fit(training_set)
    return model


def _check_training_set(samples: MoleculeSet, elements: Sequence[int], conditions: Sequence[str]) -> None:
    lacking = [condition for condition in conditions if condition not in samples.properties]
    if lacking:
        known = ", ".join(samples.properties) or "none"
        raise ValueError(f"the training set has no property {lacking[0]!r}, which the model was told; it has: {known}")
    strange = sorted(set(samples.elements) - set(elements))
    if strange:
        raise ValueError(f"the training set has the atomic number {strange[0]}, which the model does not know")


def network_weights(stored: dict[str, Tensor], config: EDMConfig) -> dict[str, Tensor]:
    """Our names of their weights; what they cut off from the output, of the time and the conditions, is left out."""
    found: dict[str, Tensor] = {}

    def take(theirs: str, ours: str, rows: int | None = None) -> None:
        for kind in ("weight", "bias"):
            if theirs + kind in stored:
                found[f"network.{ours}{kind}"] = stored[theirs + kind][:rows]

    take("dynamics.egnn.embedding.", "embedding.")
    take("dynamics.egnn.embedding_out.", "readout.", config.num_features)
    for i in range(config.num_layers):
        block = BLOCK.format(i)
        for part in ("0.", "2.", "4."):
            take(f"{block}gcl_equiv.coord_mlp.{part}", f"blocks.{i}.phi_x.{part}")
        for j in range(config.num_sublayers):
            for theirs, ours in PERCEPTRONS.items():
                for part in ("",) if ours == "phi_inf." else ("0.", "2."):
                    take(block + SUBLAYER.format(j) + theirs + part, f"blocks.{i}.messages.{j}.{ours}{part}")
    return found


def _check_schedule(gamma: Tensor, model: EDM) -> None:
    """Raise ValueError where the tabulated log(sigma^2 / alpha^2) is not that of our process."""
    t = torch.arange(len(gamma), dtype=torch.float64)[:-1] / (len(gamma) - 1)  # they limit the last step
    ours = 2 * (model.process.sigma(t) / model.process.alpha(t)).log()
    if len(gamma) != model.config.num_timesteps + 1 or (gamma[:-1].double() - ours).abs().max() > 1e-4:
        raise ValueError("unsupported EDM: its noise schedule is not that of the paper")
