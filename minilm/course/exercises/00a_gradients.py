"""Exercises of lesson 00a: broadcasting, softmax, cross-entropy, their gradients by hand, and a backward pass of one's own."""

import math
import random

import torch
import torch.nn.functional as F
from torch import Tensor

from minilm import gradients
from minilm.course.exercise import cases, exercise, wrong

Shape = tuple[int, ...]
Graph = dict[str, list[tuple[str, float]]]


# --- 00a.1 -------------------------------------------------------------------------------------------------------------


def broadcast_shape(a: Shape, b: Shape) -> Shape | None:
    """Return the shape of x + y for tensors of shapes a and b, or None where they do not fit (PyTorch's rule)."""
    length = max(len(a), len(b))
    pairs = list(zip((1,) * (length - len(a)) + a, (1,) * (length - len(b)) + b, strict=True))
    if any(x != y and 1 not in (x, y) for x, y in pairs):
        return None
    return tuple(max(x, y) for x, y in pairs)


def draw_shapes(rng: random.Random) -> tuple[Shape, Shape]:
    full = [rng.randint(1, 5) for _ in range(rng.randint(1, 4))]

    def variant() -> Shape:
        kept = full[rng.randint(0, len(full) - 1) :]
        return tuple(1 if rng.random() < 0.3 else rng.randint(1, 5) if rng.random() < 0.1 else n for n in kept)

    return variant(), variant()


def aligned_on_the_left(a: Shape, b: Shape) -> Shape | None:
    flipped = broadcast_shape(a[::-1], b[::-1])
    return None if flipped is None else flipped[::-1]


def never_refuses(a: Shape, b: Shape) -> Shape:
    length = max(len(a), len(b))
    pairs = zip((1,) * (length - len(a)) + a, (1,) * (length - len(b)) + b, strict=True)
    return tuple(max(x, y) for x, y in pairs)


def drops_the_longer_part(a: Shape, b: Shape) -> Shape | None:
    common = min(len(a), len(b))
    return broadcast_shape(a[len(a) - common :], b[len(b) - common :])


exercise(
    id="00a.1",
    title="Which shape comes out?",
    objective="Predict the shape of `x + y` from the shapes of x and y, or None where PyTorch would refuse.",
    difficulty=1,
    minutes=8,
    reference=broadcast_shape,
    inputs=cases(
        ((2, 3), (3,)),
        ((4, 1), (1, 3)),
        ((3,), (3, 1)),
        ((2, 3), (2,)),
        ((2, 3), (4, 3)),
        ((5,), (5,)),
        ((3,), (2, 3)),
        ((2, 1, 4), (3, 1)),
        draw=draw_shapes,
        count=30,
    ),
    hints=[
        "Write the two shapes below each other, flush **right**, as you would write numbers to add.",
        "Fill the shorter one with 1s on its left. Two sizes fit if they are equal or one of them is 1; the larger one comes out.",
        "`zip((1,) * (length - len(a)) + a, (1,) * (length - len(b)) + b)` gives the pairs of sizes.",
    ],
    wrong_answers=[
        wrong(
            aligned_on_the_left,
            """You line the shapes up on the left. PyTorch lines them up on the right: the last axis of one meets the last
            axis of the other, and it is the *front* of the shorter shape that is filled with 1s.""",
        ),
        wrong(
            never_refuses,
            """You take the larger size of each pair, whatever the smaller one is. Only a 1 can be stretched: 2 and 4 do not
            fit, and the answer is None. (Think of which row would be copied: with a single one there is no question.)""",
        ),
        wrong(
            lambda a, b: None if len(a) != len(b) else broadcast_shape(a, b),
            """You refuse shapes of different lengths. They may differ: the shorter one gets 1s on its left, which is what
            happens when a bias of shape (3,) is added to every row of a (2, 3).""",
        ),
        wrong(
            drops_the_longer_part,
            """The front axes of the longer shape are gone (`zip` stops at the shorter one). They meet nothing, so they are
            kept as they are: fill the shorter shape with 1s on its left first.""",
        ),
    ],
)


# --- 00a.2 -------------------------------------------------------------------------------------------------------------


def softmax(logits: Tensor) -> Tensor:
    """Return exp(logits) / sum(exp(logits)) along the last axis."""
    return gradients.softmax(logits)


