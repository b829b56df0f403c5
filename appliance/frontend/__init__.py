"""The public face: protocols, streams, the request path that joins them, and the control app."""
