"""Public protocols: request bodies in, response bodies and stream events out. No sockets, no waiting."""
