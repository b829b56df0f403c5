"""The GGUF reader on whole, cut and hostile files."""

import struct
from pathlib import Path
from random import Random

import pytest

from appliance.core.errors import ModelFileBad
from appliance.models.demo import demo_model_path
from appliance.models.gguf import read_gguf
from tests.helpers.gguf_writer import retokenize_demo

HEAD = b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + struct.pack("<Q", 1) + b"k"


def test_reads_the_demo_model() -> None:
    file = read_gguf(demo_model_path())
    assert file.metadata["general.architecture"] == "llama"
    assert len(file.metadata["tokenizer.ggml.tokens"]) == 2048
    assert len(file.tensors) == 38
    last = max(file.tensors, key=lambda tensor: tensor.offset)
    assert file.data_start + last.offset + last.size_bytes == file.file_size


def test_writer_and_reader_agree(tmp_path: Path) -> None:
    values = {
        "a.flag": True,
        "a.count": 7,
        "a.ratio": 0.5,
        "a.text": "ü\udcff",
        "a.list": ["x", "y"],
        "a.floats": [1.5],
    }
    file = read_gguf(retokenize_demo(tmp_path / "m.gguf", values))
    assert {key: file.metadata[key] for key in values} == {**values, "a.floats": (1.5,)}


def test_missing_file_is_named() -> None:
    with pytest.raises(ModelFileBad, match=r"model file /nowhere/x\.gguf does not exist"):
        read_gguf(Path("/nowhere/x.gguf"))


def test_truncated_file_says_how_much_is_there(tmp_path: Path) -> None:
    data = demo_model_path().read_bytes()
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(data[:-1000])
    with pytest.raises(ModelFileBad, match=rf"is truncated: it has {len(data) - 1000} of {len(data)} bytes"):
        read_gguf(cut)


@pytest.mark.parametrize("length", [0, 3, 4, 7, 23, 24, 60, 5000, 60_000])
def test_cut_anywhere_in_the_head_is_one_clear_line(tmp_path: Path, length: int) -> None:
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(demo_model_path().read_bytes()[:length])
    with pytest.raises(ModelFileBad) as caught:
        read_gguf(cut)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"not a model at all", "is not a GGUF file"),
        (b"GGUF" + struct.pack(">I", 3) + bytes(16), "big-endian"),
        (b"GGUF" + struct.pack("<IQQ", 1, 0, 0), "GGUF version 1"),
        (b"GGUF" + struct.pack("<IQQ", 3, 1 << 60, 0), "claims"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 1 << 62), "claims"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + struct.pack("<Q", 1 << 63) + bytes(20), "truncated or damaged"),
        (HEAD + struct.pack("<IIQ", 9, 4, 1 << 61) + bytes(20), "truncated or damaged"),
        (HEAD + struct.pack("<IIQ", 9, 8, 1 << 61) + bytes(20), "truncated or damaged"),
        (
            HEAD + struct.pack("<IIQ", 9, 9, 1) + struct.pack("<IQ", 9, 1) + struct.pack("<IQ", 9, 1) + bytes(9),
            "unknown",
        ),
        (HEAD + struct.pack("<I", 99) + bytes(20), "unknown metadata type 99"),
    ],
)
def test_hostile_heads_cost_nothing(tmp_path: Path, data: bytes, says: str) -> None:
    path = tmp_path / "bad.gguf"
    path.write_bytes(data)
    with pytest.raises(ModelFileBad, match=says):
        read_gguf(path)


def test_bad_alignment(tmp_path: Path) -> None:
    with pytest.raises(ModelFileBad, match="no power of two"):
        read_gguf(retokenize_demo(tmp_path / "m.gguf", {"general.alignment": 33}))


def test_flipped_bytes_never_raise_anything_else(tmp_path: Path) -> None:
    data = bytearray(demo_model_path().read_bytes()[:200_000])
    random = Random(3)
    path = tmp_path / "flipped.gguf"
    for _ in range(60):
        damaged = bytearray(data)
        for _ in range(3):
            damaged[random.randrange(2000)] = random.randrange(256)
        path.write_bytes(damaged)
        with pytest.raises(ModelFileBad):  # it is cut as well, so it never passes
            read_gguf(path)
