"""How fast text is written, beside its peers: `python -m benchmarks generation [--mode full]`.

Greedy, 32 tokens given, the rest written, a key-value cache on all sides (nanoGPT has none). Batch 1, and 16 texts at once in full mode.
transformers has our weights, and must write the same text before anything is measured. litgpt writes one text at a time by its
own `generate`; its batch of 16 is a loop of ours around its model. Full mode adds steps of fixed shape, compiled. "bound" is the speed at which this machine streams the weights out
of memory, each once a token: what one text at a time cannot exceed where the weights do not fit into a cache.
"""

import copy
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from benchmarks._peers import GPTShaped, litgpt_model, transformers_model
from benchmarks._report import Plain, Table, finish, interleave, now, number, options
from minilm import presets
from minilm.config import ModelConfig
from minilm.generation import GREEDY, Sampling, StaticStep, arrange_for_writing, generate, to_int8
from minilm.model import LanguageModel

PROMPT = list(range(1, 33))
USUAL = Sampling(temperature=0.8, top_k=50, top_p=0.9)
HALF_SPLIT = {"interleaved": False}  # the layout of transformers
SHAPES = {
    "slim": presets.config("slim", positions=HALF_SPLIT),
    "doge-like": presets.config(
        "slim", vocab_size=32_768, num_layers=8, context_length=512, attention={"num_heads": 4}, positions=HALF_SPLIT
    ),
}
Job = Callable[[], float]


def ours(model: LanguageModel, sampling: Sampling, batch: int, tokens: int) -> float:
    """Our `generate`; returns how many tokens it wrote."""
    return sum(len(text.ids) for text in generate(model, [PROMPT] * batch, tokens, sampling))


@torch.inference_mode()
def transformers_writes(model: Any, batch: int, tokens: int) -> list[int]:
    """The ids that transformers' greedy `generate` writes into the first text."""
    written = model.generate(
        torch.tensor([PROMPT] * batch),
        attention_mask=torch.ones(batch, len(PROMPT), dtype=torch.long),
        max_new_tokens=tokens,
        do_sample=False,
        eos_token_id=None,
        pad_token_id=0,
    )
    found: list[int] = written[0, len(PROMPT) :].tolist()
    return found


def litgpt_writes(model: Any, tokens: int) -> float:
    """litgpt's own `generate`, one text."""
    from litgpt.generate.base import generate as litgpt_generate

    out = litgpt_generate(model, torch.tensor(PROMPT), len(PROMPT) + tokens, temperature=0.0, top_p=0.0)
    model.clear_kv_cache()
    model.set_kv_cache(batch_size=1)
    return len(out) - len(PROMPT)


@torch.inference_mode()
def litgpt_loop(model: Any, batch: int, tokens: int) -> float:
    """A greedy loop around litgpt's model with its cache."""
    model.clear_kv_cache()
    model.set_kv_cache(batch_size=batch)
    ids, positions = torch.tensor([PROMPT] * batch), torch.arange(len(PROMPT))
    for _ in range(tokens):
        ids = model(ids, positions)[:, -1:].argmax(dim=-1)
        positions = positions[-1:] + 1
    return batch * tokens


def fixed_shape(step: StaticStep, batch: int, tokens: int) -> float:
    """A greedy loop of steps of fixed shape."""
    logits = step.read(torch.tensor([PROMPT] * batch))
    for _ in range(tokens):
        logits = step(logits.argmax(dim=-1))
    return batch * tokens


@torch.inference_mode()
def without_cache(model: Any, batch: int, tokens: int) -> float:
    """A greedy loop that reads the whole text again for each token, as nanoGPT's `generate` does."""
    ids = torch.tensor([PROMPT] * batch)
    for _ in range(tokens):
        ids = torch.cat((ids, model(ids)[:, -1:].argmax(dim=-1)), dim=1)
    return batch * tokens


