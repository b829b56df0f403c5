"""Changes and faults while the appliance runs: what is left goes on serving, and what was wanted comes back."""

from pathlib import Path

from tests.e2e.appliance_process import appliance, eventually


def test_front_ends_that_were_scaled_away_get_no_connections(binary: str | None, tmp_path: Path) -> None:
    with appliance(binary, tmp_path / "state", "--engine", "mocker", "--frontend-processes", "3", "m") as one:
        assert len(one.status()["frontends"]) == 3
        one.cli("scale", "frontend", "--replicas", "1")
        eventually(lambda: len(one.status()["frontends"]) == 1)
        for _ in range(12):
            assert one.get("/v1/models")
