"""SevenNet checkpoints become NequIP potentials of this package, with neither sevenn nor e3nn installed.

Such a file (.pth) is a pickled dictionary: the input settings of a training run under `config`, and the weights under
`model_state_dict`. It is read as inert data (atomsml.modelfile.inert_pickle). SevenNet-0, SevenNet-l3i5 and
SevenNet-MF-0 are such files, and whatever else is made of the same blocks; what would have to be computed differently
is refused by name.

A model of several modalities (levels of theory) appends a one-hot vector of them to the scalars that enter some of its
linear maps. For one modality that is a constant in what comes out: a bias.
"""

from __future__ import annotations

import reprlib
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from atomsml.modelfile.inert_pickle import StoredTensor, load_inert_dict
from atomsml.modelfile.official import choose_head, converted
from atomsml.o3 import Irreps
from atomsml.potentials.nequip.model import NequIP, NequIPConfig
from atomsml.potentials.nequip.sevennet_weights import MODAL_MAPS, Modality, state_dict

WHAT = "a SevenNet checkpoint"
# What the settings and the state of an optimizer hold beside plain data: kept unread.
NAMES = {
    "torch": ("device",),
    "numpy": ("ndarray",),
    "numpy.core.multiarray": ("_reconstruct",),
    "numpy._core.multiarray": ("_reconstruct",),
}
# Settings with which the network would compute something else, and the values that are supported.
SUPPORTED: dict[str, tuple[Any, ...]] = {
    "is_parity": (False,),
    "interaction_type": ("nequip",),
    "act_radial": ("silu",),
    "readout_as_fcn": (False,),
    "use_bias_in_linear": (False,),
}
# What a file of sevenn < 0.9.3 or so leaves out; old ones had spherical harmonics that grow with the distance.
WHERE_ABSENT = {
    "use_modality": False,
    "use_modal_wise_shift": False,
    "use_modal_wise_scale": False,
    "_normalize_sph": False,
    "interaction_type": "nequip",
    "use_bias_in_linear": False,
}
SELF_CONNECTIONS: dict[str, Literal["element", "linear"]] = {"nequip": "element", "linear": "linear"}
# Where the names in a state dict of 2024 differ from those since by more than spaces.
RENAMED = {"EdgeEmbedding": "edge_embedding", "reducing_nn": "reduce", "denumerator": "denominator"}


def convert(path: str | Path, head: str | None = None) -> tuple[NequIP, dict[str, Any]]:
    """The potential in a SevenNet checkpoint, in float64, and metadata for atomsml.modelfile.save.

    Args:
        head: which modality of a file that has several; their names are in the message where it is left out.

    Raises:
        ValueError: no such modality, not a SevenNet checkpoint, an unsupported kind of SevenNet, or a file that asks
            for names that no such checkpoint needs; the message says which.
        OSError: the file cannot be read.
    """
    path = Path(path)
    tree = load_inert_dict(path, NAMES, WHAT)
    _check_complete(path, tree)
    settings = WHERE_ABSENT | tree["config"]
    try:
        _check_supported(settings)
        modalities = _modalities(settings)
        chosen = choose_head(list(modalities), head)
        modality = modalities[chosen]
        weights = _weights(tree["model_state_dict"], settings, modality)
        config = _config(settings, weights)
        with torch.device("meta"):  # what is really there bounds what is allocated
            model = NequIP(config)
        model.load_state_dict(state_dict(model, settings, weights, modality), assign=True)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    except (RuntimeError, LookupError, TypeError, AttributeError, ArithmeticError, MemoryError) as error:
        reason = " ".join(str(error)[:200].split())  # shapes, types and sizes that do not fit together
        raise ValueError(f"{path} is damaged and cannot be read as {WHAT}: {reason}") from None
    about = {"sevenn": str(settings["version"]), "heads": list(modalities)}
    return model.eval(), converted(path, chosen, **about)


def _check_complete(path: Path, tree: dict[Any, Any]) -> None:
    """Raise ValueError where a file holds no config, in the words of what it is instead."""
    if all(isinstance(tree.get(key), dict) for key in ("config", "model_state_dict")):
        return
    if isinstance(tree.get("model"), dict) and {"optimizer", "epoch"} & set(tree):
        raise ValueError(
            f"{path} is a checkpoint of mace_run_train, which holds weights only; give the .model that lies beside it"
        )
    if "pytorch-lightning_version" in tree:
        raise ValueError(
            f"{path} is a checkpoint of a training by Lightning, as nequip's are; write the model with "
            "`nequip-package build` and give that .nequip.zip"
        )
    if tree and all(_is_tensor(value) for value in tree.values()):
        raise ValueError(f"{path} is not {WHAT} but a state_dict, which holds weights only; give the whole saved model")
    raise ValueError(f"{path} is not {WHAT}: it has no config with a model_state_dict")


def _is_tensor(value: Any) -> bool:
    return isinstance(value, StoredTensor)


def unsupported(what: str) -> ValueError:
    return ValueError(f"unsupported SevenNet model: it has {what}")


