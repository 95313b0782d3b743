"""A training run as a file: what `--config FILE.toml` reads, and what every run writes to OUT/run.toml.

Its sections hold the same values as the command line's options, under names that say the same: `--vocab-size 512` is
`vocab_size = 512` in `[tokenizer]`. `[model]` takes a preset and any value of a ModelConfig, `[training]` any of a TrainingConfig.
An option given beside a file changes what the file says.
"""

import dataclasses
import json
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self, get_args, get_type_hints

from minilm import __version__, presets, zoo
from minilm.config import Config, ModelConfig, refuse_unknown
from minilm.finetuning import LoRAConfig, PreferenceConfig
from minilm.training import TrainingConfig

Command = Literal["pretrain", "finetune", "train", "sft", "dpo"]
Table = dict[str, Any]

RUN_FILE = "run.toml"
ZOO = "zoo:"
NONE = "none"


@dataclass(frozen=True)
class DataConfig(Config):
    """What is read."""

    text: str  # a file, a folder, or a name as stories:medium:20000
    max_bytes: int | None = None
    separator: str | None = None  # what stands between documents
    held_out: float = 0.05  # the share of running text, at its end, that is measured on and not trained on
    batch_size: int = 16  # windows or documents that are computed at once
    stride: int | None = None  # windows: one every so many tokens, each once an epoch; None: at random places
    skip: int = 0  # windows: the first targets, predicted from little, that are not learned
    bucket: int = 20  # documents: so many batches at a time are sorted by length; 1 pads more and mixes better

    def validate(self) -> None:
        """Check ranges."""
        if not 0 <= self.held_out <= 0.5:
            raise ValueError(f"DataConfig.held_out = {self.held_out}: a share of the text, from 0 to 0.5")
        if self.max_bytes is not None and self.max_bytes < 1:
            raise ValueError(f"DataConfig.max_bytes = {self.max_bytes}: it must be at least 1")
        for name, least in (("batch_size", 1), ("stride", 1), ("skip", 0), ("bucket", 1)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ValueError(f"DataConfig.{name} = {value}: it must be at least {least}")
        if self.separator == "":
            raise ValueError("DataConfig.separator is empty: name what stands between documents, or leave it out")


@dataclass(frozen=True)
class TokenizerConfig(Config):
    """The vocabulary that is learned."""

    vocab_size: int = 4096
    text: str | None = None  # learned on this text instead of the one that is trained on
    special_tokens: Literal["end", "chat", "dlib", "think"] = (
        "end"  # <end> alone, <end> and ChatML's, dlib's 28, or <end> and the tags of thought
    )
    special_position: Literal["first", "last"] = "first"
    pre_tokenizer: Literal["gpt2", "gpt4", "whitespace"] = "gpt2"
    sample_bytes: int | None = (
        None  # it is learned on this much of the text; None: on what is trained on, 20 MB at most
    )

    def validate(self) -> None:
        """Check ranges."""
        if not 257 <= self.vocab_size <= 1 << 20:
            raise ValueError(
                f"TokenizerConfig.vocab_size = {self.vocab_size}: from 257 (bytes and the end token) to {1 << 20:,}"
            )
        if self.sample_bytes is not None and self.sample_bytes < 64:
            raise ValueError(f"TokenizerConfig.sample_bytes = {self.sample_bytes}: it must be at least 64")


@dataclass(frozen=True)
class ChatConfig(Config):
    """How conversations and preferences are read."""

    on_error: Literal["refuse", "skip"] = "refuse"  # what happens where lines can't be used
    learn: Literal["answers", "last", "all"] = "answers"  # sft: every answer, the last one, or every token
    packed: bool = False  # sft: several conversations a row, which do not see each other


@dataclass(frozen=True)
class MachineConfig(Config):
    """Where and how the run works: nothing here changes what is learned, but for the last digits."""

    device: str = "auto"  # auto, cpu, cuda, cuda:1, mps
    threads: int | None = None
    log: Literal["csv", "tensorboard", "both", "off"] = "csv"
    prompt: str = ""  # what samples begin with

    def validate(self) -> None:
        """Check ranges."""
        if self.threads is not None and not 1 <= self.threads <= 1024:
            raise ValueError(f"MachineConfig.threads = {self.threads}: from 1 to 1024")


@dataclass(frozen=True)
class RunConfig(Config):
    """Everything that a run is made from. `model` and `training` are tables: what they mean depends on the text's size."""

    command: Command
    data: DataConfig
    base: str | None = None  # finetune, sft, dpo: the model that it starts from
    tokenizer: TokenizerConfig = field(default_factory=TokenizerConfig)
    model: dict = field(default_factory=dict)  # type: ignore[type-arg]  # preset, and what differs from it
    training: dict = field(default_factory=dict)  # type: ignore[type-arg]  # epochs, or any values of a TrainingConfig
    machine: MachineConfig = field(default_factory=MachineConfig)
    chat: ChatConfig | None = None  # sft, dpo; None: the usual
    preference: PreferenceConfig | None = None  # dpo; None: the usual
    lora: LoRAConfig | None = None  # sft, dpo: adapters; None: all weights are trained

    def validate(self) -> None:
        """Check the tables as far as they can be checked before the text is read."""
        self.model_config(self.tokenizer.vocab_size)
        self.training_config(steps=self.training.get("steps", 10**9))
        allowed = {"chat": ("sft", "dpo"), "lora": ("sft", "dpo"), "preference": ("dpo",)}
        for section, commands in allowed.items():
            if getattr(self, section) is not None and self.command not in commands:
                raise ValueError(f"[{section}] is for `minilm {' | '.join(commands)}`, not for `minilm {self.command}`")
        if self.epochs is not None and self.epochs <= 0:
            raise ValueError(f"training.epochs = {self.epochs}: it must be above 0")
        if (self.epochs is None) == (self.training.get("steps") is None):
            raise ValueError("how long to train takes one of two: epochs (EPOCHS on the command line), or steps")

    @property
    def epochs(self) -> float | None:
        """How often the text is read, None if steps are given instead."""
        epochs: float | None = self.training.get("epochs")
        return epochs

    def model_config(self, vocab_size: int) -> ModelConfig:
        """The model of `[model]` with this vocabulary."""
        values = dict(self.model)
        preset = values.pop("preset", "slim")
        if "vocab_size" in values:
            raise ValueError("model.vocab_size is the tokenizer's: set vocab_size in [tokenizer]")
        refuse_unknown(values, {each.name: None for each in dataclasses.fields(ModelConfig)}, "[model]")
        if "dim" in values and "hidden" not in values.get("feed_forward", {}):
            base = presets.config(preset)  # a narrower model gets a narrower feed-forward
            hidden = max(8, round(base.feed_forward.hidden / base.dim * values["dim"] / 8) * 8)
            values["feed_forward"] = {**values.get("feed_forward", {}), "hidden": hidden}
        return presets.config(preset, **{**values, "vocab_size": vocab_size})

    def training_config(self, steps: int) -> TrainingConfig:
        """What `[training]` says, for this many steps."""
        values = {key: value for key, value in self.training.items() if key != "epochs"}
        return TrainingConfig.from_dict({**values, "steps": steps})

    def with_training(self, config: TrainingConfig) -> Self:
        """This run with all of `[training]` settled, so that it can be repeated to the letter."""
        training = config.to_dict()
        if self.epochs is not None:  # of the two one decides, or a changed copy would not do what it says
            training = {"epochs": self.epochs} | {key: value for key, value in training.items() if key != "steps"}
        return dataclasses.replace(self, training=training)


def read_table(source: str | Path) -> Table:
    """The table in a file, or in the zoo's recipe of that name (`zoo:story`). ValueError says what is wrong with it."""
    text, name = _read(str(source))
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{name} is not TOML: {error}.") from None
    try:
        refuse_unknown(table, {each.name: None for each in dataclasses.fields(RunConfig)}, "a run file")
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
    return table


def _read(source: str) -> tuple[str, str]:
    if source.startswith(ZOO):
        return zoo.recipe(source.removeprefix(ZOO)).read_text(encoding="utf-8"), source
    path = Path(source).expanduser()
    try:
        return path.read_text(encoding="utf-8"), str(path)
    except (OSError, UnicodeDecodeError) as error:
        reason = (error.strerror or str(error)) if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ValueError(f"{str(path)!r} can't be read as a run file: {reason}.") from None


def merge(table: Table, changes: Mapping[str, Any]) -> Table:
    """The table with values set by dotted names, `{"model.attention.num_heads": 4}`; the table itself stays as it is."""
    merged = {key: merge(value, {}) if isinstance(value, dict) else value for key, value in table.items()}
    for name, value in changes.items():
        *parents, last = name.split(".")
        inner = merged
        for parent in parents:
            inner = inner.setdefault(parent, {})
            if not isinstance(inner, dict):
                raise ValueError(f"{parent!r} is a section: write [{parent}] before its values")
        inner[last] = value
    return merged


def flatten(table: Mapping[str, Any], prefix: str = "") -> Table:
    """The values of a table by dotted names: what `merge` takes."""
    flat: Table = {}
    for key, value in table.items():
        name = f"{prefix}{key}"
        flat |= flatten(value, f"{name}.") if isinstance(value, Mapping) else {name: value}
    return flat


def build(table: Table) -> RunConfig:
    """The run that a table describes. ValueError names what is wrong by its section and name."""
    for section in ("data", "tokenizer", "model", "training", "machine", "chat", "preference", "lora"):
        if not isinstance(table.get(section, {}), dict):
            raise ValueError(f"{section!r} is a section: write [{section}] before its values")
    if table.get("data", {}).get("text") is None:
        raise ValueError("what to read is missing: FILE (DATA) on the command line, or text in [data]")
    if table.get("command") in ("finetune", "sft", "dpo") and table.get("base") is None:
        raise ValueError("what to go on from is missing: BASE on the command line, or base in the file")
    try:
        return RunConfig.from_dict(
            {
                **table,
                "model": _revive_none(table.get("model", {}), ModelConfig),
                "training": _revive_none(table.get("training", {}), TrainingConfig),
            }
        )
    except (ValueError, TypeError) as error:
        raise ValueError(plain_words(str(error))) from None


def _revive_none(table: Table, owner: type[Config] | None) -> Table:
    """TOML has no null: in `[model]` and `[training]` the word "none" stands for it, where it isn't a value itself (balance = "none")."""
    hints = get_type_hints(owner) if owner is not None else {}
    revived: Table = {}
    for key, value in table.items():
        options = get_args(hints.get(key)) or (hints.get(key),)
        if isinstance(value, dict):
            inner = (each for each in options if isinstance(each, type) and issubclass(each, Config))
            revived[key] = _revive_none(value, next(inner, None))
        else:
            revived[key] = None if value == NONE and NONE not in options else value
    return revived


SECTIONS = {
    "RunConfig": "",
    "DataConfig": "data",
    "TokenizerConfig": "tokenizer",
    "MachineConfig": "machine",
    "ChatConfig": "chat",
    "PreferenceConfig": "preference",
    "LoRAConfig": "lora",
    "TrainingConfig": "training",
    "ScheduleConfig": "training.schedule",
    "OptimizerConfig": "training.optimizer",
    "DropoutConfig": "training.dropout",
    "ModelConfig": "model",
    "AttentionConfig": "model.attention",
    "FeedForwardConfig": "model.feed_forward",
    "MoEConfig": "model.feed_forward.moe",
    "PositionConfig": "model.positions",
    "NormConfig": "model.norm",
    "BlockConfig": "model.block",
    "HeadConfig": "model.head",
    "InitConfig": "model.initialization",
}


def plain_words(message: str) -> str:
    """A config's complaint with the names of a run file: `model.dim`, not `ModelConfig.dim`."""
    message = re.sub(r"\b(\w+Config)\.(?=\w)", lambda m: f"{SECTIONS.get(m[1], m[1])}.".lstrip("."), message)
    return re.sub(r"\b(\w+Config)\b", lambda m: f"[{SECTIONS[m[1]]}]" if SECTIONS.get(m[1]) else "a run file", message)


def to_toml(run: RunConfig) -> str:
    """The run as TOML, values that are not set left out."""
    heading = f"# Repeat this run: minilm {run.command} --config THIS_FILE OUT   (written by minilm {__version__})\n"
    return heading + "\n".join(_lines(run.to_dict(), ())) + "\n"


def _lines(table: Mapping[str, Any], path: tuple[str, ...]) -> list[str]:
    plain = {key: value for key, value in table.items() if not isinstance(value, Mapping)}
    if path[:1] not in (("model",), ("training",)):
        plain = {key: value for key, value in plain.items() if value is not None}
    lines = [f"{key} = {_value(NONE if value is None else value)}" for key, value in plain.items()]
    if path and lines:
        lines = ["", f"[{'.'.join(path)}]", *lines]
    for key, value in table.items():
        if isinstance(value, Mapping):
            lines += _lines(value, (*path, key))
    return lines


def _value(value: Any) -> str:
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_value, value))}]"
    # A JSON string is a TOML string, but for DEL, which TOML wants escaped.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
