"""The ledger of lesson 12, run from the lesson's own cells: three seeds each, lowest to highest; clocks are processor seconds.

python -m experiments.grpo                   everything but the teacher (about ten minutes with one thread)
python -m experiments.grpo controls knobs    some of it: controls, hacks, substring, knobs, bonus, traces, failing, length
python -m experiments.grpo teacher           a grammar's odds against its text, written to minilm/recorded/grpo_teacher.json

`experiments.grpo_long` is the lesson's long run.
"""

import copy
import json
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F

from experiments import definitions
from minilm.data import stories
from minilm.grpo import distillation_loss
from minilm.model import LanguageModel
from minilm.recorded import RECORDED
from minilm.training import AdamW, clip_gradients

SEEDS = range(3)
SECONDS = 5.0  # of each control


def line(name: str, values: list[float]) -> None:
    """All runs, lowest to highest."""
    print(f"{name:<74}", " ".join(f"{value:.3f}" for value in sorted(values)), flush=True)


def for_seconds(run: Any, seconds: float) -> int:
    """Take steps until the CPU seconds are used; returns how many."""
    used = 0.0
    while used < seconds:
        started = time.process_time()
        run.step()
        used += time.process_time() - started
    run.model.eval()
    return run.step_number  # type: ignore[no-any-return]


def study(names: dict[str, Any], model: Any, pairs: list[Any], seconds: float, seed: int) -> int:
    """Supervised fine-tuning for so many CPU seconds, constant rate as in reinforcement."""
    ids, targets = names["rows"](pairs)
    generator = torch.Generator().manual_seed(seed)
    optimizer = AdamW(model.parameters(), 3e-4, (0.9, 0.95), 1e-8, 0.0)
    started, steps = time.process_time(), 0
    while time.process_time() - started < seconds:
        chosen = torch.randint(len(ids), (128,), generator=generator)
        loss = F.cross_entropy(model(ids[chosen]).mT, targets[chosen])
        optimizer.zero_grad()
        loss.backward()
        clip_gradients(model.parameters(), 1.0)
        optimizer.step()
        steps += 1
    model.eval()
    return steps


def controls(names: dict[str, Any]) -> None:
    """Equal seconds from the same pupil: GRPO, expert iteration, right answers, more of the class."""
    drill, chance = names["drill"], names["random"].Random(5)
    start = names["pass_curve"](names["sixteen"](names["pupil"], carries(names))[1])
    line("before: exam", [names["grade"](names["pupil"], names["exam"])])
    line("before: pass@1, carries", start[:1])
    line("before: pass@16, carries", start[-1:])
    right = [(p, p.answer) for p in drill]
    heard = [(p, names["forgetful"](p) if chance.random() < 0.7 else p.answer) for p in drill for _ in range(6)]
    ways: dict[str, Callable[[Any, int], int]] = {
        "GRPO": lambda m, s: for_seconds(names["trainer"](m, seed=s), SECONDS),
        "expert iteration": lambda m, s: for_seconds(names["trainer"](m, seed=s, method="expert"), SECONDS),
        "supervised, right answers": lambda m, s: study(names, m, right, SECONDS, s),
        "supervised, more of the class": lambda m, s: study(names, m, heard, SECONDS, s),
    }
    for name, way in ways.items():
        found: dict[str, list[float]] = {"exam": [], "pass@1, carries": [], "pass@16, carries": [], "steps": []}
        for seed in SEEDS:
            model = copy.deepcopy(names["pupil"])
            found["steps"].append(way(model, seed))
            found["exam"].append(names["grade"](model, names["exam"]))
            curve = names["pass_curve"](names["sixteen"](model, carries(names))[1])
            found["pass@1, carries"].append(curve[0])
            found["pass@16, carries"].append(curve[-1])
        for what, values in found.items():
            line(f"{name}, {SECONDS:g} s: {what}", values)


