"""What the suites of ports share: links to a worker, over each medium."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.helpers.link_rig import LinkRig, Medium, open_link_rig


@pytest.fixture(params=["unix", "pair"])
def medium(request: pytest.FixtureRequest) -> Medium:
    medium: Medium = request.param
    return medium


@pytest.fixture
async def rig(medium: Medium, tmp_path: Path) -> AsyncIterator[LinkRig]:
    async with open_link_rig(medium, tmp_path) as rig:
        await rig.connect()
        yield rig
