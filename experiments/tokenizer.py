"""The ledger of lesson 01: what cutting into words costs and buys, over five draws of stories.

python -m experiments.tokenizer      some seconds
"""

import statistics

from experiments import definitions
from minilm.data import stories
from minilm.tokenizer import BPETokenizer

SEEDS = range(1, 6)


def main() -> None:
    """Characters a token on held-out stories for each rule of cutting, with the lesson's sizes."""
    characters_per_token = definitions("01_tokenizer")["characters_per_token"]
    for name, rule in ("no cutting", None), ("white space", "whitespace"), ("GPT-2", "gpt2"):
        found = []
        for seed in SEEDS:
            train = stories.generate("medium", n=50, seed=seed, split="train")
            held_out = stories.generate("medium", n=200, seed=seed, split="validation")
            made = BPETokenizer.train(train, 656, pre_tokenizer=rule, progress=False)
            found.append(characters_per_token(made, held_out))
        mean, spread = statistics.mean(found), statistics.stdev(found)
        print(f"{name:>11}: {mean:.3f} ± {spread:.3f} characters a token", flush=True)


if __name__ == "__main__":
    main()
