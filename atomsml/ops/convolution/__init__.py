"""The equivariant convolution: gather, tensor product, scatter."""

from atomsml.ops.convolution.operation import convolve as convolve
from atomsml.ops.convolution.operation import convolve_reference as convolve_reference
from atomsml.ops.convolution.table import ConvolutionTable as ConvolutionTable
from atomsml.ops.convolution.table import Edges as Edges
from atomsml.ops.convolution.table import Path as Path
from atomsml.ops.convolution.table import convolution_table as convolution_table
from atomsml.ops.convolution.table import edge_pairs as edge_pairs
