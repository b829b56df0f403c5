"""Engines: each subpackage runs a model behind the `Engine` port; what they share lies directly in here."""
