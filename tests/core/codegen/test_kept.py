"""Code from the cache is the code that would be compiled, or it is not used."""

import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from atomsml.codegen import kept as store
from atomsml.codegen import machine
from atomsml.codegen.checks import checked_indices
from atomsml.codegen.kept import Translation, fingerprint, key
from atomsml.codegen.kernels import Kernel, built_once
from atomsml.codegen.loops import Compiled
from atomsml.neighbors.bins import place
from atomsml.ops.contraction.cpu import contraction_kernel
from atomsml.ops.convolution import convolution_table
from atomsml.ops.convolution.cpu import _kernel as convolution_kernel
from atomsml.programs.rows import add_kernel, zero_kernel

F32, F64 = torch.float32, torch.float64
posix = pytest.mark.skipif(os.name != "posix", reason="rights of POSIX")


@pytest.fixture(autouse=True)
def folder(monkeypatch, tmp_path):
    """Of what is kept. Sources may have been written a moment ago, by whoever works on them."""
    monkeypatch.setenv("ATOMSML_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("ATOMSML_KERNEL_CACHE", raising=False)
    monkeypatch.setattr(store, "IMPORTED", math.inf)
    return tmp_path / "cache" / "kernels"


@pytest.fixture
def compilations(monkeypatch):
    """A list with an entry for everything that is compiled."""
    found = []
    compile_ = machine.object_code

    def noted(text, optimise=False):
        found.append(text)
        return compile_(text, optimise)

    monkeypatch.setattr(store, "object_code", noted)
    return found


def anew(builder):
    """As another process has it: nothing remembered."""
    return built_once(builder.__wrapped__)


def added(kernel: Kernel) -> torch.Tensor:
    x = torch.linspace(0, 1, 64)
    kernel([x, torch.linspace(1, 3, 64)], 64)
    return x


def test_a_kernel_is_compiled_once_and_read_by_others(folder, compilations):
    first = anew(add_kernel)(F32)
    second = anew(add_kernel)(F32)
    assert len(compilations) == len(list(folder.iterdir())) == 1
    assert second.translation == first.translation
    assert second.text == first.text == compilations[0]
    assert torch.equal(added(second), added(first))
    assert added(second)[-1] == 4.0


@pytest.mark.parametrize(
    ("builder", "arguments"),
    [
        (contraction_kernel, ("backward_along", 4, 2, 16, F64)),
        (convolution_kernel, ("backward", convolution_table(1, 2, 1), 16, F32)),
    ],
)
def test_what_is_read_is_what_would_be_built(builder, arguments):
    """Names and arguments are enough to tell kernels apart: the text written anew is the one that was kept."""
    anew(builder)(*arguments)
    read = anew(builder)(*arguments)
    assert read.text == builder.__wrapped__(*arguments).text
    assert read.translation.code == machine.object_code(read.text)


def test_checked_kernels_say_the_same_when_read(compilations):
    for _ in range(2):
        with checked_indices():
            kernel = anew(zero_kernel)(F32)
        with pytest.raises(IndexError, match=r"kernel `zero`: x\[.*\] of 32 numbers"):
            kernel([torch.empty(32)], 64)
    anew(zero_kernel)(F32)
    assert len(compilations) == 2


def test_other_arguments_other_keys():
    names = {
        key(add_kernel.__wrapped__, F32),
        key(add_kernel.__wrapped__, F64),
        key(zero_kernel.__wrapped__, F32),
        key(convolution_kernel.__wrapped__, convolution_table(1, 2, 1), 16),
        key(convolution_kernel.__wrapped__, convolution_table(1, 2, 2), 16),
        key(convolution_kernel.__wrapped__, convolution_table(1, 2, 2), (16,)),
        key(convolution_kernel.__wrapped__, convolution_table(1, 2, 2), "16"),
        key(convolution_kernel.__wrapped__, convolution_table(1, 2, 2), 1),
        key(convolution_kernel.__wrapped__, convolution_table(1, 2, 2), True),
        key(place.function),
    }
    assert len(names) == 10
    assert None not in names
    assert key(add_kernel.__wrapped__, F32) in names  # always the same
    with checked_indices():
        assert key(add_kernel.__wrapped__, F32) not in names


def test_what_may_depend_on_more_has_no_key(folder):
    def builder(dtype):
        return add_kernel.__wrapped__(dtype)

    assert key(builder, F32) is None  # not of atomsml
    assert key(add_kernel.__wrapped__, torch.zeros(2)) is None
    assert key(add_kernel.__wrapped__, (1, [2])) is None
    assert added(built_once(builder)(F32))[-1] == 4.0
    assert not folder.exists()


def test_another_processor_another_key(monkeypatch):
    here = key(add_kernel.__wrapped__, F32)
    store._surroundings.cache_clear()
    monkeypatch.setattr(store, "processor", lambda: (*machine.processor()[:2], "+another-feature"))
    there = key(add_kernel.__wrapped__, F32)
    store._surroundings.cache_clear()
    assert there is not None
    assert there != here


def test_one_constant_in_the_sources_is_another_key(tmp_path):
    for name, constant in (("a", 0.5), ("b", 0.6)):
        (tmp_path / name / "inside").mkdir(parents=True)
        (tmp_path / name / "inside" / "code.py").write_text(f"HALF = {constant}\n")
    found = [fingerprint(tmp_path / name, math.inf) for name in "aba"]
    assert found[0] == found[2] != found[1]


def test_sources_that_are_younger_than_the_process_have_no_fingerprint(tmp_path):
    file = tmp_path / "code.py"
    file.write_text("x = 1\n")
    later = file.stat().st_ctime + 10
    first = fingerprint(tmp_path, later)
    assert first is not None
    assert fingerprint(tmp_path, file.stat().st_ctime) is None
    os.utime(file, (later + 1, later + 1))
    assert fingerprint(tmp_path, later) is None


@posix
def test_an_edit_that_hides_its_time_is_seen(tmp_path):
    """Copies and archives set the time of the content; that of the last change cannot be set."""
    file = tmp_path / "code.py"
    file.write_text("x = 1\n")
    os.utime(file, (0, 0))
    assert fingerprint(tmp_path, file.stat().st_ctime) is None


def damaged(content: bytes) -> bytes:
    return content[:-50] + bytes([content[-50] ^ 1]) + content[-49:]


@pytest.mark.parametrize(
    "damage", [damaged, lambda x: x[:-1], lambda x: x[: len(x) // 2], lambda x: b"", lambda x: x + b"\0"]
)
def test_a_damaged_file_is_made_anew(folder, compilations, damage):
    whole = anew(add_kernel)(F32).translation
    (file,) = folder.iterdir()
    file.write_bytes(damage(file.read_bytes()))
    again = anew(add_kernel)(F32)
    assert len(compilations) == 2
    assert added(again)[-1] == 4.0
    assert Translation.from_bytes(store.read(file.name) or b"") == whole


def test_a_file_under_another_name_is_not_read(folder, compilations):
    anew(zero_kernel)(F32)
    (file,) = folder.iterdir()
    os.replace(file, folder / str(key(add_kernel.__wrapped__, F32)))
    assert added(anew(add_kernel)(F32))[-1] == 4.0
    assert len(compilations) == 2


@posix
@pytest.mark.parametrize("mode", [0o620, 0o602])
def test_a_file_that_others_may_write_to_is_not_read(folder, compilations, mode):
    anew(add_kernel)(F32)
    (file,) = folder.iterdir()
    file.chmod(mode)
    anew(add_kernel)(F32)
    assert len(compilations) == 2
    assert file.stat().st_mode & 0o777 == 0o600  # another file in its place


@posix
def test_a_file_of_another_user_is_not_read(folder, compilations, monkeypatch):
    anew(add_kernel)(F32)
    (file,) = folder.iterdir()
    monkeypatch.setattr(store, "is_private", lambda found: not os.path.samestat(found, file.stat()))
    anew(add_kernel)(F32)
    assert len(compilations) == 2


@posix
@pytest.mark.parametrize("which", ["kernels", "."])
def test_a_folder_that_others_may_write_to_is_not_used(folder, compilations, which):
    anew(add_kernel)(F32)
    (folder.parent / which).chmod(0o770)
    before = list(folder.iterdir())
    for builder in (add_kernel, zero_kernel):
        anew(builder)(F32)
    assert len(compilations) == 3
    assert list(folder.iterdir()) == before


def test_off(folder, compilations, monkeypatch):
    monkeypatch.setenv("ATOMSML_KERNEL_CACHE", "off")
    anew(add_kernel)(F32)
    anew(add_kernel)(F32)
    assert len(compilations) == 2
    assert not folder.exists()


def test_neither_on_nor_off(monkeypatch):
    monkeypatch.setenv("ATOMSML_KERNEL_CACHE", "0")
    with pytest.raises(ValueError, match=r"ATOMSML_KERNEL_CACHE, .* is on or off, not '0'"):
        anew(add_kernel)(F32)


def test_without_a_place_to_write_kernels_are_compiled(tmp_path, monkeypatch, compilations):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("ATOMSML_CACHE", str(tmp_path / "file" / "below"))
    assert added(anew(add_kernel)(F32))[-1] == 4.0
    assert len(compilations) == 1


@posix
def test_a_full_disk_costs_a_compilation_and_leaves_nothing(folder):
    """A process that may write no more than 100 bytes into a file."""
    code = """
import resource, signal, torch
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
from atomsml.programs.rows import zero_kernel
resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
x = torch.ones(64)
zero_kernel(torch.float32)([x], 64)
print(float(x.sum()))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("0.0\n", "")
    assert list(folder.iterdir()) == []


def test_the_oldest_go_where_there_is_too_much(folder, monkeypatch):
    monkeypatch.setattr(store, "MOST_BYTES", 1000)
    for i, name in enumerate("abcd"):
        store.write(name, bytes(300))
        os.utime(folder / name, (i, i))
    assert {file.name for file in folder.iterdir()} == {"b", "c", "d"}
    store.write("e", bytes(300))
    assert {file.name for file in folder.iterdir()} == {"c", "d", "e"}


def test_functions_in_python_are_kept_as_well(compilations):
    source = Compiled(place.function)
    for _ in range(2):
        assert Compiled(place.function)._without_checks is not None
    assert compilations == [source.text]
    with checked_indices():
        for _ in range(2):
            assert Compiled(place.function)._with_checks is not None
    assert len(compilations) == 2


def test_two_processes_at_once(folder):
    """Of which one compiles and the other may read, in any order; both have the right code."""
    code = """
import torch
from atomsml.ops.contraction.cpu import contraction_kernel
print(contraction_kernel("forward", 4, 2, 32, torch.float64).translation.code.hex())
"""
    command = [sys.executable, "-c", code]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    first, second = (process.communicate()[0] for process in running)
    assert first == second
    assert [process.returncode for process in running] == [0, 0]
    assert [Path(file).suffix for file in folder.iterdir()] == [""]
