"""What engines, workers and other routers say about caches: numbered, sent, put in order, made whole."""
