"""The weights of a network of the program nequip, brought to the conventions of this package.

| there | here |
|---|---|
| types in an order of their own | ascending atomic numbers |
| irreps ordered by degree, even before odd; those between tensor product and linear map odd before even | natural ones, then pseudotensors, pseudoscalars last |
| paths ordered by l1, its parity, l2, l3 | slices of channels, in them l3, l1, l2 |
| gates in the order of the irreps that they gate | natural ones, then pseudotensors |
| Bessel functions with the prefactor 2 / rc | its root |
| SiLU in the radial network, and a gain sqrt(2) | SiLU of unit variance |
| one flat vector for the matrices of a linear map | a matrix for each degree and parity |
"""  # noqa: E501

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from atomsml.ops.activation import SILU_GAIN
from atomsml.ops.convolution import Path
from atomsml.ops.graded_convolution import ParityTable
from atomsml.potentials.nequip.model import NequIP, NequIPLayer

Irrep = tuple[int, int]
"""Degree and parity, 1 or -1."""


def state_dict(model: NequIP, weights: Mapping[str, Tensor], numbers: Sequence[int]) -> dict[str, Tensor]:
    """The weights under our names and in our order.

    Args:
        model: of a config whose fields are those of the network, `nequip.NEQUIP` among them.
        weights: tensors of nequip's modules, named from the modules of its energy model on ("type_embed.", "layer0_").
        numbers: atomic number of each of its types.

    Raises:
        LookupError, RuntimeError, ValueError: tensors that are missing or have other shapes.
    """
    config = model.config
    types = [list(numbers).index(z) for z in config.elements]
    found = {
        "references": _of_types(weights["per_type_energy_scale_shift.shifts"], types, 0.0).double(),
        "embedding": weights["type_embed.embed_module.weight"][types],
        "radial_basis.frequencies": weights["bessel_encode.bessel_weights"].flatten() * (math.pi / config.cutoff),
    }
    if config.element_scales:
        found["element_scales"] = _of_types(weights["per_type_energy_scale_shift.scales"], types, 1.0)
    inputs: tuple[tuple[int, ...], tuple[int, ...]] = (config.embedding_width,), ()
    for i, layer in enumerate(model.all_layers):
        prefix = f"layer{i}_convnet.conv."
        mine = {name.removeprefix(prefix): x for name, x in weights.items() if name.startswith(prefix)}
        for name, x in _layer(layer, mine, *inputs, config.lmax).items():
            found[f"layers.{i}.{name}"] = x
        first = f"layers.{i}.radial.weights.0"
        found[first] = found[first] * math.sqrt(2 / config.cutoff)
        inputs = layer.channels_out, layer.pseudo_out
    readout = weights["per_atom_energy_readout.mlp_module.mlp.0.weight"]
    return {**found, "readout.0.weights.0": readout[None]}


def _of_types(values: Tensor, types: list[int], default: float) -> Tensor:
    """One number for each element; a file may have one for all, or none."""
    if values.numel() == 0:
        return torch.full((len(types),), default, dtype=torch.float64)
    return values.flatten()[types] if values.numel() > 1 else values.flatten().repeat(len(types))


