"""Exercises of lesson 11: what of a conversation is learned, a packed row, DoRA's matrix, and the losses of DPO, IPO and KTO."""

import random
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from minilm.course.exercise import cases, exercise, wrong
from minilm.finetuning import dpo_loss as library_dpo
from minilm.finetuning import ipo_loss, kto_loss

IGNORE = -100


def _normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# 11.1 ----------------------------------------------------------------------------------------------------------------


def answer_targets(ids: Sequence[int], opening: Sequence[int], closing: int) -> list[int]:
    """For every id but the last, the next one where it is an answer's (its closing token included), else -100."""
    return _targets(ids, _learned(ids, opening, closing))


def _learned(
    ids: Sequence[int],
    opening: Sequence[int],
    closing: int,
    *,
    end: bool = True,
    start: bool = False,
    first: bool = False,
) -> list[bool]:
    """Which ids belong to answers. Where asked so, wrongly: without their ends, with their openings, only the first."""
    learned, inside, answers = [False] * len(ids), False, 0
    for i, token in enumerate(ids):
        if inside:
            learned[i] = end or token != closing
            inside = token != closing
        elif list(ids[max(0, i + 1 - len(opening)) : i + 1]) == list(opening) and not (first and answers):
            inside, answers = True, answers + 1
            if start:
                learned[i + 1 - len(opening) : i + 1] = [True] * len(opening)
    return learned


def _targets(ids: Sequence[int], learned: Sequence[bool]) -> list[int]:
    return [token if known else IGNORE for token, known in zip(ids[1:], learned[1:], strict=True)]


def _draw_chat(rng: random.Random) -> tuple[list[int], list[int], int]:
    ids: list[int] = []
    for _ in range(rng.randint(1, 2)):  # 1 opens a turn, 2 closes it, 3 is a user, 4 an assistant, 9 a line break
        ids += [1, 3, 9, *(rng.randint(10, 20) for _ in range(rng.randint(1, 3))), 2, 9]
        ids += [1, 4, 9, *(rng.randint(10, 20) for _ in range(rng.randint(1, 3))), 2, 9]
    return ids, [1, 4, 9], 2


exercise(
    id="11.1",
    title="What is learned of a conversation",
    objective="Give every position its target: the next id where that belongs to an answer, -100 where it doesn't.",
    difficulty=2,
    minutes=15,
    reference=answer_targets,
    inputs=cases(
        ([1, 3, 9, 15, 2, 9, 1, 4, 9, 16, 17, 2, 9], [1, 4, 9], 2),
        (
            [
                1,
                3,
                9,
                15,
                2,
                9,
                1,
                4,
                9,
                16,
                2,
                9,
                1,
                3,
                9,
                12,
                2,
                9,
                1,
                4,
                9,
                13,
                14,
                2,
                9,
            ],
            [1, 4, 9],
            2,
        ),
        ([1, 4, 9, 16, 2], [1, 4, 9], 2),
        ([5, 6, 7], [1, 4, 9], 2),
        draw=_draw_chat,
        count=8,
    ),
    hints=[
        "Two questions, one after the other. Which ids did the assistant say? And at which position is each of them predicted?",
        "Walk through the ids: behind an opening you are inside an answer, up to and with its closing token. Then the target of position i is ids[i + 1], if *that* id is inside, else -100. The list is one shorter than the ids.",
        "`[token if inside else -100 for token, inside in zip(ids[1:], learned[1:])]`, where `learned` is True from behind the opening to the closing token",
    ],
    wrong_answers=[
        wrong(
            lambda ids, opening, closing: _targets(ids, _learned(ids, opening, closing, end=False)),
            "The token that closes the answer is not among your targets. A model that is never taught to stop goes on until its context is full.",
        ),
        wrong(
            lambda ids, opening, closing: [
                token if known else IGNORE for token, known in zip(ids, _learned(ids, opening, closing), strict=True)
            ][:-1],
            "Your targets are the ids themselves. The target of a position is the id *after* it: this model learns to repeat what it has just read.",
        ),
        wrong(
            lambda ids, opening, closing: [
                token if known else IGNORE
                for token, known in zip(ids[1:], _learned(ids, opening, closing)[:-1], strict=True)
            ],
            "Your mask is one place late: it asks whether the id *read* is an answer's, and must ask that of the id to be *predicted*. So the first word of every answer is not learned, and the line break behind it is.",
        ),
        wrong(
            lambda ids, opening, closing: _targets(ids, _learned(ids, opening, closing, start=True)),
            "You learn the opening of the turn too. The template writes it; whoever lets the model answer puts it there.",
        ),
        wrong(
            lambda ids, opening, closing: _targets(ids, [True] * len(ids)),
            "You mask nothing: the model also learns to ask what users ask.",
        ),
        wrong(
            lambda ids, opening, closing: _targets(ids, _learned(ids, opening, closing, first=True)),
            "Only the first answer is learned. A conversation may have several, and all of them are the assistant's.",
        ),
        wrong(
            lambda ids, opening, closing: [max(target, 0) for target in answer_targets(ids, opening, closing)],
            "Where nothing is to be learned your target is 0, which is a token like any other. Cross-entropy leaves out -100 (`ignore_index`).",
        ),
    ],
)


