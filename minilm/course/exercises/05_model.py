"""Exercises of lesson 05: what a model costs in parameters, operations and memory, its first loss, tying, and a model of one's own."""

import math
import random
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from minilm.attention import Attention
from minilm.block import Block, RMSNorm, SwiGLU
from minilm.config import AttentionConfig, FeedForwardConfig, HeadConfig, ModelConfig
from minilm.course.exercise import call, cases, exercise, holds, wrong
from minilm.embeddings import RotaryEmbedding
from minilm.model import LanguageModel, kv_cache_bytes

# --- 05.1 --------------------------------------------------------------------------------------------------------------


def _llama(
    vocab_size: int, dim: int, num_layers: int, num_heads: int, num_kv_heads: int, hidden: int, tied: bool = True
) -> ModelConfig:
    return ModelConfig(
        vocab_size=vocab_size,
        dim=dim,
        num_layers=num_layers,
        context_length=64,
        attention=AttentionConfig(num_heads, num_kv_heads),
        feed_forward=FeedForwardConfig(hidden),
        head=HeadConfig(tied=tied),
    )


def count_parameters(
    vocab_size: int, dim: int, num_layers: int, num_heads: int, num_kv_heads: int, hidden: int, tied: bool
) -> int:
    """Return the number of parameters of a Llama-like model: counted in the assembled module, which costs nothing on meta."""
    config = _llama(vocab_size, dim, num_layers, num_heads, num_kv_heads, hidden, tied)
    return LanguageModel.from_config(config, device="meta").num_parameters()


