"""From a client's request to token ids and from token ids back to text: templates, tokenizers, stop strings."""