# 11.2 ----------------------------------------------------------------------------------------------------------------


def packed_row(documents: Tensor) -> tuple[Tensor, Tensor]:
    """Positions that start anew with each conversation, and who may see whom. documents: seq, a number for each conversation."""
    same = documents[:, None] == documents[None, :]
    earlier = torch.ones(len(documents), len(documents), dtype=torch.bool).tril()
    mask = same & earlier
    return mask.sum(dim=-1) - 1, mask


def _packed(
    positions: Callable[[Tensor], Tensor] | None = None,
    mask: Callable[[Tensor], Tensor] | None = None,
) -> Any:
    def answer(documents: Tensor) -> tuple[Tensor, Tensor]:
        right = packed_row(documents)
        return positions(documents) if positions else right[0], mask(documents) if mask else right[1]

    return answer


def _causal(documents: Tensor) -> Tensor:
    return torch.ones(len(documents), len(documents), dtype=torch.bool).tril()


def _same(documents: Tensor) -> Tensor:
    return documents[:, None] == documents[None, :]


def _draw_documents(rng: random.Random) -> tuple[Tensor]:
    return (torch.tensor([i for i in range(rng.randint(1, 4)) for _ in range(rng.randint(1, 4))]),)


exercise(
    id="11.2",
    title="Many conversations in a row",
    objective="From the number of the conversation at each place, give positions and mask, so that each is alone in the world.",
    difficulty=2,
    minutes=15,
    reference=packed_row,
    inputs=cases(
        (torch.tensor([0, 0, 0, 1, 1]),),
        (torch.tensor([0, 1, 1, 1, 2]),),
        (torch.tensor([3, 3]),),
        (torch.tensor([0]),),
        draw=_draw_documents,
        count=8,
    ),
    hints=[
        "Conversation 1 begins at place 3 of the row. At which position would it begin if it were alone? And which of the row's earlier places would be there at all?",
        "Place t sees s where both lie in the same conversation *and* s is not later. A token's position is how many it sees, less one: itself.",
        "`mask = (documents[:, None] == documents) & torch.ones(n, n, dtype=torch.bool).tril()` and `positions = mask.sum(dim=-1) - 1`",
    ],
    wrong_answers=[
        wrong(
            _packed(mask=_causal),
            "Your mask is only causal: the second conversation reads the first. It trains, and the model learns that an answer may depend on a stranger's question.",
        ),
        wrong(
            _packed(mask=_same),
            "Each conversation is alone, but sees its own future. Combine with the causal mask.",
        ),
        wrong(
            _packed(positions=lambda documents: torch.arange(len(documents))),
            "The mask is right, the positions count on through the row. Rotary positions would not mind (only differences count); learned ones would, and places past the context would be asked for.",
        ),
        wrong(
            _packed(positions=lambda documents: packed_row(documents)[0] + 1),
            "Your positions begin at 1. A conversation that is alone begins at 0.",
        ),
        wrong(
            _packed(mask=lambda documents: packed_row(documents)[1] & ~torch.eye(len(documents), dtype=torch.bool)),
            "Nobody may look at itself, so a conversation's first token sees nothing at all, and its softmax divides zero by zero.",
        ),
        wrong(
            _packed(mask=lambda documents: packed_row(documents)[1].float()),
            "The pattern is right, but as floats it would be *added* to the scores. A mask answers yes or no: dtype bool.",
        ),
    ],
)


