"""Which worker serves a request: what is cached where, load, cost, modes, the queue, and waiting for a model."""
