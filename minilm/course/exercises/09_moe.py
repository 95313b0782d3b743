"""Exercises of lesson 09: who goes where, how the load is evened out, who finds a seat, the way there and back, product keys."""

import random
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from minilm.course.exercise import call, cases, exercise, holds, wrong
from minilm.moe import load_balancing_loss, top_k_route
from minilm.moe import product_key_top_k as search_by_keys


def _normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def _choices(tokens: int, num_experts: int, k: int, seed: int = 0) -> Tensor:
    """Experts of each token, the best first; some are much liked."""
    return (_normal(tokens, num_experts, seed=seed) + torch.arange(num_experts) / 2).topk(k, dim=-1).indices


# 09.1 ----------------------------------------------------------------------------------------------------------------


def route_top_k(logits: Tensor, k: int, normalize: bool = True) -> tuple[Tensor, Tensor]:
    """Weights and experts of each token, the likeliest first."""
    found = top_k_route(logits, k, normalize=normalize)
    return found.weights, found.experts


def _route(
    weigh: Callable[[Tensor, Tensor, bool], Tensor],
    choose: Callable[[Tensor, int], Tensor] = lambda logits, k: logits.topk(k, dim=-1).indices,
) -> Callable[..., Any]:
    def answer(logits: Tensor, k: int, normalize: bool = True) -> tuple[Tensor, Tensor]:
        experts = choose(logits, k)
        return weigh(logits, experts, normalize), experts

    return answer


def _of_all(logits: Tensor, experts: Tensor, normalize: bool, dim: int = -1) -> Tensor:
    weights = logits.softmax(dim=dim).gather(-1, experts)
    return weights / weights.sum(dim=-1, keepdim=True) if normalize else weights


def _of_the_batch(weights: Tensor, normalize: bool) -> Tensor:
    return weights / weights.sum() if normalize else weights


exercise(
    id="09.1",
    title="Who goes where",
    objective="From a router's scores, the k experts of each token and their weights, as Mixtral and as Switch weigh them.",
    difficulty=2,
    minutes=10,
    reference=route_top_k,
    inputs=cases(
        (torch.tensor([[0.0, 2.0, 1.0, -1.0], [3.0, 0.0, 0.0, 3.5]]), 2),
        (torch.tensor([[0.0, 2.0, 1.0, -1.0], [3.0, 0.0, 0.0, 3.5]]), 1, False),
        (_normal(6, 8), 2, True),
        (_normal(5, 4, seed=1) * 2, 1, True),
        (_normal(7, 5, seed=2), 3, False),
    ),
    hints=[
        "Two questions in one order: how likely is each expert, and which are the likeliest? Take one token with scores 0, 2, 1 by hand, k = 2.",
        "Softmax over the experts (the last axis), then `topk`, which gives values and places. Only where `normalize` asks for it, divide by the sum of the chosen.",
        "`weights, experts = logits.softmax(dim=-1).topk(k, dim=-1)`, then `weights / weights.sum(dim=-1, keepdim=True)`",
    ],
    wrong_answers=[
        wrong(
            _route(lambda logits, experts, normalize: _of_all(logits, experts, normalize=False)),
            "You never make the weights sum to 1, though `normalize` asks for it. Then a token whose router is unsure gets a weaker feed-forward than one whose router is sure: Switch wants that, Mixtral doesn't.",
        ),
        wrong(
            _route(lambda logits, experts, normalize: _of_all(logits, experts, normalize=True)),
            "Your weights sum to 1 even with `normalize=False` (a softmax over the chosen scores alone does that too). For k = 1 that weight is 1 whatever the router says, so the router gets no gradient from the task and never learns.",
        ),
        wrong(
            _route(lambda logits, experts, normalize: logits.softmax(dim=-1).gather(-1, experts).softmax(dim=-1)),
            "A softmax of a softmax: probabilities lie between 0 and 1, so a second exp makes them nearly equal, and the best expert counts little more than the next. To make weights sum to 1, divide by their sum.",
        ),
        wrong(
            _route(lambda logits, experts, normalize: _of_all(logits, experts, normalize, dim=0)),
            "Your softmax runs over the tokens: then each *expert's* weights sum to 1, and a token's depend on who else is in the batch. Experts stand on the last axis, `dim=-1`.",
        ),
        wrong(
            _route(lambda logits, experts, normalize: _of_the_batch(_of_all(logits, experts, False), normalize)),
            "You divide by the sum over the whole batch. Each *token's* weights must sum to 1: `sum(dim=-1, keepdim=True)`.",
        ),
        wrong(
            _route(lambda logits, experts, normalize: logits.gather(-1, experts)),
            "You return the scores themselves as weights. They may be negative or large, and don't compare from token to token: softmax makes probabilities of them.",
        ),
        wrong(
            _route(_of_all, lambda logits, k: (-logits).topk(k, dim=-1).indices),
            "You send each token to its *worst* experts: `topk` of the negative scores finds the lowest.",
        ),
        wrong(
            lambda logits, k, normalize=True: route_top_k(logits, k, normalize)[::-1],
            "The right numbers in the wrong order: return the weights first, then the experts.",
        ),
    ],
    unlocks="The first half of any token router, of Mixtral's as of Qwen's.",
)


