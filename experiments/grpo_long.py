"""Lesson 12's long run: the zoo's pupil of three-digit sums, GRPO for 1,500 steps, three seeds; written to minilm/recorded/grpo_long.json.

python -m experiments.grpo_long            three seeds, those that are missing, about two and a half minutes of one core each
python -m experiments.grpo_long 300 0      fewer steps, one seed: printed and not kept

What it is measured on is the test split, by unordered pairs: no sum of it was drilled, either way round. The curve is measured on the
validation split.
"""

import json
import sys
import time
from collections.abc import Sequence
from typing import Any

import torch

from minilm import zoo
from minilm.data.puzzles import Sums, forgetful, problems, shared_keys
from minilm.data.puzzles import tasks as texts
from minilm.grpo import GRPOConfig, GRPOTrainer, greedy_texts, pass_at_k, roll_out
from minilm.model import LanguageModel
from minilm.recorded import RECORDED
from minilm.tokenizer import BPETokenizer

TASK, NEW = Sums(3), 8
STEPS, EVERY, SEEDS = 1500, 50, (0, 1, 2)
SAMPLES, SAMPLED, COUNTS = 16, 300, (1, 2, 4, 8, 16)
CONFIG = GRPOConfig(
    steps=STEPS,
    prompts=16,
    group=16,
    max_new_tokens=NEW,
    updates=1,
    learning_rate=3e-4,
    warmup=10,
    final=0.02,
)


def ask(tokenizer: BPETokenizer, problem: texts.Problem) -> list[int]:
    """The prompt's ids."""
    return [tokenizer.special_tokens["<end>"], *tokenizer.encode(problem.prompt)]


def right_of(model: LanguageModel, tokenizer: BPETokenizer, asked: Sequence[texts.Problem]) -> list[bool]:
    """Whether the greedy answer to each is right."""
    end = tokenizer.special_tokens["<end>"]
    said = greedy_texts(model, tokenizer, [ask(tokenizer, p) for p in asked], max_new_tokens=NEW, stop_tokens=[end])
    return [TASK.verify(problem, text).correct for problem, text in zip(asked, said, strict=True)]


def passes(model: LanguageModel, tokenizer: BPETokenizer, asked: Sequence[texts.Problem]) -> dict[str, float]:
    """pass@k from sixteen answers each, at temperature 1."""
    end = tokenizer.special_tokens["<end>"]
    prompts = [ask(tokenizer, problem) for problem in asked]
    options: dict[str, Any] = {"group": SAMPLES, "max_new_tokens": NEW, "stop_token": end, "with_log_probs": False}
    written = roll_out(model, tokenizer, prompts, seed=7, **options).texts
    counts = [
        sum(TASK.verify(problem, text).correct for text in written[i * SAMPLES : (i + 1) * SAMPLES])
        for i, problem in enumerate(asked)
    ]
    return {str(k): round(sum(pass_at_k(SAMPLES, c, k) for c in counts) / len(counts), 3) for k in COUNTS}


def measure(model: LanguageModel, tokenizer: BPETokenizer, exam: Sequence[texts.Problem]) -> dict[str, Any]:
    """Greedy accuracy, of all and of those that carry, and pass@k on the exam's first sums."""
    model.eval()
    right = right_of(model, tokenizer, exam)
    carrying = [good for problem, good in zip(exam, right, strict=True) if forgetful(problem) != problem.answer]
    return {
        "exam": round(sum(right) / len(right), 3),
        "exam_carries": round(sum(carrying) / len(carrying), 3),
        "pass": passes(model, tokenizer, exam[:SAMPLED]),
    }


def run(seed: int, steps: int = STEPS) -> dict[str, Any]:
    """One run: before, the curve (step, mean reward since the last point, validation), after."""
    model, tokenizer = zoo.load("pupil-3")
    drill, exam = problems(TASK, 20_000, "train"), problems(TASK, 1000, "test")
    validation = problems(TASK, 300, "validation")
    assert shared_keys(drill, exam) == shared_keys(drill, validation) == 0
    before = measure(model, tokenizer, exam)
    trainer = GRPOTrainer(
        model,
        tokenizer,
        drill,
        lambda problem, text: float(TASK.verify(problem, text).correct),
        CONFIG.replace(steps=steps, seed=seed),
        encode=lambda problem: ask(tokenizer, problem),
        stop_token=tokenizer.special_tokens["<end>"],
    )
    start = right_of(model, tokenizer, validation)
    curve: list[list[float | None]] = [[0, None, round(sum(start) / len(start), 4)]]
    rewards: list[float] = []
    used = 0.0
    while trainer.step_number < steps:
        started = time.process_time()
        rewards.append(trainer.step().reward)
        used += time.process_time() - started
        if len(rewards) == EVERY:
            right = right_of(model.eval(), tokenizer, validation)
            curve.append([trainer.step_number, round(sum(rewards) / EVERY, 4), round(sum(right) / len(right), 4)])
            print(seed, *curve[-1], f"{used:.0f} s", flush=True)
            rewards = []
    after = measure(model, tokenizer, exam)
    found = {"seed": seed, "processor_seconds": round(used), "before": before, "after": after, "curve": curve}
    print(json.dumps({key: value for key, value in found.items() if key != "curve"}), flush=True)
    return found


def main() -> None:
    """Run what is missing, print, and keep."""
    torch.set_num_threads(1)
    if len(sys.argv) > 1:
        for seed in map(int, sys.argv[2:] or ["0"]):
            run(seed, int(sys.argv[1]))
        return
    values = {key: value for key, value in CONFIG.to_dict().items() if key != "seed"}
    settings = {**values, "task": TASK.name, "exam": 1000, "sampled": SAMPLED, "validation": 300}
    found: dict[str, Any] = {"command": "python -m experiments.grpo_long", "settings": settings, "runs": []}
    path = RECORDED / "grpo_long.json"
    if path.exists():
        found = json.loads(path.read_text(encoding="utf-8"))
    for seed in SEEDS:
        if all(each["seed"] != seed for each in found["runs"]):
            found["runs"].append(run(seed))
            path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
