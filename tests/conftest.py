"""Options of the whole test run, and the marks that skip a test where its resource is missing."""

import os
from pathlib import Path

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--binary", metavar="PATH", help="run end-to-end tests on this executable, not on python -m appliance"
    )
    parser.addoption("--regenerate", action="store_true", help="write the expected outputs of golden tests anew")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    missing = {
        "gpu": None if Path("/dev/nvidiactl").exists() else "needs a GPU",
        "root": None if os.geteuid() == 0 else "needs root",
        "kube": None if os.environ.get("KUBECONFIG") else "needs a cluster (KUBECONFIG)",
        "binary": None if config.getoption("--binary") else "needs the built executable (--binary PATH)",
    }
    for item in items:
        for mark, reason in missing.items():
            if reason and item.get_closest_marker(mark):
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def regenerate(request: pytest.FixtureRequest) -> bool:
    """True when golden tests shall write what they would otherwise compare."""
    return bool(request.config.getoption("--regenerate"))
