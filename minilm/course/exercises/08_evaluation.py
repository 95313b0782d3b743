"""Exercises of lesson 08: bits a byte, sliding windows, calibration, multiple choice, the split of a loss, and a scaling law."""

import math
import random
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from minilm.course.comparing import close
from minilm.course.exercise import cases, exercise, wrong

# --- 08.1 --------------------------------------------------------------------------------------------------------------


def bits_per_byte(nats: Float[Tensor, "tokens"], text: str) -> float:
    """Return the bits that a model pays for each byte of a text, from what each of its tokens cost in nats."""
    return nats.sum().item() / math.log(2) / len(text.encode())


def _draw_text(rng: random.Random) -> tuple[Tensor, str]:
    text = "".join(rng.choice(["Zoë ", "naïve ", "a kite ", "été, ", "boat ", "日 "]) for _ in range(rng.randint(2, 6)))
    return torch.rand(rng.randint(2, 9)) * 4 + 0.1, text


exercise(
    id="08.1",
    title="Bits a byte",
    objective="Turn the nats that a text's tokens cost into the one figure that compares models with different tokenizers.",
    difficulty=1,
    minutes=6,
    reference=bits_per_byte,
    inputs=cases(
        (torch.tensor([2.0, 1.0, 3.0]), "Mia"),
        (torch.tensor([0.7, 0.2]), "a red kite"),
        (torch.tensor([1.5, 2.5, 0.5]), "Zoë"),
        draw=_draw_text,
        count=8,
    ),
    hints=[
        "Which total does no tokenizer change? And what must it be divided by so that no tokenizer changes that either?",
        "The sum of all nats is the surprise of the whole text. A nat is 1 / ln 2 bits. Bytes are those of UTF-8: `text.encode()`.",
        "`nats.sum().item() / math.log(2) / len(text.encode())`",
    ],
    wrong_answers=[
        wrong(
            lambda nats, text: nats.mean().item() / math.log(2),
            """That is bits a *token*: you divide by the number of tokens, which is just what differs between tokenizers. Sum the
            nats and divide by the bytes of the text.""",
        ),
        wrong(
            lambda nats, text: nats.sum().item() / math.log(2) / len(text),
            """You divide by characters. That is bits a character, which is fine for English and calls a Chinese text three times as
            hard as its bytes say: `len(text)` counts characters, `len(text.encode())` bytes.""",
        ),
        wrong(
            lambda nats, text: nats.sum().item() / len(text.encode()),
            """Nats a byte. PyTorch's losses use the natural logarithm; a nat is 1 / ln 2 = 1.44 bits, so divide by `math.log(2)`.""",
        ),
        wrong(
            lambda nats, text: nats.sum().item() * math.log(2) / len(text.encode()),
            """You multiply by ln 2 where you should divide. A coin is 1 bit and only 0.69 nats, so a figure in bits is the larger
            one.""",
        ),
        wrong(
            lambda nats, text: nats.mean().exp().item(),
            """That is perplexity, which depends on what a token is. Take the *sum* of the nats, in bits, and divide it by the bytes
            of the text.""",
        ),
        wrong(
            lambda nats, text: nats.sum().item() / math.log(2),
            """These are the bits of the whole text. To compare texts of different lengths, divide by its bytes.""",
        ),
    ],
)


# --- 08.2 --------------------------------------------------------------------------------------------------------------


def scored_windows(length: int, window: int, stride: int) -> list[tuple[int, int, int]]:
    """Return (start, end, first) of each window: it reads tokens start .. end - 1 and judges first .. end - 1."""
    return _windows(length, window, stride)


def _windows(length: int, window: int, stride: int, **slip: Any) -> list[tuple[int, int, int]]:
    """The windows, with the slips that a wrong answer asks for."""
    found, done = [], slip.get("begin", 1)
    for start in range(0, length, stride):
        if slip.get("whole") and start + window > length:
            break
        end = start + window if slip.get("long") else min(start + window, length)
        first = done
        if slip.get("again"):
            first = start + 1
        if slip.get("last") and start:
            first = end - stride
        found.append((start, end, first))
        done = end + slip.get("skip", 0)
        if end >= length and not slip.get("on"):
            break
    return found


