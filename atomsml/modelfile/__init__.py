"""Model files: one .safetensors each; nothing in one is executed, and none is trusted."""

from atomsml.modelfile.catalogue import MODELS_FOLDER as MODELS_FOLDER
from atomsml.modelfile.catalogue import embedded_models as embedded_models
from atomsml.modelfile.catalogue import find_model as find_model
from atomsml.modelfile.catalogue import model_hash as model_hash
from atomsml.modelfile.catalogue import named_model as named_model
from atomsml.modelfile.checks import build_within_budget as build_within_budget
from atomsml.modelfile.checks import check_claims as check_claims
from atomsml.modelfile.checks import check_tensors as check_tensors
from atomsml.modelfile.description import FORMAT as FORMAT
from atomsml.modelfile.description import architecture_of as architecture_of
from atomsml.modelfile.description import checked_config as checked_config
from atomsml.modelfile.description import generated_kind as generated_kind
from atomsml.modelfile.description import known_architecture as known_architecture
from atomsml.modelfile.description import read_metadata as read_metadata
from atomsml.modelfile.load import load as load
from atomsml.modelfile.load import load_tensors as load_tensors
from atomsml.modelfile.save import save as save
from atomsml.modelfile.save import write_model as write_model
