"""A run from its settings to a trained model in its folder: prepare the text, build the model, train, go on after a stop."""

import contextlib
import math
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path

import torch
from rich.markup import escape

from minilm import zoo
from minilm.cli import console, held_out, run_file, say
from minilm.cli.corpus import Corpus, class_size, end_of, learn_tokenizer, open_corpus, write_corpus
from minilm.cli.run_file import RunConfig
from minilm.data import corpora
from minilm.model import LanguageModel
from minilm.model.files import CONFIG, TOKENIZER, WEIGHTS
from minilm.tokenizer import BPETokenizer, Tokenizer
from minilm.training import (
    IGNORE,
    Batch,
    Batches,
    ConsoleLogger,
    CSVLogger,
    DocumentBatches,
    Logger,
    TensorBoardLogger,
    Trainer,
    TrainingConfig,
    TrainingError,
    WindowBatches,
)
from minilm.training.checkpoints import list_checkpoints, step_of
from minilm.training.run_folder import TRAINING_CONFIG

DATA, CHECKPOINTS = "data", "checkpoints"
CURVE = "curve.csv"
ADAPTER = "adapter"
OURS = {
    run_file.RUN_FILE,
    CONFIG,
    WEIGHTS,
    TOKENIZER,
    DATA,
    CURVE,
    CHECKPOINTS,
    TRAINING_CONFIG,
    "tensorboard",
    ADAPTER,
}
METRICS = ("held_out_loss", "bits_per_byte", "bits_per_story", "bits_above_floor")
CLASS_METRICS = ("right", "forgetful")  # of a class's text: the shares of held-out sums answered so
# Of a mixture of experts: its balance loss, and how unevenly its experts are used.
MIXTURE_METRICS = ("auxiliary", "expert_cv")


class RunError(Exception):
    """What keeps a run from starting or going on, in a sentence for its user."""


# ------------------------------------------------------------------------------------------------------------- beginning


def begin(run: RunConfig, out: Path, force: bool) -> tuple[Trainer, str]:
    """Prepare the text, the vocabulary and the model in the folder `out`; the trainer, and words to let it write on from.

    If that fails, the folder is removed again, and what it held before is put back.
    """
    device = choose_device(run.machine.device)
    corpora.read(run.data.text, run.data.max_bytes)  # these two complain now, before anything is made
    make_loggers(run, out)
    base = None if run.base is None else load_base(run.base)
    if run.base is not None and base_folder(run.base).resolve() == out.resolve():
        raise RunError("OUT is BASE: name another folder, so that the model you began with stays.")
    with new_folder(out, force):
        tokenizer = _tokenizer(run, base)
        tokenizer.save(out / TOKENIZER)
        corpus = _corpus(run, out, tokenizer)
        torch.manual_seed(int(run.training.get("seed", 0)))
        model = _fresh_model(run, tokenizer) if base is None else continued_model(run, base)
        batches = make_batches(run, corpus, model, tokenizer)
        config = settle(run, len(batches))
        settled = run.with_training(config)
        (out / run_file.RUN_FILE).write_text(run_file.to_toml(settled), encoding="utf-8")
        trainer = _trainer(settled, out, corpus, tokenizer, model.to(device), batches, config)
        _describe(settled, corpus, model, config)
        return trainer, opening(corpus, tokenizer)


def go_on(run: RunConfig, out: Path) -> tuple[Trainer, str]:
    """The trainer of a stopped run, standing where it stopped, and words to let it write on from."""
    device = choose_device(run.machine.device)
    tokenizer = BPETokenizer.load(out / TOKENIZER)
    corpus = open_corpus(out / DATA, tokenizer)
    torch.manual_seed(int(run.training.get("seed", 0)))
    if run.base is None:
        model = _fresh_model(run, tokenizer)
    elif list_checkpoints(out / CHECKPOINTS):  # then BASE may be gone
        model = LanguageModel.load(out).float()
    else:
        model = continued_model(run, load_base(run.base))
    batches = make_batches(run, corpus, model, tokenizer)
    config = settle(run, len(batches))
    trainer = _trainer(run, out, corpus, tokenizer, model.to(device), batches, config)
    take_up(trainer, out)
    return trainer, opening(corpus, tokenizer)


