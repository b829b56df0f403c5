"""The OpenAI protocol family: chat completions, completions, embeddings, model lists and errors."""