def _draw_windows(rng: random.Random) -> tuple[int, int, int]:
    window = rng.randint(3, 12)
    return rng.randint(5, 40), window, rng.randint(1, window - 1)


exercise(
    id="08.2",
    title="Windows that overlap",
    objective="Cut a long text into overlapping windows so that every token is judged exactly once, with as much past as the stride allows.",
    difficulty=3,
    minutes=15,
    reference=scored_windows,
    inputs=cases(
        (4, 8, 4),
        (10, 4, 2),
        (11, 4, 3),
        (9, 4, 2),
        (12, 5, 1),
        draw=_draw_windows,
        count=12,
    ),
    hints=[
        "Write down by hand the windows of 10 tokens with window 4 and stride 2. Which tokens does each see for the first time?",
        "Windows start at 0, stride, 2 * stride, ... and end after `window` tokens or at the end of the text. Remember how far the earlier ones got: the next judges from there on. Token 0 is never judged, since nothing stands before it. When a window reaches the end, you are done.",
        "`done = 1`, then for each start: `end = min(start + window, length)`, append `(start, end, done)`, `done = end`, and stop once `end == length`.",
    ],
    wrong_answers=[
        wrong(
            lambda *sizes: _windows(*sizes, again=True),
            """You judge every token of every window, so the overlap counts twice, the second time with more past than the first.
            A window judges only from where the one before it ended.""",
        ),
        wrong(
            lambda *sizes: _windows(*sizes, on=True),
            """Your windows go on after one has reached the end of the text: those behind it see nothing new. Stop when `end` is
            `length`.""",
        ),
        wrong(
            lambda *sizes: _windows(*sizes, whole=True),
            """Only whole windows: the text's last tokens are never judged, and a text shorter than the window not at all. Let the
            last window end with the text, `end = min(start + window, length)`.""",
        ),
        wrong(
            lambda *sizes: _windows(*sizes, long=True),
            """Your last window ends behind the text: `end` is at most `length`.""",
        ),
        wrong(
            lambda *sizes: _windows(*sizes, last=True),
            """You judge the last `stride` tokens of each window. The last window may be cut short by the end of the text; then fewer of
            its tokens are new, and you judge some of them twice. Remember how far you got, `done`, instead of computing it.""",
        ),
        wrong(
            lambda *sizes: _windows(*sizes, begin=0),
            """You judge token 0. Nothing stands before it, so no model can say how likely it is: the first window judges from 1.""",
        ),
        wrong(
            lambda *sizes: _windows(*sizes, skip=1),
            """Between two windows you leave one token out. A window [start, end) judges up to end - 1, so the next begins with `end`
            itself.""",
        ),
    ],
    unlocks="This is how perplexities of long texts are made; the stride belongs beside the figure.",
)


# --- 08.3 --------------------------------------------------------------------------------------------------------------


def expected_calibration_error(sure: Float[Tensor, "tokens"], right: Bool[Tensor, "tokens"], bins: int = 10) -> float:
    """Return the mean gap between confidence and accuracy over bins of equal width, weighted by how many fall into each (ECE)."""
    return _ece(sure, right, bins)


def _ece(sure: Tensor, right: Tensor, bins: int = 10, **slip: Any) -> float:
    """The sum over bins, with the slips that a wrong answer asks for."""
    place = (sure * bins).long()
    place = place if slip.get("own_bin") else place.clamp(max=bins - 1)
    total, used = 0.0, 0
    for b in range(bins + 1):
        inside = place == b
        if not inside.any():
            continue
        confidence = (b + 0.5) / bins if slip.get("middle") else sure[inside].mean().item()
        gap = confidence - right[inside].double().mean().item()
        gap = gap if slip.get("signed") else gap**2 if slip.get("squared") else abs(gap)
        total += gap * (1.0 if slip.get("unweighted") else inside.double().mean().item())
        used += 1
    return total / used if slip.get("unweighted") else total


