"""Architectures of our own."""