def carries(names: dict[str, Any]) -> list[Any]:
    """Sums of the exam that carry."""
    return [p for p in names["exam"] if names["forgetful"](p) != p.answer][:100]


NO_CLIP = {"steps": 40, "learning_rate": 3e-3, "updates": 4, "clip": 0.999, "clip_high": 1e9}


def knobs(names: dict[str, Any]) -> None:
    """One thing changed each."""
    settings: dict[str, dict[str, Any]] = {
        "as in the lesson": {},
        "no baseline": {"baseline": "none"},
        "divided by std": {"divide_by_std": True},
        "averaged by answer": {"average": "answer"},
        "two updates": {"updates": 2},
        "rate 1e-3": {"learning_rate": 1e-3},
        "rate 1e-4": {"learning_rate": 1e-4},
        "KL 0.1": {"kl": 0.1},
        "40 steps": {"steps": 40},
        "40 steps, rate 1e-3": {"steps": 40, "learning_rate": 1e-3},
        "40 steps, rate 3e-3": {"steps": 40, "learning_rate": 3e-3},
        "40 steps, rate 3e-3, 4 updates": {"steps": 40, "learning_rate": 3e-3, "updates": 4},
        "40 steps, rate 3e-3, 4 updates, no clip": NO_CLIP,
    }
    for name, options in settings.items():
        ends = []
        for seed in SEEDS:
            run = names["trainer"](copy.deepcopy(names["pupil"]), seed=seed, **({"steps": 10} | options))
            run.train()
            ends.append(names["grade"](run.model.eval(), names["exam"]))
        line(f"{name if name.startswith('40') else f'10 steps, {name}'}: exam", ends)


def bonus(names: dict[str, Any]) -> None:
    """Ten more for every answer, with and without a baseline."""
    for name, baseline in (("the group's mean", "group"), ("none", "none")):
        ends = []
        for seed in SEEDS:
            paid = lambda p, t: names["is_right"](p, t) + 10  # noqa: E731
            run = names["trainer"](copy.deepcopy(names["pupil"]), paid, steps=20, seed=seed, baseline=baseline)
            run.train()
            ends.append(names["grade"](run.model.eval(), names["exam"]))
        line(f"20 steps, a bonus of 10 for all, baseline {name}: exam", ends)


def traces(names: dict[str, Any]) -> None:
    """Bare answers and traces at equal steps, and bare answers for the traces' seconds."""
    drill, exam, task = names["drill"], names["exam"][:300], names["task"]
    found: dict[str, list[float]] = {"bare": [], "traces": [], "bare, equal seconds": []}
    for seed in SEEDS:
        started = time.process_time()
        bare = names["imitate"](names["newborn"](seed), [(p, p.answer) for p in drill], 150, seed=seed)
        short = time.process_time() - started
        thinker = names["imitate"](
            names["newborn"](seed), [(p, names["solution_text"](task, p)) for p in drill], 150, seed=seed
        )
        long = time.process_time() - started - short
        more = names["imitate"](
            names["newborn"](seed), [(p, p.answer) for p in drill], round(150 * long / short), seed=seed
        )
        found["bare"].append(names["grade"](bare, exam))
        found["bare, equal seconds"].append(names["grade"](more, exam))
        texts = names["answers"](thinker, exam, new=40)
        found["traces"].append(sum(task.verify(p, t).correct for p, t in zip(exam, texts, strict=True)) / len(exam))
    for name, values in found.items():
        line(f"150 steps of {name}: exam", values)


