"""What engines share that are servers of their own: starting and watching it, asking it, reading its streams."""
