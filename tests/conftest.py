"""Options of the whole test run, the marks that skip a test where its resource is missing, and skips that CI allows."""

import os
from collections.abc import Generator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.helpers.fake_nvml import compile_library

settings.register_profile("shared machines", deadline=None)
settings.load_profile("shared machines")

ALLOWED_SKIPS = (
    "needs a GPU",
    "needs root",
    "needs a cluster",
    "needs the built executable",
    "only the one-file build",
)
"""How the reasons begin that `--strict-skips` lets pass: what a machine is, not what somebody forgot to install."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--binary", metavar="PATH", help="run end-to-end tests on this executable, not on python -m appliance"
    )
    parser.addoption("--strict-skips", action="store_true", help="a test that is skipped for lack of a tool fails")
    parser.addoption("--screenshots", metavar="DIR", help="keep what browser tests saw of the web console here")
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


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.skipped and not hasattr(report, "wasxfail") and item.config.getoption("--strict-skips"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        if not reason.removeprefix("Skipped: ").startswith(ALLOWED_SKIPS):
            report.outcome, report.longrepr = "failed", f"skipped, which --strict-skips forbids: {reason}"
    return report


@pytest.fixture(scope="session")
def regenerate(request: pytest.FixtureRequest) -> bool:
    """True when golden tests shall write what they would otherwise compare."""
    return bool(request.config.getoption("--regenerate"))


@pytest.fixture(scope="session")
def nvml_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A stand-in for the NVIDIA library, compiled once; its folder holds nothing else."""
    return compile_library(tmp_path_factory.mktemp("nvml"))