def hacks(names: dict[str, Any]) -> None:
    """The substring reward with a bonus for length; each half of it alone; and the whole with a KL to the pupil."""
    right, bad = names["is_right"], names["stands_in"]
    ways: dict[str, tuple[Callable[[Any, str], float], float]] = {
        "honest": (right, 0.0),
        "substring": (lambda problem, text: names["substring_reward"](text, problem.answer), 0.0),
        "honest and bonus": (lambda problem, text: right(problem, text) + 0.1 * len(text), 0.0),
        "substring and bonus": (bad, 0.0),
        "substring and bonus, KL 0.05": (bad, 0.05),
        "substring and bonus, KL 0.2": (bad, 0.2),
    }
    for name, (reward, kl) in ways.items():
        found: dict[str, list[float]] = {"best exam": [], "last exam": [], "last reward": []}
        for seed in SEEDS:
            seen, marks, _ = names["hack"](seed, reward=reward, kl=kl)
            found["best exam"].append(max(value for _, value in marks))
            found["last exam"].append(marks[-1][1])
            found["last reward"].append(seen[-1].reward)
        for what, values in found.items():
            line(f"{name}, 75 steps: {what}", values)


def substring(names: dict[str, Any]) -> None:
    """The substring reward without the bonus, twice as long, at the temperature of the lesson's other runs."""
    found: dict[str, list[float]] = {"best exam": [], "lowest late exam": [], "late reward": []}
    for seed in SEEDS:
        model, marks, rewards = copy.deepcopy(names["pupil"]), [], []
        paid = lambda problem, text: names["substring_reward"](text, problem.answer)  # noqa: E731
        run = names["trainer"](model, paid, steps=150, seed=seed, max_new_tokens=12, learning_rate=5e-4)
        for record in run.steps():
            rewards.append(record.reward)
            if record.step % 15 == 0:
                marks.append(names["grade"](model.eval(), names["exam"]))
        found["best exam"].append(max(marks))
        found["lowest late exam"].append(min(marks[3:]))
        found["late reward"].append(sum(rewards[-50:]) / 50)
    for name, values in found.items():
        line(f"substring reward alone, 150 steps: {name}", values)


def failing(names: dict[str, Any]) -> None:
    """Reinforcement of a newborn that has seen traces for so many steps, and whether its wrong answers grow."""
    long_answers(names, taught=90, rate=3e-4)


def length(names: dict[str, Any]) -> None:
    """The same from one that adds well enough, slower: does the average by answer make wrong answers long?"""
    long_answers(names, taught=150, rate=1e-4)


def long_answers(names: dict[str, Any], taught: int, rate: float) -> None:
    """Thinkers under reinforcement, averaged in three ways: exam before and after, length of wrong answers in characters."""
    drill, exam, task = names["drill"], names["exam"][:200], names["task"]
    pairs = [(problem, names["solution_text"](task, problem)) for problem in drill]
    thinker = names["imitate"](names["newborn"](0), pairs, taught)

    def right(model: Any) -> float:
        texts = names["answers"](model.eval(), exam, new=40)
        return sum(task.verify(p, t).correct for p, t in zip(exam, texts, strict=True)) / len(exam)

    line(f"{taught} steps of traces: exam", [right(thinker)])
    for average in ("answer", "constant"):
        found: dict[str, list[float]] = {"exam": [], "length of wrong answers, first ten steps": [], "last ten": []}
        for seed in SEEDS:
            options = {"prompts": 8, "max_new_tokens": 48, "learning_rate": rate, "average": average}
            run = names["trainer"](copy.deepcopy(thinker), steps=60, seed=seed, warmup=5, **options)
            lengths = []
            for _ in run.steps():
                wrong = [
                    len(text)
                    for group in run.last_groups
                    for text, paid in zip(group.texts, group.rewards, strict=True)
                    if not paid
                ]
                if wrong:
                    lengths.append(sum(wrong) / len(wrong))
            found["exam"].append(right(run.model))
            found["length of wrong answers, first ten steps"].append(sum(lengths[:10]) / len(lengths[:10]))
            found["last ten"].append(sum(lengths[-10:]) / len(lengths[-10:]))
        for what, values in found.items():
            line(f"{taught} steps of traces, then 60 averaged by {average}: {what}", values)


