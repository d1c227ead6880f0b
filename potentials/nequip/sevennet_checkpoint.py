"""SevenNet checkpoints become NequIP potentials of this package, with neither sevenn nor e3nn installed.

Such a file (.pth) is a pickled dictionary: the input settings of a training run under `config`, and the weights under
`model_state_dict`. It is read as inert data (atomsml.modelfile.inert_pickle). SevenNet-0, SevenNet-l3i5 and
SevenNet-MF-0 are such files, and whatever else is made of the same blocks; what would have to be computed differently
is refused by name.

A model of several modalities (levels of theory) appends a one-hot vector of them to the scalars that enter some of its
linear maps. For one modality that is a constant in what comes out: a bias.
"""

from __future__ import annotations

import math
import reprlib
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast

import torch
from torch import Tensor

from atomsml.modelfile.inert_pickle import StoredTensor, load_inert_dict
from atomsml.modelfile.official import choose_head, converted
from atomsml.nn.linear import GradedLinear
from atomsml.o3 import Irreps, clebsch_gordan
from atomsml.ops.convolution import Path as CouplingPath
from atomsml.ops.graded_convolution import GradedTable
from atomsml.potentials.nequip.model import NequIP, NequIPConfig, NequIPLayer

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
# Linear maps that a modality may enter; settings use_modal_NAME say which it does.
MODAL_MAPS = ("node_embedding", "self_inter_intro", "self_inter_outro", "output_block")
SORTED_SINCE = (0, 11)  # from this version on, paths are ordered by l3 first


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
        model.load_state_dict(_state_dict(model, settings, weights, modality), assign=True)
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


class Modality(NamedTuple):
    """One of the levels of theory of a file; a file of one level has one that enters nowhere."""

    place: int  # in the one-hot vector
    inputs: dict[str, int]  # how many entries of that vector enter each kind of linear map


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
        parity=False,
        harmonics="spherical" if settings["_normalize_sph"] else "solid",
        scalar_biases=settings["use_modality"],
        relative_to_isolated=False,
        scale=_common("scale", [weights["rescale_atomic_energy.scale"]]),
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
        raise unsupported(f"a {name} that differs between layers or elements")
    return float(values[0])


def _same(name: str, value: str | list[str]) -> str:
    """One setting, or a list of one for each layer, all the same."""
    values = {value} if isinstance(value, str) else set(value)
    if len(values) != 1 or not values <= set(SELF_CONNECTIONS):
        raise unsupported(f"{name} = {reprlib.repr(value)}")
    return values.pop()


def _state_dict(
    model: NequIP, settings: dict[str, Any], weights: dict[str, Tensor], modality: Modality
) -> dict[str, Tensor]:
    """The weights under our names and in our order.

    The linear layers of e3nn, normalised as ours are, hold one matrix for each l; their elements are in the order of
    the file, ours ascend.
    """
    config = model.config
    species = [settings["_type_map"][z] for z in config.elements]
    basis_scale = math.sqrt(2 / config.cutoff)  # their Bessel functions have the prefactor 2 / rc, ours its root
    roots = torch.arange(1, config.num_bessel + 1, dtype=torch.float64) * (math.pi / config.cutoff)
    # a linear map of one-hot elements, and perhaps of one-hot modalities
    rows = len(species) + modality.inputs["node_embedding"]
    embedding = weights["onehot_to_feature_x.linear.weight"].view(rows, config.channels[0])
    of_modality = embedding[len(species) :][modality.place] if modality.inputs["node_embedding"] else 0.0
    found = {
        "references": weights["rescale_atomic_energy.shift"].expand(len(species))[species],
        "radial_basis.frequencies": weights.get("edge_embedding.basis_function.coeffs", roots),
        "embedding": (embedding[species] + of_modality) / math.sqrt(rows),
    }
    readouts = (("reduce_input_to_hidden", modality.inputs["output_block"]), ("reduce_hidden_to_energy", 0))
    for k, (theirs, inputs) in enumerate(readouts):
        linear = cast("GradedLinear", model.readout[k])
        found |= _linear(f"readout.{k}", linear, weights[f"{theirs}.linear.weight"], inputs, modality)
    for i, layer in enumerate(model.all_layers):
        of_layer = {name.removeprefix(f"{i}_"): x for name, x in weights.items() if name.startswith(f"{i}_")}
        paths = _file_order(layer.table, settings["version"])
        for name, x in _layer(layer, of_layer, paths, species, modality).items():
            found[f"layers.{i}.{name}"] = x
        found[f"layers.{i}.radial.weights.0"] = found[f"layers.{i}.radial.weights.0"] * basis_scale
    return found


