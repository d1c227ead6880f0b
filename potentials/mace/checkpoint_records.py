"""Single parts of a MACE `.model` file, brought to the conventions of this package.

| in the file | here |
|---|---|
| edge vectors from the neighbour to the centre | the other way: weights of paths with odd edge l change sign |
| e3nn keeps weights raw and scales by path weights | scaled as our layers do: 1/sqrt(fan in) |

All arithmetic is in float64, also for files in float32.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from atomsml.modelfile.inert_pickle import Record
from atomsml.ops.convolution import Path as CouplingPath
from atomsml.ops.convolution import convolution_table
from atomsml.potentials.mace.model import MACEConfig


def unsupported(what: str) -> ValueError:
    return ValueError(f"unsupported MACE model: it has {what}")


def irreps(record: Record, path: str) -> list[tuple[int, int]]:
    """(multiplicity, l) of each irrep; only natural parity (-1)^l is known here."""
    result = []
    for term in record.record(path).arguments[0]:
        mul, irrep = term.arguments[0]
        l, parity = irrep.arguments[0]
        if parity != (-1) ** l:
            raise unsupported(f"{l}{'e' if parity == 1 else 'o'} among its {path}")
        result.append((mul, l))
    return result


def gain_of(activation: Record, function: str, constant: str, name: str) -> float:
    """The constant that gives an activation unit second moment: e3nn estimates it when a model is made.

    Raises:
        ValueError: the function is not the one of this name.
    """
    if getattr(activation.get(function), "name", None) != name:
        raise unsupported(f"an activation other than {name}")
    return activation.number(constant)


def linear_matrices(linear: Record) -> dict[int, Tensor]:
    """l -> (inputs, outputs) of an e3nn Linear; inputs of one l in the order of its irreps."""
    weight = linear.tensor("weight").double()
    blocks: dict[int, list[Tensor]] = {}
    start = 0
    for instruction in linear.get("instructions"):
        i_in, _, shape, path_weight = instruction.arguments
        block = weight[start : start + math.prod(shape)].view(shape) * path_weight
        blocks.setdefault(irreps(linear, "irreps_in")[i_in][1], []).append(block)
        start += math.prod(shape)
    return {l: torch.cat(parts) for l, parts in sorted(blocks.items())}


def fan_in(weights: dict[int, Tensor]) -> dict[int, Tensor]:
    """Undo the normalisation that our linear layers apply again."""
    return {l: weight * math.sqrt(len(weight)) for l, weight in weights.items()}


def named(name: str, weights: dict[int, Tensor]) -> dict[str, Tensor]:
    return {f"{name}.weights.{k}": weight for k, weight in weights.items()}


class FilePath(NamedTuple):
    """One path of the file's convolution."""

    number: int  # among the outputs of the radial network
    place: int  # among the irreps of the convolution's output
    factor: float  # over ours


def paths_of(block: Record, config: MACEConfig) -> tuple[tuple[CouplingPath, ...], dict[CouplingPath, FilePath]]:
    """Those of our convolution in our order, and where each is in the file."""
    ours = convolution_table(len(irreps(block, "node_feats_irreps")) - 1, config.lmax, config.lmax).paths
    theirs = _convolution_paths(block.record("conv_tp"))
    if set(ours) != set(theirs):
        raise unsupported("other paths in the convolution")
    return ours, theirs


def _convolution_paths(product: Record) -> dict[CouplingPath, FilePath]:
    """(l1, l2, l3) -> path. Our factor is sqrt(2 l3 + 1), with edge vectors that point the other way: (-1)^l2."""
    in1, in2, out = (irreps(product, name) for name in ("irreps_in1", "irreps_in2", "irreps_out"))
    paths = {}
    for number, instruction in enumerate(product.get("instructions")):
        i_1, i_2, i_out, _, _, path_weight, _ = instruction.arguments
        l1, l2, l3 = in1[i_1][1], in2[i_2][1], out[i_out][1]
        paths[l1, l2, l3] = FilePath(number, i_out, (-1) ** l2 * path_weight / math.sqrt(2 * l3 + 1))
    return paths


def columns_of_paths(weight: Tensor, ours: Sequence[CouplingPath], theirs: Mapping[CouplingPath, FilePath]) -> Tensor:
    """What a radial network makes (..., paths * channels), in our order of paths and with our factors."""
    by_path = weight.unflatten(-1, (len(theirs), -1))
    factors = torch.tensor([theirs[path].factor for path in ours], dtype=torch.float64)
    return (by_path[..., [theirs[path].number for path in ours], :] * factors[:, None]).flatten(-2)


def rows_of_paths(
    weights: dict[int, Tensor], ours: Sequence[CouplingPath], theirs: Mapping[CouplingPath, FilePath]
) -> dict[int, Tensor]:
    """l -> (paths to l * channels, outputs) of the linear map behind a convolution, in our order of paths."""
    found = {}
    for l, weight in weights.items():
        places = [theirs[path].place for path in ours if path[2] == l]
        chunks = weight.unflatten(0, (len(places), -1))
        found[l] = chunks[[sorted(places).index(place) for place in places]].flatten(0, 1)
    return found
