"""What keeps experts in work: four ways to train the same mixture, each for the same number of steps, at the usual rate and with a
router that learns ten times as fast.
router that learns ten and a hundred times as fast.
python -m experiments.moe_balance              record all runs that are missing in minilm/moe/runs/balance.json
python -m experiments.moe_balance table        what is recorded
"""

import statistics
import sys
import time
from typing import Any

import torch
from torch import nn

from experiments.moe_shared import EXPERTS, Shape, count_choices, held_out_batches, keep, mixtures
from minilm.config import MoEConfig
from minilm.data import stories
from minilm.evaluation import story_report
from minilm.model import LanguageModel
from minilm.moe import coefficient_of_variation
from minilm.moe.recorded import recorded_experiment
from minilm.tokenizer import BPETokenizer
from minilm.training import DocumentBatches, OptimizerConfig, ScheduleConfig, Trainer, TrainingConfig
from minilm.training.optimizers import AdamW, set_rate

NAME, COMMAND = "balance", "python -m experiments.moe_balance"
SIZE, VOCABULARY, HELD_OUT = "easy", 512, 200
SHAPE = Shape(dim=48, layers=2, heads=3, hidden=32, context=128)
STEPS, BATCH, RATE, EVERY = 240, 16, 1e-2, 10
SEEDS = (0, 1, 2, 3)
FACTORS = (1, 10, 100)  # the router's rate as a multiple of the others'
METHODS: dict[str, dict[str, Any]] = {
    "none": {},
    "noise": {"noise": 1.0},
    "Switch loss": {"balance": "switch", "balance_weight": 0.01},
    "bias": {"balance": "bias", "balance_rate": 0.01},  # DeepSeek-V3's 0.001 is for runs of many thousands of steps
}
DEAD = 0.1  # an expert with less than this share of an even load does nothing worth speaking of


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


def run(
    method: str,
    factor: float,
    seed: int,
    texts: list[str],
    tokenizer: BPETokenizer,
    held_out: list[str],
    steps: int = STEPS,
) -> dict[str, Any]:
    """Train one mixture with one expert a token, and follow how its experts are used."""
    start, end = time.process_time(), tokenizer.special_tokens["<end>"]
    torch.manual_seed(seed)
    moe = MoEConfig(num_experts=EXPERTS, top_k=1, **METHODS[method])
    model = LanguageModel(SHAPE.config(tokenizer.vocab_size, moe))
    optimizer = OptimizerConfig(beta2=0.98)
    config = TrainingConfig(
        steps=steps,
        learning_rate=RATE,
        schedule=ScheduleConfig(warmup=0.1, final=0.0),
        optimizer=optimizer,
        seed=seed,
    )
    batches = DocumentBatches([tokenizer.encode(text) for text in texts], BATCH, end, seed)
    trainer = Trainer(model, batches, config, optimizer=TwoRates(model, factor, optimizer))
    curve: dict[str, list[float]] = {"step": [], "loss": [], "cv": [], "dead": []}
    losses = []
    for record in trainer.steps():
        losses.append(record.loss - record.auxiliary)
        if record.step % EVERY == 0:
            usage = usage_of(model)
            curve["step"].append(record.step)
            curve["loss"].append(round(statistics.mean(losses[-EVERY:]), 4))
            curve["cv"].append(round(coefficient_of_variation(usage).mean().item(), 3))
            curve["dead"].append(dead(usage))
    report = story_report(model.eval(), tokenizer, held_out, SIZE)
    usage = count_choices(model, held_out_batches([tokenizer.encode(text) for text in held_out], end))
    return {
        "method": method,
        "router_rate": factor,
        "seed": seed,
        "excess_nats": round(report.excess, 3),
        "excess_error": round(report.error, 3),
        "cv": [round(each, 3) for each in coefficient_of_variation(usage).tolist()],  # on held-out stories, by layer
        "dead": dead(usage),
        "usage": [[round(each, 4) for each in layer] for layer in (usage / usage.sum(-1, keepdim=True)).tolist()],
        "seconds": round(time.process_time() - start, 1),
        "curve": curve,
    }


def settings() -> dict[str, Any]:
    """What is the same in all runs."""
    return {
        "experts": EXPERTS,
        "chosen": 1,
        "layers": SHAPE.layers,
        "dead_below": DEAD,
        "stories": SIZE,
        "steps": STEPS,
        "batch": BATCH,
        "rate": RATE,
        "vocabulary": VOCABULARY,
        "held_out": HELD_OUT,
        "shape": vars(SHAPE),
        "methods": METHODS,
    }


def record() -> None:
    """Make the runs that are not recorded yet."""
    try:
        runs = recorded_experiment(NAME)["runs"]
    except ValueError:
        runs = []
    done = {(each["method"], each["router_rate"], each["seed"]) for each in runs}
    texts = stories.generate(SIZE, STEPS * BATCH)
    tokenizer = BPETokenizer.train(texts[:3000], vocab_size=VOCABULARY, special_tokens=["<end>"])
    held_out = stories.generate(SIZE, HELD_OUT, split="validation")
    for seed in SEEDS:
        for factor in FACTORS:
            for method in METHODS:
                if (method, factor, seed) not in done:
                    runs.append(run(method, factor, seed, texts, tokenizer, held_out))
                    print({key: value for key, value in runs[-1].items() if key not in ("curve", "usage")}, flush=True)
                    keep(NAME, COMMAND, settings(), runs)


def table() -> str:
    """Means over seeds, with the spread."""
    lines = [f"{'router':>7} {'method':<12}{'CV held out':>16}{'dead of 16':>12}{'nats above the floor':>26}"]
    runs = recorded_experiment(NAME)["runs"]
    for factor in FACTORS:
        for method in METHODS:
            chosen = [each for each in runs if (each["method"], each["router_rate"]) == (method, factor)]
            if len(chosen) > 1:
                cv = [statistics.mean(each["cv"]) for each in chosen]
                excess = [each["excess_nats"] for each in chosen]
                gone = statistics.mean(each["dead"] for each in chosen)
                lines.append(
                    f"{factor:>6}x {method:<12}{statistics.mean(cv):8.2f} ± {statistics.stdev(cv):.2f}{gone:>12.1f}"
                    f"{statistics.mean(excess):>18.2f} ± {statistics.stdev(excess):.2f}"
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
