"""Makes the model that is shipped as `tiny-demo`: about a million weights, trained in two minutes from Python's manual.

No data is downloaded. The same Python, torch and seed give the same file. Not run by any build: its output is tracked.

    python -m venv /tmp/demo && /tmp/demo/bin/pip install torch numpy tokenizers safetensors gguf
    /tmp/demo/bin/python packaging/demo-model/make_demo_model.py OUT_FOLDER

OUT_FOLDER/tiny-demo.gguf goes to appliance/models/demo/, the other files to tests/data/tiny/.
"""

# /// script
# requires-python = ">=3.11"
# dependencies = ["gguf", "numpy", "safetensors", "tokenizers", "torch"]
# ///

import argparse
import json
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf
import numpy
import torch
from corpus import ANSWERS, SYSTEM_PROMPT, read_conversations, read_prose
from network import Network, Shape, train
from safetensors.numpy import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

SPECIAL_TOKENS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|pad|>"]
END_OF_TEXT, _, END_OF_TURN, PADDING = range(4)
ROW_TOKENS = 256
ANSWER_SHARE = 0.4  # of conversations that are answers to learn by heart
TEMPLATE = (
    "{%- for message in messages -%}"
    "{{- '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' -}}"
    "{%- endfor -%}{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\n' -}}{%- endif -%}"
)
GGUF_PARTS = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}

Weights = dict[str, numpy.ndarray]


@dataclass(frozen=True)
class Lessons:
    """Token ids to learn from."""

    prose: list[int]
    conversations: list[list[int]]
    answers: list[list[int]]

    def row(self, place: int) -> list[int]:
        """One training row: a piece of prose in every fourth place of a batch, whole conversations in the others."""
        if place % 4 == 0:
            start = random.randrange(len(self.prose) - ROW_TOKENS - 1)
            return self.prose[start : start + ROW_TOKENS + 1]
        row: list[int] = []
        while len(row) <= ROW_TOKENS:
            pool = self.answers if random.random() < ANSWER_SHARE else self.conversations
            row += [*random.choice(pool), END_OF_TEXT]
        return row[: ROW_TOKENS + 1]


def main() -> None:
    """Train and write all files."""
    options = parse_options()
    random.seed(options.seed)
    torch.manual_seed(options.seed)
    torch.set_num_threads(options.threads)
    options.folder.mkdir(parents=True, exist_ok=True)
    prose, conversations = read_prose(), read_conversations()
    tokenizer = train_tokenizer(prose + [part for pair in [*conversations, *ANSWERS.items()] for part in pair])
    network = Network(Shape())
    loss = train(network, make_lessons(tokenizer, prose, conversations).row, steps=options.steps, batch=options.batch)
    weights = {name: tensor.detach().numpy().astype(numpy.float16) for name, tensor in network.state_dict().items()}
    write_folder(options.folder, tokenizer, weights, network.shape)
    write_gguf(options.folder / "tiny-demo.gguf", tokenizer, weights, network.shape)
    print(f"loss {loss:.3f}; {show_answer(network, tokenizer, 'What is two plus two?')!r}")


def parse_options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Make the demo model.")
    parser.add_argument("folder", type=Path, help="where the files go")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=7)
    return parser.parse_args()


def train_tokenizer(texts: list[str]) -> Tokenizer:
    """Byte-level BPE over the texts."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=Shape.vocabulary, special_tokens=SPECIAL_TOKENS, show_progress=False, initial_alphabet=alphabet
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def make_lessons(tokenizer: Tokenizer, prose: list[str], conversations: list[tuple[str, str]]) -> Lessons:
    """Everything as token ids. Conversations longer than a row are left out."""

    def encode_turns(question: str, answer: str, system: str = "") -> list[int]:
        turns = [("system", system)] * bool(system) + [("user", question), ("assistant", answer)]
        text = "".join(f"<|im_start|>{role}\n{content}<|im_end|>\n" for role, content in turns)
        return list(tokenizer.encode(text).ids)

    encoded = [encode_turns(*pair) for pair in conversations]
    return Lessons(
        prose=[token for text in prose for token in [*tokenizer.encode(text).ids, END_OF_TEXT]],
        conversations=[ids for ids in encoded if len(ids) < ROW_TOKENS],
        answers=[encode_turns(*pair, system) for pair in ANSWERS.items() for system in ("", SYSTEM_PROMPT)],
    )


def show_answer(network: Network, tokenizer: Tokenizer, question: str, longest: int = 40) -> str:
    """The network's greedy answer."""
    start = list(tokenizer.encode(f"<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n").ids)
    ids = list(start)
    with torch.no_grad():
        while len(ids) < len(start) + longest and ids[-1] not in (END_OF_TEXT, END_OF_TURN):
            ids.append(int(network(torch.tensor([ids]))[0, -1].argmax()))
    return str(tokenizer.decode(ids[len(start) :]))


