"""Training a solver: slots, halting, ablations by configuration, and runs that survive being killed."""

import multiprocessing
import os
import signal
import time

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from experiments import recursion
from minilm.data.puzzles import GridPuzzles, puzzle_family
from minilm.recursion import PuzzleTrainer, PuzzleTraining, RecursiveModel, evaluate, small
from minilm.recursion import run as runs
from minilm.recursion.evaluation import answers
from minilm.training import TrainingError, checkpoints, read_curve

FAMILY = puzzle_family("sudoku-4")


def tiny_config(name="trm", **changes):
    return small(name, FAMILY, **({"dim": 16, "num_heads": 2, "segments": 4} | changes))


def tiny_trainer(steps=30, name="trm", puzzles=None, model=None, **training):
    torch.manual_seed(1)
    solver = RecursiveModel(tiny_config(name, **(model or {})))
    config = PuzzleTraining(steps=steps, **({"batch_size": 8, "warmup": 4} | training))
    return PuzzleTrainer(solver, FAMILY, puzzles or FAMILY.generate(20, "train"), config)


ABLATIONS = {
    "one-step gradient": {"gradient": "one-step"},
    "full gradient": {"gradient": "full"},
    "no deep supervision": {"deep_supervision": False},
    "two networks": {"shared": False},
    "mlp mixer": {"mixer": "mlp", "positions": "learned"},
    "stablemax": {"loss": "stablemax"},
    "q-learning": {"halting": "q-learning"},
    "no halting": {"halting": "none"},
    "puzzle embedding": {"prefix": 2, "num_puzzles": 1},
    "rotary": {"positions": "rotary"},
    "plain": {"kind": "plain", "segments": 1, "halting": "none"},
}


@pytest.mark.parametrize("name", sorted(ABLATIONS))
def test_every_ablation_is_a_change_of_configuration_and_learns(name):
    trainer = tiny_trainer(40, model=ABLATIONS[name], learning_rate=3e-3, ema=None)
    start = {key: value.clone() for key, value in trainer.model.named_parameters()}
    losses = [record.metrics["cell_loss"] for record in trainer.run()]
    assert sum(losses[-5:]) < 0.9 * sum(losses[:5])
    moved = {key for key, value in trainer.model.named_parameters() if not torch.equal(value, start[key])}
    still = set(start) - moved
    assert still <= ({"halting_head.weight", "halting_head.bias"} if "none" in str(ABLATIONS[name]) else set())


def test_the_optimizers_train_too():
    for kind in ("adamw", "adam-atan2"):
        losses = [r.metrics["cell_loss"] for r in tiny_trainer(40, optimizer=kind, learning_rate=3e-3).run()]
        assert sum(losses[-5:]) < 0.9 * sum(losses[:5])


def test_slots_go_on_until_they_are_finished_and_then_begin_anew():
    trainer = tiny_trainer(20, model={"halting": "none"})
    seen = []
    for _ in range(9):
        before = trainer.slots.tokens.clone()
        trainer.step()
        seen.append(trainer.slots.segments.unique().tolist())
        if trainer.step_number % 4 != 1:
            assert torch.equal(before, trainer.slots.tokens)  # the same puzzles, one segment on
    assert seen == [[1], [2], [3], [4], [1], [2], [3], [4], [1]]  # four segments each, then others
    start = trainer.model.begin(8)
    trainer.slots.finished[:] = torch.tensor([True, False] * 4)
    kept = trainer.slots.state.high.clone()
    trainer._refill()
    assert torch.equal(trainer.slots.state.high[::2], start.high[::2])
    assert torch.equal(trainer.slots.state.high[1::2], kept[1::2])
    assert trainer.slots.segments.tolist() == [0, 1] * 4


def test_states_are_carried_over_and_cut_off_from_their_past():
    trainer = tiny_trainer(4, model={"halting": "none"}, learning_rate=1e-9, ema=None)
    trainer.step()
    assert not trainer.slots.state.high.requires_grad
    first = trainer.slots.state
    expected = trainer.model.segment(first, trainer.slots.tokens).state
    trainer.step()
    torch.testing.assert_close(trainer.slots.state.high, expected.high, atol=1e-4, rtol=1e-4)


def test_the_halting_head_frees_slots_and_exploration_keeps_some():
    def after_one_step(exploration):
        trainer = tiny_trainer(4, model={"exploration": exploration}, batch_size=64, learning_rate=1e-9)
        torch.nn.init.constant_(trainer.model.halting_head.bias, 5.0)
        trainer.step()
        return trainer.slots.finished

    assert after_one_step(0.0).all()
    assert not after_one_step(1.0).any()  # everybody stays for two segments or more
    never = tiny_trainer(4, model={"exploration": 0.0})
    never.step()
    assert not never.slots.finished.any()  # the head begins at -5


