"""The ledger of lesson 09: its models over five seeds, run from the lesson's own cells.

python -m experiments.moe              everything (about three minutes with one thread)
python -m experiments.moe seats        one experiment: models, balance, common, seats, shipped
"""

import sys
from collections.abc import Callable
from typing import Any

from experiments import definitions

SEEDS = range(5)


def line(name: str, values: list[float], digits: int = 0) -> None:
    """All runs, lowest to highest."""
    print(f"{name:<56}", " ".join(f"{value:,.{digits}f}" for value in sorted(values)), flush=True)


def bits_of(names: dict[str, Any], make: Callable[[], Any], seed: int, **options: Any) -> tuple[float, Any]:
    """Train a model with this feed-forward; the bits it holds, and the model."""
    names["torch"].manual_seed(seed)
    model = names["Knower"](make())
    names["learn"](model, seed, **options)
    return names["stored"](model), model


def models(names: dict[str, Any]) -> None:
    """Dense models of both sizes, a mixture with a router that never learns, and with two experts a question."""
    SwiGLU, Mixture, switch = names["SwiGLU"], names["Mixture"], names["WAYS"]["Switch loss"][1]
    for name, make, options in (
        ("narrow", lambda: SwiGLU(32, 16), {}),
        ("wide", lambda: SwiGLU(32, 128), {}),
        ("mixture, the router never learns", Mixture, {}),
        ("two experts, normalised, Switch loss", lambda: Mixture(k=2), {"balance": switch}),
    ):
        line(f"{name}: bits", [bits_of(names, make, seed, **options)[0] for seed in SEEDS])


def balance(names: dict[str, Any]) -> None:
    """Every way to balance, with the router at the rate of the others, ten and a hundred times as fast."""
    never = [bits_of(names, names["Mixture"], seed)[0] for seed in SEEDS]
    for rate in (1.0, 10.0, 100.0):
        for way in names["WAYS"]:
            runs = [names["try_way"](way, seed, rate)[0] for seed in SEEDS]
            bits = [names["stored"](model) for model in runs]
            line(f"{way}, router x {rate:.0f}: bits", bits)
            more = [ours - theirs for ours, theirs in zip(bits, never, strict=True)]
            line(f"{way}, router x {rate:.0f}: more than if it never learns", more)
            line(f"{way}, router x {rate:.0f}: unevenness", [names["unevenness"](m.feed_forward) for m in runs], 2)


def common(names: dict[str, Any]) -> None:
    """Without what all questions have in common."""
    for rate in (1.0, 100.0):
        bits, uneven = [], []
        for seed in SEEDS:
            names["torch"].manual_seed(seed)
            model = names["Knower"](names["Mixture"](normalize=False))
            model.ask.data.zero_().requires_grad_(False)
            names["learn"](model, seed, router_rate=rate)
            bits.append(names["stored"](model))
            uneven.append(names["unevenness"](model.feed_forward))
        line(f"nothing in common, router x {rate:.0f}: bits", bits)
        line(f"nothing in common, router x {rate:.0f}: unevenness", uneven, 2)


def seats(names: dict[str, Any]) -> None:
    """What is dropped, and what is known of the answers that are served and of those that aren't."""
    for way, rate in (("no balance", 100.0), ("no balance", 1.0), ("Switch loss", 1.0)):
        found: dict[str, list[float]] = {}
        for seed in SEEDS:
            model, _, _ = names["try_way"](way, seed, rate)
            for factor in (1.0, 1.25, 2.0):
                kept, known = names["with_seats"](model, factor)
                found.setdefault(f"factor {factor}: dropped", []).append(1 - float(kept.float().mean()))
                if factor == 1.0:
                    found.setdefault("factor 1.0: bits of a served answer", []).append(float(known[kept].mean()))
                    found.setdefault("factor 1.0: bits of a dropped answer", []).append(float(known[~kept].mean()))
        for name, values in found.items():
            line(f"{way}, router x {rate:.0f}, {name}", values, 2)


def shipped(names: dict[str, Any]) -> None:
    """How much of what a feed-forward of a trained model reads is the same at all tokens: of the squared length, layer by layer."""
    from minilm import zoo
    from minilm.data import stories

    torch = names["torch"]
    for name, size in (("story", "medium"), ("moe-bilingual", "easy+french")):
        model, tokenizer = zoo.load(name)
        read: dict[int, list[Any]] = {}
        for number, layer in enumerate(model.core.layers):
            keep = read.setdefault(number, [])
            layer.feed_forward.register_forward_pre_hook(lambda part, inputs, keep=keep: keep.append(inputs[0][0]))
        for text in stories.generate(size, 20, split="test"):
            with torch.no_grad():
                model(torch.tensor([[tokenizer.special_tokens["<end>"], *tokenizer.encode(text)]]))
        rows = [torch.cat(each) for each in read.values()]
        line(f"{name}: common part", [float(x.mean(0).square().sum() / x.square().sum(-1).mean()) for x in rows], 2)


def main() -> None:
    """Run the experiments that are named, or all of them."""
    experiments = {"models": models, "balance": balance, "common": common, "seats": seats, "shipped": shipped}
    names = definitions("09_moe")
    for name in sys.argv[1:] or experiments:
        experiments[name](names)


if __name__ == "__main__":
    main()
