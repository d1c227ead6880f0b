"""Architectures by name: imported when they are asked for, and found in packages that are really installed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from atomsml import modelfile, potentials
from atomsml.architectures import Architectures
from atomsml.potential import Potential
from atomsml.potentials import POTENTIALS
from atomsml.potentials.mace import MACE

SPRING = """
from dataclasses import dataclass
import torch
from atomsml.potential import Potential

@dataclass(frozen=True)
class SpringConfig:
    elements: tuple[int, ...]
    cutoff: float = 3.0

class Spring(Potential):
    Config = SpringConfig

    def __init__(self, config):
        super().__init__(config)
        self.stiffness = torch.nn.Parameter(torch.ones(()))

    def forward(self, graph):
        return self.stiffness * graph.positions.square().sum(dim=1)
"""


def install(site: Path, package: str, name: str, place: str, code: str) -> None:
    """A package of one module as pip leaves it in a folder of installed packages."""
    module = place.partition(":")[0]
    site.joinpath(f"{module}.py").write_text(code)
    about = site / f"{package.replace('-', '_')}-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(f"[atomsml.potentials]\n{name} = {place}\n")


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of installed packages, and POTENTIALS as a new process would have it."""
    monkeypatch.syspath_prepend(str(tmp_path))
    fresh = Architectures[Potential](POTENTIALS.base, POTENTIALS.group, POTENTIALS.built_in)
    monkeypatch.setattr(potentials, "POTENTIALS", fresh)
    return tmp_path


def found() -> Architectures[Potential]:
    return potentials.POTENTIALS


def test_it_is_a_dict_of_classes() -> None:
    assert list(POTENTIALS)[:2] == ["mace", "escn"]
    assert POTENTIALS["mace"] is MACE
    assert dict(POTENTIALS.items())["mace"] is MACE
    assert len(POTENTIALS) == len(list(POTENTIALS))
    assert "mace" in POTENTIALS
    assert "no-such" not in POTENTIALS
    assert POTENTIALS.name_of(MACE) == "mace"
    with pytest.raises(KeyError):
        POTENTIALS["no-such"]


def test_names_cost_no_import(site: Path) -> None:
    install(site, "springs", "spring", "springs_module:Spring", SPRING)
    code = """
import sys
from atomsml.generative import GENERATORS
from atomsml.potentials import POTENTIALS
assert "spring" in POTENTIALS and "mace" in list(POTENTIALS) and "flow" in GENERATORS and repr(POTENTIALS)
assert not {"torch", "springs_module", "atomsml.potentials.mace"} & set(sys.modules)
mace = POTENTIALS["mace"]
assert POTENTIALS.name_of(mace) == "mace"
assert not {"springs_module", "atomsml.potentials.egnn"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", f"import sys; sys.path.append({str(site)!r})\n{code}"], check=True)


def test_a_package_adds_an_architecture_and_its_files_name_it(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(site, "springs", "spring", "springs_module:Spring", SPRING)
    spring = found()["spring"]
    file = site / "spring.safetensors"
    modelfile.save(spring(spring.Config((1, 8))), file, {})
    about = modelfile.read_metadata(file)
    assert (about["architecture"], about["package"]) == ("spring", "springs")
    assert found().package("mace") is None
    assert type(modelfile.load(file)) is spring
    monkeypatch.setattr(potentials, "POTENTIALS", POTENTIALS)  # of a process that lacks the package
    with pytest.raises(ValueError, match=r"spring.safetensors needs the package springs: pip install springs$"):
        modelfile.load(file)


def test_a_file_may_name_a_package_but_no_more(site: Path) -> None:
    for package in ("--index-url evil", "springs && rm", "", "a" * 101, ["springs"]):
        with pytest.raises(ValueError, match="unknown architecture 'spring'; this atomsml has mace,"):
            modelfile.known_architecture(site, {"architecture": "spring", "package": package}, found())


@pytest.mark.parametrize("name", ["mace", "spring"])
def test_a_name_belongs_to_one_package(site: Path, name: str) -> None:
    install(site, "springs", name, "springs_module:Spring", SPRING)
    install(site, "zigzag", name, "zigzag:Spring", SPRING)
    first, second = ("atomsml", "springs") if name == "mace" else ("springs", "zigzag")
    message = f"the package {second} adds '{name}' to atomsml.potentials, a name that {first} has already; uninstall"
    for use in (lambda: found()["mace"], lambda: list(found()), lambda: name in found()):
        with pytest.raises(ValueError, match=message):
            use()


@pytest.mark.parametrize(
    ("place", "code", "reason"),
    [
        ("springs_a:Spring", "import no_such_library", "ModuleNotFoundError: No module named 'no_such_library'$"),
        ("springs_b:Spring", "raise RuntimeError('first\\nsecond')", "RuntimeError: first$"),
        ("springs_c:Spring", "Feather = 1", "AttributeError: module 'springs_c' has no attribute 'Spring'$"),
    ],
)
def test_a_package_that_does_not_work(site: Path, place: str, code: str, reason: str) -> None:
    install(site, "springs", "spring", place, code)
    assert found()["mace"] is MACE
    assert found().name_of(MACE) == "mace"
    with pytest.raises(ValueError, match=f"^'spring' of the package springs cannot be imported: {reason}"):
        found()["spring"]


@pytest.mark.parametrize(
    ("module", "code"), [("one", "Spring = 1"), ("two", "class Spring: pass"), ("three", "def Spring(): pass")]
)
def test_what_is_no_potential(site: Path, module: str, code: str) -> None:
    install(site, "springs", "spring", f"springs_{module}:Spring", code)
    with pytest.raises(ValueError, match=r"'spring' of the package springs is no subclass of atomsml.potential:Pot"):
        found()["spring"]
