"""Properties of hub references, of the choice among GGUF files, and of the download meter."""

import os.path
import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.core.errors import ApplianceError, ModelUnavailable, UsageError
from appliance.models.hub.choice import Wish, choose_files
from appliance.models.hub.files import RepoFile, Snapshot
from appliance.models.hub.gguf_choice import UNQUANTISED, choose_gguf, gguf_models
from appliance.models.hub.progress import Meter
from appliance.models.hub.reference import HubReference, is_safe_path, likely_reference, parse_reference

SAFE = string.ascii_letters + string.digits
NAMES = st.from_regex(r"[A-Za-z0-9]([A-Za-z0-9._]|-(?!-)){0,20}[A-Za-z0-9]", fullmatch=True).filter(
    lambda name: "--" not in name and ".." not in name and not name.endswith((".git", ".ipynb", ".gguf", ".bin", ".pt"))
)
REVISIONS = st.none() | st.from_regex(r"[a-z0-9]([a-z0-9._-][a-z0-9]){0,8}(/[a-z0-9]{1,5})?", fullmatch=True)
FILES = st.none() | st.lists(
    st.text(SAFE + "._- @:", min_size=1).filter(lambda part: part not in (".", "..")), min_size=1
).map("/".join)
TAGS = ("Q2_K", "IQ3_XS", "Q4_0", "Q4_K_M", "Q5_K_S", "Q6_K", "Q8_0", "UD-Q4_K_XL", "BF16", "F16", "F32", "MXFP4")


@given(NAMES, NAMES, REVISIONS, FILES)
def test_a_reference_survives_its_text(org: str, name: str, revision: str | None, file: str | None) -> None:
    reference = HubReference(repo=f"{org}/{name}", revision=revision, file=file)
    assert parse_reference(str(reference)) == reference


@given(st.text(st.characters(codec="utf-8"), max_size=60) | st.text("ab/.@:-_~\\\0 \n", max_size=25))
def test_any_text_is_a_reference_a_path_or_refused(text: str) -> None:
    try:
        reference = parse_reference(text)
    except UsageError:
        assert likely_reference(text) is None
        return
    assert likely_reference(text) == reference
    if reference is not None:
        assert str(reference) == text
        assert reference.repo.count("/") == 1
        assert not text.startswith(("/", ".", "~"))
        assert reference.file is None or is_safe_path(reference.file)


@given(st.text(string.ascii_letters + "./\\", max_size=20))
def test_a_safe_path_stays_inside(path: str) -> None:
    if is_safe_path(path):
        assert os.path.normpath(os.path.join("/models/x", path)).startswith("/models/x/")


@st.composite
def repositories(draw: st.DrawFn) -> list[RepoFile]:
    """GGUF files of different quantisations, some in shards, some of them with a shard missing, and other files."""
    files = [RepoFile(path="README.md", size=10), RepoFile(path="mmproj-model-F16.gguf", size=50)]
    for tag in draw(st.lists(st.sampled_from(TAGS), min_size=1, unique=True)):
        shards, size = draw(st.integers(1, 3)), draw(st.integers(1, 10**10))
        names = (
            [f"m-{tag}.gguf"]
            if shards == 1
            else [f"{tag}/m-{tag}-{n:05}-of-{shards:05}.gguf" for n in range(1, shards + 1)]
        )
        if shards > 1 and draw(st.booleans()):
            names.pop(draw(st.integers(0, shards - 1)))
        files += [RepoFile(path=name, size=size) for name in names]
    return draw(st.permutations(files))


@settings(max_examples=40)
@given(repositories(), st.none() | st.integers(0, 4 * 10**10))
def test_the_choice_is_the_largest_whole_quantisation_that_fits(files: list[RepoFile], room: int | None) -> None:
    models = gguf_models(files)
    whole = [model for model in models if model.whole]
    pool = [model for model in whole if model.tag not in UNQUANTISED] or whole
    fitting = [model for model in pool if room is None or model.need_bytes <= room]
    try:
        chosen = choose_gguf("a/b", models, None, room)
    except ModelUnavailable:
        assert not fitting
        return
    assert chosen.size == max(model.size for model in fitting)
    assert all(file.name.endswith(".gguf") and not file.name.startswith("mmproj") for file in chosen.files)
    assert chosen.main == chosen.files[0].path


@settings(max_examples=40)
@given(repositories())
def test_every_whole_model_can_be_named_in_each_way(files: list[RepoFile]) -> None:
    models = gguf_models(files)
    for model in models:
        for wanted in (model.main, model.stem, model.files[-1].name, model.tag, model.tag.lower()):
            if model.whole:
                assert choose_gguf("a/b", models, wanted, 0).main == model.main
            else:
                with pytest.raises(ModelUnavailable):
                    choose_gguf("a/b", models, wanted, 0)


@given(
    st.lists(
        st.sampled_from(["config.json", "a.py", "model.safetensors", "pytorch_model.bin", "x.pt", "x.pkl", "t.json"])
    )
)
def test_nothing_that_runs_code_is_chosen_unasked(names: list[str]) -> None:
    snapshot = Snapshot(repo="a/b", commit="0" * 40, files=tuple(RepoFile(path=name, size=1) for name in set(names)))
    try:
        chosen = choose_files(snapshot, None, Wish())
    except ApplianceError:
        return
    assert {file.path for file in chosen.files} <= {"config.json", "model.safetensors", "t.json"}


@given(st.lists(st.tuples(st.integers(0, 10**9), st.floats(0, 100))), st.integers(0, 10**10))
def test_the_meter_stays_in_its_bounds(steps: list[tuple[int, float]], total: int) -> None:
    now = [0.0]
    meter = Meter(total, lambda: now[0])
    for count, seconds in steps:
        now[0] += seconds
        meter.add(count)
        assert 0 <= meter.fraction <= 1
        assert meter.rate is None or meter.rate > 0
        assert meter.eta_s is None or meter.eta_s >= 0
