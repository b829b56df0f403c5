"""Composition roots: each role picks its adapters, wires them into domain code and runs its event loop."""
