"""Which models are loaded when memory does not hold all of them: a pure policy over what waits, runs and is in use."""
