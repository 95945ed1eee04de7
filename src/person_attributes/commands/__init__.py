"""The commands that are not stages, one module or package each, named after the command."""
