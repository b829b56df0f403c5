"""Which files of a repository are taken, and what is said when none can be."""

import pytest

from appliance.core.errors import ModelUnavailable
from appliance.models.hub.choice import Form, Wish, choose_files, form_for
from appliance.models.hub.files import RepoFile, Selection, Snapshot

GB = 10**9


def of(sizes: dict[str, int]) -> Snapshot:
    files = tuple(RepoFile(path=path, size=size) for path, size in sizes.items())
    return Snapshot(repo="acme/m", commit="0" * 40, files=files)


QUANTS = of(
    {"m-Q2_K.gguf": 3 * GB, "m-Q4_K_M.gguf": 5 * GB, "m-Q8_0.gguf": 8 * GB, "m-F16.gguf": 16 * GB, "config.json": 1}
)
FOLDER = {"config.json": 1, "tokenizer.json": 9, "model.safetensors": 100}


def choose(found: Snapshot, file: str | None = None, form: Form = "any", **wish: object) -> Selection:
    return choose_files(found, file, Wish(form=form, **wish))  # type: ignore[arg-type]  # fields of Wish


@pytest.mark.parametrize(
    ("room", "main"), [(64, "m-Q8_0.gguf"), (6, "m-Q4_K_M.gguf"), (5.2, "m-Q2_K.gguf"), (None, "m-Q8_0.gguf")]
)
def test_the_largest_quantisation_that_fits(room: float | None, main: str) -> None:
    chosen = choose(QUANTS, room_bytes=None if room is None else int(room * GB))
    assert (chosen.main, [file.path for file in chosen.files]) == (main, [main])
    assert "largest quantisation of 4 files" in chosen.why


def test_nothing_fits_says_what_the_smallest_needs() -> None:
    with pytest.raises(
        ModelUnavailable, match=r"2.0 GB of available memory: m-Q2_K.gguf.* needs 3.4 GB; .*acme/m:Q2_K$"
    ):
        choose(QUANTS, room_bytes=2 * GB)


@pytest.mark.parametrize("file", ["m-F16.gguf", "m-F16", "F16", "f16"])
def test_a_named_file_is_taken_whatever_fits(file: str) -> None:
    assert choose(QUANTS, file, room_bytes=1).main == "m-F16.gguf"


def test_unquantised_files_are_taken_where_there_is_nothing_else() -> None:
    assert choose(of({"m-BF16.gguf": 5, "m-F32.gguf": 10})).main == "m-F32.gguf"


def test_all_shards_come() -> None:
    shards = {f"q8/m-Q8_0-{n:05}-of-00003.gguf": n for n in (3, 1, 2)}
    chosen = choose(of(shards))
    assert (chosen.main, len(chosen.files)) == ("q8/m-Q8_0-00001-of-00003.gguf", 3)
    shards.pop("q8/m-Q8_0-00002-of-00003.gguf")
    with pytest.raises(ModelUnavailable, match="only some of the shards"):
        choose(of(shards))


def test_a_name_that_fits_twice_is_refused() -> None:
    twice = of({"a/m-Q4_0.gguf": 1, "b/m-Q4_0.gguf": 1})
    with pytest.raises(ModelUnavailable, match=r"Q4_0 names more than one file .*a/m-Q4_0.gguf, b/m-Q4_0.gguf"):
        choose(twice, "Q4_0")


def test_the_standard_weights_win_over_their_variants() -> None:
    chosen = choose(of({**FOLDER, "model.fp16.safetensors": 50, "consolidated.safetensors": 100, "onnx/model.json": 1}))
    assert [file.path for file in chosen.files] == ["config.json", "tokenizer.json", "model.safetensors"]
    assert chosen.main == ""


def test_files_of_sentence_transformers_come_along() -> None:
    chosen = choose(
        of({**FOLDER, "modules.json": 1, "1_Pooling/config.json": 1, "additional_chat_templates/tool_use.jinja": 1})
    )
    paths = {file.path for file in chosen.files}
    assert {"modules.json", "1_Pooling/config.json", "additional_chat_templates/tool_use.jinja"} <= paths


@pytest.mark.parametrize(
    ("files", "form", "why"),
    [
        ({"README.md": 1}, "any", "holds no model weights"),
        (FOLDER, "gguf", "holds no GGUF file, and the embedded engine"),
        ({"config.json": 1, "pytorch_model.bin": 9}, "any", r"only as pytorch_model.bin, a pickle.*--allow-pickle"),
        ({"model.safetensors": 1}, "folder", "no config.json"),
        ({"config.json": 1, "model-00001-of-00002.safetensors": 1}, "folder", "lacks part 2 of 2"),
    ],
)
def test_what_cannot_be_used_is_explained(files: dict[str, int], form: Form, why: str) -> None:
    with pytest.raises(ModelUnavailable, match=why):
        choose(of(files), form=form)


def test_pickles_and_code_come_when_they_are_allowed() -> None:
    found = of({"config.json": 1, "pytorch_model.bin": 9, "modeling.py": 1})
    assert {file.path for file in choose(found, allow_pickle=True).files} == {"config.json", "pytorch_model.bin"}
    both = choose(found, allow_pickle=True, allow_remote_code=True)
    assert "modeling.py" in {file.path for file in both.files}


@pytest.mark.parametrize(
    ("engine", "form"), [("llamacpp", "gguf"), ("auto", "any"), ("vllm", "folder"), ("sglang", "folder")]
)
def test_engines_have_their_form(engine: str, form: str) -> None:
    assert form_for(engine) == form


def test_a_gpu_engine_takes_the_folder_beside_gguf_files() -> None:
    both = of({**FOLDER, "m-Q8_0.gguf": 5})
    assert choose(both, form="folder").main == ""
    assert choose(both, form="any").main == "m-Q8_0.gguf"
    assert choose(both, "Q8_0", form="folder").main == "m-Q8_0.gguf"