def test_disguises_are_new_each_time_and_can_be_turned_off():
    puzzles = FAMILY.generate(5, "train")
    known = {row.tobytes() for row in puzzles.inputs.astype(np.int64)}
    for augment in (True, False):
        trainer = tiny_trainer(2, puzzles=puzzles, augment=augment, batch_size=32)
        trainer.step()
        rows = {row.numpy().tobytes() for row in trainer.slots.tokens}
        assert (rows <= known) == (not augment)
        drawn = GridPuzzles(trainer.slots.tokens.numpy().astype(np.int8), trainer.slots.targets.numpy().astype(np.int8))
        assert FAMILY.is_correct(drawn, drawn.targets).all()
        assert set(FAMILY.keys(drawn)) <= set(FAMILY.keys(puzzles))


def test_the_rate_warms_up_and_comes_down():
    config = PuzzleTraining(steps=100, learning_rate=1.0, warmup=10, decay=0.5, final=0.1)
    assert [round(config.rate(step, step / 100), 3) for step in (1, 5, 10, 50, 75, 100)] == [0.1, 0.5, 1, 1, 0.55, 0.1]
    for wrong in ({}, {"steps": 3, "seconds": 2.0}, {"steps": 0}, {"steps": 3, "ema": 1.0}):
        with pytest.raises(ValueError, match=r"steps|ema"):
            PuzzleTraining(**wrong)


def test_the_same_seed_is_the_same_run_and_evaluation_leaves_no_trace():
    plain = [r.loss for r in tiny_trainer(12).run()]
    watched = tiny_trainer(12, evaluate_seconds=1e-9)
    watched.evaluate = lambda model: {
        "exact": float(torch.rand(())) + evaluate(model, FAMILY, watched.puzzles).exact[0]
    }
    assert [r.loss for r in watched.run()] == plain
    assert [r.loss for r in tiny_trainer(12, seed=1).run()] != plain


def test_a_loss_that_is_not_finite_stops_with_advice():
    trainer = tiny_trainer(5)
    with torch.no_grad():
        trainer.model.head.weight.fill_(float("nan"))
    with pytest.raises(TrainingError, match="smaller learning rate"):
        trainer.step()


# ---------------------------------------------------------------------------------------------------------- evaluation


class Oracle(torch.nn.Module):
    """Answers wrongly at its first segment, rightly from the second on, and unlearns every fourth puzzle at its third."""

    def __init__(self, puzzles):
        super().__init__()
        self.config = tiny_config()
        self.known = {row.tobytes(): target for row, target in zip(puzzles.inputs, puzzles.targets, strict=True)}

    def solve(self, tokens, segments=None, puzzles=None):
        right = torch.tensor(np.stack([self.known[row.numpy().astype(np.int8).tobytes()] for row in tokens])).long()
        found = []
        for i in range(segments or 4):
            grid = right.clone()
            if i == 0:
                grid[:, 0] = grid[:, 0] % 4 + 1
            if i >= 2:
                grid[::4, 5] = grid[::4, 5] % 4 + 1
            logits = torch.nn.functional.one_hot(grid, 5).float()
            halt = torch.full((len(tokens),), 1.0 if i == 1 else -1.0)
            found.append(type("Found", (), {"logits": logits, "halt": halt, "go_on": halt * 0})())
        return found


def test_a_report_says_what_happened_segment_by_segment():
    puzzles = FAMILY.generate(40, "validation")
    report = evaluate(Oracle(puzzles), FAMILY, puzzles, 4)
    assert report.exact == [0.0, 1.0, 0.75, 0.75]
    assert report.lost == 0.25
    assert (report.halted_exact, report.halted_segments) == (1.0, 2.0)
    assert report.cells[1] == 1.0 > report.cells[0] > 0.85
    assert sum(row.puzzles for row in report.by_givens) == 40
    assert sum(row.exact * row.puzzles for row in report.by_givens) == pytest.approx(30)
    givens = (puzzles.inputs > 0).sum(axis=1)
    assert [row.givens for row in report.by_givens] == np.unique(givens).tolist()
    assert "lost again: 25.0 %" in str(report)


def test_batches_do_not_change_answers():
    torch.manual_seed(0)
    model, puzzles = RecursiveModel(tiny_config()), FAMILY.generate(10, "validation")
    whole, parts = answers(model, puzzles, 3)[0], answers(model, puzzles, 3, batch_size=3)[0]
    assert torch.equal(whole, parts)


# ------------------------------------------------------------------------------------------------------ a run's folder


def tiny_run(name="trm", steps=20, model=None, **training):
    options = {"batch_size": 8, "warmup": 4, "checkpoint_steps": 5, "evaluate_seconds": None} | training
    return runs.PuzzleRun(
        "sudoku-4", 20, 10, tiny_config(name, **(model or {})), PuzzleTraining(steps=steps, **options)
    )


def without_seconds(path):
    return [{key: value for key, value in row.items() if key != "seconds"} for row in read_curve(path / "curve.csv")]