def _file_order(table: GradedTable, version: str) -> list[CouplingPath]:
    """The paths in the order in which a version of sevenn writes their radial weights."""
    major, minor = version.split(".")[:2]
    return list(table.paths) if (int(major), int(minor)) >= SORTED_SINCE else sorted(table.paths)


def _layer(
    layer: NequIPLayer, weights: dict[str, Tensor], paths: list[CouplingPath], species: list[int], modality: Modality
) -> dict[str, Tensor]:
    """The weights of one interaction block."""
    intro, outro = (weights[f"self_interaction_{k}.linear.weight"] for k in (1, 2))
    found = _linear("linear_in", layer.linear_in, intro, modality.inputs["self_inter_intro"], modality)
    found |= _linear("linear_out", layer.linear_out, outro, modality.inputs["self_inter_outro"], modality)
    if "self_connection_intro.linear.weight" in weights:
        shapes = [tuple(w.shape) for w in layer.self_connection.weights]
        found |= _matrices("self_connection", weights["self_connection_intro.linear.weight"], shapes)
    else:  # (channels in, elements, channels out) for each l
        flat = weights["self_connection_intro.fc_tensor_product.weight"]
        shapes = [(w.shape[1], w.shape[0], w.shape[2]) for w in layer.self_connection.weights]
        turned = _matrices("self_connection", flat, shapes)
        found |= {name: x.transpose(0, 1)[species] for name, x in turned.items()}
    for l3 in range(len(layer.table.channels_out)):  # theirs: paths in the order of the table
        rows = [row for path in layer.table.paths if path[2] == l3 for row in layer.table.out_columns(path)]
        name = f"linear_out.weights.{l3}"
        found[name] = torch.empty_like(found[name]).index_copy_(1, torch.tensor(rows), found[name])
    count = len(layer.radial.weights)
    for k in range(count):
        found[f"radial.weights.{k}"] = weights[f"convolution.weight_nn.layer{k}.weight"]
    columns = torch.tensor([column for path in paths for column in layer.table.weight_columns(path)])
    signs = torch.cat([_sign(path, weights).expand(layer.table.channels[path[0]]) for path in paths])
    last = found[f"radial.weights.{count - 1}"] * signs
    found[f"radial.weights.{count - 1}"] = torch.empty_like(last).index_copy_(1, columns, last)
    return found


def _linear(name: str, layer: GradedLinear, flat: Tensor, inputs: int, modality: Modality) -> dict[str, Tensor]:
    """One linear map of e3nn: a matrix for each l, and last the rows of `inputs` modalities, of which one is taken.

    Of n scalars and m modalities e3nn divides the sum by sqrt(n + m), and our layers the matrix alone by sqrt(n).
    """
    shapes = [tuple(w.shape) for w in layer.weights]
    scalars, outputs = shapes[0][1:]
    matrices, rows = flat.flatten().split([flat.numel() - inputs * outputs, inputs * outputs])
    found = _matrices(name, matrices, shapes)
    found[f"{name}.weights.0"] = found[f"{name}.weights.0"] * math.sqrt(scalars / (scalars + inputs))
    if layer.bias is not None:
        chosen = rows.view(inputs, outputs)[modality.place :][:1]  # none where no modality enters
        found[f"{name}.bias"] = chosen.sum(0) / math.sqrt(scalars + inputs)
    return found


def _matrices(name: str, flat: Tensor, shapes: list[tuple[int, ...]]) -> dict[str, Tensor]:
    """One matrix for each l, which the file holds one after the other."""
    parts = flat.flatten().split([math.prod(shape) for shape in shapes])
    return {f"{name}.weights.{l}": x.view(shape) for l, (x, shape) in enumerate(zip(parts, shapes, strict=True))}


def _sign(path: CouplingPath, weights: dict[str, Tensor]) -> Tensor:
    """Of the file's coupling over ours: e3nn has changed some signs where l1 + l2 + l3 is odd."""
    key = "convolution.convolution._compiled_main_left_right._w3j_" + "_".join(map(str, path))
    if key not in weights:
        return torch.ones(1, dtype=torch.float64)
    theirs, ours = weights[key], clebsch_gordan(*path)
    sign = (theirs * ours).sum().sign()
    if not torch.allclose(theirs, sign * ours, rtol=0, atol=1e-6):  # they have the precision of float32
        raise ValueError(f"its coupling {path} is none; the file is damaged")
    return sign[None]