# 09.2 ----------------------------------------------------------------------------------------------------------------


def _has_gradient(answer: Callable[..., Any]) -> bool | str:
    """The loss must push down the probability of an expert that has too much."""
    logits = torch.tensor([[2.0, 0.0], [1.0, 0.5], [0.0, 1.0]], requires_grad=True)
    probabilities = logits.softmax(dim=-1)
    loss = answer(probabilities, probabilities.argmax(dim=-1, keepdim=True), 2)
    if not isinstance(loss, Tensor) or not loss.requires_grad:
        return "Your loss has no gradient: is everything in it counted?"
    loss.backward()
    assert logits.grad is not None
    return bool((logits.grad[:, 0] > 0).all()) or "A step down your loss gives the crowded expert *more*."


def _shares(experts: Tensor, num_experts: int) -> Tensor:
    return torch.bincount(experts.flatten(), minlength=num_experts) / experts.numel()


exercise(
    id="09.2",
    title="The price of a crowd",
    objective="Switch's balance loss: E times the sum over experts of (share of choices) x (mean probability).",
    difficulty=2,
    minutes=10,
    reference=load_balancing_loss,
    inputs=cases(
        (torch.tensor([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [0.4, 0.6]]), torch.tensor([[0], [0], [0], [1]]), 2),
        (torch.full((8, 4), 0.25), torch.arange(8)[:, None] % 4, 4),
        (_normal(12, 5).softmax(dim=-1), _normal(12, 5).topk(1).indices, 5),
        (_normal(9, 8, seed=3).softmax(dim=-1), _normal(9, 8, seed=3).topk(2).indices, 8),
    ),
    properties=[
        holds(
            "it takes from the crowded",
            _has_gradient,
            "The numbers are right, but the loss can't teach the router.",
        )
    ],
    hints=[
        "Two lists of E numbers: how often was each expert chosen, as a share of all choices, and how probable was it on average? Which of the two can have a gradient?",
        "`torch.bincount(experts.flatten(), minlength=num_experts) / experts.numel()` counts; `probabilities.mean(dim=0)` carries the gradient. Multiply, sum, times E.",
        "`num_experts * (shares * probabilities.mean(dim=0)).sum()`",
    ],
    wrong_answers=[
        wrong(
            lambda probabilities, experts, num_experts: num_experts * _shares(experts, num_experts).square().sum(),
            "You square the counted shares. As a measure that is fine; as a loss it teaches nobody, since counting has no gradient. Multiply the shares with the mean *probabilities*: through them the router learns.",
        ),
        wrong(
            lambda probabilities, experts, num_experts: num_experts * probabilities.mean(dim=0).square().sum(),
            "You square the mean probabilities and never count who was chosen. A router that gives everybody 0.26 to one expert and 0.25 to the rest looks even to you, and all tokens go to the one.",
        ),
        wrong(
            lambda probabilities, experts, num_experts: (
                _shares(experts, num_experts) * probabilities.mean(dim=0)
            ).sum(),
            "The factor E is missing. With it an even load costs 1 however many experts there are; without it 1/E, and the same alpha means something else in each model.",
        ),
        wrong(
            lambda probabilities, experts, num_experts: (
                num_experts * (_shares(experts, num_experts) * probabilities.sum(dim=0)).sum()
            ),
            "You add the probabilities up over the tokens instead of averaging them: your loss grows with the batch. `mean(dim=0)`.",
        ),
        wrong(
            lambda probabilities, experts, num_experts: (
                num_experts * (_shares(experts[:, :1], num_experts) * probabilities.mean(dim=0)).sum()
            ),
            "You count the first choices only. With k = 2 an expert that is everybody's second choice is just as crowded: count all of `experts`, and divide by how many choices there are.",
        ),
        wrong(
            lambda probabilities, experts, num_experts: (
                num_experts * (_shares(experts, num_experts) * experts.shape[1] * probabilities.mean(dim=0)).sum()
            ),
            "You divide the counts by the number of tokens. With k choices a token the shares then sum to k; here they are shares of all *choices*, `experts.numel()`, so that even is 1 for every k.",
        ),
    ],
)


