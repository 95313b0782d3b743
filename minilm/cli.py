"""The command line of the course: `minilm lab | data | progress | doctor | version`."""

import importlib.metadata
import os
import subprocess
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console

from minilm import __version__, paths

app = typer.Typer(
    help="Understand small language models by building one.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_show_locals=False,
)
data_app = typer.Typer(help="The texts that the course can train on.", no_args_is_help=True)
progress_app = typer.Typer(help="Which exercises you have passed.", invoke_without_command=True)
app.add_typer(data_app, name="data")
app.add_typer(progress_app, name="progress")

console = Console()
FIRST_PAGE = "notebooks/00_welcome.ipynb"
VERDICT_SIGNS = {"ok": "[green]✓[/green]", "note": "[yellow]![/yellow]", "problem": "[red]✗[/red]"}


def main() -> None:
    """Run the command line; what the user can mend ends in one sentence and exit status 1, without a traceback."""
    app()


def fail(message: str) -> NoReturn:
    """Say what is wrong on standard error and stop."""
    Console(stderr=True).print(f"[red]✗[/red] {message}", highlight=False)
    raise typer.Exit(1)


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
    report = update_work(checkout / "exercises", paths.work())
    console.print(report.text(), highlight=False)
    if start:
        raise typer.Exit(start_jupyterlab(checkout, context.args))


def start_jupyterlab(checkout: Path, arguments: list[str]) -> int:
    """Run JupyterLab on the course until it is stopped, and return its exit status.

    Our settings (no news, no update checks) are found through JUPYTER_CONFIG_PATH, so nothing of the user's is changed.
    """
    settings = Path(__file__).parent / "course" / "jupyter"
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


@data_app.command("list")
def list_data() -> None:
    """List the texts that the course can train on: made here, on every disk, or fetched by name."""
    from minilm.data import corpora, download

    console.print("Made or found on this computer, by name wherever a command takes FILE:", highlight=False)
    for name in corpora.local_names():
        console.print(f"  {name}", highlight=False, soft_wrap=True)
    console.print("Fetched by `minilm data get NAME`:", highlight=False)
    for data_set in download.list_sets():
        here = "[green]✓ here[/green]" if data_set.here else "not here yet"
        console.print(f"  {data_set.name} ({here}): {data_set.about}", highlight=False, soft_wrap=True)
        console.print(
            f"    from {data_set.source}, {data_set.licence}, {data_set.status}",
            style="dim",
            highlight=False,
            soft_wrap=True,
        )


@data_app.command("get")
def get_data(name: Annotated[str, typer.Argument(help="A name from `minilm data list`.")]) -> None:
    """Fetch a text by name, and check it; a download that was cut goes on where it stopped."""
    from minilm.data import download

    try:
        fetched = download.get(name)
    except download.DownloadError as error:
        fail(str(error))
    said = "was here already" if fetched.already_here else "fetched"
    checked = "as expected" if fetched.checked else "no known checksum to compare with"
    console.print(f"{name} {said}: {fetched.path}", highlight=False, soft_wrap=True)
    console.print(f"{fetched.size:,} bytes, sha256 {fetched.sha256} ({checked})", highlight=False, soft_wrap=True)


@data_app.command("where")
def where_data(name: Annotated[str, typer.Argument(help="A name from `minilm data list`.")]) -> None:
    """Print the path of a text that has been fetched."""
    from minilm.data import download

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
        console.print(f"Kept in {location()}", style="dim", highlight=False, soft_wrap=True)


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
    console.print(f"Exercise {id} is as if never tried.", highlight=False)


@app.command()
def doctor() -> None:
    """Look at Python, packages, memory, disk, kernel and widgets, and say how to mend what is wrong."""
    from minilm.doctor import examine

    problems = 0
    for finding in examine():
        problems += finding.verdict == "problem"
        console.print(
            f"{VERDICT_SIGNS[finding.verdict]} {finding.subject}: {finding.found}", highlight=False, soft_wrap=True
        )
        if finding.remedy:
            console.print(f"  {finding.remedy}", style="bold", highlight=False, soft_wrap=True)
    console.print("Everything is fine." if problems == 0 else f"{problems} to mend.", highlight=False)
    raise typer.Exit(min(problems, 1))


@app.command()
def version() -> None:
    """Say which version is installed."""
    torch = importlib.metadata.version("torch")
    console.print(f"minilm {__version__} (Python {sys.version.split()[0]}, torch {torch})", highlight=False)
