"""The computation of a NequIP on a CPU: what its layers do with a chunk of atoms (programs/chunked_plan.py), both ways.

    forward   convolution of `up`, linear map, added to what the self-connection of the layer before has left; gate;
              then of the features that come out `up` and self-connection of the next layer, while they are in a cache
    backward  the same in reverse

| symbol | name | shape |
|---|---|---|
| W_in h | up | for each slice of channels: (atoms, components, channels) |
| W_out A + W_self h | before_gate | for each l: (atoms, 2l + 1, channels), gates behind scalars; then the gradient |
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from atomsml.potentials.corrections.zbl_kernel import add_zbl
from atomsml.potentials.nequip.cpu_weights import NequIPWeights
from atomsml.potentials.nequip.model import NequIPConfig
from atomsml.programs import gate
from atomsml.programs.chunked_plan import ChunkedPlan, NetworkShape, carve, numbers_in
from atomsml.programs.irrep_linear import IrrepProduct
from atomsml.programs.plan import FIRST, LAST, NUMBER, Array, Plan, Rows
from atomsml.programs.rows import (
    add_element_rows_kernel,
    hidden_readout_kernel,
    scale_by_element_kernel,
    zero_scalars_kernel,
)
from atomsml.programs.slots import CHUNK, Sizes


class NequIPPlan(ChunkedPlan):
    """The kernel calls of a NequIP, and the arrays of all atoms.

    Args:
        zeros: (elements,) float64: what the plan says of an atom whose energy is zero.
    """

    def __init__(
        self, config: NequIPConfig, weights: NequIPWeights, zeros: Tensor, sizes: Sizes, dtype: torch.dtype
    ) -> None:
        self.weights, layers = weights, weights.layers
        sums = [[[(CHUNK, *x) for x in piece] for piece in layer.convolution.sum_shapes()] for layer in layers]
        features = [[[(CHUNK, *x) for x in layer.feature_shapes()]] for layer in layers]
        parts = [
            max(layer.convolution.scratch_size(sizes.neighbors) for layer in layers),
            max(map(numbers_in, sums)),
            max(map(numbers_in, features)),
        ]
        scratch = torch.empty(sum(parts), dtype=dtype)
        self._convolution, for_sums, for_features = scratch.split(parts)
        self._sums_of_paths = [carve(for_sums, shapes) for shapes in sums]  # of each layer, slice and degree
        self._features = [carve(for_features, shapes)[0] for shapes in features]  # of each layer and degree
        shape = NetworkShape(config.elements, len(layers), config.lmax, weights.grid, zeros, dtype)
        super().__init__(shape, sizes, scratch)

        def new(*shape: int) -> Tensor:
            return torch.empty(sizes.atoms, *shape, dtype=dtype)

        self._before_gate = [[new(*x) for x in layer.gate_shapes()] for layer in layers]
        self.gathered = [[new(*x) for x in layer.convolution.feature_shapes()] for layer in layers[1:]]
        self.handed_back = self._before_gate[1:]

    def forward(self, plan: Plan, i: int) -> None:
        layer, before_gate, sums = self.weights.layers[i], self._of_chunk(self._before_gate[i]), self._sums_of_paths[i]
        gathered = self.gathered[i - 1] if i > 0 else [self._convolution]  # in the first layer nothing is read of it
        layer.convolution.forward(plan, self.edges, layer.radial, gathered, sums, self._convolution, FIRST, LAST)
        for linear, of_slice in zip(layer.out, sums, strict=True):
            linear.forward.add_to(plan, of_slice, before_gate, 0, NUMBER)
        for constant in layer.constants:
            self._add_rows(plan, constant, before_gate[0])
        if i < len(self.weights.layers) - 1:
            gate.forward(plan, before_gate, self._features[i], NUMBER)
            self._prepare_next(plan, i)
            return
        energies, readout = Rows(self.energies), self.weights.readout
        plan.add(zero_scalars_kernel(self.dtype), [energies], NUMBER)
        plan.add(hidden_readout_kernel(len(readout), self.dtype), [before_gate[0], readout, energies], NUMBER)
        if self.weights.element_scales is not None:
            scaled: list[Array] = [Rows(self.slots.species), self.weights.element_scales, before_gate[0], energies]
            plan.add(scale_by_element_kernel(len(readout), self.dtype), scaled, NUMBER)

    def _prepare_next(self, plan: Plan, i: int) -> None:
        """What the next layer gathers, and its self-connection, while the features are in a cache."""
        features, following, gathered = self._features[i], self.weights.layers[i + 1], self._of_chunk(self.gathered[i])
        for linear, up in zip(following.up, gathered, strict=True):
            linear.forward.add_to(plan, features, [up], 0, NUMBER)
        for constant, up in zip(following.up_constants, gathered, strict=False):
            self._add_rows(plan, constant, up)
        assert following.kept is not None
        self._keep(plan, following.kept.forward, features, self._of_chunk(self._before_gate[i + 1]))

    def backward(self, plan: Plan, i: int, up_gradient: list[Tensor]) -> None:
        layer, sums = self.weights.layers[i], self._sums_of_paths[i]
        gradient = self._of_chunk(self._before_gate[i])  # in the last layer the readout has made it
        if i < len(self.weights.layers) - 1:
            self._gather_gradient(plan, i)
            gate.backward(plan, gradient, self._features[i], NUMBER)
        for linear, of_slice in zip(layer.out, sums, strict=True):
            linear.backward.add_to(plan, gradient, of_slice, 0, NUMBER)
        gathered, totals = (self.gathered[i - 1], up_gradient) if i > 0 else [[self._convolution]] * 2
        memory = self._convolution
        layer.convolution.backward(plan, self.edges, layer.radial, gathered, sums, totals, memory, FIRST, LAST)

    def correct(self, plan: Plan, gradients: bool) -> None:
        """The repulsion at short range."""
        if self.weights.zbl is not None:
            totals = (self.position_gradient, self.virial) if gradients else None
            add_zbl(plan, self.edges, self.weights.zbl, self.slots.species, self.corrections, FIRST, LAST, totals)

    def _gather_gradient(self, plan: Plan, i: int) -> None:
        """To the features of a chunk, from what the next layer made of them."""
        features, following = self._features[i], self.weights.layers[i + 1]
        for linear, up in zip(following.up, self.up_gradient(i), strict=True):
            linear.backward.add_to(plan, [up], features, 0, NUMBER)
        assert following.kept is not None
        self._keep(plan, following.kept.backward, self._of_chunk(self._before_gate[i + 1]), features)

    def _of_chunk(self, arrays: Sequence[Tensor]) -> list[Rows]:
        return [Rows(x) for x in arrays]

    def _add_rows(self, plan: Plan, rows: Tensor, x: Array) -> None:
        kernel = add_element_rows_kernel(x.shape[1], x.shape[2], self.dtype)
        plan.add(kernel, [Rows(self.slots.species), rows, x], NUMBER)

    def _keep(self, plan: Plan, product: IrrepProduct, x: Sequence[Array], out: Sequence[Array]) -> None:
        """A self-connection, or its transpose: of the degrees that it has."""
        product.add_to(plan, x, out, 0, NUMBER, self.slots.runs if self.weights.by_element else None)
