"""What an interface says whose packages are not there."""

import importlib
import sys

import pytest


@pytest.mark.parametrize(
    ("package", "module", "extra"),
    [("openmm", "openmm", "openmm"), ("openmmml", "openmmml", "openmm"), ("ipi", "ipi", "ipi")],
)
def test_how_to_install_a_package_is_told_in_a_line(package, module, extra, monkeypatch):
    name = f"atomsml.interfaces.{module}"
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.delitem(sys.modules, name, raising=False)
    with pytest.raises(ValueError, match=rf'is not installed; run `pip install "atomsml\[{extra}\]"`'):
        importlib.import_module(name)
