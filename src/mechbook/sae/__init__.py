"""Sparse autoencoders: dictionaries for activations, judged where the truth is known, then on text."""
