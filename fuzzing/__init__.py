"""Throws broken archives, annotations and images at what reads a user's data."""
