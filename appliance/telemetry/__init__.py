"""Logging set-up, the metric table and its rendering."""