def take_up(trainer: Trainer, out: Path) -> None:
    """Put the trainer where its run stopped, and say where, and what was damaged on the way."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        step = trainer.resume()
    for each in caught:
        note(str(each.message))
    say(f"Going on with {out} after step {step:,} of {trainer.config.steps:,}.")


def choose_device(name: str) -> torch.device:
    """The device of that name, or with "auto" a GPU where there is one; RunError if it isn't there."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    kind = name.split(":")[0]
    there = {
        "cpu": True,
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
    }
    if kind not in there:
        raise RunError(f"There is no device {name!r}: choose auto, cpu, cuda or mps.")
    if not there[kind]:
        raise RunError(f"No {kind} device is found here: use --device cpu (`minilm doctor` says what PyTorch sees).")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError):
        raise RunError(f"There is no device {name!r} here: try --device {kind}.") from None
    return device


def load_base(name: str) -> LanguageModel:
    """A model to go on from, in float32: a folder, or a model of the zoo."""
    folder = base_folder(name)
    try:
        model = LanguageModel.load(folder).float()
    except (OSError, ValueError) as error:
        raise RunError(f"BASE can't be loaded: {error}") from None
    if not (folder / TOKENIZER).is_file():
        raise RunError(f"BASE {name!r} has no {TOKENIZER}, so its vocabulary is unknown: name a folder that has one.")
    return model


def base_folder(name: str) -> Path:
    """Where the model of that name is."""
    folder = Path(name).expanduser()
    if folder.is_dir():
        return folder
    short = name.removeprefix(run_file.ZOO)
    if short not in zoo.names():
        known = ", ".join(zoo.shipped()) or "none yet"
        raise RunError(f"BASE {name!r} is neither a folder with a model nor a model of the zoo (it has {known}).")
    if short not in zoo.shipped():
        zoo.load(short)  # says why not
    return zoo.path(short)


@contextlib.contextmanager
def new_folder(out: Path, force: bool) -> Iterator[None]:
    """Make the run's folder; if what follows fails, leave all as it was."""
    check_out(out, force)
    previous = out.with_name(f".{out.name or 'run'}.previous")
    replaced = out.exists() and any(out.iterdir())
    try:
        if replaced:
            shutil.rmtree(previous, ignore_errors=True)
            out.rename(previous)
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"OUT can't be made at {str(out)!r}: {error.strerror or error}.") from None
    try:
        yield
    except BaseException:
        shutil.rmtree(out, ignore_errors=True)
        if replaced:
            previous.rename(out)
        raise
    shutil.rmtree(previous, ignore_errors=True)


def check_out(out: Path, force: bool) -> None:
    """Refuse to write over anything that is not ours, and over a run unless told to."""
    if not out.exists():
        return
    if not out.is_dir():
        raise RunError(f"OUT {str(out)!r} is a file: name a folder that does not exist yet.")
    content = {each.name for each in out.iterdir()}
    if not content:
        return
    foreign = sorted(name for name in content if name not in OURS and not name.startswith("."))
    if foreign:
        raise RunError(f"OUT {str(out)!r} holds other things ({foreign[0]!r}): name a folder that does not exist yet.")
    if not force:
        hint = (
            "go on with it by --resume, or replace it by --force"
            if run_file.RUN_FILE in content
            else "--force replaces it"
        )
        raise RunError(f"OUT {str(out)!r} exists: {hint}, or name another folder.")


# ------------------------------------------------------------------------------------------------------------- the parts


def _tokenizer(run: RunConfig, base: LanguageModel | None) -> BPETokenizer:
    if base is not None and run.base is not None:
        tokenizer = BPETokenizer.load(base_folder(run.base) / TOKENIZER)
        end_of(tokenizer)
        return tokenizer
    with console.status("Learning the vocabulary"):
        return learn_tokenizer(run.tokenizer, run.data, note)


def _corpus(run: RunConfig, out: Path, tokenizer: BPETokenizer) -> Corpus:
    with console.status("Reading") as status:

        def progress(size: int) -> None:
            status.update(f"Reading: {size / 1e6:,.1f} MB")

        return write_corpus(out / DATA, run.data, tokenizer, note, progress)


def _fresh_model(run: RunConfig, tokenizer: BPETokenizer) -> LanguageModel:
    return LanguageModel.from_config(run.model_config(tokenizer.vocab_size))


