"""The command line, `minilm ...`: one module for each group of commands.

Nothing heavy is imported until a command runs, so that `minilm --help` answers at once: modules of commands import torch and
what needs it inside of their functions.
"""

from typing import NoReturn

import typer
from rich.console import Console
from rich.markup import escape

app = typer.Typer(
    help="Understand small language models by building one.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_show_locals=False,
)
console = Console()


def main() -> None:
    """Run the command line; what the user can mend ends in one sentence and exit status 1, without a traceback."""
    app()


def fail(message: str) -> NoReturn:
    """Say what is wrong on standard error and stop."""
    Console(stderr=True).print(f"[red]✗[/red] {escape(message)}", highlight=False, soft_wrap=True)
    raise typer.Exit(1)


def say(text: str, style: str | None = None) -> None:
    """Print text as it is: brackets in it are no markup, and long lines are left to the terminal."""
    console.print(text, style=style, markup=False, highlight=False, soft_wrap=True)


# Each module adds its commands to `app`, in the order of this list.
from minilm.cli import training, generation, evaluation, puzzle, course  # noqa: E402, F401, I001