def draw_logits(rng: random.Random) -> Tensor:
    shape = [rng.randint(1, 4) for _ in range(rng.randint(1, 3))]
    return torch.randn(shape) * rng.choice([1, 3, 30])


def without_keepdim(logits: Tensor) -> Tensor:
    weights = (logits - logits.amax(dim=-1, keepdim=True)).exp()
    return weights / weights.sum(dim=-1)


exercise(
    id="00a.2",
    title="Scores into probabilities",
    objective="Write softmax along the last axis, for scores of any size.",
    difficulty=2,
    minutes=8,
    reference=softmax,
    inputs=cases(
        torch.tensor([[0.0, 1.0], [2.0, 0.0]]),
        torch.tensor([1.0, 2.0, 3.0]),
        torch.tensor([[1.0, 0.0, -1.0], [3.0, 3.0, 0.0]]),
        torch.tensor([[1000.0, 999.0]]),
        torch.tensor([[0.0, 1.0], [-500.0, -502.0]]),
        torch.tensor([[-1000.0, -1001.0, -999.0]]),
        draw=draw_logits,
        count=12,
    ),
    hints=[
        "Which sum must be 1: each row's, each column's, or the whole table's? And what is `torch.tensor(100.0).exp()`?",
        "Subtract each row's own largest score first: it cancels in the fraction. Use `dim=-1, keepdim=True` both times, "
        "so that the row's one number keeps its axis.",
        "`weights = (logits - logits.amax(dim=-1, keepdim=True)).exp()`, then divide by their sum along the same axis.",
    ],
    wrong_answers=[
        wrong(
            lambda logits: logits.exp() / logits.exp().sum(dim=-1, keepdim=True),
            """Right on paper, and not a number in float32: exp(1000) is inf, and inf / inf is nan; exp(-1000) is 0, and so
            is the sum. Subtract each row's largest score before `exp`; the fraction stays the same.""",
        ),
        wrong(
            lambda logits: torch.softmax(logits, dim=0),
            """Your *columns* add up to 1. `dim=0` runs over the rows, so the rows of a batch compete with each other.
            Each row is one prediction: sum along the last axis, `dim=-1`.""",
        ),
        wrong(
            lambda logits: torch.softmax(logits.flatten(), dim=0).view(logits.shape),
            """The whole tensor adds up to 1 instead of each row: `.sum()` and `.max()` without `dim` take everything.
            Say `dim=-1, keepdim=True`.""",
        ),
        wrong(
            lambda logits: (logits - logits.max()).exp() / (logits - logits.max()).exp().sum(dim=-1, keepdim=True),
            """You subtract one maximum for the whole batch. A row that lies far below it becomes exp(-500) = 0
            everywhere, and 0 / 0 is nan. Each row needs its own: `logits.amax(dim=-1, keepdim=True)`.""",
        ),
        wrong(
            lambda logits: logits.exp() / logits.exp().sum(dim=-1),
            """Two things. The sum has lost its axis, so broadcasting takes it for a *row*, and each column is divided by
            another row's sum: write `.sum(dim=-1, keepdim=True)`. And exp(1000) is inf: subtract each row's largest score
            first.""",
        ),
        wrong(
            without_keepdim,
            """The sum has lost its axis: without `keepdim=True` the sums of a (2, 2) have shape (2,), which broadcasting
            reads as a *row*, so each column is divided by another row's sum. A square batch does not even complain.
            Keep the axis: `.sum(dim=-1, keepdim=True)`.""",
        ),
    ],
    unlocks="Lesson 03 uses it on rows of 1,000 scores, with some of them at -inf.",
)


