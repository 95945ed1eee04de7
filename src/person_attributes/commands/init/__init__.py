"""The command `init`: proposes a `params.yaml` for new data."""

from person_attributes.commands.init.command import init

__all__ = ["init"]
