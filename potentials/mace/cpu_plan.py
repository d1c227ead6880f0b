"""The computation of a MACE on a CPU: what its layers do with a chunk of atoms (programs/chunked_plan.py), both ways.

    forward   convolution, linear map, contraction, linear map, readout
    backward  the same in reverse

| symbol | name | shape |
|---|---|---|
| A | messages | (atoms, (lmax + 1)^2, channels), kept of all layers but the last |
| h | features | (atoms, (lmax_out + 1)^2, channels) |
| W h | up | the same after the linear map that precedes the next convolution |
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from atomsml.ops.contraction.cpu import contraction_kernel
from atomsml.potentials.corrections.zbl_kernel import ZBLWeights, add_zbl
from atomsml.potentials.mace.cpu_weights import LayerWeights, MACEWeights
from atomsml.potentials.mace.model import MACEConfig
from atomsml.programs import density as density_cpu
from atomsml.programs.chunked_plan import ChunkedPlan, NetworkShape
from atomsml.programs.plan import FIRST, LAST, NUMBER, Array, Plan, Rows
from atomsml.programs.rows import (
    add_dot_kernel,
    add_element_rows_kernel,
    hidden_readout_kernel,
    zero_scalars_kernel,
)
from atomsml.programs.slots import CHUNK, Sizes


class _Scratch:
    """Memory that a thread needs for a chunk, in one block."""

    def __init__(self, weights: MACEWeights, neighbors: int, dtype: torch.dtype) -> None:
        c, layers = weights.channels, weights.layers
        components = layers[0].convolution.table.dim_harmonics
        needed = max(layer.convolution.scratch_size(neighbors) for layer in layers)
        degrees = [layer.convolution.table.by_degree for layer in layers]
        sums = [[(CHUNK, 2 * l + 1, len(paths) * c) for l, paths in of_layer.items()] for of_layer in degrees]
        largest = max(sum(math.prod(shape) for shape in shapes) for shapes in sums)
        after = max((layer.lmax_out + 1) ** 2 for layer in layers)
        hidden = len(weights.last_readout)
        sizes = [
            needed,
            largest,
            2 * CHUNK * components * c,
            CHUNK * after * c,
            CHUNK * c,
            2 * (components + 1) * c,
            CHUNK * hidden,
        ]
        self.block = torch.empty(sum(sizes), dtype=dtype)
        self.convolution, sums_, messages, product, features, atom, hidden_ = self.block.split(sizes)
        self.sums = [
            [
                x.view(shape)
                for x, shape in zip(
                    sums_[: sum(map(math.prod, shapes))].split([*map(math.prod, shapes)]), shapes, strict=True
                )
            ]
            for shapes in sums
        ]
        self.message, self.message_gradient = messages.view(2, CHUNK, components, c)
        self.product = [product[: CHUNK * (layer.lmax_out + 1) ** 2 * c].view(CHUNK, -1, c) for layer in layers]
        self.features = features.view(CHUNK, 1, c)  # of the last layer
        self.atom, self.atom_gradient = atom.view(2, components + 1, c)
        self.hidden = hidden_.view(CHUNK, 1, hidden)


class MACEPlan(ChunkedPlan):
    """The kernel calls of a MACE, and the arrays of all atoms."""

    def __init__(
        self, config: MACEConfig, weights: MACEWeights, zbl: ZBLWeights | None, sizes: Sizes, dtype: torch.dtype
    ) -> None:
        self.weights, self._zbl = weights, zbl
        self._scratch = _Scratch(weights, sizes.neighbors, dtype)
        zeros = torch.zeros(len(config.elements), dtype=torch.float64)
        shape = NetworkShape(
            config.elements, len(weights.layers), config.lmax, weights.grid, zeros, dtype, weights.cores
        )
        super().__init__(shape, sizes, self._scratch.block)
        atoms, c, components = sizes.atoms, weights.channels, (config.lmax + 1) ** 2

        def new(*shape: int) -> Tensor:
            return torch.empty(shape, dtype=dtype)

        inner = weights.layers[:-1]
        self.messages = [new(atoms, components, c) for _ in inner]
        self.features = [new(atoms, (layer.lmax_out + 1) ** 2, c) for layer in inner]
        self.last_features = new(atoms, 1, c) if config.charges else None  # others are gone with their chunk
        self.up, self.feature_gradient = ([torch.empty_like(x) for x in self.features] for _ in range(2))
        self.gathered = [[x] for x in self.up]
        self.handed_back = [[x] for x in self.feature_gradient]
        self.density_scale = [new(atoms) for _ in weights.layers]

    def forward(self, plan: Plan, i: int) -> None:
        """Layer i: adds the energies of its readout; messages and features are kept for what comes after."""
        layer, scratch, inner = self.weights.layers[i], self._scratch, i < len(self.weights.layers) - 1
        energies, message = Rows(self.energies), self._message(i)
        features = self._features(i)
        if i == 0:
            plan.add(zero_scalars_kernel(self.dtype), [energies], NUMBER)
        sums, up = (scratch.sums[i], self.up[i - 1]) if i > 0 else ([message], message)
        layer.convolution.forward(plan, self.edges, layer.radial, up, sums, scratch.convolution, FIRST, LAST)
        if layer.linear is not None:
            layer.linear.forward.add_to(plan, sums, [message], 0, NUMBER)
        if layer.density is not None:
            density_cpu.normalize(plan, self.edges, layer.density, message, self.density_scale[i], FIRST, LAST)
        self._contract(plan, "forward", layer, [scratch.atom, message, layer.coefficients, scratch.product[i]])
        layer.out.forward.add_to(plan, [scratch.product[i]], [features], 0, NUMBER)
        if layer.skip_constant is not None:
            self._add_rows(plan, self.slots.species, layer.skip_constant, features)
        if layer.skip is not None:
            layer.skip.forward.add_to(plan, [Rows(self.features[i - 1])], [features], 0, NUMBER, self.slots.runs)
        if inner:
            assert layer.up is not None
            layer.up.forward.add_to(plan, [features], [Rows(self.up[i])], 0, NUMBER)
            kernel = add_dot_kernel(features.shape[1], features.shape[2], self.dtype)
            plan.add(kernel, [features, layer.energy_gradient[0], energies], NUMBER)
        else:
            layer.readout.forward.add_to(plan, [features], [scratch.hidden], 0, NUMBER)
            kernel = hidden_readout_kernel(scratch.hidden.shape[2], self.dtype)
            plan.add(kernel, [scratch.hidden, self.weights.last_readout, energies], NUMBER)

    def all_features(self) -> list[Tensor]:
        """What each layer has made, by slot, of a model with charges."""
        assert self.last_features is not None
        return [*self.features, self.last_features]

    def _features(self, i: int) -> Array:
        """Where those of layer i go."""
        if i < len(self.features):
            return Rows(self.features[i])
        return self._scratch.features if self.last_features is None else Rows(self.last_features)

    def _message(self, i: int) -> Array:
        inner = i < len(self.weights.layers) - 1
        return Rows(self.messages[i]) if inner else self._scratch.message

    def _gradient(self, plan: Plan, i: int) -> Array:
        """Gradient with respect to the features that layer i makes."""
        layer = self.weights.layers[i]
        if i == len(self.weights.layers) - 1:
            layer.readout.backward.add_to(plan, [self._scratch.hidden], [self._scratch.features], 0, NUMBER)
            return self._scratch.features
        assert layer.up is not None
        gradient = Rows(self.feature_gradient[i])
        layer.up.backward.add_to(plan, self.up_gradient(i), [gradient], 0, NUMBER)
        self._add_rows(plan, self.slots.outside, layer.energy_gradient, gradient)
        return gradient

    def backward(self, plan: Plan, i: int, up_gradient: list[Tensor]) -> None:
        """From the gradient with respect to the features of layer i to those of its edges and of what it was given."""
        layer, scratch = self.weights.layers[i], self._scratch
        message, gradient = self._message(i), self._gradient(plan, i)
        layer.out.backward.add_to(plan, [gradient], [scratch.product[i]], 0, NUMBER)
        arrays = [scratch.atom, scratch.atom_gradient, scratch.product[i], message, layer.coefficients]
        self._contract(plan, "backward", layer, [*arrays, scratch.message_gradient])
        if layer.density is not None:
            given = message, self.density_scale[i], scratch.message_gradient
            density_cpu.pull_back(plan, self.edges, layer.density, *given, FIRST, LAST)
        sums, up, grad_up = [scratch.message_gradient], message, message
        if layer.linear is not None:
            sums, up, grad_up = scratch.sums[i], self.up[i - 1], up_gradient[0]
            layer.linear.backward.add_to(plan, [scratch.message_gradient], sums, 0, NUMBER)
        convolution, memory = layer.convolution, scratch.convolution
        convolution.backward(plan, self.edges, layer.radial, up, sums, grad_up, memory, FIRST, LAST)
        if i > 0:
            before = self.feature_gradient[i - 1]
            self.zero(plan, before)
            if layer.skip is not None:
                layer.skip.backward.add_to(plan, [gradient], [Rows(before)], 0, NUMBER, self.slots.runs)

    def correct(self, plan: Plan, gradients: bool) -> None:
        """The repulsion at short range."""
        if self._zbl is not None:
            totals = (self.position_gradient, self.virial) if gradients else None
            add_zbl(plan, self.edges, self._zbl, self.slots.species, self.corrections, FIRST, LAST, totals)

    def _add_rows(self, plan: Plan, which: Tensor, table: Tensor, features: Array) -> None:
        kernel = add_element_rows_kernel(features.shape[1], features.shape[2], self.dtype)
        plan.add(kernel, [Rows(which), table, features], NUMBER)

    def _contract(self, plan: Plan, kind: str, layer: LayerWeights, arrays: Sequence[Array]) -> None:
        table = layer.contraction
        kernel = contraction_kernel(kind, table.num_components, table.num_outputs, self.weights.channels, self.dtype)
        indices: list[Array] = [Rows(self.slots.species), table.run, table.run_start, table.third]
        plan.add(kernel, [*indices, *arrays], NUMBER, len(table.run), layer.coefficients.shape[1])
