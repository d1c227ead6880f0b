"""The shape of the house: imports go one way, the rooms install as one package, nothing unsafe is called."""

import ast
import os
import subprocess
import sys
import tarfile
import zipfile
from collections import Counter
from collections.abc import Iterable, Iterator
from email import message_from_bytes
from graphlib import TopologicalSorter
from pathlib import Path
from shutil import copytree, ignore_patterns

import pytest

ROOT = Path(__file__).parent.parent
ROOMS = ("potentials", "generative", "cli")
MAY_IMPORT = {
    "atomsml": set(),
    "potentials": {"potentials"},
    "generative": {"generative"},
    "cli": {"potentials", "generative", "cli"},
}
# these turn a name into a model, or a model into a name; they look the class up inside a function
MAY_LOOK_UP_POTENTIALS = {"atomsml/modelfile/load.py", "atomsml/modelfile/save.py", "atomsml/training/build.py"}


def sources(room: str) -> Iterator[Path]:
    """Python files of a top-level folder; the symlinked rooms are not entered from atomsml/."""
    for folder, subfolders, files in os.walk(ROOT / room, followlinks=False):
        subfolders[:] = [d for d in subfolders if not Path(folder, d).is_symlink()]
        yield from (Path(folder, f) for f in files if f.endswith(".py"))


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def imports(tree: ast.AST, inside_function: bool = False) -> Iterator[tuple[str, bool]]:
    """(dotted name, whether inside a function) of everything imported; relative imports start with a dot."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, inside_function) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            yield from ((f"{base}.{alias.name}", inside_function) for alias in node.names)
        yield from imports(node, inside_function or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def forbidden_imports(code: str, room: str, path: str) -> list[str]:
    """What `code`, a file of `room`, imports against the one-way rule `cli -> potentials, generative -> atomsml`."""
    wrong = []
    for name, inside_function in imports(ast.parse(code)):
        top, _, rest = name.partition(".")
        target = rest.split(".")[0] if top == "atomsml" else top
        looks_up = path in MAY_LOOK_UP_POTENTIALS and inside_function and target == "potentials"
        against_the_arrow = target in ROOMS and target not in MAY_IMPORT[room] and not looks_up
        if name.startswith(".") or top in ROOMS or against_the_arrow:
            wrong.append(name)
    return wrong


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_imports_go_one_way_and_are_absolute(room):
    files = list(sources(room))
    wrong = {relative(f): forbidden_imports(f.read_text(), room, relative(f)) for f in files}
    assert files or room == "generative"
    assert {f: names for f, names in wrong.items() if names} == {}


@pytest.mark.parametrize(
    ("code", "room", "path"),
    [
        ("from atomsml.potentials.mace import MACE", "atomsml", "atomsml/graph.py"),
        ("def f():\n    from atomsml.potentials import POTENTIALS", "atomsml", "atomsml/graph.py"),
        ("from atomsml.potentials import POTENTIALS", "atomsml", "atomsml/modelfile/load.py"),
        ("from atomsml import generative", "potentials", "potentials/mace.py"),
        ("import atomsml.cli.main", "generative", "generative/flow.py"),
        ("from .zbl import zbl_energy", "potentials", "potentials/mace.py"),
        ("from potentials.mace import MACE", "cli", "cli/relax.py"),
    ],
)
def test_the_rule_catches(code, room, path):
    assert len(forbidden_imports(code, room, path)) == 1


def test_the_rule_allows_the_look_up_inside_a_function():
    code = "def f():\n    from atomsml.potentials import POTENTIALS"
    assert forbidden_imports(code, "atomsml", "atomsml/modelfile/load.py") == []


# kinds do not know each other, but what has a shape may be made of what has none
KINDS_BELOW = {"molecules": {"graphs"}}


def test_the_core_of_the_generators_knows_no_kind_and_kinds_know_only_those_below():
    wrong = []
    for path in sources("generative"):
        own = path.relative_to(ROOT / "generative").parts[0]
        known = {"", "core", own, *KINDS_BELOW.get(own, ())}
        for name, _ in imports(ast.parse(path.read_text())):
            room, _, rest = name.removeprefix("atomsml.").partition(".")
            kind = rest.split(".")[0]
            if room == "generative" and (ROOT / "generative" / kind).is_dir() and kind not in known:
                wrong.append(f"{relative(path)} imports {name}")
    assert wrong == []


# what stands on one line may import itself and each other, and what stands above
FLOORS = (
    "units geometry config errors device signals architectures cache o3 codegen",
    "ops",
    "radial nn neighbors",
    "graph",
    "electronic_state multipoles potential pair_geometry region",
    "programs dispersion io fetch modelfile",
    "dataset simulate uncertainty",
    "report",
    "training properties interfaces testing",
)
FLOOR_OF = {name: floor for floor, names in enumerate(FLOORS) for name in names.split()}
# lazy constructors, which a newcomer looks for on the class itself: AtomicGraph.from_smiles and its like
MAY_REACH_UP = {("graph", "io")}


def without_types(tree: ast.Module) -> ast.Module:
    """The same without what only type checkers import."""
    kept = [n for n in tree.body if not (isinstance(n, ast.If) and ast.unparse(n.test) == "TYPE_CHECKING")]
    return ast.Module(kept, [])


def modules_of_the_core() -> dict[str, Path]:
    """Dotted name -> file, but for atomsml/__init__.py, whose names are imported on first use."""
    found = {}
    for path in sources("atomsml"):
        name = relative(path).removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        found[name] = path
    del found["atomsml"]
    return found


def imported_modules(code: str, known: Iterable[str]) -> set[str]:
    """The modules of the core that `code` imports, wherever it does."""
    found = set()
    for name, _ in imports(without_types(ast.parse(code))):
        module = name.rpartition(".")[0]
        found |= {name} & set(known) or {module} & set(known)
    return found


def test_the_core_has_floors():
    known = modules_of_the_core()
    wrong = []
    for name, path in known.items():
        own = name.split(".")[1]
        for other in imported_modules(path.read_text(), known):
            target = other.split(".")[1]
            if FLOOR_OF[target] > FLOOR_OF[own] and (own, target) not in MAY_REACH_UP:
                wrong.append(f"{name} imports {other}")
    assert wrong == []


def test_no_module_of_the_core_imports_itself_by_a_detour():
    known = modules_of_the_core()
    graph = {}
    for name, path in known.items():
        own = name.split(".")[1]
        found = imported_modules(path.read_text(), known)
        graph[name] = {other for other in found - {name} if (own, other.split(".")[1]) not in MAY_REACH_UP}
    list(TopologicalSorter(graph).static_order())  # a CycleError names the circle


def test_no_folder_is_crowded():
    folders = Counter(path.parent for room in (*MAY_IMPORT, "benchmarks", "tests") for path in sources(room))
    assert {relative(folder): count for folder, count in folders.items() if count > 16} == {}


def unsafe(tree: ast.AST) -> set[str]:
    """Calls that run code from data files, or that change a type for the whole process."""
    found = {name for name, _ in imports(tree) if name.split(".")[0] in {"pickle", "dill", "cloudpickle", "joblib"}}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            name = ast.unparse(node)
            if name in {"torch.load", "torch.jit.load"} or node.attr == "set_default_dtype":
                found.add(name)
    return found


def test_nothing_unpickles_or_changes_the_default_dtype():
    found = {relative(f): unsafe(ast.parse(f.read_text())) for room in MAY_IMPORT for f in sources(room)}
    del found["atomsml/modelfile/inert_pickle.py"]  # the whitelist reader of official MACE files
    del found["atomsml/testing/ase_contract.py"]  # checks that a calculator survives a pickle of its own making
    assert {f: names for f, names in found.items() if names} == {}
    assert unsafe(ast.parse("import pickle\ntorch.load(f)\ntorch.set_default_dtype(d)")) == {
        "pickle",
        "torch.load",
        "torch.set_default_dtype",
    }


def test_nothing_but_fetch_reaches_for_the_network_or_starts_programs():
    modules = {"http", "urllib", "socket", "ssl", "ftplib", "requests", "httpx", "aiohttp", "subprocess"}
    found = {
        relative(file)
        for room in MAY_IMPORT
        for file in sources(room)
        if {name.split(".")[0] for name, _ in imports(ast.parse(file.read_text()))} & modules
    }
    fetch = {f"atomsml/fetch/{name}.py" for name in ("download", "official", "wheel")}  # official: URLs as text
    assert found == {*fetch, "atomsml/interfaces/lammps/launch.py"}  # mpiexec


@pytest.mark.parametrize("room", ROOMS)
def test_rooms_are_relative_symlinks(room):
    assert os.readlink(ROOT / "atomsml" / room) == f"../{room}"
    assert (ROOT / "atomsml" / room).is_dir()


def modules_after(statement: str) -> set[str]:
    """Names in sys.modules of a new interpreter, started in the repository root, after `statement`."""
    code = f"import sys; {statement}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize("statement", ["import atomsml", "import atomsml.cli.main"])
def test_import_does_not_wait_for_heavy_libraries(statement):
    assert modules_after(statement).isdisjoint({"torch", "rdkit", "pymatgen", "ase", "llvmlite", "matplotlib"})


def test_rooms_are_imported_under_one_name():
    modules = modules_after("import atomsml.cli.main, atomsml.potentials.mace")
    assert "atomsml.potentials.mace" in modules
    assert modules.isdisjoint(ROOMS)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A wheel and an sdist of a copy of the sources, made by the build backend itself."""
    folder = tmp_path_factory.mktemp("build")
    unwanted = ignore_patterns(".*", "build", "dist", "*.egg-info", "__pycache__", "demo-output")
    copytree(ROOT, folder / "src", symlinks=True, ignore=unwanted)
    code = f"import setuptools.build_meta as b; b.build_sdist({str(folder)!r}); b.build_wheel({str(folder)!r})"
    subprocess.run([sys.executable, "-c", code], cwd=folder / "src", capture_output=True, check=True)
    return folder


