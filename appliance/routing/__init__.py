"""Which worker serves a request: candidates, load, policies, and waiting for a model that is not ready."""
