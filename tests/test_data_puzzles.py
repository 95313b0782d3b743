"""Puzzles: counted, proven unique, split by symmetry class; and verifiers that form alone cannot fool."""

import itertools
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minilm.data.puzzles import (
    Countdown,
    Reversal,
    Sorting,
    SudokuWords,
    Sums,
    answer_in,
    nearest_solutions,
    overlap,
    problems,
    puzzle_family,
    solution_text,
    tasks,
)
from minilm.data.puzzles import families as fam
from minilm.data.puzzles import mazes as mz
from minilm.data.puzzles.arithmetic import read_expression
from minilm.data.puzzles.sudoku import (
    all_grids,
    is_solved,
    keeps_givens,
    minimal_puzzles,
    random_grids,
    solve,
    sudoku_shape,
)
from minilm.data.puzzles.symmetry import (
    canonical_grids,
    canonical_puzzles,
    hash_shares,
    line_orders,
    move,
    random_symmetries,
    symmetry_count,
)

# -------------------------------------------------------------------------------------------------------------- sudoku


def test_there_are_288_grids_of_4x4_and_28_200_960_of_6x6():
    assert len(all_grids(4)) * 24 == 288
    grids = all_grids(6)
    assert len(grids) * 720 == 28_200_960
    assert is_solved(grids).all()
    assert len(np.unique(grids, axis=0)) == len(grids)
    with pytest.raises(ValueError, match="9x9"):
        all_grids(9)


def test_the_grids_of_4x4_form_two_classes():
    forms, sizes = np.unique(canonical_grids(all_grids(4)), axis=0, return_counts=True)
    assert len(forms) == 2
    assert sorted(sizes.tolist()) == [4, 8]


@pytest.mark.slow
def test_the_grids_of_6x6_form_exactly_49_classes():
    forms, sizes = np.unique(canonical_grids(all_grids(6)), axis=0, return_counts=True)
    assert len(forms) == 49
    assert int(sizes.sum()) * 720 == 28_200_960
    # A class has as many members as there are moves, divided by those that change nothing.
    assert all(symmetry_count(6) % (720 * int(size)) == 0 for size in sizes)


def test_there_are_36_classes_of_minimal_4x4_puzzles():
    puzzles = minimal_puzzles(random_grids(4, 1500))
    forms = np.unique(canonical_puzzles(puzzles), axis=0)
    givens = (forms > 0).sum(axis=1)
    assert len(forms) == 36
    assert [int((givens == n).sum()) for n in (4, 5, 6)] == [13, 22, 1]


@pytest.mark.parametrize("size", [4, 6, 9])
def test_puzzles_are_minimal_and_their_solution_is_the_only_one(size):
    solutions = random_grids(size, 12 if size < 9 else 4, seed=3)
    puzzles = minimal_puzzles(solutions, seed=5)
    assert is_solved(solutions).all()
    counts, found = solve(puzzles)
    assert (counts == 1).all()
    assert (found == solutions).all()
    for puzzle in puzzles[:4]:
        fewer = np.repeat(puzzle[None], (puzzle > 0).sum(), axis=0)
        fewer[np.arange(len(fewer)), np.flatnonzero(puzzle)] = 0
        assert (solve(fewer)[0] == 2).all()  # counted up to two: without any one given there is another solution


def test_the_solver_counts_as_plain_search_does():
    def count(grid, limit):
        blanks = [i for i, digit in enumerate(grid) if not digit]
        if not blanks:
            return 1
        total, cell = 0, blanks[0]
        seen = {grid[j] for j in shape.units[shape.units_of[cell]].ravel()}
        for digit in set(range(1, 5)) - seen:
            total += count([*grid[:cell], digit, *grid[cell + 1 :]], limit - total)
            if total >= limit:
                return limit
        return total

    shape, rng = sudoku_shape(4), np.random.default_rng(0)
    solutions = random_grids(4, 60)
    puzzles = np.where(rng.random(solutions.shape) < 0.25, solutions, 0).astype(np.int8)
    puzzles[:5, 0], puzzles[:5, 1] = 1, 1  # contradictions
    counts, found = solve(puzzles, limit=50)
    assert counts.tolist() == [count(puzzle, 50) for puzzle in puzzles.tolist()]
    assert counts[:5].tolist() == [0] * 5
    assert not found[:5].any()
    assert len(set(counts.tolist())) > 5
    rest = counts > 0
    assert (is_solved(found) & keeps_givens(found, puzzles))[rest].all()


