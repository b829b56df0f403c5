"""End-to-end tests on the real executable (`--binary PATH`) or on `python -m appliance`."""
