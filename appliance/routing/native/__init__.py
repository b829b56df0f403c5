"""The prefix index in C, as far as it was built here: `block_tree`. Only `native_index` imports it."""
