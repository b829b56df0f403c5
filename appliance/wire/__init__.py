"""Sans-I/O framing of the worker link and the bus, and the messages on them."""