# 09.3 ----------------------------------------------------------------------------------------------------------------


def update_bias(bias: Tensor, counts: Tensor, rate: float) -> Tensor:
    """DeepSeek-V3's balance: one step up for whoever had less than the mean, one down for whoever had more."""
    counts = counts.float()
    return bias + rate * (counts.mean() - counts).sign()


exercise(
    id="09.3",
    title="A thumb on the scale",
    objective="Even the load out without a loss: move each expert's bias one step, by whether it had more or less than its share.",
    difficulty=1,
    minutes=5,
    reference=update_bias,
    inputs=cases(
        (torch.zeros(4), torch.tensor([10, 0, 2, 4]), 0.5),
        (torch.tensor([0.1, -0.2, 0.3]), torch.tensor([5, 5, 5]), 0.01),
        (torch.tensor([1.0, 0.0, 0.0, -1.0, 0.0]), torch.tensor([90, 3, 3, 2, 2]), 0.001),
        (_normal(8), torch.tensor([12, 0, 7, 9, 8, 8, 30, 6]), 0.02),
    ),
    hints=[
        "Ten tokens went to expert 0, none to expert 1, and 4 would be fair. Whose bias goes up? Does it matter by how much they missed?",
        "The step has the size `rate` for everybody; only its direction comes from the counts: up below the mean, down above it, none on it.",
        "`bias + rate * (counts.float().mean() - counts).sign()`",
    ],
    wrong_answers=[
        wrong(
            lambda bias, counts, rate: bias - rate * (counts.float().mean() - counts).sign(),
            "Upside down: you help those who have too much. One expert soon has everything. Below the mean the bias must go *up*.",
        ),
        wrong(
            lambda bias, counts, rate: bias + rate * (counts.float().mean() - counts),
            "Your step is as large as the miss. Counts are in thousands and scores between 0 and 1, so one crowded batch throws an expert out for good. The method takes the sign only.",
        ),
        wrong(
            lambda bias, counts, rate: bias - rate * (counts > counts.float().mean()).float(),
            "You only punish. Whoever has too little should also go up: otherwise an expert that nobody asks has to wait until all others have come down to it.",
        ),
        wrong(
            lambda bias, counts, rate: torch.where(counts > counts.float().mean(), bias - rate, bias + rate),
            "Whoever has exactly its share moves up in yours. With an even load nothing should move: `sign` is 0 there.",
        ),
        wrong(
            lambda bias, counts, rate: bias + rate * (counts.float().median() - counts).sign(),
            "You compare with the median. If one expert has nearly everything, the median is what the starved have, and they stay where they are. An even share is the *mean*.",
        ),
        wrong(
            lambda bias, counts, rate: rate * (counts.float().mean() - counts).sign(),
            "You return the step and forget where the bias stood. It must add up over the batches: `bias + ...`.",
        ),
    ],
)


