"""The weights of a SevenNet checkpoint, brought to the conventions of this package.

| in the file | here |
|---|---|
| elements in the order of their symbols | ascending atomic numbers |
| Bessel functions with the prefactor 2 / rc | its root |
| couplings of the e3nn that wrote the file | ours: some of odd l1 + l2 + l3 change sign |
| one-hot modalities beside scalars | the bias that one of them amounts to |
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

from atomsml.nn.linear import GradedLinear
from atomsml.o3 import clebsch_gordan
from atomsml.ops.convolution import Path as CouplingPath
from atomsml.ops.graded_convolution import GradedTable
from atomsml.potentials.nequip.model import NequIP, NequIPLayer

# Linear maps that a modality may enter; settings use_modal_NAME say which it does.
MODAL_MAPS = ("node_embedding", "self_inter_intro", "self_inter_outro", "output_block")
SORTED_SINCE = (0, 11)  # from this version on, paths are ordered by l3 first


class Modality(NamedTuple):
    """One of the levels of theory of a file; a file of one level has one that enters nowhere."""

    place: int  # in the one-hot vector
    inputs: dict[str, int]  # how many entries of that vector enter each kind of linear map


def state_dict(
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
    if config.element_scales:
        found["element_scales"] = weights["rescale_atomic_energy.scale"][species]
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
    assert layer.self_connection is not None  # every layer of SevenNet has one
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
