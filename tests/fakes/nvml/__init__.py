"""A stand-in for the driver's library: C, compiled once per test run, fed by a text table."""