def write_folder(folder: Path, tokenizer: Tokenizer, weights: Weights, shape: Shape) -> None:
    """The files of a Hugging Face model folder."""
    save_file(
        {f"model.{name}": values for name, values in weights.items()}, folder / "model.safetensors", {"format": "pt"}
    )
    (folder / "model.safetensors").chmod(0o644)  # the library makes it private
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    config = {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu", "torch_dtype": "float16",
        "hidden_size": shape.hidden, "intermediate_size": shape.feed_forward, "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads, "num_key_value_heads": shape.kv_heads, "head_dim": shape.head_size,
        "max_position_embeddings": shape.context, "rms_norm_eps": shape.epsilon, "rope_theta": shape.rope_base,
        "vocab_size": shape.vocabulary, "tie_word_embeddings": True, "attention_bias": False, "mlp_bias": False,
        "bos_token_id": None, "eos_token_id": END_OF_TURN, "pad_token_id": PADDING, "use_cache": True,
    }  # fmt: skip
    ends = {"eos_token_id": [END_OF_TURN, END_OF_TEXT], "pad_token_id": PADDING}
    plain = {"lstrip": False, "normalized": False, "rstrip": False, "single_word": False, "special": True}
    tokenizer_config = {
        "tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": shape.context, "add_bos_token": False,
        "bos_token": None, "eos_token": SPECIAL_TOKENS[END_OF_TURN], "pad_token": SPECIAL_TOKENS[PADDING],
        "clean_up_tokenization_spaces": False, "chat_template": TEMPLATE,
        "added_tokens_decoder": {str(number): {"content": text, **plain} for number, text in enumerate(SPECIAL_TOKENS)},
    }  # fmt: skip
    write_json(folder / "config.json", config)
    write_json(folder / "generation_config.json", {**ends, "do_sample": True, "temperature": 0.7, "top_p": 0.9})
    write_json(folder / "tokenizer_config.json", tokenizer_config)


def write_json(path: Path, value: dict[str, Any]) -> None:
    """One readable JSON file."""
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def write_gguf(path: Path, tokenizer: Tokenizer, weights: Weights, shape: Shape) -> None:
    """The GGUF file: matrices as Q8_0, norms as 32-bit floats."""
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_name("tiny-demo")
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0)
    writer.add_vocab_size(shape.vocabulary)
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.hidden)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.feed_forward)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_key_length(shape.head_size)
    writer.add_value_length(shape.head_size)
    writer.add_rope_dimension_count(shape.head_size)
    writer.add_rope_freq_base(shape.rope_base)
    writer.add_layer_norm_rms_eps(shape.epsilon)
    add_vocabulary(writer, tokenizer, shape)
    for name, values in weights.items():
        add_tensor(writer, gguf_name(name), gguf_layout(name, values.astype(numpy.float32), shape))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def add_vocabulary(writer: gguf.GGUFWriter, tokenizer: Tokenizer, shape: Shape) -> None:
    """Tokens, merges, special ids and the chat template."""
    kinds = [gguf.TokenType.CONTROL if number < len(SPECIAL_TOKENS) else gguf.TokenType.NORMAL
             for number in range(shape.vocabulary)]  # fmt: skip
    merges = json.loads(tokenizer.to_str())["model"]["merges"]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list([tokenizer.id_to_token(number) for number in range(shape.vocabulary)])
    writer.add_token_types([int(kind) for kind in kinds])
    writer.add_token_merges([merge if isinstance(merge, str) else " ".join(merge) for merge in merges])
    writer.add_eos_token_id(END_OF_TURN)
    writer.add_eot_token_id(END_OF_TURN)
    writer.add_pad_token_id(PADDING)
    writer.add_add_bos_token(False)
    writer.add_chat_template(TEMPLATE)


def add_tensor(writer: gguf.GGUFWriter, name: str, values: numpy.ndarray) -> None:
    """Matrices are quantised, vectors are kept."""
    if values.ndim == 1:
        writer.add_tensor(name, values)
        return
    kind = gguf.GGMLQuantizationType.Q8_0
    writer.add_tensor(name, gguf.quants.quantize(values, kind), raw_dtype=kind)


def gguf_name(name: str) -> str:
    """GGUF's name of a Llama weight."""
    whole = {"embed_tokens.weight": "token_embd.weight", "norm.weight": "output_norm.weight"}
    if name in whole:
        return whole[name]
    _, layer, part = name.removesuffix(".weight").split(".", 2)
    return f"blk.{layer}.{GGUF_PARTS[part]}.weight"


def gguf_layout(name: str, values: numpy.ndarray, shape: Shape) -> numpy.ndarray:
    """Queries and keys with the two halves of each rotary pair side by side, as the llama architecture wants them."""
    heads = {"q_proj": shape.heads, "k_proj": shape.kv_heads}.get(name.split(".")[-2])
    if heads is None:
        return values
    halves = values.reshape(heads, 2, shape.head_size // 2, -1)
    return halves.swapaxes(1, 2).reshape(values.shape)


if __name__ == "__main__":
    main()
