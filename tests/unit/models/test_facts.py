"""What the files of a model say about it."""

import hashlib
import json
import shutil
from pathlib import Path

import pytest

from appliance.core.errors import ModelFileBad
from appliance.core.requests import Sampling
from appliance.models.demo import demo_model_path
from appliance.models.facts import describe_model
from tests.helpers.gguf_writer import retokenize_demo
from tests.helpers.vocabularies import sentence_piece

TINY = Path(__file__).parents[2] / "data" / "tiny"


def test_demo_model() -> None:
    facts = describe_model(demo_model_path())
    assert (facts.name, facts.architecture, facts.task) == ("tiny-demo", "llama", "generate")
    assert (facts.context_length, facts.vocab_size, facts.embedding_size, facts.layers) == (8192, 2048, 128, 4)
    assert facts.kv_bytes_per_token == 4 * 1 * (64 + 64) * 2
    assert facts.eos_token == "<|im_end|>"
    assert facts.eos_token_ids == (0, 2)
    assert not facts.add_bos
    assert set(facts.files) == {"tokenizer.json", "chat_template.jinja"}
    for name, data in facts.files.items():
        assert facts.refs[name].digest == hashlib.sha256(data).hexdigest()
        assert facts.refs[name].size_bytes == len(data)


FOLDER_FILES = (
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
    "model.safetensors",
)


def test_hugging_face_folder(tmp_path: Path) -> None:
    for name in FOLDER_FILES:
        shutil.copy(TINY / name, tmp_path)
    facts = describe_model(tmp_path)
    assert facts.files["tokenizer.json"] == (TINY / "tokenizer.json").read_bytes()
    assert facts.name == tmp_path.name
    gguf = describe_model(demo_model_path())
    assert facts.kv_bytes_per_token == gguf.kv_bytes_per_token
    assert facts.eos_token_ids == gguf.eos_token_ids
    assert facts.files["chat_template.jinja"] == gguf.files["chat_template.jinja"]
    assert facts.default_sampling == Sampling(temperature=0.7, top_p=0.9)
    assert facts.size_bytes == 1_049_728 * 2


def test_sampling_defaults_and_tool_template_of_a_gguf(tmp_path: Path) -> None:
    changes = {
        "general.sampling.temp": 0.5,
        "general.sampling.top_k": 20,
        "general.sampling.top_p": "nonsense",
        "tokenizer.chat_template.tool_use": "{{ tools }}",
    }
    facts = describe_model(retokenize_demo(tmp_path / "m.gguf", changes))
    assert facts.default_sampling == Sampling(temperature=0.5, top_k=20)
    assert facts.files["tool_chat_template.jinja"] == b"{{ tools }}"


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"general.architecture": "warp-drive"}, "architecture 'warp-drive', which the embedded engine cannot run"),
        ({"general.architecture": None}, "does not say its architecture"),
        ({"general.type": "adapter"}, "holds no model of its own"),
        ({"tokenizer.ggml.tokens": ["a", "b", "a"]}, "token 'a' stands in it twice"),
        ({"tokenizer.ggml.tokens": ["a", "a\0b"]}, "token 'a' stands in it twice"),
        ({"tokenizer.ggml.token_type": [1, 1]}, "fewer token types"),
        ({"split.count": 3}, "one of 3 shards"),
    ],
)
def test_unusable_gguf(tmp_path: Path, changes: dict[str, object], says: str) -> None:
    path = retokenize_demo(tmp_path / "m.gguf", changes)
    with pytest.raises(ModelFileBad, match=says):
        describe_model(path)


def test_shards_are_added_up_and_a_missing_one_is_named(tmp_path: Path) -> None:
    first = retokenize_demo(tmp_path / "big-00001-of-00002.gguf", {"split.count": 2})
    with pytest.raises(ModelFileBad, match=r"big-00002-of-00002\.gguf does not exist"):
        describe_model(first)
    retokenize_demo(tmp_path / "big-00002-of-00002.gguf", {"split.count": 2})
    facts = describe_model(tmp_path)
    assert facts.name == "big"
    assert facts.size_bytes == 2 * describe_model(demo_model_path()).size_bytes


@pytest.mark.parametrize("changes", [{"llama.pooling_type": 1}, {"general.architecture": "bert"}])
def test_embedding_models(tmp_path: Path, changes: dict[str, object]) -> None:
    assert describe_model(retokenize_demo(tmp_path / "m.gguf", changes)).task == "embed"


def test_begin_token_of_sentence_piece(tmp_path: Path) -> None:
    changes = {**sentence_piece(), "tokenizer.ggml.add_bos_token": None}
    facts = describe_model(retokenize_demo(tmp_path / "m.gguf", changes))
    assert facts.add_bos
    assert (facts.bos_token, facts.eos_token) == ("<s>", "</s>")


def test_unknown_vocabulary_kind_gives_no_tokenizer(tmp_path: Path) -> None:
    for kind in ("t5", "bert", "rwkv", "plamo2"):
        path = retokenize_demo(tmp_path / "m.gguf", {"tokenizer.ggml.model": kind})
        assert "tokenizer.json" not in describe_model(path).files
    path = retokenize_demo(tmp_path / "m.gguf", {"tokenizer.ggml.pre": "newest-kind"})
    assert "tokenizer.json" not in describe_model(path).files


def test_gguf_folder_with_a_template_beside(tmp_path: Path) -> None:
    shutil.copy(demo_model_path(), tmp_path / "m.gguf")
    (tmp_path / "mmproj-x.gguf").write_bytes(b"ignored")
    (tmp_path / "chat_template.jinja").write_text("mine")
    facts = describe_model(tmp_path)
    assert facts.path == tmp_path / "m.gguf"
    assert facts.files["chat_template.jinja"] == b"mine"
    shutil.copy(demo_model_path(), tmp_path / "n.gguf")
    with pytest.raises(ModelFileBad, match=r"more than one GGUF file; give one of them: m\.gguf, n\.gguf"):
        describe_model(tmp_path)


def test_named_templates(tmp_path: Path) -> None:
    shutil.copy(TINY / "config.json", tmp_path)
    templates = [{"name": "default", "template": "D"}, {"name": "tool_use", "template": "T"}, {"name": 3}, "junk"]
    (tmp_path / "tokenizer_config.json").write_text(
        json.dumps({"chat_template": templates, "eos_token": {"content": "E"}})
    )
    facts = describe_model(tmp_path)
    assert facts.files == {"chat_template.jinja": b"D", "tool_chat_template.jinja": b"T"}
    assert facts.eos_token == "E"


def test_bad_folders(tmp_path: Path) -> None:
    with pytest.raises(ModelFileBad, match="does not exist"):
        describe_model(tmp_path / "none")
    with pytest.raises(ModelFileBad, match=r"neither a GGUF file nor a config\.json"):
        describe_model(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ModelFileBad, match="no valid JSON"):
        describe_model(tmp_path)
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(ModelFileBad, match="no JSON object"):
        describe_model(tmp_path)


@pytest.mark.parametrize("keep", [4, 500, 100_000])
def test_truncated_weights(tmp_path: Path, keep: int) -> None:
    shutil.copy(TINY / "config.json", tmp_path)
    (tmp_path / "model.safetensors").write_bytes((TINY / "model.safetensors").read_bytes()[:keep])
    with pytest.raises(ModelFileBad, match=r"truncated|no safetensors"):
        describe_model(tmp_path)