KINDS = {
    "trm": {},
    "hrm": {"name": "hrm"},
    "everything": {
        "name": "hrm",
        "model": {"prefix": 2, "num_puzzles": 1, "loss": "stablemax", "exploration": 0.5},
        "optimizer": "adam-atan2",
    },
    "no average": {"ema": None},
    "bfloat16": {"precision": "bfloat16"},
    "no supervision": {"model": {"deep_supervision": False}},
}


@pytest.mark.parametrize("name", sorted(KINDS))
def test_an_interrupted_run_is_the_uninterrupted_one_to_the_last_bit(name, tmp_path):
    config = tiny_run(**KINDS[name])
    list(runs.begin(config, tmp_path / "whole").steps())
    for record in runs.begin(config, tmp_path / "run").steps():
        if record.step == 13:
            break  # as if killed here: the last checkpoint is that of step 10, in the middle of four segments
    torch.rand(3), np.random.rand()  # noqa: NPY002
    again = runs.go_on(tmp_path / "run")
    assert again.trainer.step_number == 10
    list(again.steps())
    assert without_seconds(tmp_path / "run") == without_seconds(tmp_path / "whole")
    one, other = (load_file(tmp_path / which / "model.safetensors") for which in ("run", "whole"))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[key], other[key]) for key in one)
    for a, b in zip(
        again.trainer.model.parameters(), RecursiveModel.load(tmp_path / "whole").parameters(), strict=True
    ):
        assert torch.equal(a, b) == (again.trainer.average is None)  # what is saved is the average


def train_slowly(out):
    for _ in runs.begin(tiny_run(steps=10_000, checkpoint_steps=1), out).steps():
        pass


@pytest.mark.skipif(os.name != "posix", reason="forks a process, and kills it")
def test_a_killed_run_goes_on(tmp_path):
    out = tmp_path / "run"
    process = multiprocessing.get_context("fork").Process(target=train_slowly, args=(out,))
    process.start()
    waited = time.monotonic()
    while len(checkpoints.list_checkpoints(out / "checkpoints")) < 2 and time.monotonic() - waited < 60:
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    again = runs.go_on(out)
    assert again.trainer.step_number >= 1
    before = again.trainer.step_number
    for record in again.steps():
        if record.step == before + 3:
            break
    assert record.step == before + 3
    RecursiveModel.load(out)


def test_ctrl_c_finishes_the_update_and_saves(tmp_path):
    run = runs.begin(tiny_run(checkpoint_steps=None), tmp_path / "run")
    for record in run.steps():
        if record.step == 5:
            os.kill(os.getpid(), signal.SIGINT)
    assert run.stopped == "SIGINT"
    assert runs.go_on(tmp_path / "run").trainer.step_number in (5, 6)


def test_a_folder_is_not_overwritten_by_mistake(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    for force in (False, True):
        with pytest.raises(TrainingError, match="choose another folder"):
            runs.begin(tiny_run(), tmp_path / "mine", force)
    runs.begin(tiny_run(), tmp_path / "run")
    with pytest.raises(TrainingError, match="--resume"):
        runs.begin(tiny_run(), tmp_path / "run")
    runs.begin(tiny_run(steps=3), tmp_path / "run", force=True)
    assert runs.read(tmp_path / "run").training.steps == 3
    with pytest.raises(TrainingError, match="no puzzle run"):
        runs.go_on(tmp_path / "nowhere")


def test_a_damaged_checkpoint_is_passed_over(tmp_path):
    list(runs.begin(tiny_run(), tmp_path / "run").steps())
    newest = checkpoints.list_checkpoints(tmp_path / "run" / "checkpoints")[-1]
    (newest / "state.json").write_text("{}")
    assert runs.go_on(tmp_path / "run").trainer.step_number == 15
    assert newest.with_name(f"{newest.name}.damaged").is_dir()


def test_validation_and_test_puzzles_are_other_classes_than_those_trained_on(tmp_path):
    config = tiny_run()
    runs.begin(config, tmp_path / "run")
    stored = runs.stored_puzzles(tmp_path / "run")
    keys = [set(FAMILY.keys(puzzles)) for puzzles in (stored, config.held_out("validation"), config.held_out("test"))]
    assert not keys[0] & keys[1]
    assert not keys[0] & keys[2]
    assert not keys[1] & keys[2]


def test_the_long_runs_are_settings_of_the_family():
    for name, (_, _, _, changes) in recursion.RUNS.items():
        config = recursion.config_of(name, seed=2)
        assert config.training.steps == recursion.RUNS[name][2]
        assert all(change in recursion.command_of(name) for change in changes)
    base = recursion.config_of("ablation-as-it-is")
    others = [recursion.config_of(f"ablation-{name.replace(' ', '-')}") for name in recursion.ABLATIONS]
    assert len({config.to_json() for config in others}) == len(others)  # each changes something
    assert base.model == recursion.config_of("sudoku-6").model