# --- 00a.3 -------------------------------------------------------------------------------------------------------------


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the mean of -log p[target] over the batch, in nats."""
    return gradients.cross_entropy(logits, targets)


def draw_batch(rng: random.Random) -> tuple[Tensor, Tensor]:
    rows, classes = rng.randint(2, 4), rng.randint(2, 4)
    return torch.randn(rows, classes) * rng.choice([1, 3]), torch.randint(classes, (rows,))


def picked(logits: Tensor, targets: Tensor) -> Tensor:
    return torch.log_softmax(logits, dim=-1)[torch.arange(len(targets)), targets]


BATCH = (torch.tensor([[2.0, 1.0], [0.0, 1.0], [1.0, 1.0]]), torch.tensor([0, 0, 1]))

exercise(
    id="00a.3",
    title="Surprise in nats",
    objective="Write the mean surprise of a batch, -ln p(target), in nats and for scores of any size.",
    difficulty=2,
    minutes=10,
    reference=cross_entropy,
    inputs=cases(
        BATCH,
        (torch.tensor([[0.0, 0.0, 0.0, 0.0]]), torch.tensor([2])),
        (torch.tensor([[0.0, 200.0], [5.0, 5.0]]), torch.tensor([0, 1])),
        (torch.tensor([[1.0, 2.0, 3.0], [3.0, 1.0, 0.5]]), torch.tensor([2, 2])),
        draw=draw_batch,
        count=12,
    ),
    hints=[
        "Each row gives one number: how surprised it is by its own target. What does the batch make of them?",
        "log p[target] = logit[target] - log(sum(exp(logits))). Stay with logarithms from the first line to the last: "
        "a probability of 1e-87 is 0 in float32, its logarithm is a comfortable -200.",
        "`logits.log_softmax(dim=-1)[torch.arange(len(targets)), targets]` is log p[target] of each row.",
    ],
    wrong_answers=[
        wrong(
            lambda logits, targets: -torch.softmax(logits, -1)[torch.arange(len(targets)), targets].log2().mean(),
            """Two things. `log2` measures the surprise in *bits*; here, as in PyTorch, it is in nats, so use the natural `log`.
            And a probability of 1e-87 is 0 in float32, whose logarithm is -inf: take the logarithm inside, with
            `log_softmax` or logit[target] - logsumexp(logits).""",
        ),
        wrong(
            lambda logits, targets: -picked(logits, targets).mean() / math.log(2),
            """That is the surprise in *bits*: you divided by ln 2, or used `log2`. Losses are in nats here and in PyTorch;
            1 nat = 1.443 bits. Use the natural logarithm, `log`.""",
        ),
        wrong(
            lambda logits, targets: -picked(logits, targets).sum(),
            """You add the surprises up. A loss is their mean: otherwise it, and every gradient, grows with the batch, and a
            learning rate that works for 8 rows explodes for 800.""",
        ),
        wrong(
            lambda logits, targets: picked(logits, targets).mean(),
            """The sign is missing: log p is below 0, since p is below 1. Surprise is *minus* the logarithm; going down
            your version would make the model worse.""",
        ),
        wrong(
            lambda logits, targets: -torch.softmax(logits, -1)[torch.arange(len(targets)), targets].log().mean(),
            """Right until the model is sure and wrong: then the target's probability is below the smallest float, `softmax`
            gives 0, and `log` gives -inf. Take the logarithm *inside*: logit[target] - logsumexp(logits), or `log_softmax`.""",
        ),
        wrong(
            lambda logits, targets: (1 - torch.softmax(logits, -1)[torch.arange(len(targets)), targets]).mean(),
            """You return 1 - p. It is small where the model is right, but hardly grows where it is badly wrong: p = 0.01
            and p = 0.000001 cost the same. Surprise is -log p.""",
        ),
        wrong(
            lambda logits, targets: -(F.one_hot(targets, logits.shape[1]) * torch.log_softmax(logits, -1)).mean(),
            """You average over the whole table, zeros included, so the loss is too small by the number of classes. Sum over
            the classes (only one term of a row is not 0), then average over the rows.""",
        ),
    ],
)


# --- 00a.4 -------------------------------------------------------------------------------------------------------------


def cross_entropy_backward(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the gradient of the mean surprise with respect to the logits."""
    return gradients.cross_entropy_backward(logits, targets)


def targets_of_others(logits: Tensor, targets: Tensor) -> Tensor:
    gradient = gradients.softmax(logits)
    for target in targets.tolist():
        gradient[:, target] -= 1
    return gradient / len(targets)


