"""Fixtures that start appliances; shared ones live as long as their module."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.appliance_process import Appliance, appliance


@pytest.fixture(scope="session")
def binary(request: pytest.FixtureRequest) -> str | None:
    """Absolute path of the executable under test; None: `python -m appliance`."""
    given = request.config.getoption("--binary")
    return str(Path(given).resolve()) if given else None


@pytest.fixture(scope="module")
def demo(binary: str | None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Appliance]:
    """An appliance that serves the demo model."""
    with appliance(binary, tmp_path_factory.mktemp("demo") / "state") as one:
        yield one
