"""What engines and other routers say about caches, as it arrives from outside: decoded, put in order, made whole."""