exercise(
    id="00a.4",
    title="The most used gradient in the world",
    objective="Write the gradient of the mean surprise for every logit of a batch, by hand, without autograd.",
    difficulty=3,
    minutes=12,
    reference=cross_entropy_backward,
    inputs=cases(
        BATCH,
        (torch.tensor([[0.0, 0.0, 0.0, 0.0], [4.0, 0.0, 0.0, 0.0]]), torch.tensor([2, 0])),
        (torch.tensor([[0.0, 200.0], [5.0, 5.0]]), torch.tensor([0, 1])),
        draw=draw_batch,
        count=12,
    ),
    hints=[
        "In which direction should the target's score go? And the scores of the others, and by how much?",
        "For one row it is p minus a row of zeros with a 1 at the target. The loss is a mean of N rows: what does that "
        "do to each row's share?",
        "`p[torch.arange(len(targets)), targets] -= 1` on p = softmax(logits), then divide by `len(targets)`.",
    ],
    wrong_answers=[
        wrong(
            lambda logits, targets: cross_entropy_backward(logits, targets) * len(targets),
            """Each row is right, and all of them are too large by the number of rows: the loss is a *mean*, so each row has
            1/N of the say. Without it the step grows with the batch. Divide by `len(targets)`.""",
        ),
        wrong(
            lambda logits, targets: gradients.softmax(logits) / len(targets),
            """This is p / N: the targets are not in it at all, so every score is pushed down and the model learns to
            know nothing. Subtract 1 at the target of each row first.""",
        ),
        wrong(
            lambda logits, targets: -cross_entropy_backward(logits, targets),
            """The sign is the wrong way round. A gradient points *uphill*: raising the target's score lowers the loss, so its
            entry is negative, p - 1. The minus of gradient descent comes later, in the step.""",
        ),
        wrong(
            lambda logits, targets: cross_entropy_backward(logits, targets) / logits.shape[1],
            """You divide by all entries of the table (`.mean()` over rows *and* classes). Only the rows are averaged: divide
            by N, the number of targets.""",
        ),
        wrong(
            targets_of_others,
            """`gradient[:, targets] -= 1` subtracts in *every* row: the colon says all of them. Each row has one target of its
            own: index with the pairs (row, target), `gradient[torch.arange(len(targets)), targets] -= 1`.""",
        ),
        wrong(
            lambda logits, targets: (
                (gradients.softmax(logits) - F.one_hot(targets, logits.shape[1]))
                * gradients.softmax(logits)
                / len(targets)
            ),
            """One softmax too many: p * (p - y) is what a squared error would bring. The logarithm in the surprise cancels
            that factor p, which is why a badly wrong model still learns fast. Leave it out.""",
        ),
    ],
    unlocks="Every language model that you have heard of was trained by this line.",
)


# --- 00a.5 -------------------------------------------------------------------------------------------------------------


