"""The ledger of lesson 11: answers learned in several ways, adapters, preferences, and what lies between two models.

python -m experiments.finetuning            run what is missing, keep it in minilm/recorded/finetuning.json, print the ledger
python -m experiments.finetuning sft        one part: reference, sft, preferences, merging
python -m experiments.finetuning table      print what is recorded

All runs come from the lesson's own cells (about half an hour with one thread). The stories of the reference are what the
lesson's frontier and its widget show.
"""

import json
import sys
from collections.abc import Callable, Sequence
from typing import Any

from experiments import definitions
from minilm.recorded import RECORDED

Names = dict[str, Any]
Figures = dict[str, Any]

FILE = RECORDED / "finetuning.json"
SEEDS = range(3)
ONCE = (  # a look with one seed, which the lesson claims nothing from
    "LoRA, rank 8, and the table",
    "DPO, beta 1, three times the rate",
    "DPO, beta 1, pairs of its own",
    "IPO, beta 0.3",
    "KTO, beta 0.3",
)
STEPS, TASKS, TEXTS, SHOWN = 120, 300, 2000, 300


def main() -> None:
    """Run the parts that are named, or all of them; then print the ledger."""
    chosen = sys.argv[1:] or list(PARTS)
    if chosen != ["table"]:
        names = definitions("11_finetuning")
        for seed in SEEDS:
            for name in chosen:
                PARTS[name](names, seed)
    table()


def read() -> Figures:
    """What is recorded, or the beginning of it."""
    if FILE.exists():
        return dict(json.loads(FILE.read_text(encoding="utf-8")))
    settings = {"steps": STEPS, "tasks": TASKS, "texts": TEXTS}
    return {"command": "python -m experiments.finetuning", "settings": settings, "runs": []}


def write(record: Figures) -> None:
    """Keep it, runs in a fixed order."""
    record["runs"].sort(key=lambda run: (run["part"], run["way"], run["seed"]))
    lines = ",\n  ".join(json.dumps(run, ensure_ascii=False) for run in record["runs"])
    rest = json.dumps({key: value for key, value in record.items() if key != "runs"}, ensure_ascii=False)
    partial = FILE.with_suffix(".partial")
    partial.write_text(f'{rest[:-1]},\n "runs": [\n  {lines}\n ]}}\n', encoding="utf-8")
    partial.replace(FILE)


def missing(part: str, way: str, seed: int) -> bool:
    """Whether a run is wanted and not recorded yet."""
    return (seed == 0 or way not in ONCE) and not any(
        (run["part"], run["way"], run["seed"]) == (part, way, seed) for run in read()["runs"]
    )


def keep(part: str, way: str, seed: int, figures: Figures) -> None:
    """Record a run beside what is there now."""
    record = read()
    rounded = {name: round(value, 4) if isinstance(value, float) else value for name, value in figures.items()}
    record["runs"].append({"part": part, "way": way, "seed": seed, **rounded})
    write(record)
    print(part, way, seed, rounded, flush=True)


# ------------------------------------------------------------------------------------------------------------- answers


def sft(names: Names, seed: int) -> None:
    """Ways to learn answers, from the base, at equal steps; and content that is no longer practised, from the chat model."""
    for way, train in WAYS.items():
        if missing("sft", way, seed):
            keep("sft", way, seed, measure(names, train(names, seed)))


def data(names: Names, seed: int, learn: str = "answers", kinds: Sequence[str] = ()) -> list[Any]:
    """Conversations of one seed."""
    options = {"kinds": kinds} if kinds else {}
    tasks = names["instructions"]("easy", 32 * STEPS, seed=seed, **options)
    return [names["encode_chat"](names["tokenizer"], task.messages, learn) for task in tasks]


