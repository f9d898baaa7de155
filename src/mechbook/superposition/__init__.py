"""More features than dimensions: toy models that show when, in which shapes, and at what price."""