def continued_model(run: RunConfig, base: LanguageModel) -> LanguageModel:
    """The base with what may change about it: its context, and dropout."""
    changes = run_file.merge({}, {key: value for key, value in run.model.items() if key != "preset"})
    if set(changes) - {"context_length", "block"}:
        raise RunError(f"{run.command} keeps the shape of its BASE: only the context and dropout may be set.")
    config = base.config.replace(**changes)
    if config == base.config:
        return base
    model = LanguageModel.from_config(config)
    try:
        model.load_state_dict(base.state_dict())
    except RuntimeError:
        raise RunError(
            "a model with learned positions or a flat head can't have another context than its BASE."
        ) from None
    return model


class PromptedWindows(WindowBatches):
    """Windows of which every other one begins with the end token, as a prompt does when the model writes.

    In running text there is hardly an end token to learn from otherwise. Targets stay what they were.
    """

    end_id: int = 0

    def __next__(self) -> Batch:
        first = self.drawn % 2
        batch = super().__next__()
        batch.ids[first::2, 0] = self.end_id
        return batch


class AnswerBatches(DocumentBatches):
    """Questions and answers as whole documents: what stands before the first `equals` is asked, and not learned."""

    equals: int = 0

    def __next__(self) -> Batch:
        batch = super().__next__()
        asked = (batch.ids == self.equals).cumsum(dim=1) == 0
        batch.targets[asked] = IGNORE
        return batch


def make_batches(
    run: RunConfig, corpus: Corpus, model: LanguageModel, tokenizer: Tokenizer
) -> DocumentBatches | WindowBatches:
    """Stories, and what a class says, as whole documents; other text as windows of the model's context."""
    seed, data, length = int(run.training.get("seed", 0)), run.data, model.config.context_length
    flat = model.config.head.kind != "per_token"
    if not flat and class_size(run.data.text):
        answers = AnswerBatches(corpus.documents(), data.batch_size, corpus.end_id, seed, bucket=data.bucket)
        (answers.equals,) = tokenizer.encode("=")
        return answers
    if not flat and corpus.facts.story_size is not None:
        return DocumentBatches(
            corpus.documents(), data.batch_size, corpus.end_id, seed, max_length=length, bucket=data.bucket
        )
    tokens, _ = held_out.split_tail(corpus, data.held_out, length)
    if len(tokens) <= length:
        raise RunError(
            f"The text has {len(tokens):,} tokens, and a context of {length} takes {length + 1}: "
            f"give more text, or a shorter --context (at most {max(len(tokens) - 1, 1)})."
        )
    if flat:  # one prediction a window, so an epoch is every window
        return WindowBatches(tokens, data.batch_size, length, seed, stride=data.stride or 1)
    batches = PromptedWindows(tokens, data.batch_size, length, seed, stride=data.stride, skip=data.skip)
    batches.end_id = corpus.end_id
    return batches


