"""A model of an engine: its scheduler and KV cache, without clock and I/O. The mocker and trace replays drive it."""
