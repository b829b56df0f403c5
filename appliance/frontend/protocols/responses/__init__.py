"""OpenAI's Responses protocol, without a store: every request brings its whole conversation."""
