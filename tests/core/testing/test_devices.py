"""A pretended device must refuse what a device refuses, and compute what the CPU computes.

Where this machine has the device, the same tests run on it, and tell whether the rules are right.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from atomsml.ops import dispatch
from atomsml.testing import pretended_device


@pytest.fixture(params=["cuda", "mps"])
def device(request: pytest.FixtureRequest) -> Iterator[torch.device]:
    with pretended_device(request.param) as found:
        yield found


def test_tensors_say_where_they_are(device: torch.device) -> None:
    made = [
        torch.zeros(2, device=device),
        torch.tensor([1, 2], device=device.type),
        torch.arange(3, device=str(device)),
        torch.ones(2).to(device),
        torch.ones(2).to(device=device.type),
        torch.as_tensor([1.0], device=device),
        torch.empty(2, device=device).normal_(),
    ]
    made += [made[0] + 1, made[0][1:], torch.zeros_like(made[0]), made[0].new_tensor([1.0]), torch.stack([made[0]])]
    assert {x.device for x in made} == {device}
    assert {(x.is_cuda, x.is_mps, x.is_cpu) for x in made} == {(device.type == "cuda", device.type == "mps", False)}
    assert {x.cpu().device.type for x in made} == {"cpu"}
    assert made[1].tolist() == [1, 2]
    assert made[4].sum().item() == 2.0


def test_values_and_derivatives_are_those_of_the_cpu(device: torch.device) -> None:
    def outcome(where: torch.device | str) -> list[Tensor]:
        x = torch.linspace(0.1, 2, 12, device=where).view(3, 4).requires_grad_()
        y = (x @ x.mT).sin()[x[:, 0] > 0.5].cumsum(dim=0)
        (first,) = torch.autograd.grad(y.square().sum(), x, create_graph=True)
        (second,) = torch.autograd.grad(first.square().sum(), x, retain_graph=True)
        rows = torch.autograd.grad(y.sum(dim=1), x, torch.eye(len(y), device=where), is_grads_batched=True)[0]
        return [y, first, second, rows]

    for found, expected in zip(outcome(device), outcome("cpu"), strict=True):
        assert found.device == device
        torch.testing.assert_close(found.cpu(), expected)


@pytest.mark.parametrize(
    "index",
    [1, slice(1, 3), [0, 2], (1, [0, 2]), (np.int64(1), slice(2)), ([0, 2], [1, 1]), np.array([True, False, True])],
    ids=str,
)
def test_items_are_read_and_written(device: torch.device, index: Any) -> None:
    here = torch.arange(12.0).view(3, 4)
    there = here.to(device)
    assert torch.equal(there[index].cpu(), here[index])
    here[index], there[index] = -1.0, -1.0
    assert torch.equal(there.cpu(), here)
    assert (here == -1).any()


def test_modules_move_train_and_are_copied(device: torch.device) -> None:
    torch.manual_seed(0)
    here = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Linear(4, 1))
    weight, there = here[0].weight, copy.deepcopy(here).to(device)
    data = torch.randn(8, 3)
    for module, inputs in ((here, data), (there, data.to(device))):
        optimizer = torch.optim.AdamW(module.parameters(), lr=0.1)
        for _ in range(3):
            optimizer.zero_grad()
            module(inputs).square().mean().backward()
            nn.utils.clip_grad_norm_(module.parameters(), 1.0)
            optimizer.step()
    again = copy.deepcopy(there)
    again.load_state_dict(there.state_dict())
    for found, expected in zip(again.parameters(), here.parameters(), strict=True):
        assert isinstance(found, nn.Parameter)
        assert found.device == device
        torch.testing.assert_close(found.detach().cpu(), expected.detach())
    assert here.to(device)[0].weight is weight  # as torch does it: the optimizer goes on with the same object


def test_what_leads_off_the_device_is_refused(device: torch.device) -> None:
    x = torch.ones(3, device=device)
    with pytest.raises(TypeError, match=r"can't convert .* device type tensor to numpy"):
        x.numpy()
    with pytest.raises(TypeError, match=r"can't convert .* device type tensor to numpy"):
        np.asarray(x)
    with pytest.raises(RuntimeError, match=f"Expected a '{device.type}' device type for generator but found 'cpu'"):
        torch.rand(3, generator=torch.Generator(), device=device)
    assert x.numpy(force=True).tolist() == [1, 1, 1]


Mix = Callable[[Tensor, Tensor], object]
# of a tensor on the device and one on the CPU, both (3,); what torch takes, and what it refuses
ALLOWED: dict[str, Mix] = {
    "copied": lambda there, here: there.copy_(here),
    "copied back": lambda there, here: here.copy_(there),
    "indexed": lambda there, here: there[torch.tensor([0, 2])],
    "masked": lambda there, here: there[here > 0],
    "assigned where": lambda there, here: there.__setitem__(here > 0, 2.0),
    "a number added": lambda there, here: there + here[0],
    "a number compared": lambda there, here: here[0] < there,
    "a number chosen": lambda there, here: torch.where(there > 0, there, here[0]),
    "a number filled in": lambda there, here: there.masked_fill(there > 0, here[0]),
    "a number assigned": lambda there, here: there.__setitem__(0, here[0]),
    "changed by a number": lambda there, here: there.mul_(here[0]),
}
REFUSED: dict[str, Mix] = {
    "added": lambda there, here: there + here,
    "added the other way": lambda there, here: here + there,
    "added in place": lambda there, here: here.add_(there),
    "joined": lambda there, here: torch.cat([there, here]),
    "stacked": lambda there, here: torch.stack([there, here]),
    "multiplied": lambda there, here: there @ here,
    "chosen": lambda there, here: torch.where(here > 0, there, 0.0),
    "the CPU indexed": lambda there, here: here[torch.zeros(2, dtype=torch.long).to(there.device)],
    "the CPU masked": lambda there, here: here[there > 0],
    "gathered": lambda there, here: there.gather(0, torch.tensor([0, 2])),
    "selected": lambda there, here: there.index_select(0, torch.tensor([0, 2])),
    "scattered": lambda there, here: torch.zeros_like(there).index_add(0, torch.tensor([0, 1, 1]), there),
    "searched": lambda there, here: torch.searchsorted(there, here),
    "assigned": lambda there, here: there.__setitem__(torch.tensor([0, 1, 2]), here),
    "a number of the CPU changed": lambda there, here: here.sum().mul_(there.sum()),
    "a number of the device added": lambda there, here: here + there.sum(),
}


@pytest.mark.parametrize("name", ALLOWED)
def test_what_may_be_mixed(name: str, device: torch.device) -> None:
    ALLOWED[name](torch.ones(3, device=device), torch.ones(3))


@pytest.mark.parametrize("name", REFUSED)
def test_what_may_not_be_mixed(name: str, device: torch.device) -> None:
    with pytest.raises(RuntimeError):
        REFUSED[name](torch.ones(3, device=device), torch.ones(3))


# where torch's fake tensors on "cuda" ask for a real one, or look at no device
FAKE_TENSORS_CANNOT_SAY = {
    *("copied", "indexed", "masked", "assigned", "assigned where", "a number assigned"),
    *("the CPU indexed", "the CPU masked"),
}


@pytest.mark.parametrize("name", sorted((ALLOWED | REFUSED).keys() - FAKE_TENSORS_CANNOT_SAY))
def test_torch_agrees(name: str) -> None:
    """Its fake tensors know shapes and devices, so that a lone operation can be asked about."""
    with FakeTensorMode():
        there, here = torch.ones(3, device="cuda"), torch.ones(3)
        if name in ALLOWED:
            ALLOWED[name](there, here)
        else:
            with pytest.raises(RuntimeError, match=r"the same device|two devices|wrong device"):
                REFUSED[name](there, here)


def test_a_device_without_float64() -> None:
    with pretended_device("mps") as device:
        x = torch.ones(3, device=device)
        for wrong in (
            lambda: x.double(),
            lambda: x.to("cpu", torch.float64),  # the device would convert it
            lambda: torch.zeros(3, dtype=torch.float64).to(device),
            lambda: torch.zeros(3, dtype=torch.float64, device=device),
            lambda: x.new_tensor([1.0], dtype=torch.float64),
            lambda: nn.Linear(2, 2).double().to(device),
        ):
            with pytest.raises(TypeError, match="Cannot convert a"):
                wrong()
        assert torch.zeros(3, dtype=torch.float64).to(device, torch.float32).dtype == torch.float32
        assert x.cpu().double().dtype == torch.float64


@pytest.mark.skipif(torch.cuda.is_available(), reason="about a machine without a GPU; there is one here")
def test_nothing_is_left_behind() -> None:
    with pretended_device("cuda") as device:
        assert torch.cuda.is_available()
        assert dispatch.kernels("convolution", device) is None
        left = torch.ones(2, device=device)
        with pytest.raises(RuntimeError, match="there is no device cuda:1 here, but cuda:0"):
            left.to("cuda:1")
        with pytest.raises(RuntimeError, match="no CPU can read"):
            left.data_ptr()
    assert not torch.cuda.is_available()
    assert (left + left).tolist() == [2, 2]
    with pytest.raises((RuntimeError, AssertionError)):
        torch.ones(2, device="cuda")


def test_the_meta_device_stays_what_it_is(device: torch.device) -> None:
    with torch.device("meta"):
        linear = nn.Linear(2, 2)
    for x in (linear.weight, torch.ones(2).to("meta"), torch.empty(2, device="meta"), torch.ones(2).to(device="meta")):
        assert x.is_meta


def test_other_devices_are_not_pretended() -> None:
    with pytest.raises(ValueError, match="cuda and mps can be pretended, 'tpu' cannot"), pretended_device("tpu"):
        pass