# 11.3 ----------------------------------------------------------------------------------------------------------------


def dora_matrix(weight: Tensor, a: Tensor, b: Tensor, alpha: float, magnitude: Tensor) -> Tensor:
    """The one matrix that a DoRA layer stands for: rows of W + alpha / rank * B A, brought to the lengths `magnitude`."""
    turned = weight + alpha / a.shape[0] * b @ a
    return magnitude[:, None] * turned / turned.norm(dim=1, keepdim=True)


def _dora(
    scale: Callable[[float, int], float] = lambda alpha, rank: alpha / rank,
    product: Callable[[Tensor, Tensor], Tensor] = lambda a, b: b @ a,
    finish: Callable[[Tensor, Tensor, Tensor], Tensor] = lambda w, turned, m: (
        m[:, None] * turned / turned.norm(dim=1, keepdim=True)
    ),
) -> Callable[..., Tensor]:
    return lambda weight, a, b, alpha, magnitude: finish(
        weight, weight + scale(alpha, a.shape[0]) * product(a, b), magnitude
    )


def _draw_adapter(rng: random.Random) -> tuple[Tensor, Tensor, Tensor, float, Tensor]:
    size, rank, seed = rng.choice([3, 4]), rng.choice([2, 3]), rng.randrange(10**6)
    weight = _normal(size, size, seed=seed)
    magnitude = weight.norm(dim=1) * (1 + 0.3 * _normal(size, seed=seed + 3).abs())
    a, b = _normal(rank, size, seed=seed + 1), _normal(size, rank, seed=seed + 2)
    return weight, a, b, float(rng.choice([1, 8, 16])), magnitude


_W = torch.tensor([[3.0, 4.0], [0.0, 2.0]])

exercise(
    id="11.3",
    title="DoRA: direction and length apart",
    objective="Fold a DoRA adapter into its matrix: the rows of W + α/r · B A, each brought to its learned length.",
    difficulty=3,
    minutes=20,
    reference=dora_matrix,
    inputs=cases(
        (
            _W,
            torch.tensor([[1.0, 0.0]]),
            torch.zeros(2, 1),
            1.0,
            torch.tensor([5.0, 2.0]),
        ),
        (
            _W,
            torch.tensor([[1.0, 0.0]]),
            torch.zeros(2, 1),
            1.0,
            torch.tensor([10.0, 2.0]),
        ),
        (
            _W,
            torch.tensor([[1.0, 0.0], [0.0, 1.0]]),
            torch.eye(2),
            4.0,
            torch.tensor([5.0, 2.0]),
        ),
        (
            _normal(4, 3),
            _normal(2, 3, seed=1),
            _normal(4, 2, seed=2),
            16.0,
            torch.ones(4),
        ),
        draw=_draw_adapter,
        count=8,
    ),
    hints=[
        "Take the first input: B is zero and the lengths are those of W's rows, 5 and 2. What must come out? And in the second, where the first length is 10?",
        "A is rank x inputs, B is outputs x rank: in which order do they multiply to outputs x inputs? The factor is alpha / rank. Then divide every *row* by its own length, and multiply by the learned one.",
        "`turned = weight + alpha / a.shape[0] * b @ a`, then `magnitude[:, None] * turned / turned.norm(dim=1, keepdim=True)`",
    ],
    wrong_answers=[
        wrong(
            _dora(finish=lambda w, turned, m: turned),
            "This is LoRA: direction and length change together. DoRA brings each row to its learned length afterwards.",
        ),
        wrong(
            _dora(finish=lambda w, turned, m: m[:, None] * turned / w.norm(dim=1, keepdim=True)),
            "You divide by the lengths of the *old* rows. What is brought to the length m is the turned row, so divide by the turned row's own length.",
        ),
        wrong(
            _dora(finish=lambda w, turned, m: m[:, None] * turned / turned.norm(dim=0, keepdim=True)),
            "You measure columns. A neuron's weights are a *row* of PyTorch's matrix (outputs x inputs), and each row has its length. (The paper's formula speaks of columns; its code and PEFT take rows, and so do we.)",
        ),
        wrong(
            _dora(finish=lambda w, turned, m: m[:, None] * turned / turned.norm()),
            "You divide by the length of the whole matrix, one number. Every row has its own.",
        ),
        wrong(
            _dora(finish=lambda w, turned, m: m[:, None] * turned),
            "You multiply by m and don't divide: then at the start, where m is the rows' length, every row is that much too long, and training begins with another model.",
        ),
        wrong(
            _dora(scale=lambda alpha, rank: alpha),
            "The factor is alpha / rank: so that the pace of learning depends little on the rank. You left the rank out.",
        ),
        wrong(
            _dora(scale=lambda alpha, rank: 1.0),
            "The factor alpha / rank before B A is missing.",
        ),
    ],
)