def _check_supported(settings: dict[str, Any]) -> None:
    """Raise ValueError that names what would have to be computed differently."""
    for key, values in SUPPORTED.items():
        if settings[key] not in values:
            raise unsupported(f"{key} = {reprlib.repr(settings[key])}; supported is {values[0]!r}")
    for key in ("act_scalar", "act_gate"):
        if settings[key]["e"] != "silu":
            raise unsupported(f"{key} = {reprlib.repr(settings[key]['e'])}; supported is 'silu'")


def _modalities(settings: dict[str, Any]) -> dict[str, Modality]:
    """By name."""
    if not settings["use_modality"]:
        return {"default": Modality(0, dict.fromkeys(MODAL_MAPS, 0))}
    found = settings["_modal_map"]
    if sorted(found.values()) != list(range(len(found))):
        raise ValueError(f"its modalities have the places {reprlib.repr(list(found.values()))}; the file is damaged")
    inputs = {which: len(found) if settings[f"use_modal_{which}"] else 0 for which in MODAL_MAPS}
    return {str(name)[:100]: Modality(place, inputs) for name, place in found.items()}


def _weights(stored: dict[str, Any], settings: dict[str, Any], modality: Modality) -> dict[str, Tensor]:
    """The tensors of a state dict in float64, under today's names; the shift and the scale are those of a modality."""
    found = {_name(name): x.values.double() for name, x in stored.items() if _is_tensor(x)}
    for which in ("shift", "scale"):
        if settings[f"use_modal_wise_{which}"]:
            found[f"rescale_atomic_energy.{which}"] = found[f"rescale_atomic_energy.{which}"][modality.place]
    return found


def _name(stored: str) -> str:
    name = stored.replace(" ", "_")
    for old, new in RENAMED.items():
        name = name.replace(old, new)
    return name


def _config(settings: dict[str, Any], weights: dict[str, Tensor]) -> NequIPConfig:
    num_layers = settings["num_convolution_layer"]
    envelope, basis = settings["cutoff_function"], settings["radial_basis"]
    if basis["radial_basis_name"] != "bessel":
        raise unsupported(f"the radial basis {reprlib.repr(basis['radial_basis_name'])}")
    xplor = envelope["cutoff_function_name"] == "XPLOR"
    if not xplor and envelope["cutoff_function_name"] != "poly_cut":
        raise unsupported(f"the cutoff function {reprlib.repr(envelope['cutoff_function_name'])}")
    channels, lmax = _channels(settings), settings["lmax"]
    scales = weights["rescale_atomic_energy.scale"].flatten().unique().tolist()
    return NequIPConfig(
        elements=tuple(sorted(settings["_type_map"])),
        cutoff=float(settings["cutoff"]),
        channels=channels,
        lmax=settings["lmax_edge"] if settings["lmax_edge"] > 0 else lmax,
        num_layers=num_layers,
        num_bessel=basis.get("bessel_basis_num", 8),
        envelope_power=6 if xplor else envelope.get("poly_cut_p_value", 6),
        xplor_onset=float(envelope["cutoff_on"]) if xplor else None,
        radial_mlp=tuple(settings["weight_nn_hidden_neurons"]),
        readout_channels=channels[0] // 2,
        avg_num_neighbors=_common("denominator", [weights[f"{i}_convolution.denominator"] for i in range(num_layers)]),
        self_connection=SELF_CONNECTIONS[_same("self_connection_type", settings["self_connection_type"])],
        inversion=False,
        harmonics="spherical" if settings["_normalize_sph"] else "solid",
        scalar_biases=settings["use_modality"],
        relative_to_isolated=False,
        element_scales=len(scales) > 1,
        scale=scales[0] if len(scales) == 1 else 1.0,
    )


def _channels(settings: dict[str, Any]) -> tuple[int, ...]:
    """The multiplicity of each degree between layers."""
    if not settings["irreps_manual"]:
        lmax = settings["lmax_node"] if settings["lmax_node"] > 0 else settings["lmax"]
        return (settings["channel"],) * (lmax + 1)
    first, *between, last = [Irreps(text) for text in settings["irreps_manual"]]
    irreps = between[0] if between else last
    scalars = irreps[:1]
    if [(term.degree, term.parity) for term in irreps] != [(l, 1) for l in range(len(irreps))]:
        raise unsupported(f"the irreps {irreps}; supported is one even irrep for each l from 0 on")
    if any(other != irreps for other in between) or tuple(first) != scalars or tuple(last) != scalars:
        raise unsupported("numbers of channels that differ between layers")
    return tuple(term.mul for term in irreps)


def _common(name: str, tensors: list[Tensor]) -> float:
    """The one value of all entries."""
    values = torch.cat([x.flatten() for x in tensors]).unique().tolist()
    if len(values) != 1:
        raise unsupported(f"a {name} that differs between layers")
    return float(values[0])


def _same(name: str, value: str | list[str]) -> str:
    """One setting, or a list of one for each layer, all the same."""
    values = {value} if isinstance(value, str) else set(value)
    if len(values) != 1 or not values <= set(SELF_CONNECTIONS):
        raise unsupported(f"{name} = {reprlib.repr(value)}")
    return values.pop()
