"""The commands that train: `minilm pretrain | finetune | train | sft | dpo`.

Here stands what is asked for and how it is answered; what can be asked for is in `minilm.cli.options`, and the work is done by
`minilm.cli.runs`, for sft and dpo by `minilm.cli.tuning`.
"""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from minilm.cli import app, console, fail, say
from minilm.cli.options import (
    ANSWERS,
    BASED,
    DEFAULTS,
    HARMLESS,
    MINUS,
    OPTIONS,
    PLACES,
    POSITIONALS,
    TrainingCommand,
    signature,
)

if TYPE_CHECKING:
    from minilm.cli.run_file import RunConfig


def command(name: str, about: str) -> None:
    """Add a training command to the app."""

    def run(**values: Any) -> None:
        train(name, values)

    run.__doc__ = about
    run.__signature__ = signature(name)  # type: ignore[attr-defined]
    run.__annotations__ = {each.name: each.annotation for each in signature(name).parameters.values()}
    app.command(name, cls=TrainingCommand, no_args_is_help=True)(run)


command(
    "pretrain",
    """Learn a vocabulary and a model from a text: minilm pretrain stories:easy:5000 2 my-model

    Ctrl-C stops and saves; minilm pretrain --resume my-model goes on.
    """,
)
command(
    "finetune",
    """Go on training a model on another text, with its vocabulary: minilm finetune my-model python-docs 1 my-python""",
)
command("train", """The quick way from a text to a small model: minilm train my-notes.txt 5 my-model""")
command(
    "sft",
    """Teach a model to answer, from conversations: minilm sft story instructions:easy:9600 1 my-assistant

    A file has one {"messages": [...]} a line. Only the answers are learned.
    """,
)
command(
    "dpo",
    """Teach a model what is liked better, from pairs of answers: minilm dpo my-assistant preferences:easy:2000 1 my-friend

    A file has one {"prompt": ..., "chosen": ..., "rejected": ...} a line.
    """,
)


def train(name: str, values: dict[str, Any]) -> None:
    """What all of them do: find out what is asked for, begin or go on, train, and say what can be done with the result."""
    given, out = positionals(name, values)
    changes = given | options(name, values)
    with console.status("Starting"):
        import torch

        from minilm.cli import run_file, runs, tuning
        from minilm.data.download import DownloadError
        from minilm.training import TrainingError
    work = tuning if name in ANSWERS else runs
    begun = False
    try:
        if values["resume"]:
            run = resumed(name, out, changes)
            if runs.is_finished(out):
                again = name if name in ANSWERS else "finetune"
                say(f"{out} made its last step already; `minilm {again} {out} DATA EPOCHS NEW` goes on from it.")
                return
        else:
            run = run_file.build(asked_for(name, values["config"], changes))
        if run.machine.threads:
            torch.set_num_threads(run.machine.threads)
        trainer, prompt = work.go_on(run, out) if values["resume"] else work.begin(run, out, values["force"])
        begun = True
        whole = work.train(trainer, out)
    except KeyboardInterrupt:
        if begun and out.exists():
            fail(f"Stopped at once. Go on from the last checkpoint with: minilm {name} --resume {out}")
        fail("Stopped before there was anything to keep.")
    except (ValueError, OSError, DownloadError, TrainingError, runs.RunError) as error:
        fail(in_a_sentence(error, changes))
    except RuntimeError as error:
        if "memory" not in str(error):
            raise
        fail("There is not enough memory: try a smaller --batch-size, --context or model.")
    if not whole:
        say(f"Stopped after step {trainer.step_number:,}, and saved. Go on with: minilm {name} --resume {out}")
        raise typer.Exit(130)
    say(f"Done: the model is in {out}. {work.farewell(out, prompt)}")


def in_a_sentence(error: Exception, changes: dict[str, Any]) -> str:
    """What is wrong, in the words of the command line: options by their flags, an OSError without its number."""
    from minilm.cli.run_file import plain_words

    message = plain_words(str(error)).strip()
    if isinstance(error, OSError) and error.strerror:
        message = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    for option in OPTIONS:
        if option.place in changes:
            message = re.sub(rf"(?<![\w.]){re.escape(option.place)}\b", option.flag, message)
    return message if message.endswith((".", "?", "!", ")")) else f"{message}."


# --------------------------------------------------------------------------------------------------- what was asked for


def positionals(name: str, values: dict[str, Any]) -> tuple[dict[str, Any], Path]:
    """The values of the run file that the words of the command set, and OUT."""
    words = [values[each.lower()] for each in POSITIONALS[name] if values[each.lower()] is not None]
    names = [each for each in POSITIONALS[name] if each != "EPOCHS" or values["steps"] is None]
    alone = values["config"] or values["resume"]
    place = POSITIONALS[name].index("EPOCHS")
    if values["steps"] is not None and len(words) > place + 1 and number(words[place]) is not None:
        fail(f"Give EPOCHS or --steps, not both: minilm {name} {' '.join(names[:-1])} --steps {values['steps']}.")
    if alone and len(words) == 1:
        names = ["OUT"]
    elif values["config"] and len(words) == 2 and name not in BASED:
        names = [names[0], "OUT"]  # the file says how long
    needed = [each for each in names if each != "MAX_BYTES"]
    usage = f"minilm {name} {' '.join(needed)}"
    if len(words) < len(needed):
        if alone:
            fail(f"With --config or --resume give OUT alone, or all of them: {usage}.")
        fail(f"{' and '.join(needed[len(words) :])} missing: {usage}.")
    found = dict(zip(names, words, strict=False))
    out = found.pop("OUT")
    if "EPOCHS" in found:
        found["EPOCHS"] = epochs(found["EPOCHS"], name, words)
    if "MAX_BYTES" in found:
        found["MAX_BYTES"] = size(found["MAX_BYTES"])
    return {PLACES[each]: value for each, value in found.items()}, Path(out).expanduser()


