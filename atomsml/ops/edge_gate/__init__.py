"""Point-wise operations in the frames of edges."""

from atomsml.ops.edge_gate.operation import gate as gate
from atomsml.ops.edge_gate.operation import gate_reference as gate_reference
from atomsml.ops.edge_gate.operation import scale as scale
from atomsml.ops.edge_gate.operation import scale_reference as scale_reference
