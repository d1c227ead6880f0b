"""Products of matrices of which one side is long."""

from atomsml.ops.matmul.operation import gram as gram
from atomsml.ops.matmul.operation import matmul as matmul
