"""Runs component instances as processes: start, watch, restart, replace, stop.

Imports nothing, so that the guard process starts fast.
"""
