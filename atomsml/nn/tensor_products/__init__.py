"""Equivariant products of two features, by four algorithms behind one interface.

| class | couples | multiplications per channel |
|---|---|---|
| `ClebschGordanProduct` | every path, with weights | O(lmax^6) |
| `GridGauntProduct` | even l1 + l2 + l3, with weights that the degrees fix | O(lmax^4) |
| `FourierGauntProduct` | the same | O(lmax^3) |
| `SO2Product` | every path, with weights; the second feature is the harmonics of one direction | O(lmax^3) |

`gaunt_convolution` is the Gaunt product with harmonics of a direction that have a factor for each degree, in O(lmax^3).
"""

from atomsml.nn.tensor_products.clebsch_gordan_product import ClebschGordanProduct as ClebschGordanProduct
from atomsml.nn.tensor_products.gaunt_fourier import FourierGauntProduct as FourierGauntProduct
from atomsml.nn.tensor_products.gaunt_grid import GridGauntProduct as GridGauntProduct
from atomsml.nn.tensor_products.so2_product import SO2Product as SO2Product
from atomsml.nn.tensor_products.tensor_product import TensorProduct as TensorProduct
from atomsml.nn.tensor_products.tensor_product import all_paths as all_paths
from atomsml.nn.tensor_products.tensor_product import gaunt_weights as gaunt_weights
