"""The room of two chapters: linear representations with their inner products, and the geometry of months."""
