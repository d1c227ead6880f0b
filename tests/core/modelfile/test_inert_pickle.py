"""Files of torch.save are read as they are, and nothing that they ask for is run."""

import builtins
import io
import os
import pickle
import pickletools
import re
import warnings
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch

from atomsml.modelfile.inert_pickle import Record, StoredTensor, load_inert

ALLOWED = {
    "torch.nn.modules.linear": ("Linear",),
    "torch.nn.modules.container": ("Sequential", "ModuleList"),
    "torch.nn.modules.activation": ("SiLU",),
    "torch.nn.functional": ("silu",),
}


def read(path: Path) -> Record:
    return load_inert(path, ALLOWED, "a test file")


def model() -> torch.nn.Sequential:
    torch.manual_seed(0)
    layers = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.SiLU(), torch.nn.Linear(4, 2, bias=False))
    layers.gate = torch.nn.functional.silu
    layers.heads = ["a", "b"]
    layers.average = np.float64(9.25)
    layers.names = {"x"}
    layers.blob = b"\x00\xff"
    return layers.double()


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    torch.save(model(), tmp_path / "good.model")
    return tmp_path / "good.model"


def rewrite(source: Path, target: Path, entry: str, content: bytes | None, **options: int) -> Path:
    """Copy an archive with one entry replaced, or left out."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", **options) as new:
        for info in old.infolist():
            if not info.filename.endswith(entry):
                new.writestr(info.filename, old.read(info))
            elif content is not None:
                new.writestr(info.filename, content)
    return target


def test_reads_what_torch_saved(saved: Path) -> None:
    tree, original = read(saved), model()
    assert tree.name == "Sequential"
    assert torch.equal(tree.tensor("0.weight"), original[0].weight)
    assert torch.equal(tree.tensor("2.weight"), original[2].weight)
    assert tree.get("heads") == ["a", "b"]
    assert tree.number("average") == 9.25
    assert tree.get("names") == {"x"}
    assert tree.get("blob") == b"\x00\xff"
    assert "0.bias" in tree
    assert "2.bias" not in tree
    silu = tree.get("gate")  # a function stays a name: a class of records that nobody called
    assert issubclass(silu, Record)
    assert (silu.module, silu.name) == ("torch.nn.functional", "silu")


@pytest.mark.parametrize(
    "values",
    [
        torch.arange(24.0).reshape(4, 6)[1:, ::2].T,
        torch.arange(5, dtype=torch.int32),
        torch.tensor([True, False]),
        torch.tensor(2.5, dtype=torch.bfloat16),
        torch.empty(0, 3),
    ],
    ids=["strided", "int32", "bool", "bfloat16 scalar", "empty"],
)
def test_tensors_of_any_layout(values: torch.Tensor, tmp_path: Path) -> None:
    holder = torch.nn.ModuleList()
    holder.register_buffer("values", values)
    torch.save(holder, tmp_path / "t.model")
    assert torch.equal(read(tmp_path / "t.model").tensor("values"), values)


def test_asking_for_what_is_not_there(saved: Path) -> None:
    tree = read(saved)
    for ask, words in [
        (lambda: tree.get("0.bogus"), "has no 0.bogus"),
        (lambda: tree.get("heads.0"), "has no heads.0"),
        (lambda: tree.tensor("heads"), "not a tensor"),
        (lambda: tree.number("heads"), "not a number"),
        (lambda: tree.number("0.weight"), "not a number"),
        (lambda: tree.record("heads"), "not an object"),
    ]:
        with pytest.raises(ValueError, match=words):
            ask()


# Hostile files. Every payload, were it run, would create the file named marker.


class Call:
    """Pickles as the call of any function."""

    def __init__(self, function: object, *arguments: object) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return self.call


def stack_global(module: str, name: str, argument: str) -> bytes:
    """Protocol 4: module.name(argument), with a name that may hold dots."""
    strings = [b"\x8c" + bytes([len(s)]) + s.encode() for s in (module, name, argument)]
    return b"\x80\x04" + strings[0] + strings[1] + b"\x93" + strings[2] + b"\x85R."


def payloads(marker: Path) -> dict[str, tuple[bytes, str]]:
    command = f"touch {marker}"
    code = f"open({str(marker)!r}, 'w')"
    nested = Call(pickle.loads, pickle.dumps(Call(os.system, command)))
    evaluate = Call(builtins.eval, code)
    installed = b"cposix\nsystem\n(S'" + command.encode() + b"'\ntR."
    instance = b"(S'" + command.encode() + b"'\niposix\nsystem\n."
    return {
        "os.system": (pickle.dumps(Call(os.system, command), 2), "posix.system"),
        "protocol 0": (installed, "posix.system"),
        "instance": (instance, "posix.system"),
        "builtins.eval": (pickle.dumps(evaluate, 2), "__builtin__.eval"),
        "builtins.exec": (pickle.dumps(Call(builtins.exec, code), 4), "builtins.exec"),
        "getattr": (b"cbuiltins\ngetattr\n(cos\n__dict__\nS'system'\ntR.", "builtins.getattr"),
        "dotted name": (stack_global("torch", "serialization.os.system", command), "torch.serialization.os.system"),
        "dotted in a listed module": (
            stack_global("torch.nn.functional", "silu.__globals__", command),
            "torch.nn.functional.silu.__globals__",
        ),
        "pickle.loads": (pickle.dumps(nested, 2), "pickle.loads"),
        "torch.load": (pickle.dumps(Call(torch.load, str(marker)), 2), "torch.serialization.load"),
        "torch.jit.load": (stack_global("torch.jit", "load", str(marker)), "torch.jit.load"),
        "import": (stack_global("importlib", "import_module", "os"), "importlib.import_module"),
        "copyreg": (b"ccopyreg\n_reconstructor\n.", "copyreg._reconstructor"),
        "copy_reg add_extension": (b"\x80\x02ccopy_reg\nadd_extension\n.", "copy_reg.add_extension"),
        "extension code": (b"\x80\x02\x82\x01.", "extension code"),
        "functools.partial": (stack_global("functools", "partial", "x"), "functools.partial"),
        "escape sequences": (stack_global("os", "\x1b[2J\nsystem", command), r"\x1b[2J\nsystem"),
    }


@pytest.mark.parametrize("name", payloads(Path("x")))
def test_a_name_off_the_list_is_refused_and_nothing_runs(name: str, saved: Path, tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    payload, named = payloads(marker)[name]
    evil = rewrite(saved, tmp_path / "evil.model", "data.pkl", payload)
    with pytest.raises(ValueError, match=re.escape(named)) as caught:
        read(evil)
    assert "\n" not in str(caught.value)
    assert not marker.exists()


def test_the_hostile_files_would_run_elsewhere(tmp_path: Path) -> None:
    """The marker proves something only if the payloads work with an ordinary unpickler."""
    marker = tmp_path / "marker"
    for name in ("os.system", "protocol 0", "builtins.eval", "pickle.loads", "instance", "dotted name"):
        pickle.loads(payloads(marker)[name][0])
        assert marker.exists(), name
        marker.unlink()


def test_the_refusal_counts_the_list(saved: Path, tmp_path: Path) -> None:
    evil = rewrite(saved, tmp_path / "evil.model", "data.pkl", b"cposix\nsystem\n.")
    with pytest.raises(
        ValueError, match=r"asks for posix.system, which is not among the \d+ names that a test file needs"
    ):
        read(evil)


SILU = b"ctorch.nn.functional\nsilu\n"
REBUILD = b"ctorch._utils\n_rebuild_tensor_v2\n"
STORAGE = b"(S'storage'\nctorch\nDoubleStorage\nS'0'\nS'cpu'\nI12\ntQ"


@pytest.mark.parametrize(
    "instructions",
    [
        SILU + b"(dS'__new__'\nI0\nsb.",  # state for a class
        SILU + b"(N(dS'arguments'\nI0\nstb.",  # slots of a class
        REBUILD + b"(N(dS'_build'\nI0\nstb.",  # another function behind an allowed name
        b"ccollections\nOrderedDict\n(N(dS'update'\nI0\nstb.",
        STORAGE + b"(dS'values'\nI0\nsb.",  # state for the numbers
        REBUILD + b"(" + STORAGE + b"I0\n(I3\nt(I1\ntI00\nNtR(dS'values'\nI0\nsb.",  # state for a tensor
        SILU + b"(tR(lI1\na.",  # a record as a list
        SILU + b"(tRS'x'\nI1\ns.",  # a record as a dict
        b"(S'module'\nS'posix'\nS'0'\nS'cpu'\nI1\ntQ.",  # persistent objects other than storages
        b"I7\nQ.",
        REBUILD + b"(" + STORAGE + b"I0\n(I99\nt(I1\ntI00\nNtR.",  # past the end of the storage
        REBUILD + b"(" + STORAGE + b"I-5\n(I2\nt(I1\ntI00\nNtR.",  # before its start
        REBUILD + b"(" + STORAGE + b"I0\n(I99999999999\nt(I0\ntI00\nNtR.",  # one number, repeated without end
        REBUILD + b"(" + STORAGE + b"I5\n(I3\nt(I-2\ntI00\nNtR.",  # backwards
        b"(S'storage'\nctorch\nDoubleStorage\nS'0'\nS'cpu'\nI1000000000000\ntQ.",  # a storage larger than its bytes
        b"(S'storage'\nctorch\nDoubleStorage\nS'../../x'\nS'cpu'\nI12\ntQ.",
        b"(S'storage'\n" + SILU + b"S'0'\nS'cpu'\nI12\ntQ.",  # a storage of another kind
        b"c_codecs\nencode\n(S'x'\nS'rot13'\ntR.",
        b"]q\x00h\x00a.",  # a list in itself: no model
        b"\x80\x02}.",
        b"\x80\x63.",  # protocol 99
        b"",
        b"N",
        b"\x80\x02})" + b"\x85" * 1_000_000 + b"K\x01s.",  # hashing it ends the interpreter
        b"\x80\x02Nr\x00\x00\x00\x08.",  # a memo of 2 GB
        b"c__builtin__\nset\n((((tttlp0\ng0\ntR.",  # a set of tuples
        b"ccollections\nOrderedDict\n((tltR.",  # entries as arguments
        REBUILD + b"(" + STORAGE + b"I0\n(" + b"I1\n" * 17 + b"t(" + b"I0\n" * 17 + b"tI00\nNtR.",  # 17 dimensions
        b"(S'storage'\nctorch\nDoubleStorage\n(tS'cpu'\nI12\ntQ.",  # a storage whose name is no text
    ],
)
def test_allowed_names_with_hostile_contents(instructions: bytes, saved: Path, tmp_path: Path) -> None:
    evil = rewrite(saved, tmp_path / "evil.model", "data.pkl", instructions)
    functions = dict(vars(Record)), pickle.dumps(OrderedDict(a=1))
    with pytest.raises(ValueError, match=r"^[^\n]*evil\.model[^\n]*$"):
        read(evil)
    assert (dict(vars(Record)), pickle.dumps(OrderedDict(a=1))) == functions
    assert torch.equal(read(saved).tensor("0.weight"), model()[0].weight)


def tensor(offset: int, size: int, stride: int, count: int = 12) -> bytes:
    """A Linear whose state is a view of the storage of 12 numbers."""
    view = f"I{offset}\n(I{size}\nt(I{stride}\ntI00\nNtR"
    storage = STORAGE.replace(b"I12", f"I{count}".encode())
    state = b"(dS'weight'\n" + REBUILD + b"(" + storage + view.encode() + b"s"
    return b"ctorch.nn.modules.linear\nLinear\n(tR" + state + b"b."


# each stays inside of 12 numbers by one, and the next does not
INSIDE = [(9, 3, 1), (1, 2, 10), (0, 12, 0), (0, 3, 1), (5, 3, 0), (12, 0, 1)]
OUTSIDE = [(10, 3, 1), (1, 2, 11), (0, 13, 0), (-1, 3, 1), (5, 3, -1), (0, -1, 1)]


@pytest.mark.parametrize(("offset", "size", "stride"), INSIDE)
def test_a_view_within_its_storage_is_that_of_numpy(
    offset: int, size: int, stride: int, saved: Path, tmp_path: Path
) -> None:
    tree = read(rewrite(saved, tmp_path / "view.model", "data.pkl", tensor(offset, size, stride)))
    numbers = model()[0].weight.detach().numpy().ravel()
    expected = np.lib.stride_tricks.as_strided(numbers[offset:], (size,), (8 * stride,))
    np.testing.assert_array_equal(tree.tensor("weight").numpy(), expected)


@pytest.mark.parametrize(("offset", "size", "stride"), OUTSIDE)
def test_a_view_one_beyond_its_storage_is_refused(
    offset: int, size: int, stride: int, saved: Path, tmp_path: Path
) -> None:
    evil = rewrite(saved, tmp_path / "evil.model", "data.pkl", tensor(offset, size, stride))
    with pytest.raises(ValueError, match=r"lies outside its storage of 12 numbers"):
        read(evil)


@pytest.mark.parametrize("count", [11, 13])
def test_a_storage_has_the_numbers_that_it_says(count: int, saved: Path, tmp_path: Path) -> None:
    evil = rewrite(saved, tmp_path / "evil.model", "data.pkl", tensor(0, 3, 1, count))
    with pytest.raises(ValueError, match=f"96 bytes for {count} numbers"):
        read(evil)


def test_a_record_keeps_a_hostile_state_without_acting_on_it(saved: Path, tmp_path: Path) -> None:
    state = SILU + b"(tR(dS'__class__'\nI0\nsS'__setstate__'\nI1\nsS'_modules'\nI2\nsb."
    tree = read(rewrite(saved, tmp_path / "evil.model", "data.pkl", state))
    assert isinstance(tree, Record)
    assert tree.state == {"__class__": 0, "__setstate__": 1, "_modules": 2}
    with pytest.raises(ValueError, match=r"has no x\.y"):
        tree.get("x.y")
    with pytest.raises(ValueError, match="not an object"):
        tree.records("_modules")


def test_stored_tensors_do_not_take_a_state() -> None:
    with pytest.raises(ValueError, match="alter StoredTensor"):
        StoredTensor(torch.zeros(1)).__setstate__({"values": None})


def test_every_instruction_that_torch_writes_is_plain(saved: Path) -> None:
    """The good file really needs the names that are always allowed."""
    with zipfile.ZipFile(saved) as archive:
        data = archive.read("good/data.pkl")
    asked = {argument for op, argument, _ in pickletools.genops(data) if op.name == "GLOBAL"}
    assert {"torch._utils _rebuild_tensor_v2", "torch._utils _rebuild_parameter", "torch DoubleStorage"} <= asked


def test_files_that_are_something_else(saved: Path, tmp_path: Path) -> None:
    whole = saved.read_bytes()
    legacy = io.BytesIO()
    torch.save(model(), legacy, _use_new_zipfile_serialization=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # torch would have us leave TorchScript
        torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), str(tmp_path / "script"))
    torch.save([1, 2], tmp_path / "list")
    contents = {
        "empty": (b"", "is empty"),
        "text": (b"hello\n" * 100, "not a zip archive"),
        "half": (whole[: len(whole) // 2], "cut short"),
        "legacy": (legacy.getvalue(), "before 1.6"),
        "script": ((tmp_path / "script").read_bytes(), "TorchScript"),
        "list": ((tmp_path / "list").read_bytes(), "holds a list"),
    }
    for name, (content, words) in contents.items():
        path = tmp_path / f"{name}.model"
        path.write_bytes(content)
        with pytest.raises(ValueError, match=words) as caught:
            read(path)
        assert "\n" not in str(caught.value)
        assert str(path) in str(caught.value)
    with pytest.raises(FileNotFoundError):
        read(tmp_path / "absent.model")
    with pytest.raises(IsADirectoryError):
        read(tmp_path)


def test_damaged_archives(saved: Path, tmp_path: Path) -> None:
    evil = tmp_path / "evil.model"
    for entry, content, words in [
        ("data.pkl", None, "no data.pkl"),
        ("data/0", None, "data/0"),
        ("data/0", b"\x00" * 8, "8 bytes for 12 numbers"),
        ("byteorder", b"big", "little-endian"),
    ]:
        with pytest.raises(ValueError, match=words):
            read(rewrite(saved, evil, entry, content))
    with pytest.raises(ValueError, match="compressed or overlap"):
        read(rewrite(saved, evil, "data/0", b"\x00" * 10**7, compression=zipfile.ZIP_DEFLATED))
    flipped = bytearray(saved.read_bytes())
    with zipfile.ZipFile(saved) as archive:
        first = archive.getinfo("good/data/0").header_offset
    flipped[first + 120] ^= 0xFF
    evil.write_bytes(flipped)
    with pytest.raises(ValueError, match="damaged"):
        read(evil)