def test_the_same_seed_gives_the_same_puzzles_and_another_seed_others():
    one, same, other = (puzzle_family("sudoku-6").generate(20, "train", seed) for seed in (4, 4, 5))
    assert np.array_equal(one.inputs, same.inputs)
    assert np.array_equal(one.targets, same.targets)
    assert not np.array_equal(one.inputs, other.inputs)
    assert "".join(map(str, random_grids(6, 1, 7)[0])) == "245361163452431625652143326514514236"  # on every machine


def test_digging_stops_at_the_givens_asked_for():
    puzzles = puzzle_family("sudoku-6-14").generate(15).inputs
    assert ((puzzles > 0).sum(axis=1) == 14).all()


# ------------------------------------------------------------------------------------------------------------ symmetry


@pytest.mark.parametrize(("size", "count"), [(4, 3_072), (6, 2_488_320), (9, 1_218_998_108_160)])
def test_symmetries_are_counted(size, count):
    assert symmetry_count(size) == count


@pytest.mark.parametrize("size", [4, 6, 9])
@given(seed=st.integers(0, 10**6))
@settings(max_examples=8, deadline=None)
def test_a_disguise_keeps_the_class_and_the_rules(size, seed):
    grids = random_grids(size, 3, seed)
    moved = move(grids, *random_symmetries(size, 3, np.random.default_rng(seed)))
    assert is_solved(moved).all()
    forms = canonical_grids(grids)
    assert (canonical_grids(moved) == forms).all()
    assert (canonical_grids(forms) == forms).all()  # the form is a member of its own class
    assert is_solved(forms).all()
    assert (forms[:, :size] == np.arange(1, size + 1)).all()


def test_the_quick_canonical_form_is_the_smallest_of_all_moves():
    for size, n in ((4, 40), (6, 8)):
        grids = random_grids(size, n, seed=1)
        assert np.array_equal(canonical_grids(grids), canonical_puzzles(grids))
    # and that one is smallest by trying every move without any cleverness
    grid = random_grids(4, 1, seed=2)[0].reshape(4, 4)
    lines, forms = line_orders(4, 2), []
    for turned, rows, columns in itertools.product((grid, grid.T), lines, lines):
        moved = turned[rows][:, columns].ravel()
        forms += [tuple(np.array((0, *names))[moved].tolist()) for names in itertools.permutations(range(1, 5))]
    assert min(forms) == tuple(canonical_grids(grid.reshape(1, -1))[0].tolist())


@pytest.mark.parametrize("name", ["sudoku-4", "sudoku-6", "sudoku-9", "maze-9"])
def test_held_out_puzzles_share_no_class_with_training_and_disguises_do_not_change_sides(name):
    family = puzzle_family(name)
    count = 12 if name == "sudoku-9" else 60
    sides = {split: family.generate(count, split) for split in fam.SPLITS}
    for split, puzzles in sides.items():
        assert len(puzzles) == count
        assert len(np.unique(puzzles.inputs, axis=0)) == count
        assert family.is_correct(puzzles, puzzles.targets).all()
        hidden = family.augment(puzzles, np.random.default_rng(1))
        assert family.is_correct(hidden, hidden.targets).all()
        assert not np.array_equal(hidden.inputs, puzzles.inputs)
        assert family.keys(hidden) == family.keys(puzzles)
        assert set(fam.split_of(family, hidden)) == {split}
    assert overlap(family, sides["train"], sides["test"]) == 0
    assert overlap(family, sides["train"], sides["validation"]) == 0
    assert overlap(family, sides["train"], family.augment(sides["train"], np.random.default_rng(2))) == count