def _count(
    vocab_size: int, dim: int, num_layers: int, num_heads: int, num_kv_heads: int, hidden: int, tied: bool, **slip: Any
) -> int:
    """The formula, with the slips that a wrong answer asks for."""
    kv_width = slip.get("kv_heads", num_kv_heads) * slip.get("head_dim", dim // num_heads)
    attention = 2 * dim * dim + 2 * dim * kv_width
    block = attention + slip.get("matrices", 3) * dim * hidden + slip.get("norms", 2) * dim
    tables = vocab_size * dim * (slip.get("tables") or (1 if tied else 2))
    return int(tables + num_layers * block + slip.get("last", 1) * dim)


def _draw_shape(rng: random.Random) -> tuple[int, int, int, int, int, int, bool]:
    kv_heads = rng.choice([1, 2, 3])
    heads = kv_heads * rng.choice([1, 2, 4])
    dim = heads * rng.choice([4, 8, 16])
    return (
        rng.choice([50, 257, 1000]),
        dim,
        rng.randint(1, 4),
        heads,
        kv_heads,
        rng.choice([24, 64, 100]),
        rng.random() < 0.5,
    )


exercise(
    id="05.1",
    title="Where the parameters are",
    objective="Count the parameters of a Llama-like model from its seven numbers, without building it.",
    difficulty=2,
    minutes=12,
    reference=count_parameters,
    inputs=cases(
        (10, 4, 1, 2, 2, 8, True),
        (10, 4, 1, 2, 1, 8, True),
        (10, 4, 2, 2, 1, 8, False),
        (257, 64, 3, 4, 4, 256, True),
        (50_257, 512, 8, 16, 4, 1320, True),
        draw=_draw_shape,
        count=6,
    ),
    hints=[
        "Walk through the model once and write a line for every tensor: table, and in a block q, k, v, o, three matrices of the feed-forward, two norms. What comes after the last block?",
        "A key-value head is as wide as a query head, dim / num_heads, but there are only `num_kv_heads` of them: k and v are dim x (num_kv_heads * head_dim). A tied head *is* the table.",
        "A block: `2 * dim * dim + 2 * dim * (dim // num_heads) * num_kv_heads + 3 * dim * hidden + 2 * dim`. Then the layers, one last norm, one table or two.",
    ],
    wrong_answers=[
        wrong(
            lambda *shape: _count(*shape, kv_heads=shape[3]),
            """You give k and v a head for every query head. With grouped queries there are only `num_kv_heads` of them, each
            still dim / num_heads wide: that is the saving. k and v are dim x (num_kv_heads * head_dim).""",
        ),
        wrong(
            lambda *shape: _count(*shape, head_dim=1),
            """Your k and v are dim x num_kv_heads: one number a head. A head is dim / num_heads numbers wide, so they are
            dim x (num_kv_heads * head_dim).""",
        ),
        wrong(
            lambda *shape: _count(*shape, tables=2),
            """You count the head even where it is tied. A tied head has no matrix of its own, it *is* the embedding table, so
            vocab_size * dim counts once; twice only if `tied` is False.""",
        ),
        wrong(
            lambda *shape: _count(*shape, tables=1),
            """You count one table whether or not the head is tied. Untied, the head is a second matrix of the table's size:
            add vocab_size * dim once more.""",
        ),
        wrong(
            lambda *shape: _count(*shape, norms=0, last=0),
            """The norms are missing. They are small, dim numbers each, but a count is right or wrong: two in every block and one
            after the last.""",
        ),
        wrong(
            lambda *shape: _count(*shape, last=0),
            """You are short by exactly `dim`: the norm after the last block, without which the head would read a stream whose
            scale grows with the depth.""",
        ),
        wrong(
            lambda *shape: _count(*shape, matrices=2),
            """Your feed-forward has two matrices. SwiGLU has three: gate, up and down, each dim x hidden.""",
        ),
    ],
    unlocks="GPT-2, Llama, Mistral, Qwen: from here on you read their sizes off their configs.",
)


# --- 05.2 --------------------------------------------------------------------------------------------------------------


def forward_flops(
    vocab_size: int, dim: int, num_layers: int, num_heads: int, num_kv_heads: int, hidden: int, length: int
) -> int:
    """Return the operations of a forward pass for one token in a window of `length`: 2 a matrix weight, 4 * length * dim a layer."""
    return _flops(vocab_size, dim, num_layers, num_heads, num_kv_heads, hidden, length)


def _flops(*shape: int, **slip: int) -> int:
    """The formula, with the slips that a wrong answer asks for."""
    vocab_size, dim, num_layers, num_heads, num_kv_heads, hidden, length = shape
    block = 2 * dim * dim + 2 * dim * (dim // num_heads) * num_kv_heads + 3 * dim * hidden
    matrices = num_layers * block + slip.get("tables", 1) * vocab_size * dim
    return slip.get("weight", 2) * matrices + slip.get("pair", 4) * length * dim * num_layers


exercise(
    id="05.2",
    title="What a token costs",
    objective="Count the multiplications and additions of one forward pass, for one token of a full window.",
    difficulty=3,
    minutes=12,
    reference=forward_flops,
    inputs=cases(
        (10, 4, 1, 2, 2, 8, 4),
        (10, 4, 2, 2, 1, 8, 16),
        (257, 64, 3, 4, 4, 256, 50),
        (50_257, 512, 8, 16, 4, 1320, 512),
        draw=lambda rng: (*_draw_shape(rng)[:6], rng.choice([1, 16, 64])),
        count=6,
    ),
    hints=[
        "A matrix of n weights times a vector: how many multiplications, how many additions? And which of the parameters are never multiplied with anything?",
        "Two operations a matrix weight: the blocks' matrices and the head's. Looking up a row costs none, norms hardly any. Then attention, which has no weights: each head compares a query with `length` keys, and averages `length` values.",
        "`2 * (num_layers * block + vocab_size * dim) + 4 * length * dim * num_layers`",
    ],
    wrong_answers=[
        wrong(
            lambda *shape: 3 * forward_flops(*shape),
            """That is a training step: forward, and a backward pass of twice as much. Generating a token, or reading one, is the
            forward pass alone: 2 operations a weight, not 6.""",
        ),
        wrong(
            lambda *shape: _flops(*shape, weight=6, pair=0),
            """6N is the famous estimate for *learning* from a token, forward and backward. Reading one is the forward pass alone, 2
            operations a weight. And attention, which has no weights, comes on top: 4 * length * dim in every layer.""",
        ),
        wrong(
            lambda *shape: _flops(*shape, weight=1, pair=2),
            """You count a multiplication and its addition as one. Peak figures of machines, and the counters of the field, count
            both: 2 operations for every weight.""",
        ),
        wrong(
            lambda *shape: _flops(*shape, pair=0),
            """You count the weights only. Attention's scores and averages have no weights and cost all the same: each of the
            `length` positions a query looks at costs 2 * dim for the score and 2 * dim for the average, in every layer.""",
        ),
        wrong(
            lambda *shape: _flops(*shape, pair=2),
            """Half of attention is missing. Scores are q k^T, 2 * length * dim operations; the average of the values is as much
            again.""",
        ),
        wrong(
            lambda *shape: _flops(*shape, tables=2),
            """You count the table twice, once for the embedding. A lookup copies a row: no multiplication. Only as the head does
            the table cost 2 * vocab_size * dim.""",
        ),
        wrong(
            lambda *shape: _flops(*shape, tables=0),
            """The head is missing. Every token is compared with every row of the table: 2 * vocab_size * dim, in small models more
            than all blocks together.""",
        ),
    ],
)


# --- 05.3 --------------------------------------------------------------------------------------------------------------


def cache_bytes(
    num_layers: int, num_heads: int, num_kv_heads: int, dim: int, length: int, batch_size: int, bytes_per_number: int
) -> int:
    """Return the bytes of a full KV cache, as `minilm.model.kv_cache_bytes` counts them."""
    config = _llama(50, dim, num_layers, num_heads, num_kv_heads, 8)
    dtype = {1: torch.int8, 2: torch.bfloat16, 4: torch.float32}[bytes_per_number]
    return kv_cache_bytes(config, batch_size, length, dtype)


def _draw_cache(rng: random.Random) -> tuple[int, ...]:
    _, dim, layers, heads, kv_heads, _, _ = _draw_shape(rng)
    return layers + 1, heads, kv_heads, dim, rng.choice([8, 100]), rng.randint(2, 4), rng.choice([1, 2, 4])


exercise(
    id="05.3",
    title="What a conversation weighs",
    objective="Say how many bytes the keys and values of a batch of full windows take.",
    difficulty=2,
    minutes=8,
    name="cache_bytes",
    reference=cache_bytes,
    inputs=cases(
        (1, 2, 2, 8, 3, 1, 4),
        (2, 4, 2, 16, 10, 1, 2),
        (2, 4, 1, 16, 10, 3, 2),
        (32, 32, 8, 4096, 8192, 1, 2),
        draw=_draw_cache,
        count=8,
    ),
    hints=[
        "What is written down when one token passes one layer? And how often does that happen?",
        "One key and one value for every key-value head; each has dim / num_heads numbers. That for every layer, every position, every text of the batch.",
        "`2 * num_layers * num_kv_heads * (dim // num_heads) * length * batch_size * bytes_per_number`",
    ],
    wrong_answers=[
        wrong(
            lambda layers, heads, kv, dim, length, batch, size: layers * kv * (dim // heads) * length * batch * size,
            """Exactly half. A cache keeps keys *and* values: once more the same, so a factor of 2.""",
        ),
        wrong(
            lambda layers, heads, kv, dim, length, batch, size: 2 * layers * dim * length * batch * size,
            """You keep a key and a value for every query head (dim numbers each). The query heads of a group share one: only
            `num_kv_heads` heads are kept, which is why models group at all.""",
        ),
        wrong(
            lambda layers, heads, kv, dim, length, batch, size: 2 * kv * (dim // heads) * length * batch * size,
            """That is one layer's. Every layer has keys and values of its own: times `num_layers`.""",
        ),
        wrong(
            lambda layers, heads, kv, dim, length, batch, size: 2 * layers * kv * (dim // heads) * length * batch,
            """You count numbers, not bytes: times `bytes_per_number`, 2 in half precision, 4 in float32.""",
        ),
        wrong(
            lambda layers, heads, kv, dim, length, batch, size: 2 * layers * kv * (dim // heads) * length * size,
            """One text's. Texts of a batch share weights and no keys: times `batch_size`. It is what limits how many people one
            machine can serve.""",
        ),
    ],
    unlocks="8,192 tokens of a Llama 3 8B are exactly 1 GiB: the fourth input was that.",
)


# --- 05.4 --------------------------------------------------------------------------------------------------------------


def initial_loss(vocab_size: int, logit_std: float) -> float:
    """Return the expected cross-entropy in nats of independent normal logits: ln V + std^2 / 2, for a large vocabulary."""
    return math.log(vocab_size) + logit_std**2 / 2


exercise(
    id="05.4",
    title="The loss before the first step",
    objective="Predict the loss of an untrained model from its vocabulary and the spread of its logits.",
    difficulty=2,
    minutes=10,
    reference=initial_loss,
    inputs=cases(
        (257, 0.0),
        (257, 1.0),
        (50_257, 0.45),
        (1024, 4.0),
        draw=lambda rng: (rng.choice([512, 4096, 32_000]), rng.uniform(0, 5)),
    ),
    hints=[
        "With all logits equal, what is the probability of each token, and its surprise?",
        "The loss is log(sum of exp(logits)) minus the target's logit. The target's is 0 on average; a sum over many tokens is V times the mean of exp(logit), which for a normal with standard deviation s is exp(s^2 / 2).",
        "`math.log(vocab_size) + logit_std**2 / 2`",
    ],
    wrong_answers=[
        wrong(
            lambda vocab_size, logit_std: math.log(vocab_size),
            """Right for logits of zero. Spread costs: the model is now sure of something, and mostly wrong. The sum of
            exp(logits) grows to V * exp(s^2 / 2); take its logarithm.""",
        ),
        wrong(
            lambda vocab_size, logit_std: math.log2(vocab_size) + logit_std**2 / 2,
            """You mix units: log2 is in bits, and losses are in nats here and in PyTorch. Use `math.log`.""",
        ),
        wrong(
            lambda vocab_size, logit_std: math.log(vocab_size) + logit_std**2,
            """A factor of 2 too much in the second term: the mean of exp(x) for a normal x is exp(s^2 / 2), with the half.""",
        ),
        wrong(
            lambda vocab_size, logit_std: math.log(vocab_size) + logit_std,
            """The penalty goes with the *square* of the spread: the mean of exp(x) for a normal x is exp(s^2 / 2). So a small
            spread costs next to nothing, and a large one ruins the start.""",
        ),
        wrong(
            lambda vocab_size, logit_std: math.log(vocab_size) - logit_std**2 / 2,
            """The sign: an untrained model that is sure of something pays for it. exp grows faster above 0 than it shrinks below,
            so the sum in the softmax becomes larger than V.""",
        ),
        wrong(
            lambda vocab_size, logit_std: 1 / vocab_size,
            """1 / V is the probability of each token. The loss is its surprise, -ln(1 / V) = ln V, and more if the logits
            spread.""",
        ),
    ],
)


# --- 05.5 --------------------------------------------------------------------------------------------------------------


def tie(embedding: nn.Embedding, head: nn.Linear) -> None:
    """Make the head's matrix and the embedding's table one parameter."""
    head.weight = embedding.weight


def _copy(embedding: nn.Embedding, head: nn.Linear) -> None:
    head.weight = nn.Parameter(embedding.weight.detach().clone())


def _copy_into(embedding: nn.Embedding, head: nn.Linear) -> None:
    with torch.no_grad():
        head.weight.copy_(embedding.weight)


def _share_memory(embedding: nn.Embedding, head: nn.Linear) -> None:
    head.weight.data = embedding.weight.data


def _freeze(embedding: nn.Embedding, head: nn.Linear) -> None:
    head.weight = nn.Parameter(embedding.weight, requires_grad=False)


def _transpose(embedding: nn.Embedding, head: nn.Linear) -> None:
    head.weight = nn.Parameter(embedding.weight.detach().T.clone())


def _use_tied(answer: Callable[..., Any], vocab_size: int, dim: int) -> dict[str, Any]:
    """Tie two layers, take one step of gradient descent as a model would, and say what came of it."""
    table, head = nn.Embedding(vocab_size, dim), nn.Linear(dim, vocab_size, bias=False)
    model = nn.ModuleList([table, head])
    answer(table, head)
    facts: dict[str, Any] = {"parameters": sum(p.numel() for p in model.parameters())}
    facts["both are trained"] = head.weight.requires_grad and table.weight.requires_grad
    facts["shape of the head"] = tuple(head.weight.shape)
    facts["the head equals the table"] = bool(torch.equal(head.weight, table.weight))
    if not facts["the head equals the table"]:
        return facts
    ids = torch.arange(vocab_size)
    nn.functional.cross_entropy(head(table(ids)), ids.flip(0)).backward()
    facts["one gradient from both uses"] = head.weight.grad is table.weight.grad and head.weight.grad is not None
    torch.optim.SGD(model.parameters(), lr=1.0).step()
    facts["equal after a step"] = bool(torch.equal(head.weight, table.weight))
    return facts


exercise(
    id="05.5",
    title="One table, two jobs",
    objective="Tie the head to the embedding, so that both are one parameter with one gradient.",
    difficulty=2,
    minutes=8,
    reference=tie,
    driver=_use_tied,
    inputs=cases((5, 2), (7, 3), (16, 4)),
    hints=[
        "After one training step, should the two still be equal? What would a copy do?",
        "`nn.Embedding` and `nn.Linear(dim, vocab_size)` both keep a `weight` of shape (vocab_size, dim). A module's weight is an attribute like any other: it can be *the same object* as another module's.",
        "`head.weight = embedding.weight`",
    ],
    wrong_answers=[
        wrong(
            _copy,
            """You make a second parameter with the same numbers. They start equal and part at the first step, and the optimiser
            pays for two. Tying is one *object* under two names: assign the parameter itself.""",
        ),
        wrong(
            lambda embedding, head: None,
            """Nothing has changed: the head still has its own random matrix. Give it the embedding's parameter.""",
        ),
        wrong(
            _share_memory,
            """Clever and treacherous: through `.data` the two share memory but remain two parameters. Each collects half of the
            gradient, the optimiser updates the same numbers twice, and a count says two tables. Share the parameter itself, not
            its data.""",
        ),
        wrong(
            _freeze,
            """Wrapping it in `nn.Parameter(...)` makes a *new* parameter over the same memory, and this one is frozen: the head's
            use sends back no gradient. Assign `embedding.weight` as it is.""",
        ),
        wrong(
            _transpose,
            """No transposing: `nn.Linear(dim, vocab_size)` keeps its weight as (outputs, inputs), which is (vocab_size, dim),
            the table's own shape.""",
        ),
    ],
)


# --- 05.6 --------------------------------------------------------------------------------------------------------------


class MyLanguageModel(nn.Module):
    """The library's parts, put together in the order that the exercise asks for."""

    def __init__(self, config: ModelConfig, attention: Callable[..., nn.Module] = Attention) -> None:
        super().__init__()
        self.tokens = nn.Embedding(config.vocab_size, config.dim)
        rotary = RotaryEmbedding(config.head_dim)
        self.layers = nn.ModuleList(
            Block(
                attention(config.dim, config.attention.num_heads, config.num_kv_heads, rotary=rotary),
                SwiGLU(config.dim, config.feed_forward.hidden),
                RMSNorm(config.dim),
                RMSNorm(config.dim),
            )
            for _ in range(config.num_layers)
        )
        self.norm = RMSNorm(config.dim)
        self.head = nn.Linear(config.dim, config.vocab_size, bias=False)
        self.head.weight = self.tokens.weight

    def forward(self, ids: Tensor) -> Tensor:
        """The logits."""
        x = self.start(ids)
        for layer in self.layers:
            x = layer(x, self.places(ids))
        return self.finish(self.norm(x))

    def start(self, ids: Tensor) -> Tensor:
        x: Tensor = self.tokens(ids)
        return x

    def places(self, ids: Tensor) -> Tensor:
        return torch.arange(ids.shape[1])

    def finish(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(x)
        return logits


class _NoLastNorm(MyLanguageModel):
    def __init__(self, config: ModelConfig, attention: Callable[..., nn.Module] = Attention) -> None:
        super().__init__(config, attention)
        self.norm = nn.Identity()  # type: ignore[assignment]


class _OneBlockForAll(MyLanguageModel):
    def __init__(self, config: ModelConfig, attention: Callable[..., nn.Module] = Attention) -> None:
        super().__init__(config, attention)
        self.layers = nn.ModuleList([self.layers[0]] * config.num_layers)


class _Untied(MyLanguageModel):
    def __init__(self, config: ModelConfig, attention: Callable[..., nn.Module] = Attention) -> None:
        super().__init__(config, attention)
        self.head.weight = nn.Parameter(self.tokens.weight.detach().clone())


class _AlwaysTheLibrarys(MyLanguageModel):
    def __init__(self, config: ModelConfig, attention: Callable[..., nn.Module] = Attention) -> None:
        super().__init__(config, Attention)


class _EverybodyFirst(MyLanguageModel):
    def places(self, ids: Tensor) -> Tensor:
        return torch.zeros(ids.shape[1], dtype=torch.long)


class _IdsAsPlaces(MyLanguageModel):
    def places(self, ids: Tensor) -> Tensor:
        return ids


class _ScaledTable(MyLanguageModel):
    def start(self, ids: Tensor) -> Tensor:
        return super().start(ids) * float(self.tokens.embedding_dim) ** 0.5


class _Probabilities(MyLanguageModel):
    def finish(self, x: Tensor) -> Tensor:
        return super().finish(x).softmax(dim=-1)


class _LastOnly(MyLanguageModel):
    def finish(self, x: Tensor) -> Tensor:
        return super().finish(x[:, -1:])


class _Swapped(nn.Module):
    """An attention that nobody would take for the real one: each position gets the running mean of what came so far."""

    def __init__(self, dim: int, num_heads: int, num_kv_heads: int, rotary: nn.Module | None = None) -> None:
        super().__init__()
        self.q_proj = nn.Linear(dim, dim, bias=False)
        self.k_proj, self.v_proj = (nn.Linear(dim, dim // num_heads * num_kv_heads, bias=False) for _ in range(2))
        self.o_proj = nn.Linear(dim, dim, bias=False)

    def forward(self, x: Tensor, positions: Tensor, mask: Tensor | None = None, cache: object = None) -> Tensor:
        seen = torch.arange(1, x.shape[1] + 1)[:, None]
        mixed: Tensor = self.o_proj(x.cumsum(dim=1) / seen)
        return mixed


def _use_model(answer: Callable[..., Any], config: ModelConfig, ids: Tensor, swapped: bool = False) -> Tensor:
    """The logits of the learner's model with the weights of a seeded model of the library."""
    torch.manual_seed(7)
    theirs = LanguageModel(config, attention=_Swapped if swapped else None)
    weights = {
        name.replace("embedder.tokens", "tokens").replace("core.", ""): p.detach() * 8 if p.dim() > 1 else p.detach()
        for name, p in theirs.named_parameters()
    }
    model = answer(config, attention=_Swapped) if swapped else answer(config)
    found = model.load_state_dict(weights, strict=False)
    lost = [name for name in found.unexpected_keys if not name.startswith("norm.")]
    missing = [name for name in found.missing_keys if name != "head.weight"]
    if lost or missing:
        raise ValueError(
            f"the names of your parameters are not the ones asked for: {', '.join([*missing, *lost][:3])} "
            "(wanted: tokens, layers.0.attention_norm, layers.0.attention, ..., norm, head)"
        )
    if model.head.weight is not model.tokens.weight:  # an untied head was given no weights: show it
        nn.init.zeros_(model.head.weight)
    with torch.no_grad():
        logits: Tensor = model.eval()(ids)
    return logits


def _is_causal(answer: Any) -> bool | str:
    model = answer(_TINY).eval()
    ids = torch.arange(16).view(2, 8) % 11
    changed = ids.clone()
    changed[:, -1] = 10
    with torch.no_grad():
        moved = float((model(ids) - model(changed))[:, :-1].abs().max())
    return moved < 1e-5 or f"Changing the last token moved earlier logits by {moved:.3g}."


_TINY = _llama(11, 8, 2, 2, 1, 12)
_IDS = torch.tensor([[3, 1, 4, 1, 5, 9, 2, 6]])

exercise(
    id="05.6",
    title="Your own language model",
    objective="""Assemble embedder, core and head from your own parts of lessons 02 to 04, so that the model gives the library's
    logits on the same weights and runs with any attention class.""",
    difficulty=4,
    minutes=30,
    name="MyLanguageModel",
    reference=MyLanguageModel,
    methods=["forward"],
    driver=_use_model,
    inputs=cases(
        call(_llama(11, 8, 1, 2, 1, 12), torch.tensor([[3, 1, 4, 1]])),
        call(_TINY, _IDS),
        call(_TINY, torch.arange(10).view(2, 5)),
        call(_llama(20, 16, 3, 4, 2, 24), torch.arange(20).view(4, 5)),
        call(_TINY, _IDS, swapped=True),
    ),
    properties=[
        holds(
            "no position sees a later token",
            _is_causal,
            "Your model reads the future: earlier logits change with a later token.",
        )
    ],
    hints=[
        "Three parts: ids to vectors, blocks one after the other, vectors to logits. What must happen between the last block and the head?",
        "`MyBlock(attention, feed_forward, attention_norm, feed_forward_norm)` makes a layer: one for *each* layer. Make one `MyRotary()` and give it to every attention as `rotary=`. In `forward`, positions are 0 .. seq - 1.",
        "`x = self.tokens(ids)`, then `for layer in self.layers: x = layer(x, torch.arange(ids.shape[1]))`, then `self.head(self.norm(x))`, with `self.head.weight = self.tokens.weight` in the constructor.",
    ],
    wrong_answers=[
        wrong(
            _NoLastNorm,
            """The norm after the last block is missing. The stream has collected the updates of all blocks; without it, the deeper
            the model, the larger its logits.""",
        ),
        wrong(
            _OneBlockForAll,
            """All your layers are one and the same block (`[block] * n` repeats the *object*). Make a new block for each layer, in a
            loop or a comprehension.""",
        ),
        wrong(
            _Untied,
            """Your head has a matrix of its own. The config says tied: `self.head.weight = self.tokens.weight`, the parameter
            itself and no copy.""",
        ),
        wrong(
            _AlwaysTheLibrarys,
            """Right, until another attention is asked for: you build the same class whatever `attention` says. Use the argument;
            it is how a part is swapped without touching the model.""",
        ),
        wrong(
            _EverybodyFirst,
            """Every token stands at position 0, so nothing is turned and the model cannot tell *dog bites man* from *man bites
            dog*. Positions are `torch.arange(ids.shape[1])`.""",
        ),
        wrong(
            _IdsAsPlaces,
            """You pass the ids where positions are expected: a token is turned by *what* it is instead of *where* it stands. Use
            `torch.arange(ids.shape[1])`.""",
        ),
        wrong(
            _ScaledTable,
            """You scale the embeddings by sqrt(dim), as the first Transformer and Gemma do. Here, as in GPT-2 and Llama, the table's
            rows enter as they are.""",
        ),
        wrong(
            _Probabilities,
            """You return probabilities. A model returns logits: the loss takes its own log-softmax (which is safe for any size),
            and sampling wants to divide them by a temperature first.""",
        ),
        wrong(
            _LastOnly,
            """You return the last position only. In training every position predicts its next token, and all of them are needed:
            logits are (batch, seq, vocab).""",
        ),
    ],
    unlocks="From bytes to logits, this model is yours. Lesson 06 trains it.",
)
