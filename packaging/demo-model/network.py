"""The demo model's network: a small Llama decoder in plain torch, and its training loop."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True)
class Shape:
    """Sizes of the network. The head size is 64, because engines have fast attention for it."""

    vocabulary: int = 2048
    hidden: int = 128
    layers: int = 4
    heads: int = 2
    kv_heads: int = 1
    head_size: int = 64
    feed_forward: int = 384
    context: int = 8192
    rope_base: float = 10_000.0
    epsilon: float = 1e-5


class Norm(nn.Module):
    """Division by the root mean square, times a learned weight."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(shape.hidden))
        self.epsilon = shape.epsilon

    def forward(self, values: Tensor) -> Tensor:
        return functional.rms_norm(values, self.weight.shape, self.weight, self.epsilon)


class Attention(nn.Module):
    """Causal attention in which all query heads share the key and value heads."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        queries, keys = shape.heads * shape.head_size, shape.kv_heads * shape.head_size
        self.q_proj = nn.Linear(shape.hidden, queries, bias=False)
        self.k_proj = nn.Linear(shape.hidden, keys, bias=False)
        self.v_proj = nn.Linear(shape.hidden, keys, bias=False)
        self.o_proj = nn.Linear(queries, shape.hidden, bias=False)

    def forward(self, values: Tensor, turn: Callable[[Tensor], Tensor]) -> Tensor:
        batch, length, _ = values.shape
        split = (batch, length, -1, self.shape.head_size)
        query, key, value = (
            project(values).view(split).transpose(1, 2) for project in (self.q_proj, self.k_proj, self.v_proj)
        )
        copies = self.shape.heads // self.shape.kv_heads
        key, value = (turn(key).repeat_interleave(copies, 1), value.repeat_interleave(copies, 1))
        mixed = functional.scaled_dot_product_attention(turn(query), key, value, is_causal=True)
        projected: Tensor = self.o_proj(mixed.transpose(1, 2).reshape(batch, length, -1))
        return projected


class FeedForward(nn.Module):
    """The gated feed-forward part of a layer."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(shape.hidden, shape.feed_forward, bias=False)
        self.up_proj = nn.Linear(shape.hidden, shape.feed_forward, bias=False)
        self.down_proj = nn.Linear(shape.feed_forward, shape.hidden, bias=False)

    def forward(self, values: Tensor) -> Tensor:
        down: Tensor = self.down_proj(functional.silu(self.gate_proj(values)) * self.up_proj(values))
        return down


class Layer(nn.Module):
    """One decoder layer, with the module names of the Llama checkpoints."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.input_layernorm, self.post_attention_layernorm = Norm(shape), Norm(shape)
        self.self_attn, self.mlp = Attention(shape), FeedForward(shape)

    def forward(self, values: Tensor, turn: Callable[[Tensor], Tensor]) -> Tensor:
        values = values + self.self_attn(self.input_layernorm(values), turn)
        mixed: Tensor = values + self.mlp(self.post_attention_layernorm(values))
        return mixed


class Network(nn.Module):
    """Token ids to scores of the next token; the embedding is also the output matrix."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.embed_tokens = nn.Embedding(shape.vocabulary, shape.hidden)
        self.layers = nn.ModuleList(Layer(shape) for _ in range(shape.layers))
        self.norm = Norm(shape)
        for name, weights in self.named_parameters():
            if weights.dim() > 1:
                ends_branch = "o_proj" in name or "down_proj" in name
                nn.init.normal_(weights, std=0.02 / math.sqrt(2 * shape.layers) if ends_branch else 0.02)

    def forward(self, ids: Tensor) -> Tensor:
        turn = rotation(self.shape, ids.shape[1])
        values = self.embed_tokens(ids)
        for layer in self.layers:
            values = layer(values, turn)
        return functional.linear(self.norm(values), self.embed_tokens.weight)


def rotation(shape: Shape, length: int) -> Callable[[Tensor], Tensor]:
    """Rotary positions in the half-split layout of the Llama checkpoints."""
    exponents = torch.arange(0, shape.head_size, 2) / shape.head_size
    angles = torch.outer(torch.arange(length).float(), shape.rope_base**-exponents).repeat(1, 2)
    cosine, sine = angles.cos(), angles.sin()

    def turn(values: Tensor) -> Tensor:
        first, second = values.chunk(2, -1)
        return values * cosine + torch.cat((-second, first), -1) * sine

    return turn


def train(
    network: Network, make_row: Callable[[int], list[int]], *, steps: int, batch: int, peak: float = 6e-3
) -> float:
    """AdamW with a short warm-up and a cosine decay; returns the last smoothed loss."""
    groups = [
        {"params": [weights for weights in network.parameters() if weights.dim() > 1], "weight_decay": 0.05},
        {"params": [weights for weights in network.parameters() if weights.dim() == 1], "weight_decay": 0.0},
    ]
    optimiser = torch.optim.AdamW(groups, lr=peak, betas=(0.9, 0.97))
    smoothed = math.nan
    for step in range(steps):
        decay = 0.05 + 0.95 * (1 + math.cos(math.pi * step / steps)) / 2
        for group in optimiser.param_groups:
            group["lr"] = peak * decay * min(1.0, (step + 1) / 20)
        rows = torch.tensor([make_row(place) for place in range(batch)])
        scores = network(rows[:, :-1])
        loss = functional.cross_entropy(scores.flatten(0, 1), rows[:, 1:].flatten())
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        smoothed = loss.item() if math.isnan(smoothed) else 0.9 * smoothed + 0.1 * loss.item()
        if step % 25 == 0:
            print(f"step {step} of {steps}: loss {smoothed:.3f}", flush=True)
    return smoothed