# 11.4 ----------------------------------------------------------------------------------------------------------------

Loss = Callable[..., Tensor]


def dpo_loss(
    policy_chosen: Tensor,
    policy_rejected: Tensor,
    reference_chosen: Tensor,
    reference_rejected: Tensor,
    beta: float,
) -> Tensor:
    """-ln sigmoid of the difference of implicit rewards, of each pair."""
    return library_dpo(policy_chosen, policy_rejected, reference_chosen, reference_rejected, beta)


def _draw_pairs(rng: random.Random) -> tuple[Tensor, Tensor, Tensor, Tensor, float]:
    n, seed = rng.randint(1, 4), rng.randrange(10**6)
    four = [-15 + 2 * _normal(n, seed=seed + i) for i in range(4)]
    return four[0], four[1], four[2], four[3], rng.choice([0.1, 0.3, 0.5])


_PAIRS = cases(
    (torch.tensor([-10.0]), torch.tensor([-12.0]), torch.tensor([-10.0]), torch.tensor([-12.0]), 0.1),
    (torch.tensor([-9.0]), torch.tensor([-12.0]), torch.tensor([-10.0]), torch.tensor([-12.0]), 0.5),
    (torch.tensor([-14.0]), torch.tensor([-20.0]), torch.tensor([-10.0]), torch.tensor([-12.0]), 1.0),
    (torch.tensor([-10.0, -11.0]), torch.tensor([-9.0, -30.0]), torch.tensor([-12.0, -11.0]), torch.tensor([-9.0, -12.0]), 0.1),
    draw=_draw_pairs,
    count=8,
)  # fmt: skip

