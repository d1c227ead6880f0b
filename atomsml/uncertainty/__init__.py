"""How far a prediction may be off: committees, and the last layer of a single model."""

from atomsml.uncertainty.committee import Committee as Committee
from atomsml.uncertainty.committee import committee_files as committee_files