# 09.4 ----------------------------------------------------------------------------------------------------------------


def find_seats(experts: Tensor, num_experts: int, capacity: int) -> Tensor:
    """True where a choice finds a seat: all first choices in the order of the tokens, then all second ones."""
    queue = experts.T.flatten()  # first choices of all tokens, then second ...
    comes = F.one_hot(queue, num_experts)
    place = (comes.cumsum(dim=0) * comes).sum(dim=-1)  # 1 for the first at that expert
    return (place <= capacity).view_as(experts.T).T


def _seats(
    queue: Callable[[Tensor], Tensor], back: Callable[[Tensor, Tensor], Tensor], shift: int = 0
) -> Callable[..., Tensor]:
    def answer(experts: Tensor, num_experts: int, capacity: int) -> Tensor:
        comes = F.one_hot(queue(experts), num_experts)
        return back((comes.cumsum(dim=0) * comes).sum(dim=-1) + shift <= capacity, experts)

    return answer


def _by_slot(experts: Tensor, num_experts: int, capacity: int) -> Tensor:
    return torch.cat([find_seats(column[:, None], num_experts, capacity) for column in experts.T], dim=1)


def _in_turns(experts: Tensor) -> Tensor:
    return experts.T.flatten()


def _turned_back(kept: Tensor, experts: Tensor) -> Tensor:
    return kept.view_as(experts.T).T


exercise(
    id="09.4",
    title="Who finds a seat",
    objective="With so many seats an expert, say which choices are served: first come, first served, and first choices before second ones.",
    difficulty=3,
    minutes=20,
    reference=find_seats,
    inputs=cases(
        (torch.tensor([[0], [0], [1], [0]]), 2, 2),
        (torch.tensor([[0, 1], [1, 0], [1, 0]]), 2, 2),
        (torch.tensor([[2, 0], [2, 1], [2, 0], [0, 2]]), 3, 1),
        (_choices(12, 4, 1), 4, 3),
        (_choices(10, 6, 2, seed=1), 6, 3),
        (_choices(9, 5, 3, seed=2), 5, 4),
    ),
    hints=[
        "Let the tokens queue up. Before each expert's door, what number does a choice draw? Who was there before it?",
        "Put all first choices in a row, token by token, then all second ones: `experts.T.flatten()`. A one-hot of that, summed up from the top (`cumsum`), gives everyone's number at every door; pick each one's own.",
        "`comes = F.one_hot(queue, num_experts)`, `place = (comes.cumsum(dim=0) * comes).sum(dim=-1)`, `place <= capacity`, and back into the shape of `experts`",
    ],
    wrong_answers=[
        wrong(
            _seats(_in_turns, _turned_back, shift=1),
            "Off by one: your experts have a seat less than they have. The first in a queue has number 1 after a `cumsum`, so `capacity` seats serve `place <= capacity`.",
        ),
        wrong(
            _seats(_in_turns, _turned_back, shift=-1),
            "Off by one: your experts serve one more than they have seats for. On a real machine that token would be written past the end of a buffer.",
        ),
        wrong(
            _seats(lambda experts: experts.flatten(), lambda kept, experts: kept.view_as(experts)),
            "You serve token by token, so an early token's second choice takes the seat of a later token's first. All first choices come before any second one: flatten the *transpose*.",
        ),
        wrong(
            _by_slot,
            "You count first and second choices in separate queues, so an expert serves up to k times its capacity. It has one set of seats for both.",
        ),
        wrong(
            _seats(
                lambda experts: _in_turns(experts).flip(0), lambda kept, experts: _turned_back(kept.flip(0), experts)
            ),
            "Last come, first served: you drop those who stood first. Then a token's fate depends on those who come *after* it, and the model sees the future.",
        ),
        wrong(
            lambda experts, num_experts, capacity: torch.arange(experts.numel()).lt(capacity).view_as(experts.T).T,
            "Your capacity is one for all experts together: after so many tokens nobody is served. Each expert has its own seats.",
        ),
    ],
    unlocks="Now you can say what a capacity factor costs before you buy the machines.",
)


