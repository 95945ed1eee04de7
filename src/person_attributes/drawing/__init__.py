"""Shared code for plots and pages."""
