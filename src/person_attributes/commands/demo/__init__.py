"""The command `demo`: serves a local page to try registered models on photographs."""

from person_attributes.commands.demo.server import demo

__all__ = ["demo"]