# 09.5 ----------------------------------------------------------------------------------------------------------------


def send_and_collect(x: Tensor, chosen: Tensor, weights: Tensor, experts: list[Any]) -> Tensor:
    """y_t = the sum over t's experts e of weight_te * expert_e(x_t), every expert once, on its own tokens."""
    y = torch.zeros_like(x)
    for e, expert in enumerate(experts):
        tokens, slots = (chosen == e).nonzero(as_tuple=True)
        if len(tokens):
            y = y.index_add(0, tokens, weights[tokens, slots, None] * expert(x[tokens]))
    return y


class _Expert:
    """Not linear, so that it matters where the weight is applied; counts what it was given."""

    def __init__(self, number: int) -> None:
        self.number, self.rows = number, 0

    def __call__(self, x: Tensor) -> Tensor:
        self.rows += len(x)
        return torch.tanh(x * (self.number + 1) / 2 + self.number)


def _send(answer: Callable[..., Any], tokens: int, num_experts: int, k: int) -> Any:
    experts = [_Expert(e) for e in range(num_experts)]
    chosen = _choices(tokens, num_experts, k, seed=tokens)
    weights = _normal(tokens, k, seed=5).softmax(dim=-1) * 0.9
    return answer(_normal(tokens, 4, seed=6), chosen, weights, experts)


def _works_no_more_than_asked(answer: Callable[..., Any]) -> bool | str:
    """Every expert sees its own tokens and nobody else's."""
    experts, chosen = [_Expert(e) for e in range(5)], _choices(20, 5, 2)
    answer(_normal(20, 4), chosen, torch.full((20, 2), 0.5), experts)
    rows = sum(expert.rows for expert in experts)
    return rows <= chosen.numel() or f"20 tokens with 2 experts each are 40 rows of work; your experts did {rows}."


def _sent(
    update: Callable[..., Tensor] = lambda expert, x, weight: weight * expert(x), overwrite: bool = False
) -> Callable[..., Tensor]:
    def answer(x: Tensor, chosen: Tensor, weights: Tensor, experts: list[Any]) -> Tensor:
        y = torch.zeros_like(x)
        for e, expert in enumerate(experts):
            tokens, slots = (chosen == e).nonzero(as_tuple=True)
            if len(tokens):
                rows = update(expert, x[tokens], weights[tokens, slots, None])
                y = y.index_copy(0, tokens, rows) if overwrite else y.index_add(0, tokens, rows)
        return y

    return answer


def _first_weight(x: Tensor, chosen: Tensor, weights: Tensor, experts: list[Any]) -> Tensor:
    return send_and_collect(x, chosen, weights[:, :1].expand_as(weights), experts)


def _first_expert(x: Tensor, chosen: Tensor, weights: Tensor, experts: list[Any]) -> Tensor:
    return send_and_collect(x, chosen[:, :1], weights[:, :1], experts)


def _everybody(x: Tensor, chosen: Tensor, weights: Tensor, experts: list[Any]) -> Tensor:
    return torch.stack([weights.sum(dim=-1, keepdim=True) * expert(x) for expert in experts]).mean(dim=0)


def _rows_of_sorted(x: Tensor, chosen: Tensor, weights: Tensor, experts: list[Any]) -> Tensor:
    order = chosen.flatten().argsort(stable=True)
    tokens = order // chosen.shape[1]
    sizes = torch.bincount(chosen.flatten(), minlength=len(experts)).tolist()
    done = [expert(piece) for expert, piece in zip(experts, x[tokens].split(sizes), strict=True)]
    return torch.zeros_like(x).index_add(0, tokens, weights.flatten()[:, None] * torch.cat(done))


