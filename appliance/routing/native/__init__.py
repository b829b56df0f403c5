"""What of routing is compiled, as far as it was built here: the prefix index and block hashes, in `block_tree`.

Only `native_index` and `block_hash` import it.
"""