def _draw_confidences(rng: random.Random) -> tuple[Tensor, Tensor, int]:
    n = rng.randint(8, 30)
    sure = torch.rand(n).sqrt()
    return sure, torch.rand(n) < sure**2, rng.choice([5, 10])


exercise(
    id="08.3",
    title="As sure as it is right?",
    objective="Compute the expected calibration error of a model from how sure it was and whether it was right.",
    difficulty=3,
    minutes=15,
    reference=expected_calibration_error,
    inputs=cases(
        (torch.tensor([0.93, 0.97]), torch.tensor([True, False]), 10),
        (torch.tensor([0.62, 0.64, 0.68, 0.31]), torch.tensor([True, False, False, True]), 10),
        (torch.tensor([0.97, 1.0, 1.0, 0.55]), torch.tensor([True, True, False, True]), 10),
        draw=_draw_confidences,
        count=8,
    ),
    compare=close(1e-4),
    hints=[
        "Sort the predictions into bins by `sure`. What two numbers do you compare within a bin? And should a bin with one prediction count as much as one with a thousand?",
        "Bin b holds those with b / bins <= sure < (b + 1) / bins, the last one also sure = 1. For each that is not empty: the absolute difference of mean `sure` and share of `right`, times the share of all predictions that fall into it.",
        "`place = (sure * bins).long().clamp(max=bins - 1)`, then sum `inside.float().mean() * abs(sure[inside].mean() - right[inside].float().mean())` over the bins that hold anything.",
    ],
    wrong_answers=[
        wrong(
            lambda sure, right, bins=10: _ece(sure, right, bins, unweighted=True),
            """Every bin counts the same in your mean, one with a single prediction as much as one with a thousand. Weight each gap by
            the share of all predictions that fall into its bin.""",
        ),
        wrong(
            lambda sure, right, bins=10: _ece(sure, right, bins, signed=True),
            """You add gaps with their signs, so a bin that is too sure makes up for one that is too timid, and a badly calibrated
            model may get 0. Take the absolute value in each bin, before adding.""",
        ),
        wrong(
            lambda sure, right, bins=10: _ece(sure, right, bins, middle=True),
            """You compare with the middle of the bin. Predictions need not lie around it (most are near 1): take the mean of
            `sure` of those in the bin.""",
        ),
        wrong(
            lambda sure, right, bins=10: _ece(sure, right, bins, squared=True),
            """You square the gaps. That is nearer to the Brier score's calibration term; ECE takes absolute gaps.""",
        ),
        wrong(
            lambda sure, right, bins=10: abs(sure.mean().item() - right.double().mean().item()),
            """One bin for all: mean confidence against overall accuracy. Too sure here and too timid there cancel. Sort into `bins`
            bins first.""",
        ),
        wrong(
            lambda sure, right, bins=10: _ece(sure, right, bins, own_bin=True),
            """A prediction with sure = 1 falls into a bin of its own, number `bins`. The last bin includes 1: clamp the number of the
            bin to `bins - 1`.""",
        ),
        wrong(
            lambda sure, right, bins=10: (sure - right.double()).abs().mean().item(),
            """You compare each prediction with its own outcome. A single one is right or wrong and never 70 % right, so this is large
            even for a perfect model. Average within bins first, then compare.""",
        ),
    ],
)


# --- 08.4 --------------------------------------------------------------------------------------------------------------


def choose_options(log_probs: list[list[float]], options: list[str]) -> tuple[int, int]:
    """Return the option that a model picks by its log-likelihood, and by log-likelihood a character (acc, acc_norm)."""
    sums = [sum(each) for each in log_probs]
    return _best(sums), _best([total / len(option) for total, option in zip(sums, options, strict=True)])


def _best(values: list[float]) -> int:
    return max(range(len(values)), key=values.__getitem__)


