"""From the records that `minilm sft` and `minilm dpo` name to what a trainer reads, and to what it is measured on."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, TypeVar

from torch import Tensor

from minilm.cli.run_file import ChatConfig, RunConfig
from minilm.cli.runs import RunError
from minilm.data import conversations, preferences, stories
from minilm.data.conversations import BadLine, Chat, Comparison, Messages, RecordError, Records
from minilm.finetuning import (
    Example,
    Pair,
    PreferenceBatches,
    PreferenceConfig,
    PreferenceReport,
    answer_log_probs,
    encode_chat,
    encode_pair,
    preference_loss,
    sample_answers,
)
from minilm.model import LanguageModel
from minilm.tokenizer import BPETokenizer

GENERATED_HELD_OUT = 200  # of records that are made: so many of their validation split are measured on
MOST_HELD_OUT = 500  # of a file's, so that an evaluation takes little of a run's time
RECORDS = "records.jsonl"
WRITTEN = 100  # tokens of a sample
SHOWN = 100  # characters of its prompt

Notice = Callable[[str], None]
Evaluate = Callable[[LanguageModel], dict[str, float]]
Record = TypeVar("Record", Chat, Comparison)
Encoded = TypeVar("Encoded", Example, Pair)


@dataclass(frozen=True)
class Data(Generic[Encoded]):
    """What is trained on, what is measured on, and a prompt for samples."""

    training: list[Encoded]
    held_out: list[Encoded]
    prompt: Messages = field(default_factory=list)


def chats(run: RunConfig, source: str, tokenizer: BPETokenizer, room: int, notice: Notice) -> Data[Example]:
    """Conversations as ids; those of more than `room` positions are bad lines."""
    options = run.chat or ChatConfig()

    def encode(record: Chat) -> Example:
        return encode_chat(tokenizer, record.messages, options.learn)

    return _data(run, source, conversations.read_chats, encode, room, notice)


def pairs(run: RunConfig, source: str, tokenizer: BPETokenizer, room: int, notice: Notice) -> Data[Pair]:
    """Comparisons as ids; those of more than `room` positions are bad lines."""

    def encode(record: Comparison) -> Pair:
        return encode_pair(tokenizer, record.prompt, record.chosen, record.rejected)

    return _data(run, source, conversations.read_comparisons, encode, room, notice)


def _data(
    run: RunConfig,
    source: str,
    read: Callable[..., Records[Record]],
    encode: Callable[[Record], Encoded],
    room: int,
    notice: Notice,
) -> Data[Encoded]:
    name, on_error = run.data.text, (run.chat or ChatConfig()).on_error
    training: list[tuple[Record, Encoded]]
    bad: list[BadLine]
    try:
        found: Records[Record] = read(source, "skip")  # so that all that is wrong is said at once
    except RecordError as error:
        raise RunError(f"{str(error).replace(repr(source), repr(name))}.") from None
    training, bad = _encode(found.records, encode, room)
    bad = sorted([*found.bad, *bad], key=lambda each: each.line)
    complaint = conversations.complain(name, bad, len(found) + len(found.bad))
    if bad and not training:
        raise RunError(f"{complaint}.")
    if bad and on_error == "refuse":
        raise RunError(f"{complaint}. Mend them, or leave them out with --on-error skip.")
    if bad:
        notice(f"{complaint}. They are left out.")
    if conversations.is_generated(name):
        held_out = _encode(read(_validation(name), "skip").records, encode, room)[0]
    else:
        training, held_out = _split(training, run.data.held_out)
    if not held_out and run.data.held_out:
        notice("There are too few records to hold some out, so nothing tells learning from memorising.")
    shown = (held_out or training)[0][0]
    prompt = (
        shown.prompt if isinstance(shown, Comparison) else shown.messages[: conversations.first_answer(shown.messages)]
    )
    return Data([each for _, each in training], [each for _, each in held_out], prompt)


def _split(
    records: list[tuple[Record, Encoded]], share: float
) -> tuple[list[tuple[Record, Encoded]], list[tuple[Record, Encoded]]]:
    """Those to train on and those to measure on; of few records that would all be measured on, none is."""
    measured = [conversations.held_out(record, share) for record, _ in records]
    if all(measured):
        return records, []
    training = [each for each, out in zip(records, measured, strict=True) if not out]
    return training, [each for each, out in zip(records, measured, strict=True) if out][:MOST_HELD_OUT]


def _encode(
    records: Sequence[Record], encode: Callable[[Record], Encoded], room: int
) -> tuple[list[tuple[Record, Encoded]], list[BadLine]]:
    good: list[tuple[Record, Encoded]] = []
    bad: list[BadLine] = []
    for record in records:
        try:
            encoded = encode(record)
        except ValueError as error:
            bad.append(BadLine(record.line, str(error)))
            continue
        if len(encoded) > room:
            bad.append(BadLine(record.line, f"it has {len(encoded):,} tokens, and the model sees {room:,} at once"))
        else:
            good.append((record, encoded))
    return good, bad


def _validation(name: str) -> str:
    """The name of the records that a generated set is measured on: those of its validation split, or of test if that is trained on."""
    parts = dict(zip(("kind", "size", "number", "split"), name.split(":"), strict=False))
    split = "test" if parts.get("split") == "validation" else "validation"
    return f"{parts['kind']}:{parts.get('size', 'easy')}:{GENERATED_HELD_OUT}:{split}"


def best_accuracy(name: str) -> float | None:
    """How many of the held-out labels the best judge of all agrees with, in the mean; None where nobody knows."""
    if not conversations.is_generated(name):
        return None
    _, size, _, split = _validation(name).split(":")
    known = next(each for each in stories.SPLITS if each == split)
    return preferences.best_accuracy(preferences.preferences(size, GENERATED_HELD_OUT, split=known))


# ------------------------------------------------------------------------------------------------------------ measuring


def measure_answers(examples: Sequence[Example]) -> Evaluate:
    """The loss on answers in nats a token."""
    tokens = sum(sum(example.learned) for example in examples)

    def evaluate(model: LanguageModel) -> dict[str, float]:
        return {"held_out_loss": -float(answer_log_probs(model, examples).double().sum()) / tokens}

    return evaluate


def measure_pairs(batches: PreferenceBatches, config: PreferenceConfig) -> Evaluate:
    """The loss on pairs, and where the policy stands on them."""

    def evaluate(model: LanguageModel) -> dict[str, float]:
        policy: Tensor = batches.log_probs(model, config.average)
        reference = batches.reference
        report = PreferenceReport.of(policy[0], policy[1], reference[0], reference[1], config.beta)
        return {"held_out_loss": float(preference_loss(policy, reference, config)), **report.metrics}

    return evaluate


def sampler(tokenizer: BPETokenizer, prompt: Messages, seed: int) -> Callable[[LanguageModel], str]:
    """What the model answers, on one line and without characters that would steer a terminal."""
    asked = prompt[-1]["content"]
    start = f"...{asked[-SHOWN:]}" if len(asked) > SHOWN else asked

    def sample(model: LanguageModel) -> str:
        written = sample_answers(model, tokenizer, prompt, 1, max_new_tokens=WRITTEN, seed=seed)[0]
        line = " ".join(f"asked: {start} it answers: {written.text or ''}".split())
        return "  " + "".join(char if char.isprintable() else "\ufffd" for char in line)

    return sample


def keep_records(source: str, folder: Path) -> str:
    """A copy of a file of records in a folder, so that a run can go on whatever becomes of the file; a name stays a name."""
    path = Path(source).expanduser()
    if conversations.is_generated(source) or not path.is_file():
        return source
    kept = folder / RECORDS
    kept.write_bytes(path.read_bytes())
    return str(kept)
