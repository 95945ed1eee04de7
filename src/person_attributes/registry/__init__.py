"""Registered models: export, checks, the gate's verdicts, and what versions carry."""