def _by(log_probs: list[list[float]], divisors: list[int]) -> tuple[int, int]:
    sums = [sum(each) for each in log_probs]
    return _best(sums), _best([total / max(1, n) for total, n in zip(sums, divisors, strict=True)])


def _draw_options(rng: random.Random) -> tuple[list[list[float]], list[str]]:
    words = ["a", "the", "kite", "handkerchief", "boat", "in", "Zoë", "unbelievably", "été"]
    options = [" " + " ".join(rng.choice(words) for _ in range(rng.randint(1, 6))) for _ in range(4)]
    return [[-rng.uniform(0.1, 3) for _ in range(rng.randint(1, 9))] for _ in options], options


exercise(
    id="08.4",
    title="acc and acc_norm",
    objective="Pick a multiple-choice answer by log-likelihood, without and with a correction for the length.",
    difficulty=2,
    minutes=10,
    reference=choose_options,
    inputs=cases(
        ([[-1.0, -2.0], [-0.5, -0.5, -0.5, -0.5]], [" cat", " hippopotamus"]),
        ([[-3.0], [-1.0, -1.0, -1.5]], [" very long and slow", " be"]),
        ([[-2.0, -1.0], [-1.0, -1.0, -1.0, -0.5]], [" handkerchiefs", " a b c d"]),
        ([[-4.0, -1.1], [-5.0]], [" été été", " red boat"]),
        draw=_draw_options,
        count=20,
    ),
    hints=[
        "What is the log-probability of a whole option, given those of its tokens? Why do long options have it hard?",
        "Tokens' log-probabilities add up. `acc` takes the option with the largest sum; `acc_norm` the one with the largest sum divided by the number of *characters* of the option, its space included. Log-probabilities are negative: larger is nearer to 0.",
        "`sums = [sum(each) for each in log_probs]`, then the index of the largest of `sums`, and of the largest `total / len(option)`.",
    ],
    wrong_answers=[
        wrong(
            lambda log_probs, options: _by(log_probs, [len(each) for each in log_probs]),
            """You divide by the number of tokens. Then the score depends on the tokenizer, and a model with longer tokens gets another
            exam. `acc_norm` divides by the characters of the option: `len(option)`.""",
        ),
        wrong(
            lambda log_probs, options: _by(log_probs, [len(option.split()) for option in options]),
            """You divide by words. `acc_norm` divides by characters, which every language has: `len(option)`.""",
        ),
        wrong(
            lambda log_probs, options: _by(log_probs, [len(option.encode()) for option in options]),
            """You divide by bytes. That is a score too, `lm-eval` calls it acc_bytes; for texts outside ASCII the two differ.
            `acc_norm` divides by characters: `len(option)`.""",
        ),
        wrong(
            lambda log_probs, options: (choose_options(log_probs, options)[0],) * 2,
            """Twice the same answer: the second is to be by log-likelihood *a character*. Divide each sum by `len(option)`.""",
        ),
        wrong(
            lambda log_probs, options: choose_options([[-p for p in each] for each in log_probs], options),
            """You pick the *least* likely. Log-probabilities are negative: the best option has the largest sum, nearest to 0.""",
        ),
        wrong(
            lambda log_probs, options: (
                _best([sum(each) / len(each) for each in log_probs]),
                choose_options(log_probs, options)[1],
            ),
            """Your first answer takes the mean over tokens. `acc` takes the plain sum, the log-probability of the whole option; the
            correction for length belongs to the second.""",
        ),
        wrong(
            lambda log_probs, options: choose_options(log_probs, options)[::-1],
            """The right two answers in the wrong order: first `acc`, by the sum; then `acc_norm`, by the sum a character.""",
        ),
    ],
)


# --- 08.5 --------------------------------------------------------------------------------------------------------------


def split_excess(model: Float[Tensor, "tokens"], true: Float[Tensor, "tokens"]) -> tuple[float, float]:
    """Return the bits that a model loses where the grammar had a choice, and where everything was forced."""
    excess, choice = (model - true) / math.log(2), true > 1e-6
    return excess[choice].sum().item(), excess[~choice].sum().item()


