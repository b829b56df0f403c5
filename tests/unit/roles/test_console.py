"""What the node gathers for the web console."""

from pathlib import Path

import pytest
import yaml

from appliance.roles.node.console import describe_graph, why_subjects

GRAPHS = Path(__file__).parents[2] / "data" / "graphs"


@pytest.mark.parametrize("file", ["mocker.yaml", "two-models.yaml"])
def test_a_graph_shows_its_components_with_their_models(file: str) -> None:
    document = yaml.safe_load((GRAPHS / file).read_text())
    shown = describe_graph(document)
    assert shown["name"] == document["metadata"]["name"]
    assert [one["name"] for one in shown["components"]] == [one["name"] for one in document["spec"]["components"]]
    for one in shown["components"]:
        assert (one["model"] is None) == (one["type"] == "frontend")


def test_a_request_is_explained_by_itself_and_its_workers() -> None:
    request = {"id": "r", "workers": ["w1", "w2", "w1"]}
    assert why_subjects(request) == ["request/r", "worker/w1", "worker/w2"]
