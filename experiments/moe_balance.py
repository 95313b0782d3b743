"""What keeps experts in work: four ways to train the same mixture, each for the same number of steps, at the usual rate and with a
router that learns ten and a hundred times as fast.

python -m experiments.moe_balance              record all runs that are missing in minilm/recorded/moe_balance.json
python -m experiments.moe_balance table        what is recorded
"""

import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from experiments.moe_capacity import nats_a_value
from experiments.moe_shared import EXPERTS, Shape, count_choices, finished, held_out_batches, keep, mixtures
from minilm.config import MoEConfig
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
from minilm.training.optimizers import AdamW, set_rate

NAME, COMMAND = "moe_balance", "python -m experiments.moe_balance"
METHODS: dict[str, dict[str, Any]] = {
    "none": {},
    "noise": {"noise": 1.0},
    "Switch loss": {"balance": "switch", "balance_weight": 0.01},
    "bias": {"balance": "bias", "balance_rate": 0.01},  # DeepSeek-V3's 0.001 is for runs of many thousands of steps
}
DEAD = 0.1  # an expert with less than this share of an even load does nothing worth speaking of
EVERY = 10  # steps between two points of a curve

SIZE, STORIES, VOCABULARY, HELD_OUT = "easy", 3840, 512, 200
STORY_SHAPE, STORY_BATCH, STORY_RATE = Shape(dim=48, layers=2, heads=3, hidden=32, context=128), 16, 1e-2

FACTS = Facts(people=768, attributes=8, values=64)
FACT_SHAPE, FACT_BATCH, FACT_RATE = Shape(dim=32, layers=2, heads=2, hidden=8, context=FACTS.length - 1), 32, 5e-3
READINGS = 50

RUNS = [("stories", factor, seed) for seed in range(4) for factor in (1, 10, 100)]
RUNS += [("facts", factor, seed) for seed in range(3) for factor in (1, 10, 100)]
"""Task, the router's rate as a multiple of the others', seed: each with every method."""


class TwoRates:
    """AdamW with a rate of its own for routers: `factor` times that of everything else."""

    def __init__(self, model: LanguageModel, factor: float, config: OptimizerConfig) -> None:
        routers = {id(weight) for layer in mixtures(model) for weight in layer.gate.parameters()}
        betas = (config.beta1, config.beta2)
        self.lr, self.factor = 0.0, factor
        self.routers = AdamW([w for w in model.parameters() if id(w) in routers], betas=betas)
        self.others = AdamW([w for w in model.parameters() if id(w) not in routers], betas=betas)

    def step(self) -> None:
        """Change the weights, each group at its rate."""
        for optimizer, rate in ((self.routers, self.lr * self.factor), (self.others, self.lr)):
            set_rate(optimizer, rate)
            optimizer.step()

    def zero_grad(self) -> None:
        """Forget the gradients."""
        self.routers.zero_grad()
        self.others.zero_grad()


def usage_of(model: nn.Module) -> torch.Tensor:
    """Each layer's running average of the experts' shares."""
    return torch.stack([layer.usage for layer in mixtures(model)])  # type: ignore[arg-type]


def dead(usage: torch.Tensor) -> int:
    """How many experts of all layers have less than a tenth of an even share."""
    return int((usage / usage.sum(dim=-1, keepdim=True) < DEAD / usage.shape[-1]).sum())


def follow(trainer: Trainer, every: int) -> dict[str, list[float]]:
    """Train, and write down every so many steps the mean loss since, the CV of the experts' usage and how many are dead."""
    curve: dict[str, list[float]] = {"step": [], "loss": [], "cv": [], "dead": []}
    losses = []
    for record in trainer.steps():
        losses.append(record.loss - record.auxiliary)
        if record.step % every == 0:
            usage = usage_of(trainer.model)
            curve["step"].append(record.step)
            curve["loss"].append(round(statistics.mean(losses[-every:]), 4))
            curve["cv"].append(round(coefficient_of_variation(usage).mean().item(), 3))
            curve["dead"].append(dead(usage))
    finished(trainer)
    return curve


def make_trainer(
    shape: Shape, vocabulary: int, method: str, factor: float, batches: Batches, steps: int, rate: float, seed: int
) -> Trainer:
    """A fresh mixture with one expert a token, and what trains it."""
    torch.manual_seed(seed)
    model = LanguageModel(shape.config(vocabulary, MoEConfig(num_experts=EXPERTS, top_k=1, **METHODS[method])))
    optimizer = OptimizerConfig(beta2=0.98, weight_decay=0.0)
    config = TrainingConfig(
        steps=steps,
        learning_rate=rate,
        schedule=ScheduleConfig(warmup=0.1, final=0.0),
        optimizer=optimizer,
        seed=seed,
    )
    return Trainer(model, batches, config, optimizer=TwoRates(model, factor, optimizer))