def _split(model: Tensor, true: Tensor, excess: Tensor, choice: Tensor) -> tuple[float, float]:
    return excess[choice].sum().item(), excess[~choice].sum().item()


def _draw_costs(rng: random.Random) -> tuple[Tensor, Tensor]:
    n = rng.randint(5, 12)
    true = torch.rand(n) * 3 * (torch.rand(n) < 0.4)
    return (true + torch.randn(n) * 0.5 * (true > 0) + torch.rand(n) * 0.3).abs() + 0.01, true


_LN2 = math.log(2)

exercise(
    id="08.5",
    title="Where the loss is lost",
    objective="Split what a model pays above the floor into choices, which nobody can know, and what is forced.",
    difficulty=2,
    minutes=10,
    reference=split_excess,
    inputs=cases(
        (torch.tensor([2.0, 0.1]), torch.tensor([1.5, 0.0])),
        (torch.tensor([0.5, 0.2, 3.0, 0.0]), torch.tensor([1.0, 0.0, 2.0, 0.0])),
        draw=_draw_costs,
        count=8,
    ),
    compare=close(1e-4),
    hints=[
        "How can you tell from `true` alone whether the grammar had a choice at a token?",
        "A forced token has a true surprise of 0 (allow for rounding: below 1e-6). What the model lost at a token is `model - true`, in nats, and it may be negative at single tokens: the model was luckily sure.",
        "`excess = (model - true) / math.log(2)`, `choice = true > 1e-6`, then `excess[choice].sum().item(), excess[~choice].sum().item()`",
    ],
    wrong_answers=[
        wrong(
            lambda model, true: _split(model, true, model / _LN2, true > 1e-6),
            """You add up what the model *paid*. Where the grammar has a choice, part of that must be paid by anybody: subtract `true`
            first.""",
        ),
        wrong(
            lambda model, true: _split(model, true, (model - true).clamp(min=0) / _LN2, true > 1e-6),
            """You drop tokens that cost the model less than the truth. That is luck, which is paid for where it was sure of another
            word; if you drop it, the two parts no longer add up to the difference of the losses, and even a perfect
            guesser seems to lose.""",
        ),
        wrong(
            lambda model, true: _split(model, true, (model - true) / _LN2, model > true.mean()),
            """You tell choices by what the *model* paid. A forced token that surprised it then counts as a choice, and the model is
            excused for exactly what it should have known. Ask `true`.""",
        ),
        wrong(
            lambda model, true: _split(model, true, model - true, true > 1e-6),
            """The split is right, and in nats. Divide by `math.log(2)` for bits.""",
        ),
        wrong(
            lambda model, true: split_excess(model, true)[::-1],
            """Right, and the wrong way round: choices first, forced second. A token is a choice where its true surprise is *above*
            0.""",
        ),
        wrong(
            lambda model, true: tuple(
                part / n for part, n in zip(split_excess(model, true), _counts(true), strict=True)
            ),
            """You take means. Means over different numbers of tokens don't add up to what the story lost: return sums.""",
        ),
    ],
)


def _counts(true: Tensor) -> tuple[int, int]:
    choices = int((true > 1e-6).sum())
    return max(1, choices), max(1, len(true) - choices)


# --- 08.6 --------------------------------------------------------------------------------------------------------------


def fit_scaling(x: Float[Tensor, "runs"], loss: Float[Tensor, "runs"]) -> tuple[float, float, float]:
    """Return E, A and alpha of L = E + A / x**alpha, by least squares for each alpha on a grid from 0.05 to 1.5."""
    best = (math.inf, 0.0, 0.0, 0.0)
    for step in range(10, 301):
        alpha = step / 200
        columns = torch.stack([torch.ones_like(x), x**-alpha], dim=1)
        weights = torch.linalg.lstsq(columns, loss[:, None]).solution[:, 0]
        miss = float(((columns @ weights - loss) ** 2).sum())
        best = min(best, (miss, float(weights[0]), float(weights[1]), alpha))
    return round(best[1], 6), round(best[2], 6), best[3]


