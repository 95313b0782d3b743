"""The commands that train: `minilm pretrain | finetune | train`.

Their options are one table, `OPTIONS`: each names the value of a run file that it sets, so that a file and the command line always
say the same things. What the commands then do is in `minilm.cli.runs`.
"""

import inspect
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

import typer
from typer.core import TyperCommand

from minilm.cli import app, console, fail, say

Positional = tuple[str, ...]

POSITIONALS: dict[str, Positional] = {
    "pretrain": ("FILE", "EPOCHS", "OUT", "MAX_BYTES"),
    "train": ("DATA", "EPOCHS", "OUT", "MAX_BYTES"),
    "finetune": ("BASE", "DATA", "EPOCHS", "OUT", "MAX_BYTES"),
}
PLACES = {
    "FILE": "data.text",
    "DATA": "data.text",
    "BASE": "base",
    "EPOCHS": "training.epochs",
    "MAX_BYTES": "data.max_bytes",
}
MEANINGS = {
    "FILE": "The text: a file, a folder, or a name from `minilm data list`, as stories:medium:20000.",
    "DATA": "The text: a file, a folder, or a name from `minilm data list`, as python-docs.",
    "BASE": "The model to go on from: a folder that training made, or a name of the zoo.",
    "EPOCHS": "How often the text is read. A part of once is fine: 0.5.",
    "OUT": "The folder to make: the model, its vocabulary, its settings, its checkpoints.",
    "MAX_BYTES": "Read only the text's beginning: 1000000, 500kB, 1MB.",
}
DEFAULTS: dict[str, dict[str, Any]] = {
    "pretrain": {"model.preset": "slim", "tokenizer.vocab_size": 4096, "training.learning_rate": 1e-3},
    "train": {
        "model.preset": "slim",
        "model.dim": 128,
        "model.num_layers": 4,
        "model.attention.num_heads": 4,
        "model.context_length": 128,
        "tokenizer.vocab_size": 1024,
        "training.learning_rate": 3e-3,
    },
    "finetune": {"training.learning_rate": 3e-4},
}


@dataclass(frozen=True)
class Option:
    """One option: its flag, the value of the run file that it sets, its type and what it means."""

    flag: str
    place: str
    kind: type
    about: str
    panel: str
    only: tuple[str, ...] = ("pretrain", "train", "finetune")
    metavar: str | None = None

    @property
    def parameter(self) -> str:
        """The name of the function's parameter."""
        return self.flag.removeprefix("--").replace("-", "_")


NEW = ("pretrain", "train")
TEXT, VOCABULARY, MODEL, TRAINING = "Text", "Vocabulary", "Model", "Training"
WATCHING, SAVING, MACHINE = "Watching", "Saving", "Machine"

