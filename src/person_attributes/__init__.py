"""Trains, compares and serves one network that reads several attributes off one image."""
