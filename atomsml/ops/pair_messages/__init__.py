"""Messages between all pairs of atoms of molecules."""

from atomsml.ops.pair_messages.operation import PairWeights as PairWeights
from atomsml.ops.pair_messages.operation import pair_messages as pair_messages
from atomsml.ops.pair_messages.operation import reference as reference
from atomsml.ops.pair_messages.table import DISTANCES as DISTANCES
from atomsml.ops.pair_messages.table import distance_features as distance_features