def settle(run: RunConfig, batches_an_epoch: int) -> TrainingConfig:
    """The training's settings with the number of steps, and with how often to look if that was left open."""
    accumulate = int(run.training.get("accumulate", 1))
    steps = run.training.get("steps") or max(1, math.ceil((run.epochs or 1) * batches_an_epoch / accumulate))
    config = run.training_config(steps)
    return config.replace(
        evaluate_every=config.evaluate_every or max(steps // 10, min(steps, 20)),
        sample_every=config.sample_every or max(steps // 4, min(steps, 50)),
    )


def is_finished(out: Path) -> bool:
    """Whether the run in a folder has made its last step."""
    found, config = list_checkpoints(out / CHECKPOINTS), out / TRAINING_CONFIG
    if not found or not config.is_file():
        return False
    return step_of(found[-1]) >= TrainingConfig.from_json(config.read_text(encoding="utf-8")).steps


def train(trainer: Trainer, out: Path) -> bool:
    """Train to the end, or until Ctrl-C; whether the end was reached. Without a checkpoint to go on from, a failed run leaves nothing."""
    try:
        for _ in trainer.steps():
            pass
    except (TrainingError, OSError, RuntimeError, KeyboardInterrupt):
        if not list_checkpoints(out / CHECKPOINTS):
            shutil.rmtree(out, ignore_errors=True)
        raise
    if trainer.stopped is None:
        shutil.rmtree(out / DATA, ignore_errors=True)
    return trainer.stopped is None


def _trainer(
    run: RunConfig,
    out: Path,
    corpus: Corpus,
    tokenizer: BPETokenizer,
    model: LanguageModel,
    batches: Batches,
    config: TrainingConfig,
) -> Trainer:
    length = model.config.context_length
    flat = model.config.head.kind != "per_token"
    mixed = model.config.feed_forward.moe is not None
    evaluate: held_out.Evaluate | None = None
    if corpus.facts.story_size is not None and not flat:
        evaluate = held_out.measure_stories(tokenizer, corpus.facts.story_size)
        if mixed:
            looked_at = held_out.story_batches(tokenizer, corpus.facts.story_size, corpus.end_id)
            evaluate = held_out.watch_experts(evaluate, looked_at, padding=corpus.end_id)
    elif not flat and (digits := class_size(run.data.text)):
        evaluate = held_out.measure_class(tokenizer, digits)
    elif len(tail := held_out.split_tail(corpus, run.data.held_out, length)[1]):
        evaluate = held_out.measure_tail(tail, tokenizer)
        if mixed:
            evaluate = held_out.watch_experts(evaluate, held_out.tail_batches(tail, model))
    elif run.data.held_out:
        note("The text is too short to hold a part of it out, so nothing tells learning from memorising.")
    prompt = run.machine.prompt
    if not prompt and flat:  # it reads whole windows only
        prompt = tokenizer.decode(corpus.tokens[1 : length + 1].tolist())
    return Trainer(
        model,
        batches,
        config,
        out=out,
        evaluate=evaluate,
        sample=held_out.sampler(tokenizer, prompt, config.seed),
        loggers=make_loggers(
            run, out, (MIXTURE_METRICS if mixed else ()) + (CLASS_METRICS if class_size(run.data.text) else ())
        ),
    )


def make_loggers(run: RunConfig, out: Path, more_metrics: tuple[str, ...] = ()) -> list[Logger]:
    """Who is told of the run's numbers. TrainingError if TensorBoard is asked for and not installed."""
    loggers: list[Logger] = [ConsoleLogger(console)]
    if run.machine.log in ("csv", "both"):
        loggers.append(CSVLogger(out / CURVE, (*METRICS, *more_metrics)))
    if run.machine.log in ("tensorboard", "both"):
        loggers.append(TensorBoardLogger(out / "tensorboard"))
    return loggers


# --------------------------------------------------------------------------------------------------------- saying things


def farewell(out: Path, prompt: str) -> str:
    """What can be done with the model now."""
    return f'Let it write: minilm generate {out} "{prompt}" 100'


def opening(corpus: Corpus, tokenizer: BPETokenizer) -> str:
    """The first words of the text: a beginning that the model can go on from."""
    words = tokenizer.decode(corpus.tokens[1:20].tolist()).split()[:3]
    return " ".join(words).translate({ord(char): None for char in "\"'`$!\\\ufffd"})


def note(message: str) -> None:
    """Something the user should know that is no error."""
    console.print(f"[yellow]![/yellow] {escape(message)}", highlight=False, soft_wrap=True)


SMALL_TEXT = 1_000_000


def _describe(run: RunConfig, corpus: Corpus, model: LanguageModel, config: TrainingConfig) -> None:
    facts, shape = corpus.facts, model.config
    documents = f" in {facts.documents:,} documents" if facts.documents else ""
    say(f"Text: {facts.bytes:,} bytes, {facts.tokens:,} tokens{documents}; vocabulary of {facts.vocab_size:,} tokens.")
    made = facts.story_size is not None or class_size(run.data.text) is not None
    if run.command != "finetune" and facts.bytes < SMALL_TEXT and not made:
        note("That is a small text to learn a language from: what the model writes is likely gibberish.")
    device = next(model.parameters()).device
    say(
        f"Model: {model.num_parameters():,} parameters, {shape.num_layers} layers of width {shape.dim}, context {shape.context_length}; "
        f"on {device.type}"
        + (f" with {torch.get_num_threads()} threads" if device.type == "cpu" else "")
        + f", {config.precision}."
    )
    whole = shape.head.kind == "per_token"
    pieces = (
        "stories" if facts.story_size and whole else "answers" if class_size(run.data.text) and whole else "windows"
    )
    say(f"Training: {config.steps:,} steps of {run.data.batch_size * config.accumulate} {pieces}.")