def test_splits_have_their_shares():
    shares = hash_shares(np.arange(3000, dtype=np.int64).reshape(-1, 1) // np.array([[1, 256]]) % 256)
    assert abs((fam.split_rows(np.arange(6000).reshape(-1, 2) % 251) == 0).mean() - 0.8) < 0.03
    assert shares.min() == 0
    assert shares.max() == 99


def test_look_up_finds_the_nearest_training_solution():
    family = puzzle_family("sudoku-6")
    train, test = family.generate(200, "train"), family.generate(30, "test")
    assert np.array_equal(nearest_solutions(train, train), train.targets)  # the only one that agrees with all givens
    found = nearest_solutions(train, test)
    for puzzle, answer in zip(test.inputs[:10], found[:10], strict=True):
        agreement = ((train.targets == puzzle) & (puzzle > 0)).sum(axis=1)
        assert ((answer == puzzle) & (puzzle > 0)).sum() == agreement.max()
    assert not family.is_correct(test, found).any()  # their classes are not in the list


def test_families_are_called_by_name():
    assert puzzle_family("sudoku-6-14").name == "sudoku-6-14"
    assert puzzle_family("maze-7").name == "maze-7"
    for wrong in ("sudoku", "sudoku-5", "maze-8", "maze-3", "sokoban-4"):
        with pytest.raises(ValueError, match=r"size|choose"):
            puzzle_family(wrong)
    with pytest.raises(ValueError, match="no split"):
        puzzle_family("sudoku-4").generate(3, "held-out")
    with pytest.raises(ValueError, match="only"):
        puzzle_family("sudoku-4-15").generate(10**6, "test")


# --------------------------------------------------------------------------------------------------------------- mazes


def test_a_maze_has_one_shortest_path_and_the_check_walks_it():
    grids, solutions = mz.random_mazes(9, 30, seed=2)
    assert mz.are_shortest_paths(grids, solutions).all()
    for maze, solution in zip(grids, solutions, strict=True):
        start, goal = (int(np.flatnonzero(maze == end)[0]) for end in (mz.START, mz.GOAL))
        length = mz.distances(maze.tolist(), 9, start)[goal]
        assert int((solution == mz.PATH).sum()) == length - 1 >= 8

        def paths(cell, left, seen, maze=maze, goal=goal):
            if cell == goal:
                return 1
            steps = (cell + 1, cell - 1, cell + 9, cell - 9)
            return left and sum(paths(n, left - 1, {*seen, n}) for n in steps if maze[n] != mz.WALL and n not in seen)

        if length <= 14:
            assert paths(start, length, {start}) == 1  # by walking every way of that length


def test_wrong_maze_answers_are_refused():
    (maze,), (solution,) = mz.random_mazes(9, 1, seed=4)
    path = np.flatnonzero(solution == mz.PATH)
    opens = np.flatnonzero(solution == mz.OPEN)
    walls = np.flatnonzero(solution == mz.WALL)

    def changed(cells, token):
        answer = solution.copy()
        answer[cells] = token
        return answer

    attacks = {
        "nothing marked": maze,
        "a gap": changed(path[3], mz.OPEN),
        "a side step": changed(opens[0], mz.PATH),
        "everything marked": changed(opens, mz.PATH),
        "through a wall": changed(walls[12], mz.PATH),
        "a wall removed": changed(walls[12], mz.OPEN),
        "the goal moved": np.where(solution == mz.GOAL, mz.PATH, solution),
        "ends swapped": mz.swap_ends(solution[None])[0],
        "blanks": np.zeros_like(maze),
        "all path": np.full_like(maze, mz.PATH),
    }
    assert mz.is_shortest_path(maze, solution)
    assert [name for name, answer in attacks.items() if mz.is_shortest_path(maze, answer)] == []


# ---------------------------------------------------------------------------------------------------------- text tasks

TASKS = (Sums(2), Sums(5), Countdown(), Sorting(), Reversal(), SudokuWords())


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_answers_and_traces_are_right_and_splits_share_no_key(task):
    train, test = problems(task, 150, "train"), problems(task, 40, "test")
    assert tasks.shared_keys(train, test) == 0
    assert {tasks.split_of(problem) for problem in test} == {"test"}
    assert train == problems(task, 150, "train")
    assert train != problems(task, 150, "train", seed=1)
    for problem in train:
        assert task.verify(problem, problem.answer).correct
        assert task.verify(problem, solution_text(task, problem)).correct
        assert task.verify(problem, f" {problem.answer}\n").correct


def attacks_on(task, problem):
    """Ten texts that look right to a careless reader."""
    right = problem.answer
    return {
        "empty": "",
        "the answer after others": f"0 1 2 3 4 {right}",
        "the answer before others": f"{right} or something else",
        "twice": f"{right} {right}",
        "in a sentence": f"The answer is {right}.",
        "only in thought": f"<think>{right}</think>",
        "thought that never ends": f"<think>{right}",
        "thought after the answer": f"{right}<think>really?</think>",
        "thought twice": f"<think>a</think><think>b</think>{right}",
        "the prompt again": f"{problem.prompt}{right}",
        "other digits and letters": right.translate(str.maketrans("0123456789abcdefo", "٠١٢٣٤٥٦٧٨٩ａｂｃｄｅｆо")),
        "a sign or a zero in front": f"+0{right}",
        "a tag around it": f"<answer>{right}</answer>",
        "too long": " " * tasks.LONGEST + right,
        "a hidden character": f"{right}\u200b",
    }


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_verifiers_are_not_fooled_by_form(task):
    for problem in problems(task, 5, "validation"):
        for name, text in attacks_on(task, problem).items():
            if text == problem.answer:
                continue  # nothing in it to disguise
            verdict = task.verify(problem, text)
            assert not verdict.correct, (name, text)


def test_sums_know_wrong_from_malformed():
    problem = next(p for p in problems(Sums(2), 50) if p.facts == tuple(sorted(p.facts)))
    right = int(problem.answer)
    assert Sums(2).verify(problem, str(right + 1)).reason == "wrong"
    for text in (f"0{right}", f"{right}.0", f"{right}e0", f"-{right}", f"{right // 10} {right % 10}", "=" + str(right)):
        assert Sums(2).verify(problem, text).reason == "malformed"
    assert {p.key for p in problems(Sums(1), 60, None)} >= {"3+5"}
    both = {p.facts: p.key for p in problems(Sums(1), 90, None)}
    assert all(both[(b, a)] == key for (a, b), key in both.items() if (b, a) in both)


def test_countdown_takes_any_right_expression_and_no_trick():
    task = Countdown()
    problem = tasks.Problem("3 7 2 -> 13:", "3*2+7", "2 3 7 -> 13", ((3, 7, 2), 13))
    for text in ("3*2+7", "7+2*3", "(3*2)+7", "7 + 3 * 2", "((7)+(2*3))", "<think>3*2=6</think>7+(3*2)"):
        assert task.verify(problem, text).correct, text
    wrong = ("13", "7+3+3", "3*2+7+0", "7+7-1", "3*2+7-2+2", "7*2-3+2", "6+7", "2+3+7")
    assert {task.verify(problem, text).reason for text in wrong} == {"wrong"}
    for text in (
        *(
            "3*2+7=13",
            "3**2+7",
            "3*2+07",
            "--7+3*2",
            "3*2+7#",
            "__import__('os')",
            "3*(2+7",
            "3*2+7)",
            "3 2+7",
            "3*2+7;13",
        ),
        *("", "()", "3//2+7", "3*2+7.0", "٣*2+7", "3×2+7", "(" * 99 + "3"),
    ):
        assert task.verify(problem, text).reason == "malformed", text
    assert task.verify(tasks.Problem("", "", "", ((1, 1, 5), 5)), "5/(1-1)").reason == "malformed"
    third = tasks.Problem("", "", "", ((1, 3, 9), 3))  # exact fractions, no rounding
    assert task.verify(third, "1/3*9").correct
    assert read_expression("8/3")[0] * 3 == 8


def test_letters_are_sorted_and_reversed_exactly():
    problem = tasks.Problem("sort dbca=", "abcd", "abcd", ("dbca",))
    for text in ("abc", "abcde", "aabcd", "dcba", "dbca"):
        assert Sorting().verify(problem, text).reason == "wrong"
    for text in ("ABCD", "a b c d", "abcd.", "'abcd'"):
        assert Sorting().verify(problem, text).reason == "malformed"
    assert Sorting().trace(problem) == "a from dbca b from dbc c from dc d from d"
    assert Reversal().verify(problem, "acbd").correct


def test_sudoku_words_are_judged_by_the_rules():
    task = SudokuWords()
    problem = problems(task, 1)[0]
    other = tasks.Problem(problem.prompt, "nothing to compare with", problem.key, problem.facts)
    assert task.verify(other, problem.answer).correct
    rows = problem.answer.split(" / ")
    swapped = " / ".join([rows[1], rows[0], *rows[2:]])  # a valid grid, but not of these givens, or the same puzzle
    grid = np.array(problem.facts).reshape(4, 4)
    assert task.verify(problem, swapped).correct == bool(not grid[:2].any())
    for text in (
        problem.answer.replace(" / ", " "),
        problem.answer.upper(),
        problem.answer + " /",
        " / ".join(rows[:3]),
    ):
        assert task.verify(problem, text).reason == "malformed"
    assert task.verify(problem, problem.answer.replace("one", "two")).reason == "wrong"


def test_an_answer_stands_alone_or_after_one_thought():
    assert answer_in(" 95\n") == answer_in("<think>7+8=15</think>95") == answer_in("<think></think> 95") == "95"
    tagged = (
        "<answer>95</answer>",
        "95</think>",
        "<think>a<think>b</think>95",
        "<THINK>a</THINK>95",
        "x<think>a</think>95",
    )
    for text in (*tagged, "", " ", "<think>95", "<think>95</think>", "<think>a</think>95<think>b</think>"):
        assert answer_in(text) is None, text


@given(st.text(max_size=60))
@settings(max_examples=150, deadline=None)
def test_no_text_makes_a_verifier_raise(text):
    for task in TASKS:
        problem = task.draw(random.Random(1))
        verdict = task.verify(problem, text)
        assert verdict.correct == (verdict.reason == "correct")
        if verdict.correct:
            assert answer_in(text) is not None


def test_a_split_that_is_too_small_says_so():
    with pytest.raises(ValueError, match="only"):
        problems(Sums(1), 100, "test")
    with pytest.raises(ValueError, match="no split"):
        problems(Sums(1), 1, "dev")
