"""The command `demo`: a page to try a registered model on a photograph, on this machine alone."""

from person_attributes.commands.demo.page import demo

__all__ = ["demo"]
