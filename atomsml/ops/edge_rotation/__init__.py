"""Features turned into the frames of edges, and back."""

from atomsml.ops.edge_rotation.operation import turn_in as turn_in
from atomsml.ops.edge_rotation.operation import turn_in_reference as turn_in_reference
from atomsml.ops.edge_rotation.operation import turn_out as turn_out
from atomsml.ops.edge_rotation.operation import turn_out_reference as turn_out_reference
from atomsml.ops.edge_rotation.table import Places as Places
