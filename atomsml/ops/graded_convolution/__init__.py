"""The convolution where channels fall with the degree."""

from atomsml.ops.graded_convolution.operation import GradedTable as GradedTable
from atomsml.ops.graded_convolution.operation import graded_convolve as graded_convolve
from atomsml.ops.graded_convolution.operation import graded_table as graded_table
from atomsml.ops.graded_convolution.parity import ParityTable as ParityTable
from atomsml.ops.graded_convolution.parity import parity_convolve as parity_convolve
from atomsml.ops.graded_convolution.parity import parity_table as parity_table