def weights_a_second(model: LanguageModel, kind: torch.dtype, clock: str) -> float:
    """How often a second this machine can read all weights that a token needs, in numbers of this kind."""
    numbers = sum(p.numel() for p in model.parameters())
    size = torch.empty((), dtype=kind).element_size()
    data = torch.ones(numbers * size // 8, dtype=torch.int64)
    best = 1e9
    for _ in range(9):
        start = now(clock)
        data.sum()
        best = min(best, now(clock) - start)
    return 1 / best


def jobs(config: ModelConfig, batch: int, tokens: int, compiled: bool) -> dict[str, Job]:
    """Everyone, ready to write."""
    torch.manual_seed(0)
    model = LanguageModel.from_config(config).eval()
    arranged, whole = arrange_for_writing(copy.deepcopy(model)), to_int8(model)
    half = arrange_for_writing(copy.deepcopy(model).bfloat16())
    found: dict[str, Job] = {
        "minilm": partial(ours, model, GREEDY, batch, tokens),
        "minilm, arranged for writing": partial(ours, arranged, GREEDY, batch, tokens),
        "minilm, int8": partial(ours, whole, GREEDY, batch, tokens),
        "minilm, bfloat16": partial(ours, half, GREEDY, batch, tokens),
        "minilm, arranged, temperature 0.8, top-k 50, top-p 0.9": partial(ours, arranged, USUAL, batch, tokens),
    }
    for name, each in (("float32", model), ("int8", whole)) if compiled else ():
        step = StaticStep(each, batch, len(PROMPT) + tokens, compile=True)
        found[f"minilm, {name}, fixed shape, compiled"] = partial(fixed_shape, step, batch, tokens)
    theirs = transformers_model(copy.deepcopy(model))
    if theirs is not None:
        theirs = theirs.eval()
        expected = generate(model, [PROMPT], tokens, GREEDY)[0].ids
        if transformers_writes(theirs, 1, tokens) != expected:
            raise AssertionError("the two write different texts")
        found["transformers generate"] = lambda: batch * len(transformers_writes(theirs, batch, tokens))
    lit = litgpt_model(config)
    if lit is not None:
        lit.eval().set_kv_cache(batch_size=batch)
        if batch == 1:
            found["litgpt generate"] = partial(litgpt_writes, lit, tokens)
        found["litgpt's model, a bare greedy loop"] = partial(litgpt_loop, lit, batch, tokens)
    if batch == 1:
        found["nanoGPT-shaped, no cache"] = partial(without_cache, GPTShaped(config).eval(), batch, tokens)
    return found


def main() -> None:
    """Measure and print a table for each shape and batch."""
    began = time.perf_counter()
    settings = options(
        "generation",
        __doc__,
        tokens={"type": int, "default": None, "help": "how many are written"},
        shapes={"nargs": "+", "choices": list(SHAPES), "default": list(SHAPES)},
        batches={"type": int, "nargs": "+", "default": None},
        compiled={"action": "store_true", "help": "with compiled steps in the short mode too (minutes)"},
    )
    full = settings.mode == "full"
    tokens = settings.tokens or (200 if full else 40)
    tables: list[Table | Plain] = []
    for shape in settings.shapes:
        config = SHAPES[shape]
        bounds = {
            kind: weights_a_second(LanguageModel.from_config(config), kind, settings.clock)
            for kind in (torch.float32, torch.bfloat16, torch.int8)
        }
        for batch in settings.batches or ([1, 16] if full else [1]):
            contenders = jobs(config, batch, tokens, full or settings.compiled)
            rounds = interleave(contenders, settings.rounds, 1.0 if full else 0.3, settings.clock)
            table = Table(f"{shape}, batch {batch}: {tokens} tokens written", "tokens/s", rounds)
            if batch == 1:
                shares = {name: table.median(name) / bounds[kind_of(name)] for name in rounds}
                table.more["share of the bound"] = {name: f"{share:.0%}" for name, share in shares.items()}
                table.note = "Bound, tokens/s: " + ", ".join(
                    f"{str(kind).removeprefix('torch.')} {number(bound)}" for kind, bound in bounds.items()
                )
            tables.append(table)
    finish("generation", "How fast is text written, beside its peers?", settings, tables, began)


def kind_of(name: str) -> torch.dtype:
    """The kind of number that a contender's weights are."""
    return torch.int8 if "int8" in name else torch.bfloat16 if "bfloat16" in name else torch.float32


if __name__ == "__main__":
    main()