exercise(
    id="09.5",
    title="There and back",
    objective="Bring every token to its experts, each expert working once on all of its own, and add up what comes back, weighted.",
    difficulty=3,
    minutes=20,
    name="send_and_collect",
    reference=send_and_collect,
    driver=_send,
    inputs=cases(
        call(3, 2, 1),
        call(6, 3, 1),
        call(6, 4, 2),
        call(1, 8, 2),
        call(40, 5, 3),
    ),
    properties=[
        holds(
            "nobody works for nothing",
            _works_no_more_than_asked,
            "The sum is right, and the saving is gone: give an expert only the tokens that chose it.",
        )
    ],
    hints=[
        "For one expert: which tokens chose it, and in which of their k slots? What does it give them, and where does that go?",
        "`tokens, slots = (chosen == e).nonzero(as_tuple=True)` says both. `weights[tokens, slots, None]` are their weights, `expert(x[tokens])` the work; `index_add` adds rows to rows.",
        "`y = y.index_add(0, tokens, weights[tokens, slots, None] * expert(x[tokens]))`, for each expert that has tokens",
    ],
    wrong_answers=[
        wrong(
            _sent(lambda expert, x, weight: expert(x)),
            "You forget the weights: every chosen expert counts fully. And the router, whose gradient comes through them alone, would never learn.",
        ),
        wrong(
            _sent(overwrite=True),
            "With k > 1 you overwrite: a token keeps what its last expert gave and loses the others'. *Add* to its row (`index_add`, or `+=`).",
        ),
        wrong(
            _sent(lambda expert, x, weight: expert(weight * x)),
            "You weigh the token before the expert instead of the answer after it. Experts aren't linear: half a question isn't half an answer.",
        ),
        wrong(
            _first_weight,
            "You use the weight of the first slot for all of a token's experts. `nonzero` tells in which slot the expert stands: `weights[tokens, slots]`.",
        ),
        wrong(
            _first_expert,
            "You send each token to its first expert only. All k of `chosen` count.",
        ),
        wrong(
            _everybody,
            "You average all experts, chosen or not: that is the dense model, at its full price.",
        ),
        wrong(
            _rows_of_sorted,
            "You sorted the tokens by expert and left the weights in their old order, so each answer is weighted by somebody else's weight. Sort both: `weights.flatten()[order]`.",
        ),
    ],
)


# 09.6 ----------------------------------------------------------------------------------------------------------------


