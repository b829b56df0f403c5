"""The indexer role: follows the cache events of engines itself, and tells over HTTP who holds how much of a prompt."""