def _layer(
    layer: NequIPLayer, weights: Mapping[str, Tensor], natural: tuple[int, ...], pseudo: tuple[int, ...], lmax: int
) -> dict[str, Tensor]:
    """The weights of one interaction block, into which so many channels go."""
    table = layer.parity_table or ParityTable(natural, layer.table, None)
    inputs, outputs = _irreps(natural, pseudo), _irreps(layer.channels_out, layer.pseudo_out)
    widths = dict(zip(inputs, (*natural, *pseudo), strict=True))
    before_gate = dict(zip(outputs, (*layer.channels_out, *layer.pseudo_out), strict=True))
    gated = [irrep for irrep in _theirs(outputs) if irrep[0] > 0]
    before_gate[0, 1] += sum(before_gate[irrep] for irrep in gated)
    columns = _gate_columns(outputs, gated, layer)
    used = inputs[: len(layer.linear_in.weights)]

    blocks = _matrices(weights["linear_1.weight"], [(irrep, (widths[irrep],) * 2) for irrep in _theirs(inputs)])
    found = {f"linear_in.weights.{i}": blocks[irrep][None] for i, irrep in enumerate(used)}

    paths = _paths(_theirs(inputs), outputs, lmax)
    rows = {
        irrep: [row for begin, path, end in paths if end == irrep for row in table.out_columns(begin, path)]
        for irrep in outputs
    }
    shapes = [(irrep, (len(rows[irrep]), before_gate[irrep])) for irrep in sorted(outputs)]
    for irrep, x in _matrices(weights["linear_2.weight"], shapes).items():
        turned = torch.empty_like(x).index_copy_(0, torch.tensor(rows[irrep]), x)
        found[f"linear_out.weights.{outputs.index(irrep)}"] = _columns(turned, irrep, columns)[None]

    if layer.self_connection is not None:
        mixed = layer.self_connection.weights[0].shape[0]
        kept = [irrep for irrep in _theirs(inputs) if irrep in outputs]
        shapes3 = [(irrep, (widths[irrep], mixed, before_gate[irrep])) for irrep in kept]
        for irrep, x in _matrices(weights["sc.weight"], shapes3).items():
            name = f"self_connection.weights.{outputs.index(irrep)}"
            found[name] = _columns(x.transpose(0, 1), irrep, columns)
    return {**found, **_radial(layer, weights, table, paths)}


def _radial(
    layer: NequIPLayer, weights: Mapping[str, Tensor], table: ParityTable, paths: list[tuple[int, Path, Irrep]]
) -> dict[str, Tensor]:
    found = {}
    last = len(layer.radial.weights) - 1
    for k in range(last + 1):
        x = weights[f"edge_mlp.mlp.{2 * k}.weight"]
        found[f"radial.weights.{k}"] = x * (math.sqrt(2) / SILU_GAIN if k > 0 else 1.0)
    columns = torch.tensor([column for begin, path, _ in paths for column in table.weight_columns(begin, path)])
    name = f"radial.weights.{last}"
    return {**found, name: torch.empty_like(found[name]).index_copy_(1, columns, found[name])}


def _irreps(natural: Sequence[int], pseudo: Sequence[int]) -> list[Irrep]:
    """Of our blocks."""
    degrees = [*range(1, len(natural)), 0][: len(pseudo)]
    return [*((l, (-1) ** l) for l in range(len(natural))), *((l, -((-1) ** l)) for l in degrees)]


def _theirs(irreps: Sequence[Irrep]) -> list[Irrep]:
    """In the order in which nequip keeps features: by degree, even before odd."""
    return sorted(irreps, key=lambda irrep: (irrep[0], -irrep[1]))


def _paths(inputs: Sequence[Irrep], outputs: Sequence[Irrep], lmax: int) -> list[tuple[int, Path, Irrep]]:
    """In nequip's order: whether each begins at pseudotensors, the path itself, and where it ends."""
    ends = [
        (int(p1 != (-1) ** l1), (l1, l2, l3), (l3, p1 * (-1) ** l2))
        for l1, p1 in inputs
        for l2 in range(lmax + 1)
        for l3 in range(abs(l1 - l2), l1 + l2 + 1)
    ]
    return [each for each in ends if each[2] in outputs]


def _matrices(flat: Tensor, shapes: Sequence[tuple[Irrep, tuple[int, ...]]]) -> dict[Irrep, Tensor]:
    """One matrix for each irrep, which nequip holds one after the other."""
    parts = flat.flatten().split([math.prod(shape) for _, shape in shapes])
    return {irrep: x.view(shape) for (irrep, shape), x in zip(shapes, parts, strict=True)}


def _gate_columns(outputs: Sequence[Irrep], gated: Sequence[Irrep], layer: NequIPLayer) -> Tensor:
    """Where our scalars and gates stand among nequip's."""
    widths = dict(zip(outputs, (*layer.channels_out, *layer.pseudo_out), strict=True))
    starts, start = {}, widths[0, 1]
    for irrep in gated:
        starts[irrep] = start
        start += widths[irrep]
    ours = [irrep for irrep in outputs if irrep[0] > 0]
    return torch.cat([torch.arange(widths[0, 1]), *(torch.arange(widths[irrep]) + starts[irrep] for irrep in ours)])


def _columns(x: Tensor, irrep: Irrep, columns: Tensor) -> Tensor:
    """Scalars come with the gates; all else as it is."""
    return x[..., columns] if irrep == (0, 1) else x
