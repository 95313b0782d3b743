"""What can be said to `minilm pretrain | finetune | train | sft | dpo`: their words in order and their options, in tables.

Each names the value of a run file that it sets, so that a file and the command line always say the same things.
"""

import inspect
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Optional

import typer
from typer.core import TyperCommand

POSITIONALS: dict[str, tuple[str, ...]] = {
    "pretrain": ("FILE", "EPOCHS", "OUT", "MAX_BYTES"),
    "finetune": ("BASE", "DATA", "EPOCHS", "OUT", "MAX_BYTES"),
    "train": ("DATA", "EPOCHS", "OUT", "MAX_BYTES"),
    "sft": ("BASE", "DATA", "EPOCHS", "OUT"),
    "dpo": ("BASE", "DATA", "EPOCHS", "OUT"),
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
    "EPOCHS": "How often the text is read. Less than once is fine: 0.5.",
    "OUT": "The folder to make: the model, its vocabulary, its settings, its curve, its checkpoints.",
    "MAX_BYTES": "Read only the text's beginning: 1000000, 500kB, 1MB.",
}
# What a word means to one command and not to others.
OWN_MEANINGS = {
    (
        "sft",
        "DATA",
    ): "Conversations: a JSONL file of messages, or made here, as instructions:easy:2000 or questions:easy:2000.",
    (
        "dpo",
        "DATA",
    ): "Preferences: a JSONL file of prompt, chosen and rejected, or made here, as preferences:easy:2000.",
    ("dpo", "BASE"): "The model to go on from, and the reference: a folder that `minilm sft` made.",
}
DEFAULTS: dict[str, dict[str, Any]] = {
    "pretrain": {"model.preset": "slim", "tokenizer.vocab_size": 4096, "training.learning_rate": 2e-3},
    "finetune": {"training.learning_rate": 3e-4},
    "train": {
        "model.preset": "slim",
        "model.dim": 128,
        "model.num_layers": 4,
        "model.attention.num_heads": 4,
        "model.context_length": 128,
        "tokenizer.vocab_size": 1024,
        "training.learning_rate": 3e-3,
    },
    "sft": {"training.learning_rate": 3e-3, "training.optimizer.weight_decay": 0.01, "data.batch_size": 32},
    "dpo": {
        "training.learning_rate": 3e-4,
        "training.optimizer.weight_decay": 0.0,
        "data.batch_size": 32,
        "preference.loss": "dpo",
    },
}
NEW = ("pretrain", "train")  # the commands that make a vocabulary and a model
# Values that a resumed run may change, by how they begin: nothing that the result depends on.
HARMLESS = (
    "machine.",
    "training.log_every",
    "training.checkpoint_seconds",
    "training.checkpoint_every",
    "training.keep",
)


@dataclass(frozen=True)
class Option:
    """One option: its flag, the value it sets, its type or "choices|in|words", what it usually is, and what it means."""

    flag: str
    place: str
    kind: type | str
    usual: str
    about: str
    panel: str
    commands: tuple[str, ...]

    @property
    def parameter(self) -> str:
        """The name of the function's parameter."""
        return self.flag.removeprefix("--").replace("-", "_")

    def help(self, command: str) -> str:
        """What it means and what it is if not given."""
        usual = str(DEFAULTS[command].get(self.place, self.usual))
        return f"{self.about} Default: {usual}." if usual else self.about


def _panel(name: str, commands: tuple[str, ...], *rows: tuple[str, str, type | str, str, str]) -> Iterator[Option]:
    return (Option(*row, name, commands) for row in rows)


