"""Times the per-token and per-prompt work of `preprocess/`: run with `python -m tests.bench.preprocess`.

Prints CPU time, the best of several rounds, because wall time on a shared machine says little.
"""

from functools import partial
from pydoc_data.topics import topics
from random import Random

from appliance.preprocess.stops import StopMatcher
from appliance.preprocess.template import ChatTemplate
from appliance.preprocess.tokenizer import TextTokenizer
from tests.bench.cpu_time import cpu_s
from tests.helpers.tokenizers import FOLDER, demo_tokenizer, sentence_piece_tokenizer

PROMPT_TOKENS = 4000


def main() -> None:
    """Print one line per measurement."""
    tokenizer = demo_tokenizer()
    prompt = make_prompt(tokenizer)
    ids = tokenizer.encode(prompt)
    fresh = TextTokenizer.from_json((FOLDER / "tokenizer.json").read_bytes())
    print(f"prompt of {len(ids)} tokens, {len(prompt)} characters")
    show("encode, words seen before", cpu_s(lambda: tokenizer.encode(prompt)) * 1e3, "ms")
    show("encode, first sight", cpu_s(lambda: fresh.encode(prompt), rounds=1) * 1e3, "ms")
    show("encode, without the cache", cpu_s(lambda: tokenizer._encode_whole(prompt)) * 1e3, "ms")
    teach(fresh)
    short = " ".join(f"word{number}" for number in range(100))
    show("encode 100 of 50,000 known words", cpu_s(lambda: [fresh.encode(short) for _ in range(100)]) * 1e4, "us")
    for name, made in (("byte level", tokenizer), ("sentence piece", sentence_piece_tokenizer())):
        stream = [[token_id] for token_id in made.encode(prompt)]
        show(f"push of one token, {name}", cpu_s(partial(push_all, made, stream)) / len(stream) * 1e9, "ns")
    texts = [tokenizer.token_text(token_id) for token_id in ids]
    show("stop matcher, per token", cpu_s(lambda: match_all(texts)) / len(texts) * 1e9, "ns")
    template = ChatTemplate((FOLDER / "chat_template.jinja").read_text(), bos_token="", eos_token="<|im_end|>")
    messages = [{"role": "user", "content": "Hi"}] * 5
    show("render five messages", cpu_s(lambda: [template.render(messages) for _ in range(1000)]) * 1e3, "us")
    show("load the tokenizer", cpu_s(load) * 1e3, "ms")


def make_prompt(tokenizer: TextTokenizer) -> str:
    """Ordinary words in random order, with their line ends, as long as wanted; the cache has seen all of them."""
    random = Random(1)
    words = [word for word in topics["compound"].split(" ") if word]
    tokenizer.encode(" ".join(words[:1500]))
    for _ in range(6):
        tokenizer.encode(" ".join(random.choices(words, k=1500)))
    count = PROMPT_TOKENS * 1500 // len(tokenizer.encode(" ".join(words[:1500])))
    prompt = " ".join(random.choices(words, k=count))
    tokenizer.encode(prompt)
    return prompt


def teach(tokenizer: TextTokenizer) -> None:
    """Let the cache see many words; what a prompt costs should not depend on how many it knows."""
    for start in range(0, 50_000, 125):
        tokenizer.encode(" ".join(f"word{number}" for number in range(start, start + 127)))


def push_all(tokenizer: TextTokenizer, stream: list[list[int]]) -> None:
    """Detokenise a stream of single tokens."""
    push = tokenizer.detokeniser().push
    for ids in stream:
        push(ids)


def match_all(texts: list[str]) -> None:
    """Look for stop strings in a stream of single tokens."""
    push = StopMatcher(["\n\n\n\nNEVER", "<|stop|>"]).push
    for text in texts:
        push(text)


def load() -> None:
    """Build a tokenizer of 2,048 tokens."""
    TextTokenizer.from_json((FOLDER / "tokenizer.json").read_bytes())


def show(what: str, value: float, unit: str) -> None:
    """One line of the table."""
    print(f"{what:<36} {value:10.3f} {unit}")


if __name__ == "__main__":
    main()
