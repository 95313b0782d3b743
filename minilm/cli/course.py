"""The commands around the course itself: `minilm lab | data | progress | doctor | version`."""

import importlib.metadata
import os
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from minilm import __version__, paths
from minilm.cli import app, console, fail, say

data_app = typer.Typer(help="The texts that the course can train on.", no_args_is_help=True)
progress_app = typer.Typer(help="Which exercises you have passed.", invoke_without_command=True)
app.add_typer(data_app, name="data")
app.add_typer(progress_app, name="progress")

FIRST_PAGE = "notebooks/00_welcome.ipynb"
VERDICT_SIGNS = {"ok": "[green]✓[/green]", "note": "[yellow]![/yellow]", "problem": "[red]✗[/red]"}


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def lab(
    context: typer.Context,
    start: Annotated[bool, typer.Option(help="Open JupyterLab after copying new exercises.")] = True,
) -> None:
    """Copy new exercises into work/, never over your own, and open the course in JupyterLab.

    Further options go to JupyterLab: minilm lab --no-browser --port 9999
    """
    from minilm.course.lab import update_work

    checkout = paths.checkout()
    if checkout is None:
        fail(
            f"There is no course around {Path.cwd()}. Go to the folder that holds notebooks/ and exercises/, then try again."
        )
    try:
        report = update_work(checkout / "exercises", paths.work())
    except OSError as error:
        fail(
            f"The exercises can't be copied to {paths.work()} ({error.strerror}): "
            "make it a folder that you may write to, or name another one in MINILM_WORK."
        )
    say(report.text())
    if start:
        raise typer.Exit(start_jupyterlab(checkout, context.args))


def start_jupyterlab(checkout: Path, arguments: list[str]) -> int:
    """Run JupyterLab on the course until it is stopped, and return its exit status.

    Our settings (no news, no update checks) are found through JUPYTER_CONFIG_PATH, so nothing of the user's is changed.
    """
    if is_root() and "--allow-root" not in arguments:
        # In a container root is the usual user, and JupyterLab would refuse; it still listens on this computer only, with a token.
        say("You are root, so the notebooks run as root too.")
        arguments = [*arguments, "--allow-root"]
    settings = Path(__file__).parents[1] / "course" / "jupyter"
    inherited = os.environ.get("JUPYTER_CONFIG_PATH")
    environment = os.environ | {
        "JUPYTER_CONFIG_PATH": os.pathsep.join([str(settings), *([inherited] if inherited else [])])
    }
    command = [
        *(sys.executable, "-m", "jupyterlab", f"--ServerApp.root_dir={checkout}"),
        *("--LabApp.extension_manager=readonly", f"--LabApp.default_url=/lab/tree/{FIRST_PAGE}"),
        *arguments,
    ]
    try:
        return subprocess.run(command, env=environment, cwd=checkout).returncode
    except KeyboardInterrupt:
        return 0


def is_root() -> bool:
    """Whether this process may do anything."""
    return hasattr(os, "geteuid") and os.geteuid() == 0


@data_app.command("list")
def list_data() -> None:
    """List the texts that the course can train on: made here, on every disk, or fetched by name."""
    from minilm.data import corpora, download

    say("Made or found on this computer, by name wherever a command takes FILE:")
    for name in corpora.local_names():
        say(f"  {name}")
    say("Fetched by `minilm data get NAME`:")
    for data_set in download.list_sets():
        here = "[green]✓ here[/green]" if data_set.here else "not here yet"
        console.print(f"  {data_set.name} ({here}): {data_set.about}", highlight=False, soft_wrap=True)
        say(f"    from {data_set.source}, {data_set.licence}, {data_set.status}", style="dim")


@data_app.command("get")
def get_data(name: Annotated[str, typer.Argument(help="A name from `minilm data list`.")]) -> None:
    """Fetch a text by name, and check it; a download that was cut goes on where it stopped."""
    from minilm.data import corpora, download

    if corpora.needs_no_fetching(name):
        say(f"{name} needs no fetching: give its name where a command takes FILE.")
        return
    try:
        fetched = download.get(name)
    except download.DownloadError as error:
        fail(str(error))
    said = "was here already" if fetched.already_here else "fetched"
    checked = "as expected" if fetched.checked else "no known checksum to compare with"
    say(f"{name} {said}: {fetched.path}")
    say(f"{fetched.size:,} bytes, sha256 {fetched.sha256} ({checked})")


@data_app.command("where")
def where_data(name: Annotated[str, typer.Argument(help="A name from `minilm data list`.")]) -> None:
    """Print the path of a text that has been fetched."""
    from minilm.data import corpora, download

    if corpora.needs_no_fetching(name):
        fail(f"{name} is no file: it is made anew each time. Give its name where a command takes FILE.")
    try:
        print(download.where(name))
    except download.DownloadError as error:
        fail(str(error))


@progress_app.callback()
def show_progress(
    context: typer.Context,
    lesson: Annotated[str | None, typer.Option(help="Only this lesson, such as 01.")] = None,
) -> None:
    """Show which exercises you have passed."""
    if context.invoked_subcommand is None:
        from minilm.course import progress
        from minilm.course.records import location

        print(progress(lesson))
        say(f"Kept in {location()}", style="dim")


@progress_app.command("export")
def export_progress(
    format: Annotated[str, typer.Argument(help="json or csv")] = "json",
) -> None:
    """Print the table of your progress as JSON or CSV."""
    from minilm.course.records import export

    try:
        print(export(format), end="")
    except ValueError as error:
        fail(str(error))


@progress_app.command("reset")
def reset_progress(id: Annotated[str, typer.Argument(help="An exercise, such as 01.3.")]) -> None:
    """Forget one exercise, as if you had never tried it; your code stays where it is."""
    from minilm.course.records import reset

    if not reset(id):
        fail(f"Nothing is recorded for exercise {id!r}. `minilm progress` lists the exercises.")
    say(f"Exercise {id} is as if never tried.")


@app.command()
def doctor() -> None:
    """Look at Python, packages, memory, disk, kernel and widgets, and say how to mend what is wrong."""
    from minilm.doctor import examine

    problems = 0
    for finding in examine():
        problems += finding.verdict == "problem"
        sign = VERDICT_SIGNS[finding.verdict]
        console.print(f"{sign} {finding.subject}: {escape(finding.found)}", highlight=False, soft_wrap=True)
        if finding.remedy:
            say(f"  {finding.remedy}", style="bold")
    say("Everything is fine." if problems == 0 else f"{problems} to mend.")
    raise typer.Exit(min(problems, 1))


@app.command()
def version() -> None:
    """Say which version is installed."""
    torch = importlib.metadata.version("torch")
    say(f"minilm {__version__} (Python {sys.version.split()[0]}, torch {torch})")
