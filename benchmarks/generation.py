"""How fast text is written at batch 1, beside transformers on the same weights: `python -m benchmarks generation [--rounds 5] [--threads 1]`.

Greedy, 32 tokens given, 200 written, float32, a key-value cache on both sides. Rounds are interleaved; a ratio is taken within a round.
Processor time a token is shown too: on a busy machine it is the steadier figure (with one thread).
"""

import argparse
import copy
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from minilm import interop
from minilm.generation import GREEDY, Sampling, arrange_for_writing, generate
from minilm.model import LanguageModel

PROMPT = list(range(1, 33))
# `slim`, and the width and vocabulary of a small Doge without its dynamic mask.
SHAPES: dict[str, dict[str, Any]] = {
    "slim": {},
    "doge-like": {
        "vocab_size": 32_768,
        "num_layers": 8,
        "context_length": 512,
        "attention": {"num_heads": 4},
        "feed_forward": {"hidden": 1024},
    },
}


USUAL = Sampling(temperature=0.8, top_k=50, top_p=0.9)


@torch.inference_mode()
def transformers_writes(model: Any, tokens: int) -> list[int]:
    """The ids that transformers' greedy `generate` writes."""
    written = model.generate(
        torch.tensor([PROMPT]),
        attention_mask=torch.ones(1, len(PROMPT), dtype=torch.long),
        max_new_tokens=tokens,
        do_sample=False,
        eos_token_id=None,
        pad_token_id=0,
    )
    found: list[int] = written[0, len(PROMPT) :].tolist()
    return found


def measure(job: Callable[[], object], tokens: int) -> tuple[float, float]:
    """Tokens a second, and milliseconds of processor time a token."""
    wall, processor = time.perf_counter(), time.process_time()
    job()
    return tokens / (time.perf_counter() - wall), 1000 * (time.process_time() - processor) / tokens


def main() -> None:
    """Measure both shapes and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--tokens", type=int, default=200)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    n = arguments.tokens
    print(f"threads: {arguments.threads}\n{'':<34}{'tokens/s':>10}{'vs transformers':>17}{'CPU ms/token':>14}")
    for shape, changes in SHAPES.items():
        torch.manual_seed(0)
        model = LanguageModel.from_preset("slim", positions={"interleaved": False}, **changes).eval()
        arranged = arrange_for_writing(copy.deepcopy(model))
        theirs = interop.to_transformers(model).eval()

        jobs: dict[str, Callable[[], object]] = {
            "transformers": partial(transformers_writes, theirs, n),
            "minilm": partial(generate, model, [PROMPT], n, GREEDY),
            "minilm, arranged for writing": partial(generate, arranged, [PROMPT], n, GREEDY),
            "the same, T 0.8, top-k 50, top-p 0.9": partial(generate, arranged, [PROMPT], n, USUAL),
        }
        assert generate(model, [PROMPT], n, GREEDY)[0].ids == transformers_writes(theirs, n), (
            "the two write different texts"
        )
        rounds = [{name: measure(job, n) for name, job in jobs.items()} for _ in range(arguments.rounds)]
        print(shape)
        for name in jobs:
            speed, processor = (statistics.median(each[name][i] for each in rounds) for i in (0, 1))
            ratio = statistics.median(each[name][0] / each["transformers"][0] for each in rounds)
            print(f"  {name:<36}{speed:>6,.0f}{ratio:>17.2f}{processor:>14.2f}")


if __name__ == "__main__":
    main()
