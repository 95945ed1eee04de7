"""The command `demo`: serves a local page to try a registered model on a photograph."""

from person_attributes.commands.demo.page import demo

__all__ = ["demo"]
