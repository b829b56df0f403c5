"""Models as files: reads GGUF and Hugging Face folders, and says what is in them before any engine loads them."""