def replayed(names: Names, seed: int) -> list[Any]:
    """Conversations of which one in twenty is a plain story instead, as the base has learned them."""
    from minilm.finetuning import Example

    examples, end = data(names, seed), names["END"]
    for i, text in enumerate(names["stories"].generate("easy", len(examples) // 20, seed=seed)):
        ids = (end, *names["tokenizer"].encode(text), end)
        examples[20 * i] = Example(ids, (False, *[True] * (len(ids) - 1)))
    return examples


def adapted(names: Names, seed: int, rank: int, also: str = "") -> Any:
    """The base with adapters, trained and merged."""
    model = names["zoo"].load("easy-base")[0]
    config = names["LoRAConfig"](rank=rank, alpha=2.0 * rank, also=also)
    names["add_lora"](model, config, seed)
    return names["merge"](names["sft"](data(names, seed), STEPS, 0.03, seed, model)[0])


WAYS: dict[str, Callable[[Names, int], Any]] = {
    "answers": lambda names, seed: names["sft"](data(names, seed), STEPS, seed=seed)[0],
    "all tokens": lambda names, seed: names["sft"](data(names, seed, "all"), STEPS, seed=seed)[0],
    "sorted by length": lambda names, seed: names["sft"](data(names, seed), STEPS, seed=seed, bucket=20)[0],
    "one in twenty a plain story": lambda names, seed: names["sft"](replayed(names, seed), STEPS, seed=seed)[0],
    "LoRA, rank 8": lambda names, seed: adapted(names, seed, 8),
    "LoRA, rank 8, and the table": lambda names, seed: adapted(names, seed, 8, "embedder"),
    "chat model, then questions only": lambda names, seed: names["sft"](
        data(names, seed, kinds=("question",)), STEPS, 0.003, seed, names["zoo"].load("easy-chat")[0]
    )[0],
}


def measure(names: Names, model: Any) -> Figures:
    """Tasks followed by kind, bits lost on plain stories, and bits of the same stories as answers."""
    tasks = names["instructions"]("easy", TASKS, split="test")
    report = names["follow_report"](model, names["tokenizer"], tasks, max_new_tokens=100)
    found: Figures = {}
    for kind in ("story", "question", "free"):
        right = [float(r) for task, r in zip(report.tasks, report.right, strict=True) if task.kind == kind]
        found[kind] = sum(right) / len(right)
    found["lost"] = names["forgetting"](names["base"], model, names["tokenizer"], names["plain"]).change
    found["as answers"] = names["bits_as_answer"](model)
    return found


# ---------------------------------------------------------------------------------------------------------- preferences


def reference(names: Names, seed: int = 0) -> None:
    """Stories that the chat model tells, and their rewards: one draw for all seeds."""
    from minilm.finetuning import sample_answers

    if "rewards" in read():
        return
    told = sample_answers(names["chat"], names["tokenizer"], names["ask"], TEXTS, max_new_tokens=100, seed=10_000)
    texts = [each.text or "" for each in told]
    rewards, off = [round(names["reward"](text), 4) for text in texts], names["off_grammar"](texts)
    write(read() | {"texts": texts[:SHOWN], "rewards": rewards, "off_grammar": off})


def own_pairs(names: Names, seed: int) -> list[Any]:
    """Pairs of stories that the chat model told itself, labelled by the same judge."""
    from minilm.data.preferences import compare
    from minilm.finetuning import sample_answers

    told = sample_answers(names["chat"], names["tokenizer"], names["ask"], 2000, max_new_tokens=100, seed=seed + 77)
    return compare([each.text or "" for each in told], names["reward"], seed=seed)


# way: beta, rate, loss
LOSSES: dict[str, tuple[float, float, str]] = {
    "DPO, beta 1": (1.0, 3e-4, "dpo"),
    "DPO, beta 0.3": (0.3, 3e-4, "dpo"),
    "DPO, beta 0.1": (0.1, 3e-4, "dpo"),
    "DPO, beta 3": (3.0, 3e-4, "dpo"),
    "DPO, beta 1, three times the rate": (1.0, 1e-3, "dpo"),
    "DPO, beta 0.3, three times the rate": (0.3, 1e-3, "dpo"),
    "DPO, beta 1, pairs of its own": (1.0, 3e-4, "dpo"),
    "IPO, beta 0.3": (0.3, 3e-4, "ipo"),
    "KTO, beta 0.3": (0.3, 3e-4, "kto"),
}


def preferences(names: Names, seed: int) -> None:
    """Policies from several losses and betas: how they judge test pairs, where they stand, what they tell."""
    reference(names)
    pairs = names["preferences"]
    names["test_pairs"] = pairs("easy", 500, split="test")
    encoded = names["encoded"](names["test_pairs"])
    names["test"] = names["PreferenceBatches"](encoded, 32, names["chat"])
    names["truth"] = names["torch"].tensor([pair.margin for pair in names["test_pairs"]])
    frontier = names["reward_frontier"](read()["rewards"], [0.2 * 1.2**i for i in range(25)] + [1e6], resamples=0)
    frontier = [each for each in frontier if each.reliable]
    for way, (beta, rate, loss) in LOSSES.items():
        if missing("preferences", way, seed):
            given = own_pairs(names, seed) if way.endswith("own") else pairs("easy", 960, seed=seed)
            policy = names["prefer"](beta, rate=rate, seed=seed, given=given, loss=loss)[0]
            keep("preferences", way, seed, stands(names, policy, beta, frontier))


def stands(names: Names, policy: Any, beta: float, frontier: Any) -> Figures:
    """Agreement, displacement, reward and distance of a policy, and the best reward at its distance."""
    from minilm.finetuning import best_reward_at

    gains = names["test"].log_probs(policy) - names["test"].reference
    point = names["stand"](policy)
    furthest = max(each.kl.value for each in frontier)
    return {
        **names["judged"](policy, beta),
        "chosen": gains[0].mean().item(),
        "rejected": gains[1].mean().item(),
        "chosen that fell": (gains[0] < 0).double().mean().item(),
        "reward": point.reward.value,
        "reward error": (point.reward.high - point.reward.value) / 1.96,
        "kl": point.kl.value,
        "kl error": (point.kl.high - point.kl.value) / 1.96,
        "best reward": best_reward_at(frontier, point.kl.value) if point.kl.value <= furthest else None,
        "off grammar": names["off_grammar"](point.texts),
        "sad": sum("sad" in text.lower() for text in point.texts) / len(point.texts),
        "distinct": len(set(point.texts)) / len(point.texts),
    }


# -------------------------------------------------------------------------------------------------------------- merging


def merging(names: Names, seed: int) -> None:
    """Models on the line from the base through the chat model: there is one line."""
    for share in (0.0, 0.25, 0.5, 0.75, 0.9, 1.0, 1.1, 1.25):
        if seed == 0 and missing("merging", f"share {share:g}", 0):
            keep("merging", f"share {share:g}", 0, measure(names, names["part_way"](share)))


# ---------------------------------------------------------------------------------------------------------------- table


def table() -> None:
    """Every figure of every way, lowest to highest over its seeds."""
    runs = read()["runs"]
    for part, way in dict.fromkeys((run["part"], run["way"]) for run in runs):
        these = [run for run in runs if (run["part"], run["way"]) == (part, way)]
        print(f"{part}: {way}")
        for name in these[0]:
            if isinstance(these[0][name], float):
                print(f"    {name:<20}", " ".join(f"{value:.3f}" for value in sorted(run[name] for run in these)))


PARTS: dict[str, Callable[[Names, int], None]] = {
    "reference": reference,
    "preferences": preferences,
    "sft": sft,
    "merging": merging,
}

if __name__ == "__main__":
    main()
