"""SevenNet in sevenn: evaluates one crystal whenever it is asked to, and says how long that took.

    .venv-sevenn/bin/python -m benchmarks.shared.peer_sevennet CHECKPOINT REPEAT DTYPE

Only an interpreter that has sevenn can import this. The structure is silicon, REPEAT cubic cells along each axis; the
words are those of peers.answer_words: "energy", "seconds" (of the processor).
"""

from __future__ import annotations

import sys
import time
from typing import Any

import torch
from sevenn import _keys as keys
from sevenn.atom_graph_data import AtomGraphData
from sevenn.checkpoint import SevenNetCheckpoint
from sevenn.train.dataload import unlabeled_atoms_to_graph

from benchmarks.shared.peers import answer_words, sustained
from benchmarks.shared.workloads import Structure
from tests.potentials.nequip.make_sevennet_golden import restore


def main() -> None:
    checkpoint, repeat, dtype = sys.argv[1:]
    torch.set_default_dtype(getattr(torch, dtype))
    model = restore(SevenNetCheckpoint(checkpoint), modality="").requires_grad_(False)
    (atoms,) = Structure("silicon", int(repeat)).systems()
    graph = AtomGraphData.from_numpy_dict(unlabeled_atoms_to_graph(atoms, model.cutoff)).to_dict()

    for name, x in graph.items():
        if isinstance(x, torch.Tensor) and x.is_floating_point():
            graph[name] = x.to(torch.get_default_dtype())

    def evaluate() -> dict[str, Any]:
        """Energy, forces and stress; the model writes into what it is given."""
        inputs = {name: x.detach().clone() if isinstance(x, torch.Tensor) else x for name, x in graph.items()}
        found: dict[str, Any] = model(inputs)
        return found

    answer_words(
        {
            "energy": lambda: float(evaluate()[keys.PRED_TOTAL_ENERGY]),
            "seconds": lambda: sustained(evaluate, time.process_time),
        }
    )


if __name__ == "__main__":
    main()
