"""A small streaming HTTP/1.1 client on trio, for engines that are servers of their own."""
