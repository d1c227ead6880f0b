"""Labelled structures: reading them from any file, keeping, checking, splitting and batching them."""

from atomsml.dataset.batching import plan_batches as plan_batches
from atomsml.dataset.columns import Columns as Columns
from atomsml.dataset.dataset import Dataset as Dataset
from atomsml.dataset.formats.storage import write_dataset as write_dataset
from atomsml.dataset.labels import Found as Found
from atomsml.dataset.labels import LabelKeys as LabelKeys
from atomsml.dataset.read import read_dataset as read_dataset
from atomsml.dataset.references import isolated_atom_references as isolated_atom_references
from atomsml.dataset.references import isolated_atoms as isolated_atoms
from atomsml.dataset.references import least_squares_references as least_squares_references
from atomsml.dataset.split import content_hashes as content_hashes
from atomsml.dataset.split import group_hashes as group_hashes
from atomsml.dataset.split import split as split
