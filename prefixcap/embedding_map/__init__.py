"""Embeddings of images and captions laid out in two dimensions."""
