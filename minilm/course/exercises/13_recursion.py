"""Exercises of lesson 13: stablemax, the weights of adaptive time, two gradients, TRM's segment, its training loop, disguises."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from minilm.course.exercise import call, cases, exercise, holds, wrong
from minilm.data.puzzles import puzzle_family
from minilm.recursion import stablemax

Network = Callable[[Tensor, Tensor], Tensor]
States = tuple[Tensor, Tensor]


def _normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# 13.1 ----------------------------------------------------------------------------------------------------------------


def _shares(s: Callable[[Tensor], Tensor], dim: int = -1) -> Callable[[Tensor], Tensor]:
    return lambda logits: s(logits) / s(logits).sum(dim=dim, keepdim=True)


def _stable(x: Tensor) -> Tensor:
    return torch.where(x >= 0, x.clamp(min=0) + 1, 1 / (1 - x.clamp(max=0)))


exercise(
    id="13.1",
    title="Stablemax",
    objective="Turn logits into shares that add up to one, without an exponential.",
    difficulty=1,
    minutes=10,
    reference=stablemax,
    inputs=cases(
        torch.tensor([-2.0, 0.0, 3.0]),
        torch.tensor([0.0, 0.0]),
        torch.tensor([[1.0, -1.0, 2.0], [0.5, 1000.0, -1000.0]]),
        torch.tensor([[[1.0, 5.0], [-3.0, -0.5]]]),
        draw=lambda rng: _normal(rng.randint(1, 3), rng.randint(2, 5), seed=rng.randrange(10**6)) * 4,
        count=5,
    ),
    hints=[
        "s(x) has two pieces: a line for x at or above 0, a hyperbola below. What do both give at 0?",
        "s = x + 1 for x >= 0 and 1 / (1 - x) below, then divide by the sum over the last axis. `torch.where` computes *both* pieces everywhere: keep each on its own side with `clamp`.",
        "`s = torch.where(x >= 0, x.clamp(min=0) + 1, 1 / (1 - x.clamp(max=0)))`, then `s / s.sum(dim=-1, keepdim=True)`",
    ],
    wrong_answers=[
        wrong(
            lambda logits: logits.softmax(dim=-1),
            "This is softmax. Stablemax has no exponential: x + 1 above zero, 1 / (1 - x) below.",
        ),
        wrong(
            _shares(lambda x: x + 1),
            "You use x + 1 on both sides. Below -1 that is negative, and a share can't be: below zero it is 1 / (1 - x).",
        ),
        wrong(
            _shares(lambda x: torch.where(x >= 0, x.clamp(min=0) + 1, 1 / (1 + x.clamp(max=0)))),
            "Your lower piece is 1 / (1 + x). For x < 0 the denominator must grow as x falls: 1 / (1 - x). Yours divides by zero at -1.",
        ),
        wrong(
            _shares(lambda x: x.clamp(min=0) + 1),
            "All logits below zero get the same s = 1 in yours. They must fall towards 0: 1 / (1 - x).",
        ),
        wrong(
            _stable,
            "These are the s(x), and not yet shares: divide by their sum over the last axis.",
        ),
        wrong(
            lambda logits: _stable(logits) / _stable(logits).sum(),
            "You divide by the sum of everything. Each row is a distribution of its own: sum over the last axis with `keepdim=True`.",
        ),
        wrong(
            lambda logits: (_stable(logits) / _stable(logits).sum(dim=-1, keepdim=True)).log(),
            "You return logarithms; asked for are the shares themselves.",
        ),
    ],
)


# 13.2 ----------------------------------------------------------------------------------------------------------------


def halting_weights(h: list[float], threshold: float = 0.99) -> list[float]:
    """What each state of a position counts for, in adaptive computation time."""
    weights: list[float] = []
    for step, value in enumerate(h):
        if sum(weights) + value >= threshold or step == len(h) - 1:
            return [*weights, 1 - sum(weights)]
        weights.append(value)
    return weights


def _unclipped(h: list[float], threshold: float = 0.99) -> list[float]:
    return [*h[: len(halting_weights(h, threshold)) - 1], h[len(halting_weights(h, threshold)) - 1]]


def _chances(h: list[float], threshold: float = 0.99) -> list[float]:
    weights: list[float] = []
    left = 1.0
    for step, value in enumerate(h):
        if 1 - left * (1 - value) >= threshold or step == len(h) - 1:
            return [*weights, left]
        weights.append(left * value)
        left *= 1 - value
    return weights


def _never_last(h: list[float], threshold: float = 0.99) -> list[float]:
    weights: list[float] = []
    for value in h:
        if sum(weights) + value >= threshold:
            return [*weights, 1 - sum(weights)]
        weights.append(value)
    return weights


def _one_late(h: list[float], threshold: float = 0.99) -> list[float]:
    weights: list[float] = []
    for step, value in enumerate(h):
        if sum(weights) >= threshold or step == len(h) - 1:
            return [*weights, 1 - sum(weights)]
        weights.append(value)
    return weights


def _divided(h: list[float], threshold: float = 0.99) -> list[float]:
    used = _unclipped(h, threshold)
    return [value / sum(used) for value in used]


def _to_threshold(h: list[float], threshold: float = 0.99) -> list[float]:
    weights = halting_weights(h, threshold)
    return [*weights[:-1], threshold - sum(weights[:-1])]


exercise(
    id="13.2",
    title="How long a position thought",
    objective="Give the weight of each of a position's states from its halting probabilities; they add up to one.",
    difficulty=2,
    minutes=15,
    reference=halting_weights,
    inputs=cases(
        ([0.2, 0.5, 0.4, 0.9],),
        ([0.1, 0.1, 0.1],),
        ([0.995, 0.3],),
        ([0.5, 0.49, 0.2],),
        ([0.3, 0.4, 0.2, 0.6], 0.9),
        ([0.7],),
        draw=lambda rng: (
            [round(rng.uniform(0.05, 0.8), 2) for _ in range(rng.randint(1, 6))],
            rng.choice([0.8, 0.99]),
        ),
        count=10,
    ),
    hints=[
        "0.2, 0.5, 0.4, 0.9: after two steps 0.7 is spent. What would the third make of it, and how much is left to give?",
        "Go on as long as the sum *with this step's h* stays below the threshold. The step that would reach it, or the last one there is, gets the remainder 1 - (what was spent before it), and nothing comes after.",
        "`if sum(weights) + value >= threshold or step == len(h) - 1: return [*weights, 1 - sum(weights)]`",
    ],
    wrong_answers=[
        wrong(
            _unclipped,
            "Your last step keeps its own h, so the weights don't add up to one: the mean state would be too long or too short. The last step gets what is left, 1 - (the sum before it).",
        ),
        wrong(
            _chances,
            "You treat the h's as chances one after the other, h times what is left. A sound idea (PonderNet does it, Banino et al. 2021), and another rule: here they are simply added up until they reach the threshold.",
        ),
        wrong(
            _never_last,
            "When the h's never reach the threshold, your position never stops, and its weights add up to less than one. The last step there is must take the remainder.",
        ),
        wrong(
            _one_late,
            "You stop one step late: ask whether the sum *with* this step's h reaches the threshold, before you spend it. Otherwise the sum runs past one and the remainder is negative.",
        ),
        wrong(
            _divided,
            "You divide the h's by their sum. They then add up to one, but every early weight is changed by how the last step turned out. Only the last step's weight is adjusted.",
        ),
        wrong(
            _to_threshold,
            "Your weights add up to the threshold. The remainder is what is left of *one*: 1 - (the sum before it).",
        ),
    ],
)


# 13.3 and 13.4 -------------------------------------------------------------------------------------------------------


def _cycles(recorded: Callable[[bool, bool, bool], bool], **change: Any) -> Callable[..., States]:
    """A segment whose calls are recorded where (last cycle, last call of it, is the call for high) says so; or one with a flaw."""

    def segment(
        network: Network, high: Tensor, low: Tensor, puzzle: Tensor, high_cycles: int, low_cycles: int
    ) -> States:
        calls = [(c, s) for c in range(high_cycles) for s in range(low_cycles + 1)]
        if change.get("early"):
            calls = calls[:-1]
        for cycle, step in calls:
            last, is_high = cycle == high_cycles - 1, step == low_cycles
            with torch.set_grad_enabled(recorded(last, step >= low_cycles - 1, is_high)):
                if is_high:
                    high = network(high, low + puzzle if change.get("puzzle_in_high") else low)
                elif change.get("no_puzzle"):
                    low = network(low, high)
                elif change.get("no_high"):
                    low = network(low, puzzle)
                else:
                    low = network(low, high + puzzle)
                if change.get("high_each") and not is_high:
                    high = network(high, low)
        return (low, high) if change.get("swapped") else (high, low)

    return segment


def trm_segment(
    network: Network, high: Tensor, low: Tensor, puzzle: Tensor, high_cycles: int, low_cycles: int
) -> States:
    """One segment of TRM; the gradient goes through all of the last cycle."""
    return _cycles(lambda last, last_call, is_high: last)(network, high, low, puzzle, high_cycles, low_cycles)


def hrm_segment(
    network: Network, high: Tensor, low: Tensor, puzzle: Tensor, high_cycles: int, low_cycles: int
) -> States:
    """The same loop with HRM's gradient: through the last call for low and the last for high."""
    return _cycles(lambda last, last_call, is_high: last and last_call)(
        network, high, low, puzzle, high_cycles, low_cycles
    )


