"""The symmetric contraction of MACE."""

from atomsml.ops.contraction.operation import contract as contract
from atomsml.ops.contraction.operation import contract_reference as contract_reference
from atomsml.ops.contraction.table import ContractionTable as ContractionTable
from atomsml.ops.contraction.table import coefficients_from_weights as coefficients_from_weights
