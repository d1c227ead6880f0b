"""A cache for the whole run; tests that need a GPU, and how to run them."""

import os
import shutil
import tempfile

import pytest
import torch


def pytest_configure(config: pytest.Config) -> None:
    """Processes of one run, also those that tests start, share their kernels, and see no cache of the user."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        folder = os.environ["ATOMSML_CACHE"] = tempfile.mkdtemp(prefix="atomsml-tests-")
        config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if torch.cuda.is_available() or os.environ.get("TRITON_INTERPRET") == "1":  # which runs kernels on a CPU
        return
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(pytest.mark.skip(reason="needs a GPU that torch can use; there: pytest -m gpu"))
