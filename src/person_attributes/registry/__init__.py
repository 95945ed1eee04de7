"""Registered models: export, checks, promotion, and the files of a version."""
