"""Facet (Miklaucic et al., 2025)."""

from atomsml.potentials.facet.model import Facet as Facet
from atomsml.potentials.facet.model import FacetConfig as FacetConfig
