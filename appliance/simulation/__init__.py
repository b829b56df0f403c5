"""A model of an engine's scheduler and KV cache, without clock and I/O; the mocker and the replay of traces drive it."""