exercise(
    id="11.4",
    title="DPO in one line",
    objective="The loss of each pair: how surprised Bradley and Terry's judge is, if the implicit reward is the reward.",
    difficulty=3,
    minutes=20,
    reference=dpo_loss,
    inputs=_PAIRS,
    hints=[
        "The implicit reward of an answer is beta times what the policy's ln p has gained on the reference's. What is it for each of the two answers if the policy *is* the reference? And the loss then?",
        "The judge prefers chosen with probability sigmoid(reward chosen - reward rejected), and the loss is minus the logarithm of that. `F.logsigmoid` doesn't overflow, `torch.log(torch.sigmoid(x))` does.",
        "`-F.logsigmoid(beta * ((policy_chosen - reference_chosen) - (policy_rejected - reference_rejected)))`",
    ],
    wrong_answers=[
        wrong(
            lambda pc, pr, rc, rr, beta: -F.logsigmoid(beta * (pc - pr)),
            "The reference is missing. Your loss is not ln 2 at the start, and an answer that was always unlikely counts as disliked.",
        ),
        wrong(
            lambda pc, pr, rc, rr, beta: -F.logsigmoid(-beta * ((pc - rc) - (pr - rr))),
            "Your sign is turned: this policy learns to prefer what was rejected.",
        ),
        wrong(
            lambda pc, pr, rc, rr, beta: F.logsigmoid(beta * ((pc - rc) - (pr - rr))),
            "You return ln sigmoid, which is below 0; the loss is *minus* that. Minimised, yours pushes the right answers down.",
        ),
        wrong(
            lambda pc, pr, rc, rr, beta: -torch.sigmoid(beta * ((pc - rc) - (pr - rr))),
            "The logarithm is missing. -sigmoid forgives a pair that is very wrong, since it is flat there; the log-likelihood of the labels doesn't.",
        ),
        wrong(
            lambda pc, pr, rc, rr, beta: -beta * F.logsigmoid((pc - rc) - (pr - rr)),
            "Your beta stands outside the sigmoid, where it only scales the loss (and AdamW divides that out again). Inside, it says how much of a difference in nats is a difference in reward.",
        ),
        wrong(
            lambda pc, pr, rc, rr, beta: -F.logsigmoid(beta * ((pc - rc) + (pr - rr))),
            "You add the two log-ratios. The judge looks at the difference of the two rewards.",
        ),
        wrong(
            lambda pc, pr, rc, rr, beta: -beta * ((pc - rc) - (pr - rr)),
            "You have the difference of rewards and no sigmoid. Then no pair is ever right enough, and the loss falls without end.",
        ),
    ],
)


# 11.5 ----------------------------------------------------------------------------------------------------------------

exercise(
    id="11.5",
    title="IPO: so much and no more",
    objective="The squared distance of each pair's difference of log-ratios from 1 / (2 beta).",
    difficulty=2,
    minutes=10,
    reference=ipo_loss,
    inputs=_PAIRS,
    hints=[
        "DPO always wants more difference, if ever less eagerly. What loss wants a certain difference, and is sorry for more as for less?",
        "The difference is (ln pi - ln ref) of chosen less that of rejected, without beta; the target is 1 / (2 beta); the loss is the square of what is between.",
        "`((policy_chosen - reference_chosen) - (policy_rejected - reference_rejected) - 1 / (2 * beta)) ** 2`",
    ],
    wrong_answers=[
        wrong(
            lambda pc, pr, rc, rr, beta: ((pc - rc) - (pr - rr) - 1 / beta) ** 2,
            "Your target is 1 / beta. Azar et al. regress on half of that: 1 / (2 beta).",
        ),
        wrong(
            lambda pc, pr, rc, rr, beta: (beta * ((pc - rc) - (pr - rr)) - 0.5) ** 2,
            "You scale the difference by beta: beta squared times the right loss. The same minimum, but with a small beta loss and gradient shrink: under plain gradient descent, or beside any other loss, it then hardly counts.",
        ),
        wrong(
            lambda pc, pr, rc, rr, beta: ((pc - rc) - (pr - rr) - 1 / (2 * beta)).abs(),
            "You take the distance, not its square.",
        ),
        wrong(
            lambda pc, pr, rc, rr, beta: ((pc - pr) - 1 / (2 * beta)) ** 2,
            "The reference is missing: 1 / (2 beta) nats are to be *gained* on it.",
        ),
        wrong(
            lambda pc, pr, rc, rr, beta: ((pc - rc) - (pr - rr) + 1 / (2 * beta)) ** 2,
            "The target has the wrong sign: this policy learns to prefer what was rejected by 1 / (2 beta) nats.",
        ),
    ],
)


# 11.6 ----------------------------------------------------------------------------------------------------------------


def _kto(
    z: Callable[[Tensor], Tensor] = lambda gain: gain.mean().clamp(min=0),
    liked: Callable[[Tensor, Tensor], Tensor] = lambda reward, z: 1 - torch.sigmoid(reward - z),
    disliked: Callable[[Tensor, Tensor], Tensor] = lambda reward, z: 1 - torch.sigmoid(z - reward),
) -> Loss:
    def loss(
        pc: Tensor,
        pr: Tensor,
        rc: Tensor,
        rr: Tensor,
        pm: Tensor,
        rm: Tensor,
        beta: float,
    ) -> Tensor:
        point = beta * z(pm - rm)
        return torch.cat([liked(beta * (pc - rc), point), disliked(beta * (pr - rr), point)])

    return loss


