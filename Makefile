# Every target makes its own environment first; nothing outside this folder is touched.
#
#   make demo     relax a molecule and a crystal, run MD of one and of the other under pressure, draw molecules; in demo-output/
#   make test     the default test suite, on two cores
#   make fuzz     damaged files of every kind for the commands, for an hour; SECONDS=60 for another time; what fails: build/fuzz
#   make lint     ruff and mypy
#   make docs     the documentation with a reference of every public name, as pages in build/site
#   make peers    .venv-peers with mace-torch, for benchmarks and the tests that compare with it live
#   make sevenn   .venv-sevenn with sevenn, for the tests that compare SevenNet files with it live
#   make chgnet   .venv-chgnet with CHGNet, beside which universal potentials are measured
#   make nequip   .venv-nequip with nequip, for a benchmark
#   make fairchem .venv-fairchem with fairchem-core 1.10, whose eSCN and EquiformerV2 ours are compared with; Python below 3.13
#   make cluster  torch-cluster built from its sources, some ten minutes and a C++ compiler; and the tests that use it
#   make clean    remove the environments and everything generated
#
# Another interpreter: `make clean`, then `make test PYTHON=python3.13`.

PYTHON ?= python3
BIN := .venv/bin
# most of what torch and pymatgen bring is never imported; what is, Python compiles at the first import
INSTALL := $(BIN)/pip install --no-compile -c constraints.txt

.NOTPARALLEL:
.PHONY: demo test fuzz lint docs peers sevenn chgnet nequip fairchem cluster clean

demo: .venv/.package
	@mkdir -p demo-output
	$(BIN)/atomsml relax "CC(=O)Nc1ccc(O)cc1" --model organic-xtb --output demo-output/molecule.extxyz
	$(BIN)/atomsml relax examples/data/MoNbTaW.cif --cell --model refractory-pbe --output demo-output/crystal.cif
	$(BIN)/atomsml md demo-output/molecule.extxyz --ensemble nvt --temperature 300 --timestep 0.5 --steps 2000 \
	  --model organic-xtb --output demo-output/md.extxyz
	rm -f demo-output/salt.h5
	$(BIN)/atomsml md examples/data/NaCl.cif --ensemble npt --pressure 1 --timestep 2 --steps 500 --output demo-output/salt.h5
	$(BIN)/atomsml generate molecules -n 20 --seed 7 --relax organic-xtb --output demo-output/molecules.sdf \
	  --picture demo-output/molecules.png
	@echo "demo-output/ holds relaxed structures, trajectories md.extxyz and salt.h5 with plots beside them, and new molecules"

# one thread per worker: two workers with threads of their own would only fight for the cores; and Python keeps what it
# compiles, whatever the environment says: tests that start processes would pay for it each time, twice what they cost
test: .venv/.test
	OMP_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -n 2 -m "not slow"

SECONDS ?= 3600
fuzz: .venv/.test
	$(BIN)/python -m tests.fuzz --seconds $(SECONDS)

lint: .venv/.lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: .venv/.docs
	$(BIN)/mkdocs build --strict
	@echo "open build/site/index.html; its search needs a server: $(BIN)/python -m http.server -d build/site"

peers: .venv-peers/.installed

sevenn: .venv-sevenn/.installed

chgnet: .venv-chgnet/.installed

nequip: .venv-nequip/.installed

fairchem: .venv-fairchem/.installed

cluster: .venv/.cluster
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/core/neighbors/test_lists.py

clean:
	rm -rf .venv .venv-peers .venv-sevenn .venv-chgnet .venv-nequip .venv-fairchem demo-output build dist \
	  atomsml.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis

# Stamps: an environment is installed again only when what it was made from has changed.

.venv/.torch: constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(None if v >= (3, 11) else \
	  f"error: atomsml needs Python 3.11 or newer, $(PYTHON) is {v[0]}.{v[1]}; choose another, as in: make demo PYTHON=python3.12")'
	$(PYTHON) -m venv .venv
	$(INSTALL) torch==2.13.0
	touch $@

.venv/.package: .venv/.torch pyproject.toml
	$(INSTALL) -e .
	touch $@

.venv/.test .venv/.lint .venv/.docs: .venv/.%: .venv/.torch pyproject.toml
	$(INSTALL) -e ".[$*]"
	touch $@

# its sdist finds the torch that is installed only where the build is not isolated from the environment
.venv/.cluster: .venv/.test
	$(INSTALL) setuptools ninja
	$(INSTALL) --no-build-isolation -e ".[cluster]"
	touch $@

# apart from each other and from ours: mace-torch pins an e3nn that is too old for the others
.venv-peers/.installed: PEERS := mace-torch==0.3.16
.venv-sevenn/.installed: PEERS := sevenn==0.13.0
.venv-chgnet/.installed: PEERS := chgnet==0.4.2
.venv-nequip/.installed: PEERS := nequip==0.19.0
.venv-peers/.installed .venv-sevenn/.installed .venv-chgnet/.installed .venv-nequip/.installed: %/.installed:
	$(PYTHON) -m venv $*
	$*/bin/pip install torch==2.13.0 $(PEERS)
	touch $@

# it pins an older torch and numpy, hence --no-deps; and torch_scatter, which has no wheel, is one function of torch-geometric
.venv-fairchem/.installed:
	$(PYTHON) -m venv .venv-fairchem
	.venv-fairchem/bin/pip install torch==2.13.0 e3nn==0.5.9 torch-geometric ase huggingface-hub lmdb numba orjson pydantic pymatgen
	.venv-fairchem/bin/pip install --no-deps fairchem-core==1.10.0
	cd .venv-fairchem/lib/python3*/site-packages && echo 'from torch_geometric.utils import scatter as scatter' > torch_scatter.py
	touch $@
