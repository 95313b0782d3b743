"""The command `minilm puzzle`: train a recursive solver, go on with one, test one on puzzles that it cannot have seen."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_origin, get_type_hints

import typer

from minilm.cli import app, console, fail, say

if TYPE_CHECKING:
    from minilm.recursion.run import PuzzleRun, RunningPuzzles

SHAPE, RUN, TEST = "Model", "Run", "Test"
ZOO = "zoo:"
TRAIN_PUZZLES = {4: 500}
MANY = 10_000  # training puzzles where there is no reason for fewer


@app.command(no_args_is_help=True)
def puzzle(
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="PUZZLES OUT", help="4, 6, 9 (sudoku), sudoku-6-14 (givens), maze-11 or zoo:NAME; a folder."
        ),
    ],
    model: Annotated[str, typer.Option(help="trm, hrm, trm-mlp or plain.", rich_help_panel=SHAPE)] = "trm",
    dim: Annotated[int | None, typer.Option(help="Width. 64 for 4x4, else 96.", rich_help_panel=SHAPE)] = None,
    change: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NAME=VALUE",
            help="Any setting of RecursionConfig or PuzzleTraining: --set gradient=one-step --set ema=none.",
            rich_help_panel=SHAPE,
        ),
    ] = None,
    minutes: Annotated[
        float | None, typer.Option(help="How long to train: 10 unless given.", rich_help_panel=RUN)
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Or so many updates.", rich_help_panel=RUN)] = None,
    count: Annotated[
        int | None, typer.Option(help="Puzzles to learn from: 10,000 (4x4: 500).", rich_help_panel=RUN)
    ] = None,
    seed: Annotated[int, typer.Option(help="Of weights, puzzles and disguises.", rich_help_panel=RUN)] = 0,
    threads: Annotated[int | None, typer.Option(help="Processor threads.", rich_help_panel=RUN)] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in OUT.", rich_help_panel=RUN)] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace the run in OUT.", rich_help_panel=RUN)] = False,
    test: Annotated[bool, typer.Option("--test", help="Only test the model in OUT.", rich_help_panel=TEST)] = False,
    test_count: Annotated[int, typer.Option(help="Held-out puzzles to solve.", rich_help_panel=TEST)] = 500,
    segments: Annotated[
        int | None, typer.Option(help="Segments to think: twice those of training.", rich_help_panel=TEST)
    ] = None,
) -> None:
    """Learn to solve puzzles by thinking in loops: minilm puzzle 6 my-solver --minutes 10

    Ctrl-C stops and saves; minilm puzzle --resume my-solver goes on, minilm puzzle --test my-solver tests again. A solver of the zoo
    is made again by minilm puzzle zoo:sudoku-6 my-solver, and tested by minilm puzzle --test zoo:sudoku-6.
    """
    alone = resume or test
    if len(words) != (1 if alone else 2):
        fail(f"Give {'OUT alone with --resume or --test' if alone else 'PUZZLES and OUT'}: minilm puzzle --help")
    if alone and any((change, minutes, steps, count, dim, force)):
        fail("A run goes on as it began, with the settings in OUT/run.json: leave them out, or begin another run.")
    if words[0].startswith(ZOO) and not alone and (change or minutes or steps or count or dim or seed):
        fail(f"{words[0]} has its own settings: leave them out, or name the puzzles instead.")
    with console.status("Starting"):
        import torch

        from minilm.recursion import run as runs
        from minilm.training import TrainingError
    if threads:
        torch.set_num_threads(threads)
    try:
        out = folder_of(words[-1]) if test else Path(words[-1]).expanduser()
        if not test:
            if resume:
                running = runs.go_on(out)
            else:
                wanted = {"steps": steps, "minutes": minutes, "count": count, "dim": dim, "seed": seed}
                if words[0].startswith(ZOO):
                    config = runs.read(folder_of(words[0]))
                else:
                    config = settings(words[0], model, change or [], wanted)
                with console.status("Making puzzles"):
                    running = runs.begin(config, out, force)
            train(running)
            if running.stopped:
                say(
                    f"Stopped after step {running.trainer.step_number:,}, and saved. Go on: minilm puzzle --resume {out}"
                )
                raise typer.Exit(130)
        report(runs.read(out), out, test_count, segments)
    except (ValueError, OSError, TrainingError) as error:
        fail(str(error))


def folder_of(name: str) -> Path:
    """A folder, or that of a solver of the zoo."""
    from minilm import zoo

    return zoo.path(name.removeprefix(ZOO)) if name.startswith(ZOO) else Path(name).expanduser()


def settings(puzzles: str, name: str, changes: list[str], wanted: dict[str, Any]) -> "PuzzleRun":
    """The run that the command line asks for."""
    from minilm.data.puzzles import puzzle_family
    from minilm.recursion.config import RecursionConfig
    from minilm.recursion.presets import small
    from minilm.recursion.run import PuzzleRun
    from minilm.recursion.training import PuzzleTraining

    family = puzzle_family(f"sudoku-{puzzles}" if puzzles[:1].isdigit() else puzzles)
    if wanted["steps"] is not None and wanted["minutes"] is not None:
        raise ValueError("give --minutes or --steps, not both")
    minutes = 10.0 if wanted["minutes"] is None else wanted["minutes"]
    length = {"seconds": 60 * minutes} if wanted["steps"] is None else {"steps": wanted["steps"]}
    shape = {"dim": wanted["dim"]} if wanted["dim"] else {}
    training = length | {"seed": wanted["seed"]}
    known = {
        name: (table, hint)
        for owner, table in ((PuzzleTraining, training), (RecursionConfig, shape))
        for name, hint in get_type_hints(owner).items()
    }
    for each in changes:
        key, sign, value = each.partition("=")
        if not sign or key not in known:
            raise ValueError(f"--set {each}: write NAME=VALUE with one of {', '.join(sorted(known))}")
        table, hint = known[key]
        table[key] = value if get_origin(hint) is Literal else read_value(value)
    return PuzzleRun(
        puzzles=family.name,
        train_puzzles=wanted["count"] or TRAIN_PUZZLES.get(family.side, MANY),
        validation_puzzles=200,
        model=small(name, family, **shape),
        training=PuzzleTraining(**training),
        data_seed=wanted["seed"],
    )


def read_value(text: str) -> Any:
    """A number, true, false or none as such; anything else as text."""
    words = {"true": True, "false": False, "none": None}
    if text.lower() in words:
        return words[text.lower()]
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def train(running: "RunningPuzzles") -> None:
    """Train to the end, with a line whenever the model was measured."""
    trainer = running.trainer
    say(
        f"{running.config.puzzles}: {len(trainer.puzzles):,} puzzles, {trainer.model.num_parameters():,} parameters, "
        f"{trainer.model.config.depth} blocks deep a segment"
    )
    status, shown = console.status(""), 0.0
    with status:
        for record in running.steps():
            if time.monotonic() - shown > 1:
                shown = time.monotonic()
                done = f"step {record.step:,}, {100 * trainer.progress:.0f} %"
                status.update(f"{done}, loss {record.loss:.3f}, solved now {100 * record.metrics['solved']:.0f} %")
            if "exact" in record.metrics:
                say(
                    f"{record.seconds:6.0f} s  step {record.step:,}  loss {record.loss:.3f}  held out: solved "
                    f"{100 * record.metrics['exact_first']:.1f} % at the first segment, "
                    f"{100 * record.metrics['exact']:.1f} % at the last"
                )


def report(config: "PuzzleRun", out: Path, count: int, segments: int | None) -> None:
    """Test the model in a folder on puzzles of the test split, and say what look-up alone would solve."""
    from minilm.data.puzzles import nearest_solutions, overlap
    from minilm.recursion.evaluation import evaluate
    from minilm.recursion.model import RecursiveModel
    from minilm.recursion.run import stored_puzzles

    family, known = config.family(), stored_puzzles(out)
    with console.status("Testing"):
        puzzles = config.held_out("test", count)
        result = evaluate(RecursiveModel.load(out), family, puzzles, segments or 2 * config.model.segments)
        looked_up = family.is_correct(puzzles, nearest_solutions(known, puzzles)).mean()
        shared = overlap(family, known, puzzles)
    say(str(result))
    say(f"{shared} of the {len(puzzles):,} test puzzles share their symmetry class with a training puzzle;")
    say(f"the training solution that agrees best with the givens solves {100 * looked_up:.1f} %.")
