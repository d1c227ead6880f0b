"""Products of signals on the sphere."""

from atomsml.ops.grid_product.operation import for_each as for_each
from atomsml.ops.grid_product.operation import grid_product as grid_product
