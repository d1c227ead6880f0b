"""SevenNet in sevenn: evaluates one crystal whenever it is asked to, and says how long that took.

    .venv-sevenn/bin/python -m benchmarks.shared.peer_sevennet CHECKPOINT REPEAT

Only an interpreter that has sevenn can import this. The structure is silicon, REPEAT cubic cells along each axis; the
words are those of peers.answer_words: "energy", "seconds".
"""

from __future__ import annotations

import sys
from typing import Any

import torch
from sevenn import _keys as keys
from sevenn.atom_graph_data import AtomGraphData
from sevenn.checkpoint import SevenNetCheckpoint
from sevenn.train.dataload import unlabeled_atoms_to_graph

from benchmarks.shared.peers import answer_words, sustained
from benchmarks.shared.workloads import Structure


def main() -> None:
    checkpoint, repeat = sys.argv[1:]
    model = SevenNetCheckpoint(checkpoint).build_model().eval().requires_grad_(False)
    model.set_is_batch_data(False)
    (atoms,) = Structure("silicon", int(repeat)).systems()
    graph = AtomGraphData.from_numpy_dict(unlabeled_atoms_to_graph(atoms, model.cutoff)).to_dict()

    def evaluate() -> dict[str, Any]:
        """Energy, forces and stress; the model writes into what it is given."""
        inputs = {name: x.detach().clone() if isinstance(x, torch.Tensor) else x for name, x in graph.items()}
        found: dict[str, Any] = model(inputs)
        return found

    answer_words({"energy": lambda: float(evaluate()[keys.PRED_TOTAL_ENERGY]), "seconds": lambda: sustained(evaluate)})


if __name__ == "__main__":
    main()