def product_key_top_k(rows: Tensor, columns: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k best sums of each token, best first, and the numbers of their experts."""
    return search_by_keys(rows, columns, k)


def _keys(rng: random.Random) -> tuple[Tensor, Tensor, int]:
    n, keys = rng.randint(1, 5), rng.randint(4, 12)
    rows, columns = (_normal(n, keys, seed=rng.randrange(10**6)) for _ in range(2))
    return rows, columns, rng.randint(1, min(keys, 6))


def _search(
    number: Callable[[Tensor, Tensor, int], Tensor] = lambda i, j, keys: i * keys + j,
    combine: Callable[[Tensor, Tensor], Tensor] = lambda a, b: a + b,
    look: int | None = None,
) -> Callable[..., Any]:
    def answer(rows: Tensor, columns: Tensor, k: int) -> tuple[Tensor, Tensor]:
        a, i = rows.topk(look or k, dim=-1)
        b, j = columns.topk(k, dim=-1)
        scores, places = combine(a[:, :, None], b[:, None]).flatten(1).topk(k, dim=-1)
        return scores, number(i.gather(1, places // k), j.gather(1, places % k), rows.shape[-1])

    return answer


def _pairwise_ranks(rows: Tensor, columns: Tensor, k: int) -> tuple[Tensor, Tensor]:
    a, i = rows.topk(k, dim=-1)
    b, j = columns.topk(k, dim=-1)
    return a + b, i * rows.shape[-1] + j


class _Largest(TorchDispatchMode):
    """Remembers the size of the largest tensor that anything made."""

    size = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = function(*args, **(kwargs or {}))
        for each in made if isinstance(made, (tuple, list)) else (made,):
            self.size = max(self.size, each.numel() if isinstance(each, Tensor) else 0)
        return made


def _looks_at_few(answer: Callable[..., Any]) -> bool | str:
    """With 100 keys an axis there are 10,000 sums; 16 are enough for the best 4."""
    rows, columns = _normal(1, 100), _normal(1, 100, seed=1)
    with _Largest() as largest:
        answer(rows, columns, 4)
    return largest.size <= 400 or (
        f"For K = 100 and k = 4, where 16 sums are enough, you make a table of {largest.size:,} numbers."
    )


def _places_for_numbers(rows: Tensor, columns: Tensor, k: int) -> tuple[Tensor, Tensor]:
    a, b = rows.topk(k, dim=-1).values, columns.topk(k, dim=-1).values
    scores, places = (a[:, :, None] + b[:, None]).flatten(1).topk(k, dim=-1)
    return scores, places


exercise(
    id="09.6",
    title="The best of thousands, without looking at them",
    objective="From K scores of rows and K of columns, the k best of the K² experts, exactly, looking at no more than k² sums.",
    difficulty=4,
    minutes=20,
    reference=product_key_top_k,
    inputs=cases(
        (torch.tensor([[0.0, 3.0, 1.0]]), torch.tensor([[0.5, 0.0, 2.5]]), 2),
        (torch.tensor([[5.0, 4.9, 4.7, 0.0]]), torch.tensor([[9.0, 0.3, 0.15, 0.05]]), 3),
        (_normal(3, 8), _normal(3, 8, seed=1), 4),
        (_normal(2, 32, seed=2), _normal(2, 32, seed=3), 8),
        draw=_keys,
        count=4,
    ),
    properties=[
        holds(
            "it looks at few",
            _looks_at_few,
            "You find the best, by looking at all of them: that is what the keys are there to save.",
        )
    ],
    hints=[
        "If a row isn't among the k best rows, can any of its experts be among the k best of all? Try to name k better ones.",
        "The k best rows and the k best columns make k x k sums; take the k best of those. `topk` gives a place p in the flattened square: row p // k, column p % k. Those are ranks; which row stands at that rank?",
        "`i.gather(-1, places // k) * keys + j.gather(-1, places % k)`, where i and j are what `rows.topk(k)` and `columns.topk(k)` gave as indices and keys = K",
    ],
    wrong_answers=[
        wrong(
            _pairwise_ranks,
            "You pair the best row with the best column, the second with the second, and so on: k sums. But the best row with the *second* column may beat the second row with the second: all k x k pairs of the best have to be looked at.",
        ),
        wrong(
            _places_for_numbers,
            "You return places in the small k x k square. Each has to be translated back: rank p // k of the rows is row `i[p // k]` of the big square, and so for the columns; the expert is row * K + column.",
        ),
        wrong(
            _search(number=lambda i, j, keys: j * keys + i),
            "Rows and columns are swapped: the expert's number is row * K + column. You find the right scores and ask the wrong experts.",
        ),
        wrong(
            _search(look=1),
            "You look at the best row only. One row holds K of the K² experts; the second best row with the best column is often better than the best row with the third.",
        ),
        wrong(
            _search(combine=lambda a, b: a * b),
            "You multiply the two scores. Two very bad ones then make a very good expert, minus times minus; the score is the *sum*.",
        ),
        wrong(
            _search(number=lambda i, j, keys: i * int(keys**0.5) + j),
            "Your numbers run in rows of √K. The square has K rows of K: expert row * K + column, with K the number of keys, `rows.shape[-1]`.",
        ),
    ],
    unlocks="16,384 experts by 256 scores: Doge's largest does it in every layer.",
)
