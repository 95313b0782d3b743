"""The commands that write: `minilm generate | chat`."""

import itertools
import json
import re
import secrets
import sys
import time
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from minilm.cli import app, fail, say

if TYPE_CHECKING:
    from minilm.generation import ConfidenceStop, Conversation, Generation, Sampling, Stream

MODEL = typer.Argument(help="A folder that training made, or a name of the zoo, such as story.", metavar="MODEL")
CHOICE, ENDING = "How a token is chosen", "When to stop"

Temperature = Annotated[
    float | None,
    typer.Option(help="Below 1 likelier, above 1 wilder; 0 is --greedy. 0.8 unless given.", rich_help_panel=CHOICE),
]
TopK = Annotated[int | None, typer.Option(help="Choose among the k likeliest.", rich_help_panel=CHOICE)]
TopP = Annotated[
    float | None,
    typer.Option(help="Choose among the likeliest that have this probability together.", rich_help_panel=CHOICE),
]
MinP = Annotated[
    float | None,
    typer.Option(help="Refuse what is less likely than this share of the likeliest.", rich_help_panel=CHOICE),
]
Penalty = Annotated[
    float, typer.Option(help="Above 1: what was there already becomes less likely.", rich_help_panel=CHOICE)
]
Greedy = Annotated[bool, typer.Option("--greedy", help="Always the likeliest token.", rich_help_panel=CHOICE)]
Seed = Annotated[
    int | None,
    typer.Option(help="The same seed writes the same text. Another each time unless given.", rich_help_panel=CHOICE),
]
Stop = Annotated[
    list[str] | None,
    typer.Option(help=r"Stop before this text; may be given several times. \n is a new line.", rich_help_panel=ENDING),
]
Confidence = Annotated[
    float | None,
    typer.Option(
        help="Stop where the model's smoothed confidence in its tokens falls below this (0 to 1).",
        rich_help_panel=ENDING,
    ),
]
Patience = Annotated[
    int | None, typer.Option(help="With --confidence: for so many tokens in a row. 3.", rich_help_panel=ENDING)
]
MinNew = Annotated[
    int | None, typer.Option(help="With --confidence: not before so many tokens. 8.", rich_help_panel=ENDING)
]
Threads = Annotated[int | None, typer.Option(help="Processor threads. On a busy machine 1 is the fastest.")]

HELP = """\
/reset   forget what was said
/help    this list
/quit    leave (so does Ctrl-D)
Ctrl-C   stop the answer"""


