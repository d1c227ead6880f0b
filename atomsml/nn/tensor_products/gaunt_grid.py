"""The Gaunt tensor product through a grid on the sphere."""

from torch import Tensor

from atomsml.nn.tensor_products.tensor_product import TensorProduct, all_paths, gaunt_weights
from atomsml.o3.s2_grid import all_components, grid_matrices, product_grid


class GridGauntProduct(TensorProduct):
    """The product of two signals on the sphere, point by point on a grid on which its projection is exact.

    That the grid does what Luo et al. (2024, arXiv:2401.10216) do by Fourier transforms is due to Xie et al. (2025,
    arXiv:2506.13523). The degrees fix the weights; what can be learned are scales of x_l1, y_l2 and z_l3.
    """

    def __init__(self, lmax: int) -> None:
        paths = all_paths(lmax, odd=False)
        super().__init__(lmax, paths, gaunt_weights(paths))

    def _multiply(self, x: Tensor, y: Tensor) -> Tensor:
        to_grid, from_grid = grid_matrices(product_grid(all_components(self.lmax), 2), x.dtype, x.device)
        return from_grid @ ((to_grid @ x) * (to_grid @ y))
