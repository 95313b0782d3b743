"""The long runs behind lesson 13: solvers of 6x6 and 9x9 sudoku, their plain twins, and the family's ablations.

python -m experiments.recursion OUT sudoku-6          one run of `RUNS`, into OUT/sudoku-6, or on from where it stopped
python -m experiments.recursion OUT sudoku-6 2        with another seed, into OUT/sudoku-6-2
python -m experiments.recursion OUT                   which runs there are, and what those in OUT have reached

Every run is a `minilm puzzle` command, which is printed. On a machine that is busy with other things OMP_NUM_THREADS=1 is faster
than two threads that wait for each other. Reports are on puzzles of symmetry classes that training cannot have
seen; they go to OUT/NAME/report.json.
"""

import dataclasses
import json
import sys
from pathlib import Path

from minilm.cli.puzzle import settings, train
from minilm.data.puzzles import nearest_solutions, overlap
from minilm.recursion import run as runs
from minilm.recursion.evaluation import evaluate
from minilm.recursion.model import RecursiveModel

TEST_PUZZLES = 1000
COUNTS = {"6": 10_000, "9": 50_000}  # puzzles to learn from
SHARED = ["weight_decay=0.1", "learning_rate=0.001", "warmup=200", "precision=bfloat16"]

# The puzzles, the model, the updates, and what is set beside. One core of the machine that made the record takes 0.13 seconds for an
# update of the 6x6 solver: its twins have the updates that fit into the same 500 processor seconds.
RUNS: dict[str, tuple[str, str, int, list[str]]] = {
    "sudoku-6": ("6", "trm", 3_800, []),
    "sudoku-6-plain": ("6", "plain", 17_800, []),
    "sudoku-6-plain-deep": ("6", "plain", 2_600, ["layers=16"]),  # TRM's compute of one segment, 8 times its parameters
    "sudoku-9": ("9", "trm", 12_000, ["dim=128", "segments=12", "reveal=0.8"]),
    "sudoku-9-plain": ("9", "plain", 12_000, ["dim=128", "reveal=0.8"]),
}
# What HRM and TRM differ in, one at a time, on 6x6 and for the same updates.
ABLATIONS: dict[str, list[str]] = {
    "as it is": [],
    "one-step gradient": ["gradient=one-step"],
    "full gradient": ["gradient=full"],
    "no deep supervision": ["deep_supervision=false"],
    "one segment": ["segments=1"],
    "two networks": ["shared=false"],
    "no average": ["ema=none"],
    "stablemax": ["loss=stablemax"],
    "q-learning": ["halting=q-learning"],
    "no halting": ["halting=none"],
    "mlp mixer": ["mixer=mlp", "positions=learned"],
    "one cycle of seven": ["high_cycles=1", "low_cycles=7"],
    "no disguises": ["augment=false"],
}
RUNS |= {f"ablation-{name.replace(' ', '-')}": ("6", "trm", 1_500, changes) for name, changes in ABLATIONS.items()}


def config_of(name: str, seed: int = 0) -> runs.PuzzleRun:
    """The settings of one of the runs."""
    puzzles, model, steps, changes = RUNS[name]
    wanted = {"steps": steps, "minutes": None, "count": COUNTS[puzzles], "dim": None, "seed": seed}
    return settings(puzzles, model, SHARED + changes, wanted)


def command_of(name: str, seed: int = 0) -> str:
    """The same as a command line."""
    puzzles, model, steps, changes = RUNS[name]
    words = " ".join(f"--set {change}" for change in SHARED + changes)
    return (
        f"minilm puzzle {puzzles} OUT --model {model} --steps {steps} --count {COUNTS[puzzles]} --seed {seed} {words}"
    )


def report_of(out: Path) -> dict[str, object]:
    """How the model of a run does on its test puzzles, with twice the segments of training."""
    config = runs.read(out)
    family, known, puzzles = config.family(), runs.stored_puzzles(out), config.held_out("test", TEST_PUZZLES)
    found = evaluate(RecursiveModel.load(out), family, puzzles, 2 * config.model.segments)
    looked_up = family.is_correct(puzzles, nearest_solutions(known, puzzles))
    extra = {"overlap": overlap(family, known, puzzles), "look_up": float(looked_up.mean())}
    return dataclasses.asdict(found) | extra


def main(out: Path, name: str | None = None, seed: int = 0) -> None:
    """Make a run, or go on with it, and write its report; without a name, list them."""
    if name is None:
        for each in RUNS:
            reports = [out / folder / "report.json" for folder in (each, *(f"{each}-{seed}" for seed in range(1, 10)))]
            reached = [json.loads(path.read_text(encoding="utf-8"))["exact"] for path in reports if path.is_file()]
            print(f"{each:<32}", "  ".join(f"{exact[0]:.3f} to {exact[-1]:.3f}" for exact in reached))
        return
    if name not in RUNS:
        raise SystemExit(f"no run {name!r}: choose one of {', '.join(RUNS)}")
    folder = out / (f"{name}-{seed}" if seed else name)
    print(command_of(name, seed))
    running = runs.go_on(folder) if (folder / runs.RUN).is_file() else runs.begin(config_of(name, seed), folder)
    train(running)
    if not running.stopped:
        report = report_of(folder)
        (folder / "report.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
        print(json.dumps({key: report[key] for key in ("exact", "lost", "halted_exact", "overlap", "look_up")}))


if __name__ == "__main__":
    words = sys.argv[1:]
    if not words:
        raise SystemExit(__doc__)
    main(Path(words[0]), words[1] if len(words) > 1 else None, int(words[2]) if len(words) > 2 else 0)
