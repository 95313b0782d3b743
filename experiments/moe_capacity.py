"""What a mixture of experts holds: random facts, of which more exist than any of the models has room for, and stories, whose
grammar is small.

python -m experiments.moe_capacity              record all runs that are missing in minilm/recorded/moe_capacity.json
python -m experiments.moe_capacity table        what is recorded

The question is whether experts that a token doesn't pass through count as room. A mixture is compared with a dense model of the same
active size, which computes as much for each token, and with one of the same total size, which has as much room.
"""

import math
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F

from experiments.moe_shared import (
    CHOSEN,
    EXPERTS,
    Shape,
    count_choices,
    finished,
    held_out_batches,
    keep,
    mixtures,
)
from minilm.config import ModelConfig, MoEConfig
from minilm.data import stories
from minilm.data.facts import Facts
from minilm.evaluation import story_report
from minilm.model import LanguageModel
from minilm.moe import coefficient_of_variation
from minilm.recorded import recorded_experiment
from minilm.tokenizer import BPETokenizer
from minilm.training import (
    Batches,
    DocumentBatches,
    OptimizerConfig,
    ScheduleConfig,
    Trainer,
    TrainingConfig,
    WindowBatches,
)

NAME, COMMAND = "moe_capacity", "python -m experiments.moe_capacity"
FACTS = Facts(people=2048, attributes=8, values=64)
MOE = MoEConfig(num_experts=EXPERTS, top_k=CHOSEN, normalize=True, balance="switch", balance_weight=0.01)
FACT_SHAPE = Shape(dim=32, layers=2, heads=2, hidden=16, context=FACTS.length - 1)
STORY_SHAPE = Shape(dim=48, layers=2, heads=3, hidden=32, context=128)
EPOCHS, BATCH, RATE = 50, 32, 5e-3
STORY_SIZE, STORIES, STORY_BATCH, STORY_RATE, VOCABULARY, HELD_OUT = "easy", 6000, 16, 1e-2, 512, 300
SEEDS = {"facts": (0, 1, 2), "stories": (0, 1, 2, 3, 4, 5)}


Learn = Callable[[ModelConfig, int], dict[str, Any]]


def train(config: ModelConfig, batches: Batches, steps: int, rate: float, seed: int) -> LanguageModel:
    """A fresh model, trained."""
    torch.manual_seed(seed)
    model = LanguageModel(config)
    training = TrainingConfig(
        steps=steps,
        learning_rate=rate,
        schedule=ScheduleConfig(warmup=0.02, final=0.0),
        optimizer=OptimizerConfig(beta2=0.98, weight_decay=0.0),
        seed=seed,
    )
    trainer = Trainer(model, batches, training)
    trainer.train()
    finished(trainer)
    return model.eval()


@torch.no_grad()
def nats_a_value(model: LanguageModel, facts: Facts) -> float:
    """The mean loss over all values, each told what comes before it in its record."""
    records = torch.from_numpy(facts.records)
    logits = model(records[:, :-1])[:, 1:]  # the first target is the last name
    return F.cross_entropy(logits.flatten(0, 1), records[:, 2:].flatten()).item()


def learn_facts(config: ModelConfig, seed: int, facts: Facts = FACTS, epochs: int = EPOCHS) -> dict[str, Any]:
    """One run: how many bits a model of that config holds after so many readings."""
    start = time.process_time()
    batches = WindowBatches(facts.tokens(), BATCH, facts.length - 1, seed, stride=facts.length, skip=1)
    model = train(config, batches, epochs * len(batches), RATE, seed)
    nats, parameters, active = nats_a_value(model, facts), model.num_parameters(), model.num_parameters(active=True)
    stored = facts.stored_bits(nats)
    found: dict[str, Any] = {
        "seed": seed,
        "parameters": parameters,
        "active_parameters": active,
        "nats_a_value": round(nats, 4),
        "stored_bits": round(stored),
        "bits_a_parameter": round(stored / parameters, 3),
        "bits_an_active_parameter": round(stored / active, 3),
    }
    if mixtures(model):
        every = WindowBatches(facts.tokens(), 256, facts.length - 1, stride=facts.length, skip=1)
        usage = count_choices(model, [next(every) for _ in range(len(every))])
        found["cv"] = [round(each, 3) for each in coefficient_of_variation(usage).tolist()]
    return found | {"seconds": round(time.process_time() - start, 1)}


