"""A neighbour list with a skin: made anew only when atoms may have come closer than the cutoff unseen."""

from __future__ import annotations

import torch
from torch import Tensor

from atomsml.graph import AtomicGraph


class VerletList:
    """Neighbour lists for graphs of the same atoms that move a little from call to call.

    After L. Verlet, Phys. Rev. 159, 98 (1967), and for cells that change. A list holds all pairs closer than
    cutoff + skin. Let the cell be deformed since by F (rows of the cell times F), and every atom be no farther than u
    from where F alone would have moved it. A vector d between two atoms has become d F + w with |w| <= 2 u, hence is at
    least s |d| - 2 u long, where s is the smallest singular value of F. A pair that the list lacks is thus beyond the
    cutoff as long as

        s (cutoff + skin) - 2 u >= cutoff

    which holds for all images of a pair alike. An atom that was wrapped into the cell has moved far: the list is made
    anew, as it must be, since its offsets are no longer true.

    Args:
        cutoff: A.
        skin: A; 0 means a new list for every change.
    """

    def __init__(self, cutoff: float, skin: float) -> None:
        if not (cutoff > 0 and skin >= 0):
            raise ValueError(f"a Verlet list needs a positive cutoff and a skin >= 0, got {cutoff} A and {skin} A")
        self.cutoff, self.skin = cutoff, skin
        self.rebuilds = 0
        self._made: AtomicGraph | None = None

    def update(self, graph: AtomicGraph) -> AtomicGraph:
        """The graph with a list that holds all pairs closer than the cutoff, and perhaps some up to cutoff + skin.

        Raises:
            ValueError: as `neighbor_list`, for positions and cells that are not finite among others.
        """
        made = self._made
        if made is None or not _same_atoms(made, graph) or not self._holds(made, graph):
            made = self._made = graph.with_neighbors(self.cutoff + self.skin)
            self.rebuilds += 1
        return graph.replace(edge_index=made.edge_index, cell_offsets=made.cell_offsets)

    def _holds(self, made: AtomicGraph, graph: AtomicGraph) -> bool:
        before, reach = made.positions.detach(), self.cutoff + self.skin
        if graph.cell is not made.cell and not torch.equal(graph.cell, made.cell):
            deformation = _deformation(made, graph)
            if deformation is None:
                return False
            before = torch.einsum("ni,nij->nj", before.double(), deformation[graph.batch])
            reach = float(torch.linalg.svdvals(deformation).min()) * reach
        moved = graph.positions.detach() - before
        if len(moved) == 0:
            return True
        # false where a position is not a number
        return float(moved.square().sum(dim=1).max()) ** 0.5 * 2 <= reach - self.cutoff


def _same_atoms(made: AtomicGraph, graph: AtomicGraph) -> bool:
    """Whether two graphs may share a list but for what has moved."""
    pairs = ((made.batch, graph.batch), (made.pbc, graph.pbc))
    return all(a is b or (a.device == b.device and torch.equal(a, b)) for a, b in pairs) and (
        made.cell.shape == graph.cell.shape and made.positions.shape == graph.positions.shape
    )


def _deformation(made: AtomicGraph, graph: AtomicGraph) -> Tensor | None:
    """(systems, 3, 3) F with old cell @ F = new cell, float64; None where a cell has no volume or is not finite."""
    old, new = made.cell.detach().double(), graph.cell.detach().double()
    volumes = torch.linalg.det(old).abs()
    if not (volumes > 1e-8).all() or not new.isfinite().all():
        return None
    return torch.linalg.solve(old, new)
