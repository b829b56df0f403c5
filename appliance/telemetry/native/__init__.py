"""Counting of values by bucket in C, as far as it was built here: `buckets`. Only `buckets.py` above imports it."""
