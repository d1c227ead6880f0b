"""Scaled SiLU."""

from atomsml.ops.activation.operation import SILU_GAIN as SILU_GAIN
from atomsml.ops.activation.operation import silu as silu
