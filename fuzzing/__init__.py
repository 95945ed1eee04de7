"""Fuzzes the code that reads archives, annotations, images and requests."""
