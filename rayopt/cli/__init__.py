"""What a person types. Nothing heavy is imported before a command needs it."""

from rayopt.cli.commands import main

__all__ = ["main"]
