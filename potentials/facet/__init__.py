"""Facet (Miklaucic et al., 2025)."""

from atomsml.potentials.facet.config import FacetConfig as FacetConfig
from atomsml.potentials.facet.model import Facet as Facet
