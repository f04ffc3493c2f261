"""How the command line speaks: results to stdout, everything else to stderr, errors in one line."""

from __future__ import annotations

import sys
from enum import IntEnum
from typing import NoReturn

import typer
from rich.console import Console
from rich.markup import escape

WIDE = 240
"""Columns where no terminal says how many there are: nothing is wrapped in a file or a pipe."""

out = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else WIDE)
"""What a command was asked for; plain text when stdout is not a terminal."""
err = Console(
    stderr=True, highlight=False, soft_wrap=True, width=None if sys.stderr.isatty() else WIDE
)
"""Notes and errors, so that `$(sagemaker-emulator env)` stays clean."""


class ExitCode(IntEnum):
    """What a command leaves behind for scripts."""

    DONE = 0
    FAILED = 1
    """It could not be done, or the job it was about failed."""
    USAGE = 2
    """A flag, a variable or the settings file is wrong."""


def fail(problem: str, remedy: str = "", code: ExitCode = ExitCode.FAILED) -> NoReturn:
    """Say in one line what is wrong and what to do, and end the command."""
    err.print(f"[bold red]error:[/] {escape(problem)} {escape(remedy)}".rstrip())
    raise typer.Exit(code)


def note(text: str) -> None:
    """Say something that is not the command's result."""
    err.print(f"[dim]{escape(text)}[/]")
