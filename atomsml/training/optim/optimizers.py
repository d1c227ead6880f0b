"""Optimisers: torch's AdamW, and Muon for the matrices of a network with AdamW for the rest."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from inspect import unwrap
from typing import Any, Literal

import torch
from torch import Tensor, nn

from atomsml.ops.matmul import gram, matmul

# of the polynomial a x + b x^3 + c x^5 that five times in a row brings singular values from 0.01..1 to about 0.7..1.2
NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)


@dataclass(frozen=True)
class OptimizerConfig:
    """How the weights follow their gradients."""

    name: Literal["adamw", "muon"] = "muon"  # muon: orthogonalised momentum for matrices, adamw for the rest
    learning_rate: float = 0.015  # at its peak; 0.005 where a model is fine-tuned; adamw wants about 0.04
    weight_decay: float = 0.0  # of matrices; the others are not decayed
    betas: tuple[float, float] = (0.9, 0.999)  # decay of AdamW's averages of the gradient and of its square
    amsgrad: bool = False  # adamw: divide by the largest average of the square so far
    momentum: float = 0.95  # muon: decay of the average of the gradient

    def __post_init__(self) -> None:
        if self.learning_rate <= 0:
            raise ValueError(f"optimizer learning_rate must be positive; got {self.learning_rate}")
        if self.weight_decay < 0:
            raise ValueError(f"optimizer weight_decay must not be negative; got {self.weight_decay}")
        for name, value in (("betas", self.betas[0]), ("betas", self.betas[1]), ("momentum", self.momentum)):
            if not 0 <= value < 1:
                raise ValueError(f"optimizer {name} must lie in 0..1, 1 left out; got {value}")
        if self.amsgrad and self.name == "muon":
            raise ValueError("optimizer amsgrad belongs to adamw; leave it out with muon")


def build_optimizer(
    named_parameters: Iterable[tuple[str, nn.Parameter]], config: OptimizerConfig
) -> torch.optim.Optimizer:
    """The optimiser of the given parameters; its first group holds the matrices, its second group the others.

    Raises:
        ValueError: there is no parameter.
    """
    named = list(named_parameters)
    if not named:
        raise ValueError("there is nothing to train: no parameter was given to the optimiser")
    matrices = [p for name, p in named if is_matrix(name, p)]
    others = [p for name, p in named if not is_matrix(name, p)]
    groups = [{"params": matrices, "weight_decay": config.weight_decay}, {"params": others, "weight_decay": 0.0}]
    if config.name == "adamw":
        return torch.optim.AdamW(groups, lr=config.learning_rate, betas=config.betas, amsgrad=config.amsgrad)
    orthogonal = [{**group, "orthogonal": kind} for group, kind in zip(groups, (True, False), strict=True)]
    return Muon(orthogonal, config.learning_rate, config.betas, config.momentum)


def is_matrix(name: str, parameter: Tensor) -> bool:
    """Whether a parameter, its last axis against all others, is a matrix that mixes features.

    Biases, single rows and columns, what is called `embedding` and what belongs to a `product` are none: each of their
    numbers is seen by itself. (Orthogonal steps made the weights of MACE's products grow ten times as large as AdamW's,
    those of the highest orders most, and errors on new structures with them.)
    """
    rows_and_columns = parameter.ndim >= 2 and parameter.shape[-1] > 1 and parameter[..., 0].numel() > 1
    return rows_and_columns and not re.search(r"(^|[./])(embedding$|product[./])", name)


class Muon(torch.optim.Optimizer):
    """Muon (Jordan et al., "Muon: an optimizer for hidden layers in neural networks", 2024) with AdamW beside it.

    For a matrix W of m rows and n columns with gradient G, at learning rate r, weight decay d, momentum b:

        M <- b M + (1 - b) G
        W <- (1 - r d) W - r sqrt(max(m, n)) orthogonalize(b M + (1 - b) G)

    All singular values of the step are about equal: directions that Adam, number by number, would neglect are learned
    as well. The root mean square of its numbers is about r, whatever the shape (Liu et al., arXiv:2502.16982, lemma 1,
    who make it 0.2 r); our weights start with a mean square of 1. A weight (elements, m, n) is one matrix of
    elements * m rows: taken one by one, an element that the batch lacks would make as large a step as the others.

    Args:
        groups: with "orthogonal", which says whether Muon or AdamW takes care of a group, and "weight_decay".
        learning_rate, betas, momentum: of OptimizerConfig.
    """

    def __init__(
        self, groups: list[dict[str, Any]], learning_rate: float, betas: tuple[float, float], momentum: float
    ) -> None:
        super().__init__(groups, {"lr": learning_rate, "betas": betas, "momentum": momentum})

    # as torch has them, without the import of its compiler, which takes longer than everything else before a first step
    add_param_group = unwrap(torch.optim.Optimizer.add_param_group)
    zero_grad = unwrap(torch.optim.Optimizer.zero_grad)
    state_dict = unwrap(torch.optim.Optimizer.state_dict)
    load_state_dict = unwrap(torch.optim.Optimizer.load_state_dict)

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]  # no closure: one gradient is enough
        for group in self.param_groups:
            used = [p for p in group["params"] if p.grad is not None]
            for p in used:
                p.mul_(1 - group["lr"] * group["weight_decay"])
            if group["orthogonal"]:
                self._step_muon(used, group)
            else:
                self._step_adam(used, group)

    def _step_muon(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        by_shape: dict[torch.Size, list[Tensor]] = {}
        for p in parameters:
            by_shape.setdefault(p.flatten(0, -2).shape, []).append(p)
        for shape, same in by_shape.items():  # one batch of products instead of many small ones
            steps = orthogonalize(torch.stack([self._nesterov(p, group["momentum"]).flatten(0, -2) for p in same]))
            for p, step in zip(same, steps, strict=True):
                p.add_(step.view_as(p), alpha=-group["lr"] * math.sqrt(max(shape)))

    def _nesterov(self, p: Tensor, momentum: float) -> Tensor:
        assert p.grad is not None
        state = self.state[p]
        if not state:
            state["average"] = torch.zeros_like(p)
        state["average"].lerp_(p.grad, 1 - momentum)
        return p.grad.lerp(state["average"], momentum)

    def _step_adam(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        """AdamW (Loshchilov and Hutter, arXiv:1711.05101, algorithm 2); the decay has been done."""
        beta1, beta2 = group["betas"]
        for p in parameters:
            assert p.grad is not None
            state = self.state[p]
            if not state:
                state.update(step=0, average=torch.zeros_like(p), square=torch.zeros_like(p))
            state["step"] += 1
            state["average"].lerp_(p.grad, 1 - beta1)
            state["square"].mul_(beta2).addcmul_(p.grad, p.grad, value=1 - beta2)
            size = (state["square"] / (1 - beta2 ** state["step"])).sqrt_().add_(1e-8)
            p.addcdiv_(state["average"], size, value=-group["lr"] / (1 - beta1 ** state["step"]))


def orthogonalize(matrices: Tensor, iterations: int = 5) -> Tensor:
    """(k, m, n) -> nearly U V^T of each matrix U S V^T: singular values down to 0.01 of the norm become 0.7 to 1.2.

    Newton-Schulz iteration X <- X (a + b X^T X + c (X^T X)^2) from X / |X| with constants of Jordan et al., which
    trade accuracy at 1 for speed near 0. A matrix of zeros stays one.
    """
    a, b, c = NEWTON_SCHULZ
    wide = matrices.shape[-2] < matrices.shape[-1]
    x = matrices.mT if wide else matrices  # the products are of the smaller side
    # first by the largest entry: squares of entries below 1e-19, as symmetric structures leave them, would vanish
    x = x / x.abs().amax(dim=(-2, -1), keepdim=True).clamp(min=1e-30)
    x = x / torch.linalg.matrix_norm(x, keepdim=True).clamp(min=1e-30)
    for _ in range(iterations):
        s = gram(x, x)
        polynomial = b * s + c * gram(s, s)  # s is symmetric
        polynomial.diagonal(dim1=-2, dim2=-1).add_(a)
        x = matmul(x, polynomial)
    return x.mT if wide else x
