"""Composition roots: each role picks its adapters, wires them into domain code and owns the event loop of its process."""