class WritingCommand(TyperCommand):
    """A command that takes -1 for the number and "- one" for the text that it is, and not for an option."""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """The words of the usage line."""
        return ["[OPTIONS]", *(each.metavar or "" for each in self.params if each.param_type_name == "argument")]

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the arguments, those that only look like an option behind a NO_OPTION."""
        before = ["", *args]
        return super().parse_args(ctx, [_mark(arg, previous) for previous, arg in zip(before, args, strict=False)])


NO_OPTION = "\0"  # which no argument can hold


def _mark(arg: str, previous: str) -> str:
    looks = arg[:1] == "-" and (arg[1:].isdigit() or any(map(str.isspace, arg))) and not arg.startswith("--")
    return NO_OPTION + arg if looks and not previous.startswith("--") else arg


@app.command(cls=WritingCommand)
def generate(
    model: Annotated[str, MODEL],
    prompt: Annotated[
        str, typer.Argument(help="What to go on from. - reads it from standard input.", metavar="PROMPT")
    ],
    n: Annotated[str, typer.Argument(help="At most so many tokens.", metavar="N")],
    temperature: Temperature = None,
    top_k: TopK = None,
    top_p: TopP = None,
    min_p: MinP = None,
    repetition_penalty: Penalty = 1.0,
    greedy: Greedy = False,
    seed: Seed = None,
    stop: Stop = None,
    confidence: Confidence = None,
    patience: Patience = None,
    min_new: MinNew = None,
    stream: Annotated[bool, typer.Option(help="Show text as it is written.")] = True,
    echo: Annotated[bool, typer.Option(help="Show the prompt before the text.")] = True,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print text, ids, probabilities and the reason to stop as JSON.")
    ] = False,
    threads: Threads = None,
) -> None:
    """Go on from a text: minilm generate story "One morning" 200

    The text goes to standard output, a line about it to standard error. A prompt that looks like an option comes after --.
    """
    from minilm.generation import Writer

    most = whole_number("N", n.removeprefix(NO_OPTION))
    seed = secrets.randbelow(2**31) if seed is None else seed
    sampling = make_sampling(temperature, top_k, top_p, min_p, repetition_penalty, greedy)
    rule = make_confidence(confidence, patience, min_new)
    stops = make_stops(stop)
    text = read_prompt(prompt.removeprefix(NO_OPTION))
    set_threads(threads)
    writer = Writer(*load(model))
    prepare_output()
    try:
        writing = writer.stream(text, most, sampling, stop_strings=stops, confidence=rule, seed=seed)
        started = time.perf_counter()
        if stream and not as_json:
            put(text if echo else "")
            show(writing)
        else:
            for _ in writing:
                pass
    except ValueError as error:
        fail(f"{error}.")
    except KeyboardInterrupt:
        say("")
        raise typer.Exit(130) from None
    seconds = time.perf_counter() - started
    written = writing.generation
    if as_json:
        print(json.dumps(describe(model, text, seed, sampling, written)))
        return
    if not stream:
        put((text if echo else "") + (written.text or ""))
    put("\n")
    typer.echo(f"[{len(written.ids)} tokens, {rate(written, seconds)}, {reason(written)}, seed {seed}]", err=True)


@app.command(cls=WritingCommand)
def chat(
    model: Annotated[str, MODEL],
    system: Annotated[str | None, typer.Option(help="What the model is told before all else.")] = None,
    max_new: Annotated[int, typer.Option(help="At most so many tokens an answer.", min=1)] = 256,
    temperature: Temperature = None,
    top_k: TopK = None,
    top_p: TopP = None,
    min_p: MinP = None,
    repetition_penalty: Penalty = 1.0,
    greedy: Greedy = False,
    seed: Seed = None,
    stop: Stop = None,
    confidence: Confidence = None,
    patience: Patience = None,
    min_new: MinNew = None,
    threads: Threads = None,
) -> None:
    """Talk to a model. It remembers what its context holds; /help lists what can be typed.

    A model that was never taught to chat goes on with your text instead: type the beginning of a story.
    """
    from minilm.generation import Conversation, Writer, stream

    sampling = make_sampling(temperature, top_k, top_p, min_p, repetition_penalty, greedy)
    rule = make_confidence(confidence, patience, min_new)
    stops = make_stops(stop)
    set_threads(threads)
    writer = Writer(*load(model))
    prepare_output()
    try:
        conversation = Conversation(writer, None if system is None else mend(system))
        conversation.ask("")
    except ValueError as error:
        fail(str(error))
    seeds = itertools.count(secrets.randbelow(2**31) if seed is None else seed)  # the same question, another answer

    def answer(prompt: list[int]) -> "Stream":
        return stream(
            writer.model,
            prompt,
            conversation.most_new_tokens(prompt, max_new),
            sampling,
            tokenizer=writer.tokenizer,
            stop_tokens=conversation.stop_tokens,
            stop_strings=stops,
            confidence=rule,
            seed=next(seeds),
            pad_token=writer.pad_id,
        )

    introduce(model, conversation)
    while True:
        try:
            line = read_line()
            if line is None or line.strip().lower() == "/quit":
                break
            if not obey(line, conversation):
                reply(line, conversation, answer)
        except KeyboardInterrupt:
            say("\n/quit or Ctrl-D leaves.", style="dim")


def obey(line: str, conversation: "Conversation") -> bool:
    """Do what a line that is a command asks for; whether it was one."""
    command = line.strip().lower()
    if command == "/help":
        say(HELP, style="dim")
    elif command == "/reset":
        conversation.reset()
        say("Forgotten.", style="dim")
    elif command.startswith("/") and command[1:].isalpha():
        say(f"There is no {command}: /help lists what there is.", style="dim")
    else:
        return not command and conversation.chats  # an empty line says nothing; to a base model it says: go on
    return True


def reply(line: str, conversation: "Conversation", answer: "Callable[[list[int]], Stream]") -> None:
    """Let the model answer, as long as nobody presses Ctrl-C."""
    forgotten = conversation.forgotten
    try:
        prompt = conversation.ask(line)
    except ValueError as error:  # too long, or refused by the chat template
        say(str(error), style="dim")
        return
    if not prompt:
        say("There is nothing to go on from: type something.", style="dim")
        return
    if conversation.forgotten > forgotten:
        say(f"(The first {conversation.forgotten} turns no longer fit and are forgotten.)", style="dim")
    try:
        writing = answer(prompt)
    except ValueError as error:
        fail(f"{error}.")
    try:
        show(writing)
    except KeyboardInterrupt:
        put(" …")
    except ValueError as error:
        fail(f"{error}.")
    put("\n")
    conversation.record(line, writing.generation)


def load(model: str) -> Any:
    """Model and tokenizer, the model arranged for writing."""
    from minilm.cli.models import load_model
    from minilm.generation import arrange_for_writing

    found, tokenizer = load_model(mend(model))
    return arrange_for_writing(found), tokenizer


# ---------------------------------------------------------------------------------------------------------------- options


def whole_number(name: str, text: str) -> int:
    """A number from 1 on, as typed."""
    try:
        number = int(text)
    except ValueError:
        fail(f"{name} = {text!r} is no whole number: give the largest number of tokens to write, such as 200.")
    if number < 1:
        fail(f"{name} = {number}: it is the largest number of tokens to write, and must be at least 1.")
    return number


def make_sampling(
    temperature: float | None,
    top_k: int | None,
    top_p: float | None,
    min_p: float | None,
    repetition_penalty: float,
    greedy: bool,
) -> "Sampling":
    """The options as `Sampling`."""
    from minilm.generation import Sampling

    if greedy and temperature:
        fail(f"--greedy is temperature 0, and --temperature says {temperature:g}: leave one of them out.")
    heat = 0.0 if greedy else 0.8 if temperature is None else temperature
    try:
        return Sampling(heat, top_k, top_p, min_p, repetition_penalty)
    except ValueError as error:
        fail(f"{error}.")


def make_confidence(threshold: float | None, patience: int | None, min_new: int | None) -> "ConfidenceStop | None":
    """The options as `ConfidenceStop`, if they ask for one."""
    from minilm.generation import ConfidenceStop

    given = {"patience": patience, "min_new_tokens": min_new}
    changes: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    if threshold is None:
        if changes:
            flag = "--patience" if patience is not None else "--min-new"
            fail(f"{flag} says how to stop by confidence: give --confidence too, such as --confidence 0.3.")
        return None
    try:
        return ConfidenceStop(threshold, **changes)
    except ValueError as error:
        fail(f"{error}.")


def make_stops(stop: list[str] | None) -> list[str]:
    """The texts of --stop."""
    stops = [unescape(each) for each in stop or ()]
    if "" in stops:
        fail("--stop is empty, and an empty text is everywhere: leave it out.")
    return stops


def set_threads(threads: int | None) -> None:
    """Use so many processor threads."""
    if threads is None:
        return
    if threads < 1:
        fail(f"--threads = {threads}: it must be at least 1.")
    import torch

    torch.set_num_threads(threads)


def unescape(text: str) -> str:
    r"""`\n`, `\t` and `\\` as a person types them in a shell."""
    signs = {"n": "\n", "t": "\t", "\\": "\\"}
    pieces = mend(text).split("\\\\")
    return "\\".join(piece.replace("\\n", signs["n"]).replace("\\t", signs["t"]) for piece in pieces)


# ------------------------------------------------------------------------------------------------------------ text in, out


def mend(text: str) -> str:
    """Text as UTF-8 can hold it: what was no UTF-8 on the command line or the keyboard becomes "�"."""
    try:
        return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")  # Python's way to pass on such bytes
    except UnicodeEncodeError:
        return re.sub("[\ud800-\udfff]", "�", text)


def read_prompt(prompt: str) -> str:
    """The prompt, from standard input if it is "-" (without the line's end that echo adds); damage is reported and replaced."""
    if prompt == "-":
        data = sys.stdin.buffer.read()
        text = data.decode("utf-8", "replace").removesuffix("\n").removesuffix("\r")
        damaged = text.count("�") - data.count("�".encode())
        if damaged > 0:
            typer.echo(f"[the prompt is no valid UTF-8 in {damaged} places, which are read as �]", err=True)
        return text
    return mend(prompt)


def read_line() -> str | None:
    """The next line that the person types; None at the end of input. Never raises for what is in it."""
    while True:
        try:
            if sys.stdin.isatty():
                import contextlib

                with contextlib.suppress(ImportError):
                    import readline  # noqa: F401  line editing and history
                return mend(input("> "))
            data = sys.stdin.buffer.readline()
            return data.decode("utf-8", "replace").rstrip("\r\n") if data else None
        except EOFError:
            say("")
            return None
        except UnicodeDecodeError:
            say("That is no text.", style="dim")


def prepare_output() -> None:
    """Let a character that the terminal's encoding lacks be shown as "?" rather than end the program."""
    for out in (sys.stdout, sys.stdin):
        if hasattr(out, "reconfigure"):
            out.reconfigure(errors="replace")


def put(text: str) -> None:
    """Write text at once. A terminal gets no control characters but line ends and tabs: it would obey them."""
    if sys.stdout.isatty():
        text = "".join(c if c in "\n\t" or unicodedata.category(c) != "Cc" else "�" for c in text)
    sys.stdout.write(text)
    sys.stdout.flush()


def show(pieces: "Stream") -> None:
    """Write text as it comes."""
    for piece in pieces:
        put(piece)


def introduce(model: str, conversation: "Conversation") -> None:
    """Say what one talks to."""
    shown = Path(model).name or model
    context = conversation.context_length
    if conversation.chats:
        say(f"{shown} sees {context} tokens at once. /help lists what can be typed.", style="dim")
    else:
        say(
            f"{shown} was not taught to chat: it goes on with your text, and with its own where it had not finished. "
            f"It sees {context} tokens at once. An empty line lets it go on; /help lists what can be typed.",
            style="dim",
        )


def describe(model: str, prompt: str, seed: int, sampling: "Sampling", written: "Generation") -> dict[str, Any]:
    """A generation as JSON has it."""
    return {
        "model": mend(model),
        "prompt": prompt,
        "text": written.text,
        "stop_reason": written.stop_reason,
        "stopped_by": written.stopped_by,
        "ids": written.ids,
        "log_probs": written.log_probs,
        "confidences": written.confidences,
        "seed": seed,
        "sampling": sampling.to_dict(),
    }


def rate(written: "Generation", seconds: float) -> str:
    """Tokens a second."""
    return f"{len(written.ids) / max(seconds, 1e-9):,.0f} tokens/s"


def reason(written: "Generation") -> str:
    """Why it stopped, in words."""
    if written.stop_reason == "stop_string":
        return f"stopped before {written.stopped_by!r}"
    return {
        "eos": "the text is at its end",
        "length": "as long as asked",
        "low_confidence": "stopped where the model became unsure",
    }[written.stop_reason]
