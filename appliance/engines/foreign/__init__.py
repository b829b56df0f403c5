"""What engines share that are servers of their own: starting and watching the server, asking it, reading its streams."""
