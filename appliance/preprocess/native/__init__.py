"""The table of words in C, as far as it was built here: `word_table`. Only `word_table.py` above imports it."""