def _draw_kto(rng: random.Random) -> tuple[Any, ...]:
    seed, gain = rng.randrange(10**6), rng.choice([-3.0, 3.0])
    n, m, k = rng.randint(1, 3), rng.randint(1, 3), rng.randint(2, 4)
    tensors = [-15 + 2 * _normal(size, seed=seed + i) for i, size in enumerate((n, m, n, m, k, k))]
    tensors[4] = tensors[5] + gain + _normal(k, seed=seed + 9)
    return (*tensors, rng.choice([0.1, 0.3]))


exercise(
    id="11.6",
    title="KTO: liked or not, one by one",
    objective="The losses of liked and of disliked answers, against the policy's distance from the reference.",
    difficulty=4,
    minutes=25,
    reference=kto_loss,
    inputs=cases(
        (
            *(torch.tensor([value]) for value in (-10.0, -12.0, -10.0, -12.0, -20.0, -20.0)),
            0.1,
        ),
        (
            *(torch.tensor([value]) for value in (-8.0, -12.0, -10.0, -12.0, -18.0, -20.0)),
            0.5,
        ),
        (
            *(torch.tensor([value]) for value in (-8.0, -15.0, -10.0, -12.0, -26.0, -20.0)),
            0.5,
        ),
        (
            torch.tensor([-8.0, -9.0]),
            torch.tensor([-15.0]),
            torch.tensor([-10.0, -9.0]),
            torch.tensor([-12.0]),
            torch.tensor([-18.0, -21.0, -14.0]),
            torch.tensor([-20.0, -20.0, -20.0]),
            0.3,
        ),
        draw=_draw_kto,
        count=8,
    ),
    hints=[
        "Without pairs, what is an answer's reward compared with? Suppose the policy moves all answers of the data up by a nat: is a liked answer then a success?",
        "z = beta times the *mean* gain on answers to other prompts, at least 0, one number. Liked: 1 - sigmoid(reward - z). Not liked: 1 - sigmoid(z - reward). Then both in one tensor, liked first.",
        "`z = beta * (policy_mismatched - reference_mismatched).mean().clamp(min=0).detach()`, then `torch.cat([1 - torch.sigmoid(liked - z), 1 - torch.sigmoid(z - disliked)])`. (The check compares values and can't see whether you detach z; a training would.)",
    ],
    wrong_answers=[
        wrong(
            _kto(z=lambda gain: gain.mean() * 0),
            "Nothing is compared with: your z is 0. A policy that makes *all* answers of the data likelier would then seem to please.",
        ),
        wrong(
            _kto(z=lambda gain: gain.mean()),
            "Your z may fall below 0. It estimates a KL divergence, which can't: clamp it at 0.",
        ),
        wrong(
            _kto(z=lambda gain: gain.sum().clamp(min=0)),
            "z is the *mean* gain, not the sum: with more answers in the batch yours grows.",
        ),
        wrong(
            _kto(z=lambda gain: gain.clamp(min=0).mean()),
            "You clamp each answer's gain and then take the mean. Chance alone then gives a z above 0: take the mean first.",
        ),
        wrong(
            _kto(disliked=lambda reward, z: 1 - torch.sigmoid(reward - z)),
            "Disliked answers get the loss of liked ones. Swap reward and z for them.",
        ),
        wrong(
            _kto(
                liked=lambda reward, z: -F.logsigmoid(reward - z),
                disliked=lambda reward, z: -F.logsigmoid(z - reward),
            ),
            "You take the logarithm, as DPO does. KTO's value is the sigmoid itself, flat at both ends: an answer that is hopelessly off no longer pulls.",
        ),
        wrong(
            _kto(
                liked=lambda reward, z: torch.sigmoid(reward - z),
                disliked=lambda reward, z: torch.sigmoid(z - reward),
            ),
            "This is the value, which should grow; the loss is 1 minus it.",
        ),
    ],
)