OPTIONS = (
    Option(
        "--separator", "data.separator", str, "What stands between documents. <|endoftext|> is found by itself.", TEXT
    ),
    Option(
        "--held-out",
        "data.held_out",
        float,
        "The share at a text's end that is measured on and not trained on: 0.05.",
        TEXT,
    ),
    Option(
        "--vocab-size", "tokenizer.vocab_size", int, "Tokens in the vocabulary. 257 is bytes alone.", VOCABULARY, NEW
    ),
    Option(
        "--special-tokens",
        "tokenizer.special_tokens",
        str,
        "<end> alone, with chat's, or dlib's 28: end.",
        VOCABULARY,
        NEW,
        "end|chat|dlib",
    ),
    Option(
        "--pre-tokenizer",
        "tokenizer.pre_tokenizer",
        str,
        "How text is cut into words first: gpt2.",
        VOCABULARY,
        NEW,
        "gpt2|gpt4|whitespace",
    ),
    Option(
        "--preset",
        "model.preset",
        str,
        "The shape to start from: slim, mnemos, llama-tiny, gpt2, stlm, dlib-char, ...",
        MODEL,
        NEW,
    ),
    Option("--dim", "model.dim", int, "The width of the model.", MODEL, NEW),
    Option("--layers", "model.num_layers", int, "How many blocks.", MODEL, NEW),
    Option("--heads", "model.attention.num_heads", int, "Attention heads; they divide the width.", MODEL, NEW),
    Option(
        "--kv-heads",
        "model.attention.num_kv_heads",
        int,
        "Key-value heads, fewer than heads for grouped queries.",
        MODEL,
        NEW,
    ),
    Option(
        "--hidden",
        "model.feed_forward.hidden",
        int,
        "The width of the feed-forward; goes with --dim if not set.",
        MODEL,
        NEW,
    ),
    Option("--context", "model.context_length", int, "Tokens that the model sees at once.", MODEL),
    Option("--dropout", "model.block.dropout", float, "The share of activations that is dropped in training.", MODEL),
    Option("--steps", "training.steps", int, "Train this many steps, and leave EPOCHS out.", TRAINING),
    Option("--batch-size", "data.batch_size", int, "Windows or stories that are computed at once: 16.", TRAINING),
    Option("--accumulate", "training.accumulate", int, "Batches whose gradients make one step: 1.", TRAINING),
    Option("--learning-rate", "training.learning_rate", float, "The peak of the learning rate.", TRAINING),
    Option(
        "--schedule",
        "training.schedule.kind",
        str,
        "How the rate moves: cosine.",
        TRAINING,
        metavar="cosine|wsd|plateau|constant",
    ),
    Option(
        "--warmup", "training.schedule.warmup", float, "Steps on the way up, or below 1 a share of all: 0.05.", TRAINING
    ),
    Option(
        "--decay",
        "training.schedule.decay",
        float,
        "With wsd: steps on the way down, or a share of all: 0.2.",
        TRAINING,
    ),
    Option("--final-rate", "training.schedule.final", float, "The last rate as a share of the peak: 0.1.", TRAINING),
    Option(
        "--patience",
        "training.schedule.patience",
        int,
        "With plateau: steps without progress before the rate shrinks.",
        TRAINING,
    ),
    Option(
        "--optimizer",
        "training.optimizer.kind",
        str,
        "What makes steps of gradients: adamw.",
        TRAINING,
        metavar="adamw|adam|sgd",
    ),
    Option(
        "--weight-decay",
        "training.optimizer.weight_decay",
        float,
        "How hard matrices are pulled to zero: 0.1.",
        TRAINING,
    ),
    Option("--clip", "training.clip", float, "The largest norm of all gradients together: 1. 0 is no limit.", TRAINING),
    Option(
        "--label-smoothing",
        "training.label_smoothing",
        float,
        "Probability asked for elsewhere than at the target: 0.",
        TRAINING,
    ),
    Option(
        "--ema", "training.ema", float, "Keep a running average of the weights with this decay, as 0.999.", TRAINING
    ),
    Option(
        "--evaluate-every",
        "training.evaluate_every",
        int,
        "Measure every so many steps, and at the end: ten times a run.",
        WATCHING,
    ),
    Option(
        "--sample-every", "training.sample_every", int, "Let it write every so many steps: four times a run.", WATCHING
    ),
    Option("--prompt", "machine.prompt", str, "What the samples begin with.", WATCHING),
    Option(
        "--log",
        "machine.log",
        str,
        "Where numbers go: OUT/curve.csv, OUT/tensorboard.",
        WATCHING,
        metavar="csv|tensorboard|both|off",
    ),
    Option("--log-every", "training.log_every", int, "Steps between rows: 10.", WATCHING),
    Option(
        "--checkpoint-minutes",
        "training.checkpoint_seconds",
        float,
        "Minutes between checkpoints: 5. 0 is never.",
        SAVING,
    ),
    Option("--checkpoint-every", "training.checkpoint_every", int, "Steps between checkpoints.", SAVING),
    Option("--keep", "training.keep", int, "How many checkpoints are kept: 2.", SAVING),
    Option(
        "--device", "machine.device", str, "auto takes a GPU where there is one.", MACHINE, metavar="auto|cpu|cuda|mps"
    ),
    Option(
        "--precision", "training.precision", str, "Of matrix products: float32.", MACHINE, metavar="float32|bfloat16"
    ),
    Option("--threads", "machine.threads", int, "Processor threads.", MACHINE),
    Option("--seed", "training.seed", int, "Where all randomness starts: 0.", MACHINE),
    Option("--compile", "training.compile", bool, "Compile the model first: a minute, then faster.", MACHINE),
)
# What a resumed run may change: nothing that the result depends on.
HARMLESS = (
    "machine.",
    "training.log_every",
    "training.checkpoint_seconds",
    "training.checkpoint_every",
    "training.keep",
)


