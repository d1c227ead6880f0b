"""Writes tests/data/facet/golden.npz: what each module of the authors' Facet answers, and its weights.

    git clone https://github.com/nicholas-miklaucic/facet CHECKOUT
    python -m venv FOLDER
    FOLDER/bin/pip install "jax<0.6" flax==0.10.6 e3nn-jax==0.20.8 jaxtyping==0.3.11 eins pyrallis humanize pymatgen
    FOLDER/bin/python tests/potentials/facet/make_facet_golden.py CHECKOUT tests/data/facet/golden.npz

The modules run in float64, with random weights and the settings of their configs/facet-s.toml but for the widths, on a
cluster of atoms. They take a fixed number of edges of each atom, here all other atoms, of which some are beyond the
cutoff. Their own `edge_vecs` and the mean over atoms are left out: edge vectors are given to the network, and energies
of atoms are what it answers.
"""

import sys
from types import SimpleNamespace

import jax
import numpy as np

CUTOFF, LMAX, CHANNELS, EMBEDDING, READOUT, NEIGHBORS = 3.0, 2, (8, 4, 2), 6, 5, 7.5
ELEMENTS, ATOMS = 3, 7
NUM_BESSEL, GRID, HEADS, INNER = 8, (18, 17), 2, 16
KEPT = ("radial_embedding", "interaction", "self_connection", "resid_ln", "layer_0", "layer_1", "layer_2")  # of modules
HIDDEN = " + ".join(f"{channels}x{l}e" for l, channels in enumerate(CHANNELS))


def network(facet: SimpleNamespace) -> object:
    """Two hidden layers and the last, without the head."""
    import flax.linen as nn

    def perceptron(inner: list[int], **options: object) -> object:
        return facet.layers.LazyInMLP(inner, use_bias=False, normalization="Identity", **options)

    conv = facet.message.SevenNetConv(None, None, LMAX, radial_weight=perceptron([]), radial_power=0.7)
    grid = facet.activations.S2Activation(nn.silu, GRID[0], GRID[1], "integral", "soft", fft=False)
    points = perceptron([INNER], final_act=nn.silu)
    return facet.mace.MACE(
        irreps_out=f"{READOUT}x0e",
        hidden_irreps=[HIDDEN, HIDDEN],
        node_embedding=facet.node.LinearNodeEmbedding(f"{EMBEDDING}x0e", num_species=ELEMENTS),
        radial_embedding=facet.edge.RadialEmbeddingBlock(
            CUTOFF, True, facet.edge.SincBasis(NUM_BESSEL), facet.edge.ExpCutoff(0.1, 0.8), facet.layers.Identity()
        ),
        interaction_templ=facet.message.ResidualInteraction(
            None, facet.message.SimpleInteraction(None, conv, linear_intro=False, linear_outro=True)
        ),
        self_connection_templ=facet.self_connection.S2SelfConnection(None, grid, points, HEADS),
        readout_templ=facet.e3.ResidualAdapter(None),
        only_last_readout=True,
        share_species_embed=True,
        residual=True,
        resid_init=nn.initializers.zeros,
        dataset_metadata=SimpleNamespace(avg_num_neighbors=lambda cutoff: 0 * cutoff + NEIGHBORS),
        norm=None,
    )


def authors_modules() -> SimpleNamespace:
    import facet.e3.activations
    import facet.layers
    import facet.mace.e3_layers
    import facet.mace.edge_embedding
    import facet.mace.mace
    import facet.mace.message_passing
    import facet.mace.node_embedding
    import facet.mace.self_connection

    rooms = facet.mace
    return SimpleNamespace(
        activations=facet.e3.activations,
        layers=facet.layers,
        e3=rooms.e3_layers,
        edge=rooms.edge_embedding,
        mace=rooms.mace,
        message=rooms.message_passing,
        node=rooms.node_embedding,
        self_connection=rooms.self_connection,
    )


def main(checkout: str, path: str) -> None:
    sys.path.insert(0, checkout)
    jax.config.update("jax_enable_x64", True)
    facet = authors_modules()
    random = np.random.default_rng(0)
    positions, species = random.uniform(-1.8, 1.8, (ATOMS, 3)), np.arange(ATOMS) % ELEMENTS
    others = np.array([[j for j in range(ATOMS) if j != i] for i in range(ATOMS)])
    vectors = positions[others] - positions[:, None]
    model, head = network(facet), facet.layers.LazyInMLP([], 1, use_bias=False, normalization="Identity")
    context = facet.layers.Context(training=False)
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), vectors, species, others, ctx=context))
    weights = jax.tree_util.tree_map(lambda x: random.normal(size=x.shape), shapes["params"])
    edges = weights["radial_embedding"]
    edges["rmax"], edges["basis"]["freq"] = np.array([CUTOFF]), np.arange(1, 9) + random.uniform(-0.3, 0.3, 8)
    found, kept = model.apply(
        {"params": weights},
        vectors,
        species,
        others,
        ctx=context,
        capture_intermediates=True,
        mutable=["intermediates"],
    )
    last = {"Dense_0": {"kernel": random.normal(size=(READOUT, 1))}}
    energies = head.apply({"params": last}, found.array[:, -1], ctx=context)
    arrays = {"positions": positions, "species": species, "atom_energies": np.asarray(energies)[:, 0]}
    arrays |= flat("weight", {**weights, "head": last})
    outputs = flat("output", kept["intermediates"])
    arrays |= {name: array for name, array in outputs.items() if name.split("/")[-2] in KEPT}
    np.savez_compressed(path, **arrays)


def flat(name: str, tree: object) -> dict[str, np.ndarray]:
    """The arrays of nested dicts, by their path."""
    if isinstance(tree, tuple):  # what a module answered at each of its calls
        answers = [each[0] if isinstance(each, tuple) else each for each in tree]  # of a layer its features
        return {name: np.asarray(getattr(answers[-1], "array", answers[-1]))}
    if isinstance(tree, dict):
        parts = [flat(f"{name}/{key}", value) for key, value in tree.items()]
        return {key: value for part in parts for key, value in part.items()}
    return {name: np.asarray(tree)}


if __name__ == "__main__":
    main(*sys.argv[1:])
