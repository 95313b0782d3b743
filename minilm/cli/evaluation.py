"""The commands that measure: `minilm eval | verify | info`."""

import json
import math
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from minilm.cli import app, console, fail, say

if TYPE_CHECKING:
    from minilm.model import LanguageModel
    from minilm.tokenizer import Tokenizer

MODEL = typer.Argument(help="A folder that training made, or a name of the zoo, such as story.", metavar="MODEL")
SEPARATOR = "<|endoftext|>"
STORIES, MOST_BYTES = 200, 100_000

AsJson = Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")]
MaxBytes = Annotated[int | None, typer.Option(help="Read only the text's beginning.", min=1)]


@app.command("eval")
def evaluate(
    model: Annotated[str, MODEL],
    file: Annotated[
        str | None,
        typer.Argument(
            help="The text: a file, a folder, or a name from `minilm data list`. For stories:SIZE:NUMBER the distance to the "
            "lowest possible loss is reported. Without it, held-out stories if the model was trained on stories.",
            metavar="[FILE]",
        ),
    ] = None,
    max_bytes: MaxBytes = None,
    stride: Annotated[
        int | None,
        typer.Option(help="Tokens by which windows move on through long texts; half the context unless given.", min=1),
    ] = None,
    generate: Annotated[
        int, typer.Option(help="On stories: let the model write so many, and count those off the grammar.", min=0)
    ] = 0,
    questions: Annotated[
        int, typer.Option(help="On stories: ask so many multiple-choice questions about what was told before.", min=0)
    ] = 0,
    temperature: Annotated[float, typer.Option(help="For --generate; 0 is greedy.")] = 1.0,
    top_p: Annotated[float | None, typer.Option(help="For --generate.")] = None,
    seed: Annotated[int, typer.Option(help="For --generate and --questions.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Measure a model on a text: perplexity, bits per byte, and on stories the distance to the exact floor.

    minilm eval story stories:medium:200 --generate 100
    """
    from minilm.cli.models import load_model
    from minilm.evaluation import EvaluationError, evaluate_texts
    from minilm.generation import Sampling

    try:
        sampling = Sampling(temperature=temperature, top_p=top_p)
    except ValueError as error:
        fail(f"{error}.")
    language_model, tokenizer = load_model(model)
    trained_on = _trained_on(model)
    source = file or _held_out(trained_on)
    if source is None:
        fail(
            f"What should {model} be measured on? Name a file, a folder, or stories:medium:{STORIES}: minilm eval {model} FILE."
        )
    size = _story_size(source)
    if size is None and (generate or questions):
        fail(
            f"--generate and --questions need a grammar that knows every story: minilm eval {model} stories:medium:{STORIES}."
        )
    texts, note = _read_stories(source, max_bytes) if size else _read_documents(source, max_bytes)
    if file is not None and size is None and trained_on == file:
        note += " The model was trained on this text, so these figures say what it remembers, not what it can do."
    try:
        with console.status("measuring") if console.is_terminal and not as_json else _nothing():
            if size:
                found = _on_stories(language_model, tokenizer, texts, size, stride, generate, questions, sampling, seed)
            else:
                on_text = evaluate_texts(language_model, tokenizer, texts, stride=stride)
                found = {"text": (on_text, _numbers(on_text, _TEXT) | {"bytes": on_text.size})}
    except (EvaluationError, ValueError) as error:
        fail(f"{str(error).rstrip('.')}.")
    if as_json:
        figures = {name: numbers for name, (_, numbers) in found.items()}
        print(json.dumps({"model": model, "on": source, **figures}, indent=2))
        return
    say(f"{model} on {source}.{note}")
    for report, _ in found.values():
        say("")
        say(str(report))


def _on_stories(
    model: "LanguageModel",
    tokenizer: "Tokenizer",
    texts: list[str],
    size: str,
    stride: int | None,
    generate: int,
    questions: int,
    sampling: Any,
    seed: int,
) -> dict[str, tuple[object, dict[str, Any]]]:
    """The reports on stories by name, each with its figures."""
    from minilm.evaluation import multiple_choice, off_grammar_share, story_questions, story_report

    report = story_report(model, tokenizer, texts, size, stride=stride)
    found: dict[str, tuple[object, dict[str, Any]]] = {"stories": (report, _numbers(report, _STORIES))}
    if questions:
        choice = multiple_choice(model, tokenizer, story_questions(size, questions, seed=seed))
        found["questions"] = (choice, {"questions": questions} | _numbers(choice, _CHOICE))
    if generate:
        written = off_grammar_share(model, tokenizer, size, generate, sampling=sampling, seed=seed)
        found["written"] = (written, {"texts": generate} | _numbers(written, _WRITTEN))
    return found


_TEXT = ("texts", "tokens", "loss", "perplexity", "bits_per_byte", "bytes_per_token")
_STORIES = (
    *("size", "stories", "tokens", "bits", "floor_bits", "model", "floor", "excess", "error", "choice_excess"),
    *("choice_error", "forced_excess", "forced_error", "loss", "floor_per_token", "excess_per_token"),
    *("bits_per_byte", "floor_bits_per_byte", "longer_than_context", "verdict"),
)
_CHOICE = ("accuracy", "accuracy_norm", "error", "confidence", "chance")
_WRITTEN = ("off", "unfinished", "share", "interval", "kinds", "characters_per_departure")


def _numbers(report: object, names: tuple[str, ...]) -> dict[str, Any]:
    """Figures of a report; what is infinite becomes null, which JSON can say."""
    values = {name: getattr(report, name) for name in names}
    return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in values.items()}


class _nothing:
    def __enter__(self) -> None: ...

    def __exit__(self, *error: object) -> None: ...


@app.command()
def verify(
    model: Annotated[str, MODEL],
    file: Annotated[str, typer.Argument(help="The text that the model should know by heart.", metavar="FILE")],
    prompt_tokens: Annotated[
        int | None, typer.Option(help="Tokens that the model is given; its context unless said.", min=1)
    ] = None,
    max_bytes: MaxBytes = None,
    whole: Annotated[
        bool, typer.Option("--whole", help="Write on after the first wrong byte, and report how alike the texts are.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Give a model the beginning of a text and compare what it goes on with, byte for byte.

    The exit status is 0 if every byte is right, 1 if not.
    """
    from minilm import evaluation
    from minilm.cli.models import load_model

    language_model, tokenizer = load_model(model)
    text, note = _read(file, max_bytes, most=None)
    try:
        with console.status("writing it again") if console.is_terminal and not as_json else _nothing():
            found = evaluation.verify(language_model, tokenizer, text, prompt_tokens, whole=whole)
    except (evaluation.EvaluationError, ValueError) as error:
        fail(f"{str(error).rstrip('.')}.")
    if as_json:
        names = ("exact", "text_bytes", "prompt_bytes", "right_bytes", "share", "place")
        print(json.dumps({"model": model, "on": file} | _numbers(found, names), indent=2))
    else:
        say(f"{model} on {file}.{note}")
        say(str(found))
    raise typer.Exit(0 if found.exact else 1)


@app.command()
def info(model: Annotated[str, MODEL], as_json: AsJson = False) -> None:
    """Say what a model is: its shape, parameters by part, memory, tokenizer, and how it was trained."""
    from minilm import zoo
    from minilm.cli.models import load_model

    short = model.removeprefix("zoo:")
    if not Path(model).is_dir() and short in zoo.names() and short not in zoo.shipped() and not as_json:
        say(f"{short} doesn't ship: what is recorded of it is its card.\n")
        say(_card(short) or "It has no card yet.")
        return
    language_model, tokenizer = load_model(model)
    config, summary = language_model.config, language_model.summary()
    record = _training_record(model)
    if as_json:
        parts = {name: every for name, (every, _) in summary.parts.items()}
        facts = {
            "model": model,
            "parameters": summary.parameters,
            "active_parameters": summary.parameters - summary.idle_parameters,
            "parts": parts,
            "weight_bytes": summary.weight_bytes,
            "kv_cache_bytes": summary.kv_cache_bytes,
            "forward_flops_per_token": summary.forward_flops,
            "tokenizer": repr(tokenizer),
            "training": record,
            "config": config.to_dict(),
        }
        print(json.dumps(facts, indent=2))
        return
    say(f"{model}: {summary.parameters:,} parameters")
    heads = f"{config.attention.num_heads} heads"
    if config.num_kv_heads != config.attention.num_heads:
        heads += f" (keys and values: {config.num_kv_heads})"
    if config.attention.dynamic_mask is not None:
        heads += f" that keep {config.attention.dynamic_mask.keep_window:,} tokens each"
    say(
        f"{config.num_layers} layers, width {config.dim}, {heads}, {config.feed_forward.kind} feed-forward {config.feed_forward.hidden}, "
        f"{config.positions.kind} positions, {config.norm.kind} norms, context {config.context_length} tokens"
    )
    if config.feed_forward.moe is not None:
        say(_experts(language_model))
    specials = ", ".join(tokenizer.special_tokens) or "none"
    say(f"tokenizer: {tokenizer.vocab_size:,} tokens, special: {specials}")
    for name, value in record.items():
        say(f"{name}: {value}")
    say("")
    say(str(summary))
    if short in zoo.names() and not Path(model).is_dir() and (card := _card(short)):
        say("")
        say(card)


def _experts(model: Any) -> str:
    """A mixture's router, and how evenly its experts were used while it was trained."""
    from minilm.moe import moe_report

    moe, report = model.config.feed_forward.moe, moe_report(model)
    each = "window" if moe.route == "sample" else "token"
    text = f"{moe.num_experts:,} experts, {moe.chosen} for each {each}, route {moe.route}, balance {moe.balance}"
    return f"{text}; usage in training, CV by layer: {' '.join(f'{layer.cv:.2f}' for layer in report.layers)}"


def _card(name: str) -> str | None:
    from minilm import zoo

    try:
        return zoo.card(name)
    except OSError:
        return None


def _training_record(model: str) -> dict[str, Any]:
    """What the folder says about its own training: settings and the end of the curve."""
    from minilm.training import TrainingConfig, read_curve

    folder = _folder(model)
    record: dict[str, Any] = {}
    if trained := _trained_on(model):
        record["trained on"] = trained
    if folder is None:
        return record
    try:
        config = TrainingConfig.from_json((folder / "training.json").read_text(encoding="utf-8"))
        record["steps"] = config.steps
        record["learning rate"] = config.learning_rate
        record["schedule"] = config.schedule.kind
    except (OSError, ValueError):
        pass
    try:
        last = read_curve(folder / "curve.csv")[-1]
        record["at the end"] = ", ".join(f"{name} {value:g}" for name, value in last.items())
    except (OSError, ValueError, IndexError):
        pass
    return record


def _folder(model: str) -> Path | None:
    from minilm import zoo

    if Path(model).is_dir():
        return Path(model)
    short = model.removeprefix("zoo:")
    return zoo.path(short) if short in zoo.names() else None


def _trained_on(model: str) -> str | None:
    """The text that the model's run file names, if it has one."""
    import tomllib

    folder = _folder(model)
    for name in ("run.toml", "recipe.toml"):
        try:
            text = tomllib.loads((folder / name).read_text(encoding="utf-8"))["data"]["text"] if folder else None
        except (OSError, ValueError, KeyError, TypeError):
            continue
        return text if isinstance(text, str) else None
    return None


# ---------------------------------------------------------------------------------------------------------------- texts


def _story_size(source: str) -> str | None:
    """`medium` of stories:medium:200, None for another text."""
    name, _, rest = source.partition(":")
    return (rest.split(":")[0] or "medium") if name == "stories" else None


def _held_out(trained_on: str | None) -> str | None:
    size = None if trained_on is None else _story_size(trained_on)
    return f"stories:{size}:{STORIES}" if size else None


def _read_stories(source: str, max_bytes: int | None) -> tuple[list[str], str]:
    """Whole stories, held-out ones unless a split is named."""
    from minilm.data import corpora

    parts = source.split(":")
    while len(parts) < 3:
        parts.append(("stories", "medium", str(STORIES))[len(parts)])
    held_out = len(parts) == 3
    if held_out:
        parts.append("validation")
    try:
        texts = list(corpora.read(":".join(parts)))
    except ValueError as error:
        fail(str(error))
    if max_bytes is not None:
        fail("--max-bytes would cut a story in two, and the floor is known for whole ones: ask for fewer stories.")
    return texts, " Held-out stories, of which no training read any." if held_out else ""


def _read_documents(source: str, max_bytes: int | None) -> tuple[list[str], str]:
    """The documents of a text: one, unless the well-known separator stands between several; and what to say about it."""
    text, note = _read(source, max_bytes, most=MOST_BYTES)
    documents = [part.strip() for part in text.split(SEPARATOR)] if SEPARATOR in text else [text]
    return [document for document in documents if document], note


def _read(source: str, max_bytes: int | None, most: int | None) -> tuple[str, str]:
    """The beginning of a text, `max_bytes` of it or else `most`, and what to say about it."""
    from minilm.data import corpora
    from minilm.data.download import DownloadError

    limit = max_bytes or most
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", corpora.CorpusWarning)
            pieces = list(corpora.read(source, None if limit is None else limit + 1))
    except (ValueError, DownloadError, OSError) as error:
        fail(str(error))
    text = ("\n\n" if corpora.needs_no_fetching(source) else "").join(pieces)
    note = ""
    if limit is not None and len(text.encode()) > limit:
        text = corpora.truncate(text, limit)
        if max_bytes is None:
            note = f" Its first {limit:,} bytes; --max-bytes reads more."
    for message in dict.fromkeys(str(each.message) for each in caught):
        say(f"! {message}", style="yellow")
    return text, note
