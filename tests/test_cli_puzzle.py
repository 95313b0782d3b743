"""`minilm puzzle` as a user meets it."""

import pytest
from typer.testing import CliRunner

from minilm.cli import app
from minilm.cli.puzzle import read_value

FAST = ["--set", "dim=16", "--set", "num_heads=2", "--count", "12", "--test-count", "6", "--set", "segments=2"]


def minilm(*words):
    result = CliRunner().invoke(app, ["puzzle", *map(str, words)])
    return result.exit_code, " ".join(result.output.split())


def test_train_test_and_resume(tmp_path):
    code, said = minilm(4, tmp_path / "out", "--steps", 6, *FAST, "--set", "evaluate_seconds=none")
    assert code == 0, said
    assert "sudoku-4: 12 puzzles" in said
    assert "segment 4" in said  # twice as many as in training
    assert "segment 5" not in said
    assert "0 of the 6 test puzzles share their symmetry class" in said
    code, said = minilm("--test", tmp_path / "out", "--segments", 3, "--test-count", 4)
    assert code == 0, said
    assert "4 puzzles" in said
    assert "segment 3" in said
    code, said = minilm("--resume", tmp_path / "out")  # it is finished: nothing to do but to test
    assert code == 0, said
    assert not said.startswith("✗")


def test_settings_reach_the_run(tmp_path):
    from minilm.recursion import run

    words = ["--model", "hrm", "--minutes", "0.001", "--set", "gradient=full", "--set", "ema=none", "--seed", "3"]
    code, said = minilm("maze-9", tmp_path / "out", *words, *FAST)
    assert code == 0, said
    config = run.read(tmp_path / "out")
    assert config.puzzles == "maze-9"
    assert (config.model.gradient, config.model.shared, config.model.halting) == ("full", False, "q-learning")
    assert (config.training.ema, config.training.seed, config.training.seconds) == (None, 3, 0.06)


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["5", "out"], "no sudoku of size 5"),
        (["chess", "out"], "no puzzles 'chess'"),
        (["4"], "Give PUZZLES and OUT"),
        (["--resume", "4", "out"], "OUT alone"),
        (["--resume", "out", "--minutes", "5"], "goes on as it began"),
        (["--test", "nowhere"], "no puzzle run"),
        (["--resume", "nowhere"], "no puzzle run"),
        (["4", "out", "--set", "gradients=full"], "NAME=VALUE"),
        (["4", "out", "--set", "gradient=all"], "one-step"),
        (["4", "out", "--model", "gru"], "no model 'gru'"),
        (["4", "out", "--steps", "3", "--minutes", "2"], "not both"),
        (["4", "out", "--steps", "0"], "steps = 0"),
        (["4", "out", "--minutes", "0"], "seconds = 0"),
        (["4", "out", "--dim", "65"], "dim = 65"),
        (["zoo:sudoku-6", "out", "--steps", "3"], "has its own settings"),
        (["zoo:sudoko-6", "out"], "did you mean 'sudoku-6'"),
        (["zoo:story", "out"], "no puzzle run"),
        (["--test", "zoo:sudoku-7"], "did you mean 'sudoku-6'"),
    ],
)
def test_mistakes_end_in_one_sentence(words, complaint, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, said = minilm(*words)
    assert code == 1
    assert complaint in said
    assert "Traceback" not in said
    assert not (tmp_path / "out").exists()


def test_values_are_read_as_what_they_are():
    assert [read_value(text) for text in ("3", "0.5", "true", "None", "1e-3", "full")] == [
        3,
        0.5,
        True,
        None,
        1e-3,
        "full",
    ]