def learn_stories(config: ModelConfig, seed: int, number: int = STORIES, held_out: int = HELD_OUT) -> dict[str, Any]:
    """One run of the control: how far above the floor a model of that config ends on stories."""
    texts = stories.generate(STORY_SIZE, number)
    tokenizer = BPETokenizer.train(texts[:3000], vocab_size=VOCABULARY, special_tokens=["<end>"])
    start, end = time.process_time(), tokenizer.special_tokens["<end>"]
    batches = DocumentBatches([tokenizer.encode(text) for text in texts], STORY_BATCH, end, seed)
    model = train(config, batches, len(batches), STORY_RATE, seed)
    report = story_report(model, tokenizer, stories.generate(STORY_SIZE, held_out, split="validation"), STORY_SIZE)
    found: dict[str, Any] = {
        "seed": seed,
        "parameters": model.num_parameters(),
        "active_parameters": model.num_parameters(active=True),
        "excess_nats": round(report.excess, 3),
        "excess_error": round(report.error, 3),
        "floor_nats": round(report.floor, 3),
    }
    if mixtures(model):
        documents = [tokenizer.encode(text) for text in stories.generate(STORY_SIZE, held_out, split="validation")]
        usage = count_choices(model, held_out_batches(documents, end))
        found["cv"] = [round(each, 3) for each in coefficient_of_variation(usage).tolist()]
    return found | {"seconds": round(time.process_time() - start, 1)}


def settings() -> dict[str, Any]:
    """What is the same in all runs."""
    return {
        "experts": EXPERTS,
        "chosen": CHOSEN,
        "balance": MOE.balance,
        "balance_weight": MOE.balance_weight,
        "facts": {
            "people": FACTS.people,
            "attributes": FACTS.attributes,
            "values": FACTS.values,
            "bits": FACTS.bits,
            "readings": EPOCHS,
            "batch": BATCH,
            "rate": RATE,
            "shape": vars(FACT_SHAPE),
        },
        "stories": {
            "size": STORY_SIZE,
            "stories": STORIES,
            "batch": STORY_BATCH,
            "rate": STORY_RATE,
            "vocabulary": VOCABULARY,
            "held_out": HELD_OUT,
            "shape": vars(STORY_SHAPE),
        },
    }


def record() -> None:
    """Make the runs that are not recorded yet."""
    try:
        runs = recorded_experiment(NAME)["runs"]
    except ValueError:
        runs = []
    done = {(run["task"], run["model"], run["seed"]) for run in runs}
    configs = {
        "facts": FACT_SHAPE.three(FACTS.vocab_size, MOE),
        "stories": STORY_SHAPE.three(VOCABULARY, MOE),
    }
    learn: dict[str, Learn] = {"facts": learn_facts, "stories": learn_stories}
    wanted = [(task, name, seed) for task, seeds in SEEDS.items() for seed in seeds for name in configs[task]]
    for task, name, seed in wanted:
        if (task, name, seed) not in done:
            runs.append({"task": task, "model": name, **learn[task](configs[task][name], seed)})
            print(*runs[-1].values(), flush=True)
            keep(NAME, COMMAND, settings(), runs)


def table() -> str:
    """Means and spreads over seeds."""
    lines = []
    for task, figure in (
        ("facts", "bits_a_parameter"),
        ("facts", "bits_an_active_parameter"),
        ("stories", "excess_nats"),
    ):
        lines.append(f"{task}: {figure.replace('_', ' ')}")
        for name in FACT_SHAPE.three(8, MOE):
            runs = [r for r in recorded_experiment(NAME)["runs"] if (r["task"], r["model"]) == (task, name)]
            values = [run[figure] for run in runs]
            if values:
                spread = statistics.stdev(values) if len(values) > 1 else math.nan
                size = f"{runs[0]['parameters']:>8,} parameters, {runs[0]['active_parameters']:>7,} active"
                lines.append(
                    f"  {name:<20}{size}  {statistics.mean(values):7.3f}, spread {spread:.3f} over {len(values)} seeds"
                )
    return "\n".join(lines)


def main() -> None:
    """Record what is missing, and print the table."""
    torch.set_num_threads(1)
    if sys.argv[1:] != ["table"]:
        record()
    print(table())


if __name__ == "__main__":
    main()