def _line(x: Tensor, y: Tensor) -> tuple[float, float]:
    """Slope and intercept of the least-squares line."""
    slope = float(((x - x.mean()) * (y - y.mean())).sum() / ((x - x.mean()) ** 2).sum())
    return slope, float(y.mean()) - slope * float(x.mean())


def _straight(x: Tensor, loss: Tensor) -> tuple[float, float, float]:
    slope, start = _line(x.log(), loss.log())
    return 0.0, math.exp(start), -slope


def _lowest(x: Tensor, loss: Tensor) -> tuple[float, float, float]:
    lowest = float(loss.min())
    above = loss > lowest
    slope, start = _line(x[above].log(), (loss[above] - lowest).log())
    return lowest, math.exp(start), -slope


def _negative(x: Tensor, loss: Tensor) -> tuple[float, float, float]:
    E, A, alpha = fit_scaling(x, loss)
    return E, A, -alpha


def _other_order(x: Tensor, loss: Tensor) -> tuple[float, float, float]:
    E, A, alpha = fit_scaling(x, loss)
    return A, E, alpha


def _exponent_one(x: Tensor, loss: Tensor) -> tuple[float, float, float]:
    slope, start = _line(1 / x, loss)
    return start, slope, 1.0


def _law(E: float, A: float, alpha: float, low: float = 1.0, high: float = 4.0) -> tuple[Tensor, Tensor]:
    x = torch.logspace(low, high, 9, dtype=torch.float64)
    return x, E + A * x**-alpha


exercise(
    id="08.6",
    title="A law with a floor",
    objective="Fit L = E + A / x**alpha to a few runs and find the loss that no size removes.",
    difficulty=4,
    minutes=20,
    reference=fit_scaling,
    inputs=cases(
        _law(0.2, 5.0, 0.5),
        _law(1.7, 10.0, 0.35),
        _law(0.05, 2.0, 0.8, 0.5, 3.5),
        draw=lambda rng: _law(rng.uniform(0.1, 2), rng.uniform(1, 8), rng.randrange(6, 18) / 20),
        count=5,
    ),
    compare=close(0.03),
    hints=[
        "If somebody told you alpha, what would be left to find? What kind of problem is that?",
        "For a fixed alpha the law is a straight line in z = x**-alpha: loss = E + A z, so least squares gives E and A at once (`torch.linalg.lstsq` with columns 1 and z). Try many alphas between 0.05 and 1.5 and keep the one with the smallest squared error.",
        "`columns = torch.stack([torch.ones_like(x), x**-alpha], dim=1)`, `weights = torch.linalg.lstsq(columns, loss[:, None]).solution[:, 0]`, `miss = ((columns @ weights - loss) ** 2).sum()`; return `(E, A, alpha)` of the smallest miss.",
    ],
    wrong_answers=[
        wrong(
            _straight,
            """A straight line in log-log: that is a power law *without* a floor, E = 0. Losses bend away from the line as they near E,
            and your exponent comes out too small. Try many alphas; for each, fit loss = E + A x**-alpha by least squares.""",
        ),
        wrong(
            _lowest,
            """You take the best run's loss for E. No run has reached the floor, or you would not have to extrapolate: E lies below
            all of them. Let least squares find E together with A, for each alpha.""",
        ),
        wrong(
            _negative,
            """The sign: alpha is positive in A / x**alpha, which is A * x**-alpha.""",
        ),
        wrong(
            _other_order,
            """The right numbers in another order: return E, A, alpha.""",
        ),
        wrong(
            _exponent_one,
            """You fix alpha at 1: loss against 1 / x. The exponent is part of what is asked; scan a grid of them and keep the best.""",
        ),
    ],
    seconds=10,
    unlocks="The exponents of Chinchilla were found like this, with one more term for the tokens.",
)