def package_files() -> set[str]:
    """Every file that must be installed, by its path from site-packages."""
    code = {relative(f) for room in MAY_IMPORT for f in sources(room)}
    profiles = ROOT / "generative" / "molecules" / "metrics" / "profiles"
    folders = (ROOT / "atomsml" / "models", ROOT / "atomsml" / "report" / "assets", profiles)
    alone = {"atomsml/py.typed", "generative/proteins/metrics/ramachandran.txt"}
    alone |= {f"atomsml/dispersion/reference.{ending}" for ending in ("md", "safetensors")}
    data = {relative(f) for folder in folders for f in folder.iterdir()} | alone
    return {f if f.startswith("atomsml/") else f"atomsml/{f}" for f in code | data}


def test_wheel_holds_the_rooms_inside_atomsml_and_nothing_else(built):
    (wheel,) = built.glob("*.whl")
    names = {n for n in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in n}
    assert names == package_files()


def test_sdist_holds_the_rooms_as_ordinary_files(built):
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        members = {m.name.partition("/")[2]: m for m in archive.getmembers()}
    assert package_files() <= members.keys()
    assert not any(m.issym() or m.islnk() for m in members.values())


def test_sdist_holds_tests_guides_examples_and_benchmarks(built):
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {member.name.partition("/")[2] for member in archive.getmembers() if member.isfile()}
    for folder in ("tests", "docs", "examples", "benchmarks"):
        files = [path for path in (ROOT / folder).rglob("*") if path.is_file() and "__pycache__" not in path.parts]
        assert {relative(path) for path in files} <= names
    assert {"README.md", "CHANGELOG.md", "LICENSE", "Makefile", "constraints.txt", "mkdocs.yml"} <= names
    assert not any("__pycache__" in name for name in names)


def test_metadata_names_no_host(built):
    """The project has no home of its own; its description is the README, whose links to files only a checkout has."""
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        fields = message_from_bytes(archive.read(name))
    assert fields.get_all("Project-URL") is None
    assert fields["Keywords"]
    assert {"Programming Language :: Python :: 3.13", "Typing :: Typed"} <= set(fields.get_all("Classifier"))
