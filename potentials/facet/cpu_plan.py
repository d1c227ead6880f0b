"""The computation of a Facet on a CPU: what its layers do with a chunk of atoms (programs/chunked_plan.py), both ways.

    forward   convolution; its sums and the features to v; signals, scalars and gates of v; their product; from it, the
              scalars and the residual the features that the next layer gathers, or the hidden channels of the readout
    backward  the same in reverse

| symbol | name | shape |
|---|---|---|
| h | gathered | for each slice of channels: (atoms, components, channels) |
| v | on_sphere | (atoms, (lmax + 1)^2, grid_channels) |
| f | signals | twice (atoms, (lmax + 1)^2, grid_channels), then their gradients |
| z, q | hidden, gates | (atoms, 1, grid_channels): before SiLU, before the sigmoid; then their gradients |
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from atomsml.codegen.machine import whole
from atomsml.potentials.facet.config import FacetConfig
from atomsml.potentials.facet.cpu_weights import FacetWeights
from atomsml.programs import gate, gated_product
from atomsml.programs.chunked_plan import ChunkedPlan, NetworkShape, carve, numbers_in
from atomsml.programs.plan import FIRST, LAST, NUMBER, Array, Plan, Rows
from atomsml.programs.rows import (
    add_element_rows_kernel,
    add_kernel,
    hidden_readout_kernel,
    zero_kernel,
    zero_scalars_kernel,
)
from atomsml.programs.slots import CHUNK, Sizes


class FacetPlan(ChunkedPlan):
    """The kernel calls of a Facet, and the arrays of all atoms.

    Args:
        zeros: (elements,) float64: what the plan says of an atom whose energy is zero.
    """

    def __init__(
        self, config: FacetConfig, weights: FacetWeights, zeros: Tensor, sizes: Sizes, dtype: torch.dtype
    ) -> None:
        self.weights, layers = weights, weights.layers
        d, c = (config.lmax + 1) ** 2, whole(config.grid_channels, dtype)
        sums = [[[(CHUNK, *x) for x in piece] for piece in layer.convolution.sum_shapes()] for layer in layers]
        others = [[(CHUNK, d, c), (CHUNK, d, c), (CHUNK, 1, c), (CHUNK, 1, len(weights.readout))]]
        parts = [
            max(layer.convolution.scratch_size(sizes.neighbors) for layer in layers),
            max(map(numbers_in, sums)),
            numbers_in(others),
        ]
        scratch = torch.empty(sum(parts), dtype=dtype)
        self._convolution, for_sums, for_others = scratch.split(parts)
        self._sums_of_paths = [carve(for_sums, shapes) for shapes in sums]  # of each layer, slice and degree
        self._on_sphere, self._product, self._scalars, self._readout = carve(for_others, others)[0]
        shape = NetworkShape(config.elements, len(layers), config.lmax, weights.grid, zeros, dtype)
        super().__init__(shape, sizes, scratch)

        def new(*shape: int) -> Tensor:
            return torch.empty(sizes.atoms, *shape, dtype=dtype)

        self._signals = [(new(d, c), new(d, c)) for _ in layers]
        self._hidden, self._gates = ([new(1, c) for _ in layers] for _ in range(2))
        self.gathered = [[new(*x) for x in layer.convolution.feature_shapes()] for layer in layers[1:]]
        self._gradient = [[torch.empty_like(x) for x in features] for features in self.gathered]
        self.handed_back = self._gradient

    def forward(self, plan: Plan, i: int) -> None:
        layer, sums, v = self.weights.layers[i], self._sums_of_paths[i], self._on_sphere
        before = self.gathered[i - 1] if i > 0 else [self._convolution]  # in the first layer nothing is read of it
        layer.convolution.forward(plan, self.edges, layer.radial, before, sums, self._convolution, FIRST, LAST)
        for linear, of_slice in zip(layer.sums, sums, strict=True):
            linear.forward.add_to(plan, of_slice, [v], 0, NUMBER)
        for linear, features in zip(layer.features, before, strict=False):
            linear.forward.add_to(plan, [Rows(features)], [v], 0, NUMBER)
        if layer.features_constant is not None:
            self._add_rows(plan, layer.features_constant, v)
        x, y = (Rows(signal) for signal in self._signals[i])
        hidden, gates = Rows(self._hidden[i]), Rows(self._gates[i])
        for linear, signal in zip(layer.signals, (x, y), strict=True):
            linear.forward.add_to(plan, [v], [signal], 0, NUMBER)
        layer.scalars.forward.add_to(plan, [v], [hidden], 0, NUMBER)
        gate.forward(plan, [hidden], [self._scalars], NUMBER)
        layer.gates.forward.add_to(plan, [self._scalars], [gates], 0, NUMBER)
        gated_product.forward(plan, x, y, gates, self._product, NUMBER)
        self._make(plan, i)

    def _make(self, plan: Plan, i: int) -> None:
        """Features for the next layer, or energies."""
        layer, made = self.weights.layers[i], self._made(i)
        for linear, target in zip(layer.from_product, made, strict=True):
            linear.forward.add_to(plan, [self._product], [target], 0, NUMBER)
        for linear, target in zip(layer.from_scalars, made, strict=True):
            linear.forward.add_to(plan, [self._scalars], [target], 0, NUMBER)
        for constant, target in zip(layer.residual_constants, made, strict=False):
            self._add_rows(plan, constant, target)
        if i < len(self.weights.layers) - 1:
            for features, target in zip(self.gathered[i - 1], made, strict=True) if i > 0 else []:
                plan.add(add_kernel(self.dtype), [target, Rows(features)], NUMBER * Rows(features).row)
            return
        for linear, features in zip(layer.residual, self.gathered[i - 1] if i > 0 else [], strict=True):
            linear.forward.add_to(plan, [Rows(features)], made, 0, NUMBER)
        energies, readout = Rows(self.energies), self.weights.readout
        plan.add(zero_scalars_kernel(self.dtype), [energies], NUMBER)
        plan.add(hidden_readout_kernel(len(readout), self.dtype), [*made, readout, energies], NUMBER)

    def _made(self, i: int) -> Sequence[Array]:
        return [Rows(x) for x in self.gathered[i]] if i < len(self.weights.layers) - 1 else [self._readout]

    def backward(self, plan: Plan, i: int, up_gradient: list[Tensor]) -> None:
        layer, sums, v = self.weights.layers[i], self._sums_of_paths[i], self._on_sphere
        made = self._made_gradient(plan, i)
        x, y = (Rows(signal) for signal in self._signals[i])
        hidden, gates = Rows(self._hidden[i]), Rows(self._gates[i])
        plan.add(zero_kernel(self.dtype), [self._product], NUMBER * Rows(self._product).row)
        for linear, target in zip(layer.from_product, made, strict=True):
            linear.backward.add_to(plan, [target], [self._product], 0, NUMBER)
        gated_product.backward(plan, x, y, gates, self._product, NUMBER)
        layer.gates.backward.add_to(plan, [gates], [self._scalars], 0, NUMBER)
        for linear, target in zip(layer.from_scalars, made, strict=True):
            linear.backward.add_to(plan, [target], [self._scalars], 0, NUMBER)
        gate.backward(plan, [hidden], [self._scalars], NUMBER)
        for linear, signal in zip(layer.signals, (x, y), strict=True):
            linear.backward.add_to(plan, [signal], [v], 0, NUMBER)
        layer.scalars.backward.add_to(plan, [hidden], [v], 0, NUMBER)
        for linear, of_slice in zip(layer.sums, sums, strict=True):
            linear.backward.add_to(plan, [v], of_slice, 0, NUMBER)
        if i > 0:
            self._pass_on(plan, i, made)
        before, totals = (self.gathered[i - 1], up_gradient) if i > 0 else [[self._convolution]] * 2
        memory = self._convolution
        layer.convolution.backward(plan, self.edges, layer.radial, before, sums, totals, memory, FIRST, LAST)

    def _made_gradient(self, plan: Plan, i: int) -> Sequence[Array]:
        """With respect to what layer i makes: of neighbours, and of the atoms themselves."""
        if i == len(self.weights.layers) - 1:
            return [self._readout]
        totals = [Rows(x) for x in self._gradient[i]]
        for total, gathered in zip(totals, self.up_gradient(i), strict=True):
            plan.add(add_kernel(self.dtype), [total, gathered], NUMBER * total.row)
        return totals

    def _pass_on(self, plan: Plan, i: int, made: Sequence[Array]) -> None:
        """Of the features that layer i was given: by way of v, and by the residual."""
        layer, last = self.weights.layers[i], i == len(self.weights.layers) - 1
        for k, before in enumerate(map(Rows, self._gradient[i - 1])):
            plan.add(zero_kernel(self.dtype), [before], NUMBER * before.row)
            if last:
                layer.residual[k].backward.add_to(plan, [made[0]], [before], 0, NUMBER)
            else:
                plan.add(add_kernel(self.dtype), [before, made[k]], NUMBER * before.row)
            layer.features[k].backward.add_to(plan, [self._on_sphere], [before], 0, NUMBER)

    def _add_rows(self, plan: Plan, rows: Tensor, x: Array) -> None:
        kernel = add_element_rows_kernel(x.shape[1], x.shape[2], self.dtype)
        plan.add(kernel, [Rows(self.slots.species), rows, x], NUMBER)
