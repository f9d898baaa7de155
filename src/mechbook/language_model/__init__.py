"""A small language model of our own: its tokenizer, its training, and what it knows."""
