"""Shared code for figures and pages."""
