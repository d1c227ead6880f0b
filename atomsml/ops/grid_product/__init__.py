"""Products of signals on the sphere."""

from atomsml.ops.grid_product.operation import grid_product as grid_product