def usage_word(name: str) -> str:
    """A positional argument as usage lines write it."""
    return f"[{name}]" if name == "MAX_BYTES" else name


class TrainingCommand(TyperCommand):
    """A command that takes -1 in a place for a number as the number it is, so that we can say what is wrong with it."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the arguments, negative numbers with a real minus sign, which is no option."""
        before = ["", *args]
        marked = [
            arg.replace("-", "−", 1) if re.fullmatch(r"-\d+(\.\d*)?", arg) and not previous.startswith("-") else arg
            for arg, previous in zip(args, before, strict=False)
        ]
        return super().parse_args(ctx, marked)

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """The words of the usage line."""
        return ["[OPTIONS]", *(usage_word(each) for each in POSITIONALS[self.name or "pretrain"])]


def command(name: str, about: str) -> None:
    """Add a training command to the app, with the positional arguments and options of the tables above."""
    empty = inspect.Parameter.POSITIONAL_OR_KEYWORD
    parameters = [
        inspect.Parameter(
            each.lower(),
            empty,
            default=typer.Argument(None, metavar=each, help=MEANINGS[each], show_default=False),
            annotation=Optional[str],  # noqa: UP045  typer reads this
        )
        for each in POSITIONALS[name]
    ]
    for option in OPTIONS:
        if name in option.only:
            default = DEFAULTS[name].get(option.place)
            about_default = f" Here {default}." if default is not None else ""
            parameters.append(
                inspect.Parameter(
                    option.parameter,
                    empty,
                    default=typer.Option(
                        None,
                        option.flag,
                        help=option.about + about_default,
                        rich_help_panel=option.panel,
                        metavar=option.metavar,
                        show_default=False,
                    ),
                    annotation=Optional[option.kind],  # noqa: UP045
                )
            )
    flags = {
        "config": (Optional[str], "A run file with any of these settings, or zoo:NAME.", "FILE.toml"),  # noqa: UP045
        "resume": (bool, "Go on with the run in OUT where it stopped; OUT alone is enough.", None),
        "force": (bool, "Replace the run that OUT holds.", None),
    }
    for flag, (kind, flag_about, metavar) in flags.items():
        default = typer.Option(
            None if flag == "config" else False,
            f"--{flag}",
            help=flag_about,
            metavar=metavar,
            rich_help_panel="Run",
            show_default=False,
        )
        parameters.append(inspect.Parameter(flag, empty, default=default, annotation=kind))

    def run(**values: Any) -> None:
        train(name, values)

    run.__doc__ = about
    run.__name__ = name
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {each.name: each.annotation for each in parameters}
    app.command(name, cls=TrainingCommand, no_args_is_help=True)(run)


command(
    "pretrain",
    """Learn a vocabulary and a model from a text: minilm pretrain stories:easy:5000 2 my-model

    A stopped run (Ctrl-C) goes on with: minilm pretrain --resume my-model
    """,
)
command(
    "finetune",
    """Go on training a model on another text, with the vocabulary that it has: minilm finetune my-model notes.txt 3 my-notes""",
)
command("train", """The quick way from a text to a small model: minilm train notes.txt 5 my-model""")


