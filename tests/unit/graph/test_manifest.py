"""YAML in and out: documents survive, mistakes are named with their place."""

import pytest

from appliance.core.errors import Unprocessable
from appliance.graph.documents import document_of, stored_object
from appliance.graph.manifest import parse_manifests
from appliance.graph.yaml_text import render_yaml
from tests.helpers.graphs import EXAMPLES, example

HEAD = "apiVersion: nvidia.com/v1beta1\nkind: DynamoGraphDeployment\nmetadata: {name: g}\n"


@pytest.mark.parametrize("name", ["mocker", "two-models"])
def test_example_survives_store_and_text(name: str) -> None:
    document = example(name)
    assert document_of(stored_object(document)) == document
    assert parse_manifests(render_yaml(document))[0].document == document


def test_unknown_members_are_kept() -> None:
    text = HEAD + "spec:\n  later: {deep: [1, null, {x: 1.5}]}\n  components: [{name: a, alsoLater: true}]\n"
    document = parse_manifests(text)[0].document
    assert document["spec"] == {
        "later": {"deep": [1, None, {"x": 1.5}]},
        "components": [{"name": "a", "alsoLater": True}],
    }
    assert document_of(stored_object(document)) == document


def test_many_documents_and_lists_and_json_are_read() -> None:
    one = HEAD + "spec: {components: []}\n"
    item = (
        '{"apiVersion": "nvidia.com/v1beta1", "kind": "DynamoGraphDeployment", "metadata": {"name": "j"}, "spec": {}}'
    )
    listed = '{"apiVersion": "v1", "kind": "List", "items": [' + item + "]}"
    found = parse_manifests(f"---\n---\n{one}---\n{listed}\n")
    assert [(item.name, item.line) for item in found] == [("g", 3), ("j", 8)]


def test_dates_and_versions_stay_texts() -> None:
    document = parse_manifests(HEAD + "spec: {day: 2024-01-02, version: '1'}\n")[0].document
    assert document["spec"] == {"day": "2024-01-02", "version": "1"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (HEAD + "spec: {a: [1, 2}\n", r"^f\.yaml, line 4, column 16: expected ',' or ']'"),
        (HEAD + "spec:\n  a: 1\n  a: 2\n", r"^f\.yaml, line 6, column 3: the key 'a' is repeated$"),
        (HEAD + "spec: {1: x}\n", r"^f\.yaml, line 4, column 8: a key must be a text; put it in quotes$"),
        (HEAD + "spec: &a [*a]\n", r"line 4, column 7: an alias refers to itself"),
        ("a: !!python/object:os.system {}\n", r"line 1, column 4: could not determine a constructor"),
        ("kind: X\n", r"^f\.yaml, line 1: needs apiVersion and kind"),
        ("- 1\n", r"^f\.yaml, line 1: must be an object with apiVersion and kind, not a list$"),
        ("just text", r"not a text$"),
        ("", r"^f\.yaml: holds no object$"),
        ("\x00", r"^f\.yaml: .*special characters"),
        (HEAD.replace("Deployment", "Deploymant"), r"unknown kind DynamoGraphDeploymant; did you mean"),
        (HEAD.replace("DynamoGraphDeployment", "DynamoModel"), r"a box keeps no DynamoModel; it keeps Dynamo"),
        (HEAD.replace("v1beta1", "v1beta2"), r"no version nvidia.com/v1beta2; did you mean nvidia.com/v1beta1\?"),
        ("apiVersion: nvidia.com/v1beta1\nkind: DynamoGraphDeployment\n", r"has no metadata.name$"),
    ],
)
def test_mistakes_are_one_line_with_place_and_cause(text: str, message: str) -> None:
    with pytest.raises(Unprocessable, match=message) as caught:
        parse_manifests(text, "f.yaml")
    assert "\n" not in str(caught.value)


def test_text_that_unfolds_into_a_flood_is_refused() -> None:
    layers = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    layers += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    with pytest.raises(Unprocessable, match="more than 200000 values"):
        parse_manifests("\n".join(layers))


def test_deep_and_large_texts_are_refused() -> None:
    with pytest.raises(Unprocessable, match="nested too deeply"):
        parse_manifests("[" * 5000 + "]" * 5000)
    with pytest.raises(Unprocessable, match="larger than 3 MiB"):
        parse_manifests("#" * (4 << 20))


def test_merge_keys_and_aliases_work_and_share_nothing() -> None:
    text = HEAD + "spec:\n  a: &a {x: 1, y: 2}\n  b: {<<: *a, y: 3}\n  c: *a\n"
    spec = parse_manifests(text)[0].document["spec"]
    assert spec == {"a": {"x": 1, "y": 2}, "b": {"x": 1, "y": 3}, "c": {"x": 1, "y": 2}}
    assert spec["a"] is not spec["c"]


def test_examples_say_what_they_are() -> None:
    for path in EXAMPLES.glob("*.yaml"):
        assert path.read_text().startswith("# "), path
