"""The long runs behind lesson 13: solvers of 6x6 and 9x9 sudoku, their plain twins, and the family's ablations.

python -m experiments.recursion OUT sudoku-6          one run of `RUNS`, into OUT/sudoku-6, or on from where it stopped
python -m experiments.recursion OUT sudoku-6 2        with another seed, into OUT/sudoku-6-2
python -m experiments.recursion OUT                   which runs there are, and what those in OUT have reached
python -m experiments.recursion OUT record            store what is in OUT: figures in minilm/recorded, the 6x6 solver in the zoo

Every run is a `minilm puzzle` command, which is printed. On a machine that is busy with other things OMP_NUM_THREADS=1 is faster
than two threads that wait for each other. Reports are on puzzles of symmetry classes that training cannot have
seen; they go to OUT/NAME/report.json.
"""

import dataclasses
import json
import shutil
import sys
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from minilm import zoo
from minilm.cli.puzzle import settings, train
from minilm.data.puzzles import nearest_solutions, overlap
from minilm.model.files import CONFIG, WEIGHTS
from minilm.recorded import RECORDED
from minilm.recursion import run as runs
from minilm.recursion.evaluation import evaluate
from minilm.recursion.model import RecursiveModel
from minilm.training import read_curve

TEST_PUZZLES = 1000
COUNTS = {"6": 10_000, "9": 20_000}  # puzzles to learn from
SHARED = ["weight_decay=0.1", "learning_rate=0.001", "warmup=200", "precision=bfloat16"]

NINE = ["dim=128", "batch_size=32", "evaluate_seconds=400"]

# The puzzles, the model, the updates, and what is set beside. One core of the machine that made the record takes 0.13 seconds for an
# update of the 6x6 solver: its twins have the updates that fit into the same 660 processor seconds.
RUNS: dict[str, tuple[str, str, int, list[str]]] = {
    "sudoku-6": ("6", "trm", 5_000, []),
    "sudoku-6-plain": ("6", "plain", 23_400, []),
    "sudoku-6-plain-deep": ("6", "plain", 3_400, ["layers=16"]),  # TRM's compute of one segment, 8 times its parameters
    "sudoku-9": ("9", "trm", 13_000, [*NINE, "segments=12"]),
    "sudoku-9-plain": ("9", "plain", 13_000, NINE),
}
RECORDS = {
    "recursion_sudoku_6": {
        "TRM": "sudoku-6",
        "plain, 2 blocks": "sudoku-6-plain",
        "plain, 16 blocks": "sudoku-6-plain-deep",
    },
    "recursion_sudoku_9": {"TRM": "sudoku-9", "plain, 2 blocks": "sudoku-9-plain"},
}
SEEDS = range(10)
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


def folder_of(out: Path, name: str, seed: int) -> Path:
    """Where a run lies."""
    return out / (f"{name}-{seed}" if seed else name)


def record(out: Path) -> None:
    """Store the figures of the finished runs, and the first 6x6 solver, its weights in half precision, in the zoo."""
    for group, members in RECORDS.items():
        found = [
            {"name": shown, "seed": seed} | summary_of(folder)
            for shown, name in members.items()
            for seed in SEEDS
            if ((folder := folder_of(out, name, seed)) / "report.json").is_file()
        ]
        if found:
            commands = {shown: command_of(name) for shown, name in members.items()}
            stored = {"command": "python -m experiments.recursion OUT NAME SEED", "settings": commands, "runs": found}
            (RECORDED / f"{group}.json").write_text(json.dumps(stored, indent=1) + "\n", encoding="utf-8")
    if (solver := out / "sudoku-6" / "report.json").is_file():
        ship(solver.parent, zoo.FOLDER / "sudoku-6")


def summary_of(folder: Path) -> dict[str, object]:
    """What the record says of a run: its size, its report, and its curve on the validation puzzles."""
    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    report["by_givens"] = [list(row.values()) for row in report["by_givens"]]
    measured = [row for row in read_curve(folder / runs.CURVE) if row.get("exact")]
    curve = [[row["step"], row["exact_first"], row["exact"], row["cells"]] for row in measured]
    model, config = RecursiveModel.load(folder), runs.read(folder)
    size: dict[str, object] = {"parameters": model.num_parameters(), "updates": config.training.steps}
    size |= rounded(report)
    return size | {"curve": rounded(curve)}


def rounded(value: Any) -> Any:
    """The same with four digits after the point."""
    if isinstance(value, dict):
        return {key: rounded(each) for key, each in value.items()}
    if isinstance(value, list):
        return [rounded(each) for each in value]
    return round(value, 4) if isinstance(value, float) else value


def ship(run: Path, folder: Path) -> None:
    """The run's settings, curve and model, its weights in half precision, and its figures, measured on what ships."""
    folder.mkdir(exist_ok=True)
    weights = {name: value.half() for name, value in RecursiveModel.load(run).weights().items()}
    save_file(
        {name: value.contiguous() for name, value in weights.items()}, folder / WEIGHTS, metadata={"format": "pt"}
    )
    for name in (CONFIG, runs.RUN, runs.CURVE):
        shutil.copyfile(run / name, folder / name)
    model = RecursiveModel.load(folder)
    figures = {"parameters": model.num_parameters()} | rounded(report_of(folder))
    (folder / zoo.FIGURES).write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


def main(out: Path, name: str | None = None, seed: int = 0) -> None:
    """Make a run, or go on with it, and write its report; without a name, list them."""
    if name is None:
        for each in RUNS:
            reports = [folder_of(out, each, seed) / "report.json" for seed in SEEDS]
            reached = [json.loads(path.read_text(encoding="utf-8"))["exact"] for path in reports if path.is_file()]
            print(f"{each:<32}", "  ".join(f"{exact[0]:.3f} to {exact[-1]:.3f}" for exact in reached))
        return
    if name == "record":
        record(out)
        return
    if name not in RUNS:
        raise SystemExit(f"no run {name!r}: choose one of {', '.join(RUNS)}")
    folder = folder_of(out, name, seed)
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