def number(word: str) -> float | None:
    """A number as typed, None for another word."""
    try:
        return float(word.replace(MINUS, "-"))
    except ValueError:
        return None


def epochs(word: str, name: str, words: list[str]) -> float:
    """EPOCHS as a number above 0; where the words are in another order, the complaint shows the right one."""
    value = number(word)
    if value is None:
        others = [each for each in words if number(each) is None]
        numbers = [each for each in words if number(each) is not None]
        order = [each for each in POSITIONALS[name] if each != "MAX_BYTES"]
        right = (
            [numbers[0] if each == "EPOCHS" else others.pop(0) for each in order]
            if numbers and len(others) > len(order) - 2
            else []
        )
        advice = (
            f"did you mean: minilm {name} {' '.join(right)}"
            if right
            else f"the order is minilm {name} {' '.join(order)}"
        )
        fail(f"EPOCHS is {word!r}, which is no number: {advice}")
    if not 0 < value < float("inf"):
        fail(f"EPOCHS is {word.replace(MINUS, '-')}: it must be above 0.")
    return int(value) if value == int(value) else value


def size(word: str) -> int:
    """A number of bytes as people write it: 1000000, 1_000_000, 500kB, 1MB."""
    match = re.fullmatch(r"(\d[\d_]*(?:\.\d+)?) ?([kmg]?)b?", word.strip(), re.IGNORECASE)
    if match is None or (value := int(float(match[1]) * 1000 ** " kmg".index(match[2].lower() or " "))) < 1:
        fail(f"MAX_BYTES is {word.replace(MINUS, '-')!r}: write a number above 0, as 1000000 or 1MB.")
    return value


def options(name: str, values: dict[str, Any]) -> dict[str, Any]:
    """The values of the run file that options set."""
    found = {
        option.place: values[option.parameter]
        for option in OPTIONS
        if name in option.commands and values[option.parameter] is not None
    }
    if "training.checkpoint_seconds" in found:
        found["training.checkpoint_seconds"] *= 60
    for place in ("training.clip", "training.checkpoint_seconds"):
        if found.get(place) == 0:
            found[place] = None
    return found


def asked_for(name: str, config: str | None, changes: dict[str, Any]) -> dict[str, Any]:
    """The table of a new run: the command's defaults, what the file says, what the command line says."""
    from minilm.cli import run_file

    given = run_file.flatten(run_file.read_table(config)) if config else {}
    if given.get("command", name) != name:
        raise ValueError(f"{config} is for `minilm {given['command']}`, not for `minilm {name}`")
    for one, other in (("training.epochs", "training.steps"), ("training.steps", "training.epochs")):
        if one in changes:
            given.pop(other, None)
    given |= changes
    defaults = dict(DEFAULTS[name])
    if config is None and "base" not in given and "model.preset" not in given:
        # SLiM's documentation doesn't say where its weights begin. From 1 / sqrt(width) a small model learns at once;
        # from the usual 0.02 it spends its first hundred steps on little else than getting away from there.
        width = int(given.get("model.dim", defaults.get("model.dim", 256)))
        defaults["model.initialization.std"] = round(width**-0.5, 4) if width > 0 else 0.02
    if "model.preset" in given:  # another shape has sizes of its own
        defaults = {place: value for place, value in defaults.items() if not place.startswith("model.")}
    return run_file.merge({}, {**defaults, **given, "command": name})


def resumed(name: str, out: Path, changes: dict[str, Any]) -> "RunConfig":
    """The run in a folder; settings that its result depends on must be what they were."""
    from minilm.cli import run_file

    path = out / run_file.RUN_FILE
    if not path.is_file():
        raise ValueError(f"there is no run to go on with in {str(out)!r}: it has no {run_file.RUN_FILE}")
    table = run_file.read_table(path)
    if table.get("command") != name:
        raise ValueError(f"the run in {str(out)!r} goes on by: minilm {table.get('command')} --resume {out}")
    was = {place: None if value == run_file.NONE else value for place, value in run_file.flatten(table).items()}
    for place, value in changes.items():
        if not place.startswith(HARMLESS) and was.get(place) != value:
            raise ValueError(
                f"a run goes on as it began: {place} is {was.get(place)} there, not {value}. Leave it out, or begin another run"
            )
    return run_file.build(run_file.merge(table, {k: v for k, v in changes.items() if k.startswith(HARMLESS)}))
