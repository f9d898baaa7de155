"""How transformers compute: the code behind the book."""