ALL = tuple(POSITIONALS)
ANSWERS = ("sft", "dpo")  # the commands that read records and train on answers
TEXT = tuple(name for name in ALL if name not in ANSWERS)
BASED = ("finetune", *ANSWERS)  # the commands that go on from a model
OPTIONS = (
    *_panel(
        *("Text", TEXT),
        ("--separator", "data.separator", str, "", "What stands between documents; <|endoftext|> is found by itself."),
        (
            "--held-out",
            "data.held_out",
            float,
            "0.05",
            "The share at a text's end that is measured on, not trained on.",
        ),
    ),
    *_panel(
        *("Records", ANSWERS),
        ("--on-error", "chat.on_error", "refuse|skip", "refuse", "What happens where lines of DATA can't be used."),
        (
            "--held-out",
            "data.held_out",
            float,
            "0.05",
            "The share of a file that is measured on, by its prompts' hashes.",
        ),
    ),
    *_panel(
        *("Records", ("sft",)),
        (
            "--learn",
            "chat.learn",
            "answers|last|all",
            "answers",
            "What is learned: every answer, the last, or every token.",
        ),
        (
            "--packed",
            "chat.packed",
            bool,
            "",
            "Several conversations a row, which do not see each other: less padding.",
        ),
    ),
    *_panel(
        *("Preferences", ("dpo",)),
        ("--loss", "preference.loss", "dpo|ipo|kto", "", "How preferences are learned."),
        ("--beta", "preference.beta", float, "0.1", "What leaving BASE costs, in reward a nat."),
        (
            "--label-smoothing",
            "preference.label_smoothing",
            float,
            "0",
            "The share of labels that are taken to be wrong.",
        ),
        ("--average", "preference.average", bool, "", "Compare log-probabilities a token, not an answer."),
    ),
    *_panel(
        *("Adapters", ANSWERS),
        ("--lora", "lora.rank", int, "", "Train adapters of this rank instead of all weights."),
        ("--lora-alpha", "lora.alpha", float, "16", "They are scaled by this divided by the rank."),
        ("--lora-dropout", "lora.dropout", float, "0", "The share of what adapters read that is dropped."),
        (
            "--lora-projections",
            "lora.projections",
            str,
            "all",
            "Which matrices: attention, feed-forward, all, or q_proj,v_proj.",
        ),
        ("--dora", "lora.dora", bool, "", "Learn lengths and directions of rows apart (DoRA)."),
    ),
    *_panel(
        *("Vocabulary", NEW),
        ("--vocab-size", "tokenizer.vocab_size", int, "", "How many tokens it has; 257 is bytes alone."),
        (
            "--special-tokens",
            "tokenizer.special_tokens",
            "end|chat|dlib|think",
            "end",
            "<end> alone, with chat's, with the tags of thought, or dlib's 28.",
        ),
        (
            "--pre-tokenizer",
            "tokenizer.pre_tokenizer",
            "gpt2|gpt4|whitespace",
            "gpt2",
            "How text is cut into words first.",
        ),
    ),
    *_panel(
        *("Model", NEW),
        (
            "--preset",
            "model.preset",
            str,
            "",
            "The shape to start from: slim, mnemos, llama-tiny, gpt2, stlm, dlib-bpe.",
        ),
        ("--dim", "model.dim", int, "", "The width of the model."),
        ("--layers", "model.num_layers", int, "", "How many blocks."),
        ("--heads", "model.attention.num_heads", int, "", "Attention heads; their number divides the width."),
        (
            "--kv-heads",
            "model.attention.num_kv_heads",
            int,
            "",
            "Key-value heads: fewer than heads for grouped queries.",
        ),
        ("--hidden", "model.feed_forward.hidden", int, "", "The width of the feed-forward; it goes with --dim."),
    ),
    *_panel(
        *("Model", ALL),
        ("--context", "model.context_length", int, "", "How many tokens the model sees at once."),
        ("--dropout", "model.block.dropout", float, "", "The share of activations that is dropped while training."),
    ),
    *_panel(
        *("Training", ALL),
        ("--steps", "training.steps", int, "", "Train for so many steps; then leave EPOCHS out."),
        ("--batch-size", "data.batch_size", int, "16", "Windows or stories that are computed at once."),
        ("--accumulate", "training.accumulate", int, "1", "Batches whose gradients make one step."),
        ("--learning-rate", "training.learning_rate", float, "", "The highest learning rate."),
        ("--schedule", "training.schedule.kind", str, "cosine", "How the rate moves: cosine, wsd, plateau, constant."),
        (
            "--warmup",
            "training.schedule.warmup",
            float,
            "0.05",
            "Steps in which the rate rises; below 1 a share of all.",
        ),
        (
            "--decay",
            "training.schedule.decay",
            float,
            "0.2",
            "With wsd, steps in which it falls; below 1 a share of all.",
        ),
        ("--final-rate", "training.schedule.final", float, "0.1", "The last rate, as a share of the highest."),
        (
            "--patience",
            "training.schedule.patience",
            int,
            "1000",
            "With plateau, steps without progress before it falls.",
        ),
        ("--optimizer", "training.optimizer.kind", "adamw|adam|sgd", "adamw", "What makes a step of gradients."),
        ("--weight-decay", "training.optimizer.weight_decay", float, "0.1", "How strongly matrices are drawn to zero."),
        ("--clip", "training.clip", float, "1", "The largest norm of all gradients together; 0 is no limit."),
        ("--ema", "training.ema", float, "", "Keep a running average of the weights; its decay, as 0.999."),
    ),
    *_panel(
        *("Training", (*TEXT, "sft")),
        (
            "--label-smoothing",
            "training.label_smoothing",
            float,
            "0",
            "Probability that other tokens than the next shall get.",
        ),
    ),
    *_panel(
        *("Watching", ALL),
        ("--evaluate-every", "training.evaluate_every", int, "a tenth of the run", "Steps between measurements."),
        (
            "--sample-every",
            "training.sample_every",
            int,
            "a quarter of the run",
            "Steps between samples of what it writes.",
        ),
        (
            "--prompt",
            "machine.prompt",
            str,
            "",
            "What the samples begin with; what is asked, where answers are learned.",
        ),
        (
            "--log",
            "machine.log",
            "csv|tensorboard|both|off",
            "csv",
            "Keep the numbers in OUT/curve.csv, OUT/tensorboard.",
        ),
        ("--log-every", "training.log_every", int, "10", "Steps between rows of numbers."),
    ),
    *_panel(
        *("Saving", ALL),
        ("--checkpoint-minutes", "training.checkpoint_seconds", float, "5", "Minutes between checkpoints; 0 is never."),
        ("--checkpoint-every", "training.checkpoint_every", int, "", "Steps between checkpoints."),
        ("--keep", "training.keep", int, "2", "How many checkpoints stay."),
    ),
    *_panel(
        *("Machine", ALL),
        (
            "--device",
            "machine.device",
            "auto|cpu|cuda|mps",
            "auto, which is a GPU where there is one",
            "Where to compute.",
        ),
        (
            "--precision",
            "training.precision",
            "float32|float32-medium|bfloat16|bfloat16-weights",
            "float32",
            "How exactly matrices are multiplied.",
        ),
        ("--threads", "machine.threads", int, "", "How many processor threads to use."),
        ("--seed", "training.seed", int, "0", "Where all that is random begins."),
        ("--loss-chunk", "training.loss_chunk", int, "", "Positions whose logits exist at a time; saves memory."),
        ("--compile", "training.compile", bool, "", "Compile the model first; pays for runs of many minutes."),
    ),
)
FLAGS: tuple[tuple[str, Any, Any, str | None, str], ...] = (
    ("config", str, None, "FILE.toml", "Read settings from a file, as OUT/run.toml of another run, or from zoo:NAME."),
    ("resume", bool, False, None, "Go on with the run in OUT where it stopped; nothing else needs to be given."),
    ("force", bool, False, None, "Replace the run that OUT holds."),
)