def train(name: str, values: dict[str, Any]) -> None:
    """What all three commands do: find out what is asked for, begin or go on, train, and say what can be done now."""
    try:
        _train(name, values)
    except KeyboardInterrupt:
        fail("Stopped before the first step: nothing was kept.")


def _train(name: str, values: dict[str, Any]) -> None:
    given, out = positionals(name, values)
    changes = given | options(name, values)
    with console.status("Starting"):
        import torch

        from minilm.cli import run_file, runs
        from minilm.data.download import DownloadError
        from minilm.training import TrainingError
    try:
        if values["resume"]:
            run = resumed(name, out, changes)
            if runs.is_finished(out):
                say(f"{out} made its last step already; `minilm finetune {out} DATA EPOCHS NEW` goes on from it.")
                return
        else:
            run = run_file.build(asked_for(name, values["config"], changes))
        if run.machine.threads:
            torch.set_num_threads(run.machine.threads)
        trainer = runs.go_on(run, out) if values["resume"] else runs.begin(run, out, values["force"])
        whole = runs.train(trainer, out)
    except KeyboardInterrupt:
        again = (
            f"Go on from the last checkpoint with: minilm {name} --resume {out}"
            if out.exists()
            else "Nothing was kept."
        )
        fail(f"Stopped. {again}")
    except (ValueError, OSError, DownloadError, TrainingError, runs.RunError) as error:
        fail(in_a_sentence(error, changes))
    except RuntimeError as error:
        if "memory" not in str(error):
            raise
        fail("There is not enough memory: try a smaller --batch-size, --context or model.")
    if not whole:
        say(f"Stopped after step {trainer.step_number:,}, and saved. Go on with: minilm {name} --resume {out}")
        raise typer.Exit(130)
    say(f'Done: the model is in {out}. Let it write: minilm generate {out} "Once upon a time" 100')


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
    elif values["config"] and len(words) == 2 and name != "finetune":
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
        return float(word.replace("−", "-"))
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
        fail(f"EPOCHS is {word.replace('−', '-')}: it must be above 0.")
    return int(value) if value == int(value) else value


def size(word: str) -> int:
    """A number of bytes as people write it: 1000000, 1_000_000, 500kB, 1MB."""
    match = re.fullmatch(r"(\d[\d_]*(?:\.\d+)?) ?([kmg]?)b?", word.strip(), re.IGNORECASE)
    if match is None or (value := int(float(match[1]) * 1000 ** " kmg".index(match[2].lower() or " "))) < 1:
        fail(f"MAX_BYTES is {word.replace('−', '-')!r}: write a number above 0, as 1000000 or 1MB.")
    return value


def options(name: str, values: dict[str, Any]) -> dict[str, Any]:
    """The values of the run file that options set."""
    found = {
        option.place: values[option.parameter]
        for option in OPTIONS
        if name in option.only and values[option.parameter] is not None
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
    defaults = DEFAULTS[name]
    if "model.preset" in given:  # another shape has sizes of its own
        defaults = {place: value for place, value in defaults.items() if not place.startswith("model.")}
    return run_file.merge({}, {**defaults, **given, "command": name})


def resumed(name: str, out: Path, changes: dict[str, Any]) -> Any:
    """The run in a folder; settings that its result depends on must be what they were."""
    from minilm.cli import run_file

    path = out / run_file.RUN_FILE
    if not path.is_file():
        raise ValueError(f"there is no run to go on with in {str(out)!r}: it has no {run_file.RUN_FILE}")
    table = run_file.read_table(path)
    if table.get("command") != name:
        raise ValueError(f"the run in {str(out)!r} goes on by: minilm {table.get('command')} --resume {out}")
    was = run_file.flatten(table)
    for place, value in changes.items():
        if not place.startswith(HARMLESS) and was.get(place, value if value is None else None) != value:
            raise ValueError(
                f"a run goes on as it began: {place} is {was.get(place)} there, not {value}. Leave it out, or begin another run"
            )
    return run_file.build(run_file.merge(table, {k: v for k, v in changes.items() if k.startswith(HARMLESS)}))