def _segment_and_gradient(answer: Any, high_cycles: int, low_cycles: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Both states, and the gradient of the network's weight."""
    weight = (_normal(4, 4, seed=seed) * 0.6).requires_grad_()
    high, low, puzzle = _normal(3, 2, 5, 4, seed=seed + 1)
    with torch.enable_grad():
        out = answer(
            lambda state, added: torch.tanh((state + added) @ weight), high, low, puzzle, high_cycles, low_cycles
        )
        (out[0] * _normal(2, 5, 4, seed=seed + 2)).sum().backward()
    grad = torch.zeros(4, 4) if weight.grad is None else weight.grad
    return out[0].detach(), out[1].detach(), grad


def _runs_a_solver(answer: Any) -> bool | str:
    """A real model that thinks with the answer gives what the library's gives, and learns the same in three steps."""
    from minilm.recursion import PuzzleTrainer, PuzzleTraining, RecursiveModel, State, small

    class Mine(RecursiveModel):
        def think(self, state: State, puzzle: Tensor) -> State:
            network = lambda x, added: self.low_network(x, added, self.places)  # noqa: E731
            cycles = self.config.high_cycles, self.config.low_cycles
            return State(*answer(network, state.high, state.low, puzzle, *cycles))

    family = puzzle_family("sudoku-4")
    practice, losses = family.generate(30, "train"), []
    for kind in (RecursiveModel, Mine):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = kind(small("trm", family, dim=16, num_heads=2))
        trainer = PuzzleTrainer(model, family, practice, PuzzleTraining(steps=3, batch_size=4, warmup=1))
        losses.append([record.loss for record in trainer.run()])
    difference = max(abs(a - b) for a, b in zip(*losses, strict=True))
    return difference < 1e-3 or f"After three steps the losses differ by {difference:.3g}."


CASES = cases(call(1, 1, 0), call(2, 1, 1), call(1, 3, 2), call(2, 3, 3), call(3, 2, 4), call(3, 6, 5))

exercise(
    id="13.3",
    title="TRM's segment",
    objective="Think low_cycles times, answer once, and all of it high_cycles times; the gradient sees the last cycle only.",
    difficulty=3,
    minutes=20,
    reference=trm_segment,
    driver=_segment_and_gradient,
    inputs=CASES,
    properties=[
        holds(
            "it drives a real solver",
            _runs_a_solver,
            "Alone your segment is right; inside a model it does not learn as the library's does.",
        )
    ],
    hints=[
        "Write down the calls of two cycles with three low steps each: which state does each call rewrite, and what is added to it?",
        "low <- network(low, high + puzzle), low_cycles times; then high <- network(high, low). All but the last cycle stand under `torch.no_grad()`.",
        "`for cycle in range(high_cycles): with torch.set_grad_enabled(cycle == high_cycles - 1): ...` and inside it the loop for low and the line for high",
    ],
    wrong_answers=[
        wrong(
            _cycles(lambda last, last_call, is_high: True),
            "The states are right, but your gradient goes through *all* cycles: the memory of every call is kept. Put all cycles but the last under `torch.no_grad()`.",
        ),
        wrong(
            _cycles(lambda last, last_call, is_high: last and last_call),
            "The states are right, but your gradient goes through the last call of each state only. That is HRM's one-step gradient, the next exercise; TRM takes the whole last cycle.",
        ),
        wrong(
            _cycles(lambda last, last_call, is_high: False),
            "No gradient reaches the network: even the last cycle stands under `no_grad`, so nothing would ever be learned.",
        ),
        wrong(
            _cycles(lambda last, last_call, is_high: last, puzzle_in_high=True),
            "You add the puzzle when *high* is rewritten too. One network serves both states, and the puzzle is how it knows which of them it is rewriting: high is made from low alone.",
        ),
        wrong(
            _cycles(lambda last, last_call, is_high: last, no_puzzle=True),
            "The puzzle never comes in: low is rewritten from high + puzzle.",
        ),
        wrong(
            _cycles(lambda last, last_call, is_high: last, no_high=True),
            "Your scratchpad never sees the answer so far: low is rewritten from high + puzzle, so that it can find what is wrong with it.",
        ),
        wrong(
            _cycles(lambda last, last_call, is_high: last, high_each=True),
            "You answer anew after every thought. high is rewritten once a cycle, after low_cycles thoughts.",
        ),
        wrong(
            _cycles(lambda last, last_call, is_high: last, swapped=True),
            "You return low before high. The answer is read from the first of the two: (high, low).",
        ),
    ],
    unlocks="Put it into a subclass's `think` and a real solver runs on it: the last cell of the exercises does.",
)

exercise(
    id="13.4",
    title="One step of gradient",
    objective="The same loop, with the gradient through the last call for low and the last call for high alone.",
    difficulty=3,
    minutes=15,
    reference=hrm_segment,
    driver=_segment_and_gradient,
    inputs=CASES,
    hints=[
        "Which two calls of the whole segment are the last for each state? What stands under `no_grad` then?",
        "Everything up to the last low step of the last cycle is thought without a gradient. Then one call for low and one for high with it.",
        "In the loops: `with torch.set_grad_enabled(cycle == high_cycles - 1 and step == low_cycles - 1):` for low, and `cycle == high_cycles - 1` for high",
    ],
    wrong_answers=[
        wrong(
            _cycles(lambda last, last_call, is_high: last),
            "Your gradient goes through the whole last cycle, TRM's way. HRM records two calls: the last for low, the last for high.",
        ),
        wrong(
            _cycles(lambda last, last_call, is_high: True),
            "Your gradient goes through every call. All but the last for low and the last for high stand under `torch.no_grad()`.",
        ),
        wrong(
            _cycles(lambda last, last_call, is_high: last and is_high),
            "Only the call for high is recorded in yours, and what low learned from the puzzle gets no gradient: in HRM the whole low network would stay as it began.",
        ),
        wrong(
            _cycles(lambda last, last_call, is_high: last_call),
            "You record the last calls of *every* cycle. Their states are cut off by nothing, so the gradient reaches back through the cycles: only the last cycle's count.",
        ),
        wrong(
            _cycles(lambda last, last_call, is_high: last and last_call, early=True),
            "The last call for high is missing, so the answer is one thought behind.",
        ),
    ],
)


# 13.5 ----------------------------------------------------------------------------------------------------------------


def deep_supervision(
    segment: Callable[..., tuple[Tensor, Tensor, Tensor]],
    state: Tensor,
    puzzle: Tensor,
    target: Tensor,
    update: Callable[[Tensor], None],
    most: int,
) -> int:
    """Think, correct, cut, go on; returns how many segments it took."""
    for count in range(1, most + 1):
        state, logits, halt = segment(state, puzzle)
        update(F.cross_entropy(logits, target))
        state = state.detach()
        if halt > 0:
            return count
    return most


def _supervised(detach: bool = True, restart: bool = False, at_end: bool = False, order: str = "right") -> Any:
    def run(segment: Any, state: Tensor, puzzle: Tensor, target: Tensor, update: Any, most: int) -> int:
        first, losses = state, []
        for count in range(1, most + 1):
            found, logits, halt = segment(first if restart else state, puzzle)
            state = found.detach() if detach else found
            if order == "halt first" and halt > 0:
                return count
            losses.append(F.cross_entropy(logits, target))
            if not at_end:
                update(losses[-1])
            if halt > 0 and order != "never":
                if at_end:
                    update(losses[-1])
                return count - (order == "from zero")
        if at_end:
            update(losses[-1])
        return most

    return run


def _protocol(answer: Any, most: int, stops: int) -> list[Any]:
    """What a made-up solver was given and got: its states, whether a past hung on them, the losses, the segments."""
    weight = torch.ones(3, requires_grad=True)
    seen: list[Any] = []
    calls = 0

    def segment(state: Tensor, puzzle: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        nonlocal calls
        calls += 1
        past = "its past hangs on it" if state.requires_grad else "cut from its past"
        seen.append(["a segment from a state of sum", round(float(state.sum().detach()), 3), past])
        after = (state + puzzle) * weight
        return after, after[None], torch.tensor(1.0 if calls >= stops else -1.0)

    def update(loss: Tensor) -> None:
        seen.append(["an update with loss", round(float(loss.detach()), 3)])
        weight.grad = None
        loss.backward(retain_graph=True)
        with torch.no_grad():
            weight.sub_(0.1 * torch.zeros(3) if weight.grad is None else 0.1 * weight.grad)

    with torch.enable_grad():
        try:
            count = answer(
                segment, torch.tensor([0.1, 0.2, 0.3]), torch.tensor([1.0, 0.5, 0.0]), torch.tensor([1]), update, most
            )
        except NotImplementedError:  # a RuntimeError as well
            raise
        except RuntimeError:  # a graph that was changed under way
            count = "its gradient went through a weight that had been changed"
    return [*seen, count]


exercise(
    id="13.5",
    title="Think, correct, cut, go on",
    objective="Correct a solver after each segment, and let it go on from its own thoughts without their past.",
    difficulty=3,
    minutes=20,
    reference=deep_supervision,
    driver=_protocol,
    inputs=cases(call(1, 9), call(3, 9), call(4, 2), call(2, 1), call(6, 4)),
    hints=[
        "What must be carried to the next segment, and what must not come along with it?",
        "In each turn: segment, loss, update, then detach the new state; stop after the turn in which halt is above 0.",
        "`state, logits, halt = segment(state, puzzle)`; `update(F.cross_entropy(logits, target))`; `state = state.detach()`; `if halt > 0: return count`",
    ],
    wrong_answers=[
        wrong(
            _supervised(detach=False),
            "The past still hangs on your state, so each update goes back through all segments before it, and through weights that have been changed since. Cut it off: `state.detach()`.",
        ),
        wrong(
            _supervised(restart=True),
            "Every segment of yours begins from the first state again. That practises the first segment over and over; nobody learns to repair. Carry the state over.",
        ),
        wrong(
            _supervised(at_end=True),
            "You correct only the last answer. Deep supervision corrects every segment's, with an update of its own.",
        ),
        wrong(
            _supervised(order="halt first"),
            "You leave before the last answer is corrected: the segment in which the solver stops must be paid for too. Update first, then ask halt.",
        ),
        wrong(
            _supervised(order="never"),
            "Your solver never stops early: where halt is above 0, return how many segments it took.",
        ),
        wrong(
            _supervised(order="from zero"),
            "You return one too few where the solver stops: the segment in which it stops counts too.",
        ),
    ],
)


# 13.6 ----------------------------------------------------------------------------------------------------------------

Grid = np.ndarray[Any, Any]


def _disguise(
    rename: bool = True,
    both: bool = True,
    blanks: bool = True,
    rows: bool = True,
    bands: bool = True,
    columns: bool = True,
    free: bool = False,
) -> Callable[..., tuple[Grid, Grid]]:
    def disguise(puzzle: Grid, solution: Grid, rng: np.random.Generator) -> tuple[Grid, Grid]:
        def lines(across: bool = False) -> Grid:
            if free:
                return rng.permutation(4)
            order = rng.permutation(2) if bands and (columns or not across) else np.arange(2)
            return np.concatenate([2 * band + (rng.permutation(2) if rows else np.arange(2)) for band in order])

        def draw() -> tuple[Grid, Grid, Grid]:
            names = np.concatenate([[0], rng.permutation(4) + 1]) if blanks else rng.permutation(5)
            return (names if rename else np.arange(5)), lines(), lines(across=True)

        first = draw()
        second = first if both else draw()
        return tuple(  # type: ignore[return-value]
            names[grid][down][:, across] for grid, (names, down, across) in ((puzzle, first), (solution, second))
        )

    return disguise


def _some(answer: Any, n: int = 60) -> list[tuple[Grid, Grid]]:
    found = puzzle_family("sudoku-4").generate(5, "train")
    rng = np.random.default_rng(0)
    grids = [(found.inputs[i % 5].reshape(4, 4), found.targets[i % 5].reshape(4, 4)) for i in range(n)]
    return [tuple(np.asarray(part) for part in answer(p.copy(), s.copy(), rng)) for p, s in grids]  # type: ignore[misc]


def _still_solved(answer: Any) -> bool | str:
    from minilm.data.puzzles.sudoku import is_solved

    for puzzle, solution in _some(answer):
        if puzzle.shape != (4, 4) or solution.shape != (4, 4):
            return f"The shapes are {puzzle.shape} and {solution.shape}; both must stay (4, 4)."
        if not is_solved(solution.reshape(1, 16))[0]:
            return f"This came out: {solution.tolist()}."
    return True


def _still_its_solution(answer: Any) -> bool | str:
    for puzzle, solution in _some(answer):
        if ((puzzle > 0) & (puzzle != solution)).any():
            return f"The puzzle {puzzle.tolist()} came with {solution.tolist()}."
    return True


def _as_many_blanks(answer: Any) -> bool:
    found = puzzle_family("sudoku-4").generate(5, "train").inputs
    return all((p == 0).sum() == (found[i % 5] == 0).sum() for i, (p, _) in enumerate(_some(answer)))


def _every_move(answer: Any) -> bool | str:
    """A single given visits every place with every name."""
    solution = puzzle_family("sudoku-4").generate(1, "train").targets[0].reshape(4, 4)
    puzzle, rng = np.zeros_like(solution), np.random.default_rng(1)
    puzzle[0, 0] = solution[0, 0]
    seen: set[tuple[int, int, int]] = set()
    for _ in range(1000):
        grid = np.asarray(answer(puzzle.copy(), solution.copy(), rng)[0])
        seen |= {(int(row), int(column), int(grid[row, column])) for row, column in np.argwhere(grid)}
    rows, columns, names = (len(set(each)) for each in zip(*seen, strict=True))
    return (
        rows * columns * names == 64
        or f"In 1,000 calls the given of the first cell came to {rows} of 4 rows and {columns} of 4 columns, under {names} of 4 names."
    )


def _random_from_rng(answer: Any) -> bool:
    grid = puzzle_family("sudoku-4").generate(1, "train")
    parts = grid.inputs[0].reshape(4, 4), grid.targets[0].reshape(4, 4)
    twice = [answer(*(part.copy() for part in parts), np.random.default_rng(5)) for _ in range(2)]
    return all(np.array_equal(a, b) for a, b in zip(*twice, strict=True))


exercise(
    id="13.6",
    title="The same puzzle in disguise",
    objective="Rename the digits and move rows and columns of a 4x4 sudoku and of its solution, so that it stays one.",
    difficulty=4,
    minutes=25,
    name="disguise",
    properties=[
        holds(
            "blanks stay blanks",
            _as_many_blanks,
            "The number of blanks has changed: 0 is no digit and keeps its name.",
        ),
        holds(
            "the solution stays a solution",
            _still_solved,
            "Your moves break a rule. Rows may change places within their band of two, bands may change places, and columns likewise; a row that leaves its band takes its boxes apart.",
        ),
        holds(
            "puzzle and solution go together",
            _still_its_solution,
            "The puzzle and its solution were disguised differently, so the right answer to a puzzle is called wrong. Draw the moves once and use them on both.",
        ),
        holds(
            "every kind of move is used",
            _every_move,
            "Too few disguises come out. Rename the digits at random (24 ways), and order rows and columns: within bands, and the bands themselves (8 ways each).",
        ),
        holds(
            "chance comes from rng",
            _random_from_rng,
            "The same `rng` must give the same disguise: draw from it, and from nothing else, or no run can be repeated.",
        ),
    ],
    hints=[
        "Renaming needs a table of five names in which 0 stays 0: `names[grid]` looks up a whole grid. What would an order of the rows look like that keeps {0, 1} and {2, 3} together?",
        "Order of lines: shuffle the two bands, and within each band its two lines. Draw one such order for rows and one for columns, and index: `grid[rows][:, columns]`. The same for both grids.",
        "`names = np.concatenate([[0], rng.permutation(4) + 1])`; `rows = np.concatenate([2 * band + rng.permutation(2) for band in rng.permutation(2)])`, `columns` likewise; `names[grid][rows][:, columns]`",
    ],
    wrong_answers=[
        wrong(_disguise(free=True)),
        wrong(_disguise(both=False)),
        wrong(_disguise(blanks=False)),
        wrong(_disguise(rename=False)),
        wrong(_disguise(rows=False, bands=False)),
        wrong(_disguise(bands=False, rename=False)),
        wrong(_disguise(bands=False)),
        wrong(_disguise(columns=False)),
    ],
)