def signature(command: str) -> inspect.Signature:
    """The signature of a command's function, from which typer makes the command line."""
    shared: dict[str, Any] = {"show_default": False}
    parameters: dict[str, tuple[Any, Any]] = {
        each.lower(): (Optional[str], typer.Argument(None, metavar=each, help=_meaning(command, each), **shared))  # noqa: UP045
        for each in POSITIONALS[command]
    }
    for flag, kind, usual, metavar, about in FLAGS:
        option = typer.Option(usual, f"--{flag}", metavar=metavar, help=about, rich_help_panel="Run", **shared)
        parameters[flag] = (Optional[kind], option)  # noqa: UP045
    for each in OPTIONS:
        if command in each.commands:
            metavar = each.kind if isinstance(each.kind, str) else None
            option = typer.Option(
                None, each.flag, metavar=metavar, help=each.help(command), rich_help_panel=each.panel, **shared
            )
            parameters[each.parameter] = (Optional[str if metavar else each.kind], option)  # noqa: UP045
    return inspect.Signature(
        [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
            for name, (annotation, default) in parameters.items()
        ]
    )


def _meaning(command: str, word: str) -> str:
    return OWN_MEANINGS.get((command, word), MEANINGS[word])


def usage_word(name: str) -> str:
    """A positional argument as usage lines write it."""
    return f"[{name}]" if name == "MAX_BYTES" else name


class TrainingCommand(TyperCommand):
    """A command that takes -1 in the place of a number for the number it is, so that its complaint can be understood."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the arguments, negative numbers with a real minus sign, which begins no option."""
        previous = ["", *args]
        words = [
            arg.replace("-", MINUS, 1) if re.fullmatch(r"-\d+(\.\d*)?", arg) and not before.startswith("-") else arg
            for arg, before in zip(args, previous, strict=False)
        ]
        return super().parse_args(ctx, words)

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """The words of the usage line."""
        return ["[OPTIONS]", *map(usage_word, POSITIONALS[str(self.name)])]


MINUS = "\N{MINUS SIGN}"