def linear_backward(x: Tensor, weight: Tensor, grad_output: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients for x, weight and bias of the layer x @ weight.T + bias."""
    return gradients.linear_backward(x, weight, grad_output)


def draw_layer(rng: random.Random) -> tuple[Tensor, Tensor, Tensor]:
    rows, inputs, outputs = rng.randint(3, 4), rng.randint(2, 4), rng.randint(2, 4)
    return torch.randn(rows, inputs), torch.randn(outputs, inputs), torch.randn(rows, outputs)


SQUARE = (
    torch.tensor([[1.0, 2.0], [0.0, 1.0]]),
    torch.tensor([[1.0, 3.0], [0.0, 2.0]]),
    torch.tensor([[1.0, 0.0], [2.0, 1.0]]),
)

exercise(
    id="00a.5",
    title="A linear layer, backwards",
    objective="Write the three gradients of `x @ weight.T + bias`, given the gradient that arrives at its output.",
    difficulty=3,
    minutes=12,
    reference=linear_backward,
    inputs=cases(
        SQUARE,
        (torch.ones(3, 2), torch.tensor([[1.0, 2.0]]), torch.tensor([[1.0], [2.0], [3.0]])),
        draw=draw_layer,
        count=12,
    ),
    hints=[
        "Write the five shapes down. A gradient has the shape of what it belongs to, and for two of the three there is "
        "only one product of what you have that gives it.",
        "x meets the weight's columns on the way forward, the output's gradient meets its rows on the way back. The weight "
        "and the bias serve every row, so their gradients are sums over rows.",
        "`grad_output @ weight`, `grad_output.T @ x`, `grad_output.sum(dim=0)`, in this order.",
    ],
    wrong_answers=[
        wrong(
            lambda x, weight, grad_output: (grad_output @ weight.T, grad_output.T @ x, grad_output.sum(dim=0)),
            """The gradient for x goes through the weight the same way as x did, `@ weight.T`. On the way back it must be the
            other way round: `grad_output @ weight`. (A square weight hides it, all others refuse.)""",
        ),
        wrong(
            lambda x, weight, grad_output: (grad_output @ weight, x.T @ grad_output, grad_output.sum(dim=0)),
            """The gradient for the weight is transposed: yours is (inputs, outputs), the weight is (outputs, inputs). A
            gradient has the shape of what it belongs to: `grad_output.T @ x`.""",
        ),
        wrong(
            lambda x, weight, grad_output: (grad_output @ weight, grad_output.T @ x, grad_output.mean(dim=0)),
            """The bias is added to every row, so it is to blame for every row: its gradient is the *sum* over rows. The 1/N of
            a mean loss is already in what arrives; dividing again makes the bias learn N times too slowly.""",
        ),
        wrong(
            lambda x, weight, grad_output: (grad_output @ weight, grad_output.T @ x, grad_output),
            """The bias has one number for each output, your gradient has one for each output *and row*. The forward pass
            stretched the bias over the rows; the way back of stretching is summing: `.sum(dim=0)`.""",
        ),
        wrong(
            lambda x, weight, grad_output: (
                grad_output @ weight,
                grad_output.T @ x / len(x),
                grad_output.sum(dim=0) / len(x),
            ),
            """You average over the rows. This layer does not know what happens after it: if the loss is a mean, 1/N is
            already inside `grad_output`. Here it is a plain sum over rows.""",
        ),
        wrong(
            lambda x, weight, grad_output: (grad_output.T @ x, grad_output @ weight, grad_output.sum(dim=0)),
            """All three are there, in another order. Return them as the signature lists what they belong to: x, weight,
            bias.""",
        ),
    ],
)


# --- 00a.6 -------------------------------------------------------------------------------------------------------------


def backpropagate(graph: Graph) -> dict[str, float]:
    """Return the slope of "L" with respect to every number of the graph."""
    order: list[str] = []
    waiting = ["L"]
    uses = dict.fromkeys(graph, 0)
    reached = {"L"}
    while waiting:
        for source, _ in graph[waiting.pop()]:
            uses[source] += 1
            if source not in reached:
                reached.add(source)
                waiting.append(source)
    ready = ["L"]
    while ready:
        number = ready.pop()
        order.append(number)
        for source, _ in graph[number]:
            uses[source] -= 1
            if uses[source] == 0:
                ready.append(source)
    return in_order(graph, order)


def in_order(graph: Graph, order: list[str], overwrite: bool = False) -> dict[str, float]:
    """Pass gradients on in the given order."""
    gradient = dict.fromkeys(graph, 0.0)
    gradient["L"] = 1.0
    for number in order:
        for source, slope in graph[number]:
            gradient[source] = gradient[number] * slope + (0.0 if overwrite else gradient[source])
    return gradient


def reached_order(graph: Graph, last: bool) -> list[str]:
    order, waiting = [], ["L"]
    reached = {"L"}
    while waiting:
        number = waiting.pop(-1 if last else 0)
        order.append(number)
        for source, _ in graph[number]:
            if source not in reached:
                reached.add(source)
                waiting.append(source)
    return order


def proper_order(graph: Graph) -> list[str]:
    done: list[str] = []

    def visit(number: str) -> None:
        if number not in done:
            for source, _ in graph[number]:
                visit(source)
            done.append(number)

    visit("L")
    return done[::-1]


def passes_all_again(graph: Graph) -> dict[str, float]:
    gradient = dict.fromkeys(graph, 0.0)
    gradient["L"] = 1.0

    def visit(number: str) -> None:
        for source, slope in graph[number]:
            gradient[source] += gradient[number] * slope
            visit(source)

    visit("L")
    return gradient


def adds_slopes(graph: Graph) -> dict[str, float]:
    gradient = dict.fromkeys(graph, 0.0)
    for number in proper_order(graph):
        for source, slope in graph[number]:
            gradient[source] += gradient[number] + slope
    gradient["L"] = 1.0
    return gradient


def draw_graph(rng: random.Random) -> Graph:
    names = [*"abcdefgh"[: rng.randint(3, 6)], "L"]
    graph: Graph = {}
    for i, name in enumerate(names):
        edges = rng.randint(1, 2) if i >= 2 else 0
        graph[name] = [(rng.choice(names[:i]), float(rng.choice([-2, -1, 1, 2, 3]))) for _ in range(edges)]
    mixed = names[:]
    rng.shuffle(mixed)
    return {name: graph[name] for name in mixed}


# Small enough to be shown whole. In the last two "a" is reached at once, and again by way of "b".
LINE: Graph = {"x": [], "y": [("x", 2.0)], "L": [("y", 3.0)]}
TWICE: Graph = {"x": [], "L": [("x", 1.0), ("x", 1.0)]}
DIAMOND: Graph = {"x": [], "a": [("x", 2.0)], "b": [("x", 3.0)], "L": [("a", 1.0), ("b", 1.0)]}
NEAR: Graph = {"L": [("a", 1.0), ("b", 1.0)], "b": [("a", 2.0)], "a": [("x", 3.0)], "x": []}
FAR: Graph = {"x": [], "a": [("x", 3.0)], "b": [("a", 2.0)], "L": [("b", 1.0), ("a", 1.0)]}

exercise(
    id="00a.6",
    title="A backward pass of your own",
    objective="Given a graph of numbers with a slope on every edge, return the slope of L with respect to each of them.",
    difficulty=4,
    minutes=25,
    reference=backpropagate,
    inputs=cases(
        {"x": [], "L": [("x", 5.0)]},
        LINE,
        TWICE,
        DIAMOND,
        NEAR,
        FAR,
        {"x": [], "a": [("x", 7.0)], "L": [("x", 2.0)]},
        draw=draw_graph,
        count=30,
    ),
    hints=[
        "When may a number pass its gradient on? What must have happened before?",
        "A number's turn comes when everything that was made *from* it has had its turn. Then each of its inputs gets "
        "`gradient[number] * slope` **added**. Two ways to find the order: visit inputs first, depth-first, and turn the list "
        "round; or count how often each number is used, and wait until the count is down to 0.",
        "In a function `visit(number)`: if it is not in `done` yet, `visit` each of its inputs, then `done.append(number)`. "
        'After `visit("L")` go through `reversed(done)` with `gradient[source] += gradient[number] * slope`.',
    ],
    wrong_answers=[
        wrong(
            lambda graph: in_order(graph, proper_order(graph), overwrite=True),
            """A number that is used twice keeps only the last gradient that arrived: you write `=` where `+=` belongs. Each
            use is a path to the result, and the slopes of all paths add up.""",
        ),
        wrong(
            lambda graph: in_order(graph, reached_order(graph, last=False)),
            """A number passes its gradient on as soon as it is reached, and some of it arrives only later, by a longer path:
            that part is lost. Wait until every number that uses it has had its turn.""",
        ),
        wrong(
            lambda graph: in_order(graph, reached_order(graph, last=True)),
            """You go deep first, and a number passes its gradient on before all of it has arrived: what comes later, by
            another path, is lost. Put the numbers in order first (inputs last), then pass on.""",
        ),
        wrong(
            passes_all_again,
            """A number that is reached twice passes on *all* it has, twice: what arrived first is counted again. Either each
            number has one turn, when everything has arrived, or each visit passes on only what that visit brought.""",
        ),
        wrong(
            lambda graph: in_order(graph, list(graph)[::-1]),
            """You trust the order in which the numbers stand in the dict. It may be any order here: find one in which every
            number comes before its inputs.""",
        ),
        wrong(
            adds_slopes,
            """You *add* the slopes along a path. Chain rule: if y moves 3 times as fast as x, and r twice as fast as y, then r
            moves 6 times as fast as x. Multiply along a path, add over paths.""",
        ),
        wrong(
            lambda graph: dict.fromkeys(graph, 0.0),
            """Everything is 0, since 0 times any slope is 0. Something has to start: the slope of the result with respect to
            itself is 1.""",
        ),
        wrong(
            lambda graph: {name: slope for name, slope in backpropagate(graph).items() if name in proper_order(graph)},
            """A number that the result does not depend on has a gradient too: 0.0. Begin with `dict.fromkeys(graph, 0.0)`, so
            that every number is in the answer.""",
        ),
    ],
    unlocks="PyTorch does the same in C++; the graph is what `grad_fn` holds.",
)
