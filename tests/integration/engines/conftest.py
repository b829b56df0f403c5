"""What the tests of engines share."""

from collections.abc import AsyncIterator

import pytest
import trio


@pytest.fixture
async def deadline() -> AsyncIterator[None]:
    """Nothing that a stand-in server does takes long."""
    with trio.fail_after(30):
        yield
