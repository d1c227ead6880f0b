"""Files of proteins: PDB, mmCIF and archives of them, as chains."""

from atomsml.generative.proteins.io.files import read_chains as read_chains
from atomsml.generative.proteins.io.files import read_files as read_files
from atomsml.generative.proteins.io.files import write_chains as write_chains
from atomsml.generative.proteins.io.stored import store_chains as store_chains
