"""Types, ports, errors, settings and paths that every other package speaks; imports nothing of ours."""