def teacher(_: dict[str, Any]) -> None:
    """The grammar's text and its odds as targets: nats a character above the floor after 50, 100, 150 and 200 steps."""
    texts, held_out = stories.generate("easy", 300, seed=0), stories.generate("easy", 100, seed=1, split="test")
    characters = sorted(set("".join(stories.generate("easy", 2000, seed=0))))
    train, test = (table(part, characters) for part in (texts, held_out))
    runs = [
        {"seed": seed, "taught_by": kind, "above_floor": taught_by(kind, train, test, seed, len(characters) + 1)}
        for seed in SEEDS
        for kind in ("text", "odds")
    ]
    settings = {"stories": "easy", "texts": 300, "held_out": 100, "steps": 200, "batch_size": 16}
    settings["above_floor"] = "nats a character after 50, 100, 150 and 200 steps"
    found = {"command": "python -m experiments.grpo teacher", "settings": settings, "runs": runs}
    (RECORDED / "grpo_teacher.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def table(texts: list[str], characters: list[str], width: int = 96) -> tuple[torch.Tensor, ...]:
    """Inputs, targets, what counts, and the grammar's odds of each character; the id after the last character is the end."""
    end, grammar = len(characters), stories.grammar("easy")
    ids, targets = torch.full((len(texts), width), end), torch.full((len(texts), width), -100)
    odds = torch.zeros(len(texts), width, end + 1)
    odds[..., end] = 1  # where nothing counts
    for i, text in enumerate(texts):
        row = torch.tensor([end, *map(characters.index, text), end])
        count = min(width, len(row) - 1)
        ids[i, :count], targets[i, :count] = row[:count], row[1 : count + 1]
        for j, likely in enumerate(grammar.next_char_along(text)[:count]):
            odds[i, j] = 0
            for character, p in likely.items():
                odds[i, j, end if character == stories.END else characters.index(character)] = p
    return ids, targets, targets != -100, odds


def taught_by(
    kind: str, train: tuple[torch.Tensor, ...], test: tuple[torch.Tensor, ...], seed: int, vocabulary: int
) -> list[float]:
    """How far above the floor a newborn is on held-out stories, every fifty steps."""
    ids, targets, counts, odds = train
    torch.manual_seed(seed)
    config = {"vocab_size": vocabulary, "dim": 64, "num_layers": 2, "context_length": 96, "attention": {"num_heads": 4}}
    shape: dict[str, Any] = {**config, "feed_forward": {"hidden": 128}, "initialization": {"std": 0.1}}
    model = LanguageModel.from_preset("slim", **shape)
    generator, above = torch.Generator().manual_seed(seed), []
    optimizer = AdamW(model.parameters(), 3e-3, (0.9, 0.95), 1e-8, 0.01)
    for i in range(200):
        optimizer.param_groups[0]["lr"] = 3e-3 * min(1, (i + 1) / 20, 4 * (1 - i / 200))
        chosen = torch.randint(len(ids), (16,), generator=generator)
        logits = model(ids[chosen])
        if kind == "text":
            loss = F.cross_entropy(logits.mT, targets[chosen])
        else:
            loss = distillation_loss(logits, odds[chosen], counts[chosen])
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        clip_gradients(model.parameters(), 1.0)
        optimizer.step()
        if (i + 1) % 50 == 0:
            with torch.no_grad():
                above.append(round(float(distillation_loss(model(test[0]), test[3], test[2])), 3))
    print(f"taught by the grammar's {kind}, seed {seed}:", *above, flush=True)
    return above


EXPERIMENTS = {
    "controls": controls,
    "hacks": hacks,
    "substring": substring,
    "knobs": knobs,
    "bonus": bonus,
    "traces": traces,
    "failing": failing,
    "length": length,
}


def main() -> None:
    """The experiments asked for, or all of the ledger."""
    torch.set_num_threads(1)
    cells = definitions("12_grpo")
    known = {**EXPERIMENTS, "teacher": teacher}
    for name in sys.argv[1:] or EXPERIMENTS:
        known[name](cells)


if __name__ == "__main__":
    main()
