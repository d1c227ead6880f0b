"""Scaled SiLU."""

from atomsml.ops.activation.operation import silu as silu
from atomsml.ops.activation.table import SILU_GAIN as SILU_GAIN
from atomsml.ops.activation.table import TANH_GAIN as TANH_GAIN
