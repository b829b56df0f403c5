"""From an engine's chunks to the client's socket: the sinks that the link's pump calls."""