def on_stories(
    method: str, factor: float, seed: int, number: int = STORIES, held_out: int = HELD_OUT
) -> dict[str, Any]:
    """One run on stories, read once: how far above the floor it ends."""
    texts = stories.generate(SIZE, number)
    tokenizer = BPETokenizer.train(texts[:3000], vocab_size=VOCABULARY, special_tokens=["<end>"])
    end = tokenizer.special_tokens["<end>"]
    batches = DocumentBatches([tokenizer.encode(text) for text in texts], STORY_BATCH, end, seed)
    trainer = make_trainer(STORY_SHAPE, tokenizer.vocab_size, method, factor, batches, len(batches), STORY_RATE, seed)
    curve = follow(trainer, EVERY)
    tested = stories.generate(SIZE, held_out, split="validation")
    report = story_report(trainer.model.eval(), tokenizer, tested, SIZE)
    usage = count_choices(trainer.model, held_out_batches([tokenizer.encode(text) for text in tested], end))
    figures = {"excess_nats": round(report.excess, 3), "excess_error": round(report.error, 3)}
    return {**figures, **used(usage), "curve": curve}


def on_facts(method: str, factor: float, seed: int, facts: Facts = FACTS, readings: int = READINGS) -> dict[str, Any]:
    """One run on facts, of which there are more than fit: how many bits it ends up holding."""
    length = facts.length - 1
    batches = WindowBatches(facts.tokens(), FACT_BATCH, length, seed, stride=facts.length, skip=1)
    trainer = make_trainer(
        FACT_SHAPE, facts.vocab_size, method, factor, batches, readings * len(batches), FACT_RATE, seed
    )
    curve = follow(trainer, 4 * EVERY)
    nats = nats_a_value(trainer.model.eval(), facts)
    every = WindowBatches(facts.tokens(), 256, length, stride=facts.length, skip=1)
    usage = count_choices(trainer.model, [next(every) for _ in range(len(every))])
    parameters, stored = trainer.model.num_parameters(), facts.stored_bits(nats)
    figures = {
        "stored_bits": round(stored),
        "bits_a_parameter": round(stored / parameters, 3),
        "parameters": parameters,
    }
    return {**figures, **used(usage), "curve": curve}


def used(usage: torch.Tensor) -> dict[str, Any]:
    """Counts of choices as figures: CV by layer, dead experts of all layers, shares."""
    return {
        "cv": [round(each, 3) for each in coefficient_of_variation(usage).tolist()],
        "dead": dead(usage),
        "usage": [[round(each, 4) for each in layer] for layer in (usage / usage.sum(-1, keepdim=True)).tolist()],
    }


LEARN: dict[str, Callable[[str, float, int], dict[str, Any]]] = {"stories": on_stories, "facts": on_facts}


def settings() -> dict[str, Any]:
    """What is the same in all runs."""
    return {
        "experts": EXPERTS,
        "chosen": 1,
        "layers": STORY_SHAPE.layers,
        "dead_below": DEAD,
        "methods": METHODS,
        "stories": {
            "size": SIZE,
            "stories": STORIES,
            "batch": STORY_BATCH,
            "rate": STORY_RATE,
            "vocabulary": VOCABULARY,
            "held_out": HELD_OUT,
            "shape": vars(STORY_SHAPE),
        },
        "facts": {
            "people": FACTS.people,
            "attributes": FACTS.attributes,
            "values": FACTS.values,
            "bits": FACTS.bits,
            "readings": READINGS,
            "batch": FACT_BATCH,
            "rate": FACT_RATE,
            "shape": vars(FACT_SHAPE),
        },
    }


def record() -> None:
    """Make the runs that are not recorded yet."""
    try:
        runs = recorded_experiment(NAME)["runs"]
    except ValueError:
        runs = []
    done = {(each["task"], each["router_rate"], each["seed"], each["method"]) for each in runs}
    for task, factor, seed in RUNS:
        for method in METHODS:
            if (task, factor, seed, method) not in done:
                start = time.process_time()
                found = LEARN[task](method, factor, seed)
                seconds = round(time.process_time() - start, 1)
                runs.append(
                    {"task": task, "method": method, "router_rate": factor, "seed": seed, "seconds": seconds, **found}
                )
                print({key: value for key, value in runs[-1].items() if key not in ("curve", "usage")}, flush=True)
                keep(NAME, COMMAND, settings(), runs)


FIGURES = {"stories": ("excess_nats", "nats above the floor"), "facts": ("bits_a_parameter", "bits a parameter")}


def table() -> str:
    """Means over seeds, with the spread."""
    lines = []
    for task, (figure, unit) in FIGURES.items():
        lines.append(f"{task:<9}{'router':>6} {'method':<12}{'CV held out':>16}{'dead of 16':>12}{unit:>24}")
        for factor in (1, 10, 100):
            for method in METHODS:
                chosen = [
                    each
                    for each in recorded_experiment(NAME)["runs"]
                    if (each["task"], each["method"], each["router_rate"]) == (task, method, factor)
                ]
                if len(chosen) > 1:
                    cv = [statistics.mean(each["cv"]) for each in chosen]
                    values = [each[figure] for each in chosen]
                    gone = statistics.mean(each["dead"] for each in chosen)
                    lines.append(
                        f"{factor:>14}x {method:<12}{statistics.mean(cv):8.2f} ± {statistics.stdev(cv):.2f}{gone:>12.1f}"
                        f"{statistics.mean(values):>16.2f} ± {statistics.stdev(values):.2f}"
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
