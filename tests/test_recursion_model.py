"""The recursive family: published counts, the loops and gradients written out by hand, losses, optimizers, adaptive time."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from minilm.config import AttentionConfig, FeedForwardConfig, ModelConfig
from minilm.data.puzzles import puzzle_family
from minilm.model import LanguageModel
from minilm.recursion import (
    AdamATan2,
    AdaptiveComputation,
    AdaptiveFeedForward,
    RecursionConfig,
    RecursiveModel,
    Segment,
    SignSGD,
    State,
    hrm,
    plain_twin,
    segment_loss,
    small,
    stablemax,
    stablemax_cross_entropy,
    trm,
    trm_mlp,
)
from minilm.recursion.losses import value_of_going_on
from minilm.recursion.presets import count_parameters


def tiny(**changes):
    torch.manual_seed(0)
    settings = {
        "vocab_size": 5,
        "side": 4,
        "dim": 16,
        "num_heads": 2,
        "multiple_of": 8,
        "high_cycles": 2,
        "low_cycles": 3,
    }
    return RecursiveModel(RecursionConfig(**(settings | changes)))


def some_puzzles(batch=3, side=4, vocab=5):
    return torch.randint(0, vocab, (batch, side * side), generator=torch.Generator().manual_seed(1))


# ------------------------------------------------------------------------------------------------------ published figures


@pytest.mark.parametrize(
    ("config", "parameters", "depth"),
    [
        (hrm(), 27_275_266, 24),
        (trm(), 6_828_034, 42),
        (trm(6, 30), 6_822_914, 42),
        (trm(12, 30), 6_829_058, 42),
        (trm_mlp(), 5_028_866, 42),
        (trm_mlp(6, 30), 18_795_522, 42),
    ],
    ids=["hrm", "trm", "trm maze", "trm arc", "trm-mlp sudoku", "trm-mlp maze"],
)
def test_published_counts(config, parameters, depth):
    with torch.device("meta"):
        model = RecursiveModel(config)
    assert model.num_parameters() == count_parameters(config) == parameters
    assert config.depth == depth


@pytest.mark.parametrize("name", ["trm", "hrm", "trm-mlp", "plain"])
@pytest.mark.parametrize("puzzles", ["sudoku-6", "maze-7"])
def test_counting_by_arithmetic_is_counting(name, puzzles):
    for positions in ("grid", "learned", "rotary"):
        config = small(name, puzzle_family(puzzles), positions=positions, dim=16)
        assert RecursiveModel(config).num_parameters() == count_parameters(config)


def test_one_block_of_the_published_size():
    with torch.device("meta"):
        block = RecursiveModel(hrm()).high_network.blocks[0]
    assert sum(p.numel() for p in block.parameters()) == 3_407_872
    assert hrm().hidden == 1536
    assert trm_mlp().mixer_hidden == 512


def test_stablemax_triple_and_its_loss():
    triple = torch.tensor([-2.0, 0.0, 3.0])
    assert stablemax(triple).tolist() == [0.0625, 0.1875, 0.75]
    losses = stablemax_cross_entropy(triple.expand(3, 3), torch.arange(3))
    torch.testing.assert_close(losses, -torch.tensor([0.0625, 0.1875, 0.75]).log())
    x = torch.tensor([-1.0, 0.0, 1.0, 30.0, -30.0], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda z: stablemax_cross_entropy(z, torch.tensor(3)), x.detach()[[0, 2, 3, 4, 0]].requires_grad_()
    )
    (gradient,) = torch.autograd.grad(stablemax_cross_entropy(x, torch.tensor(1)), x)
    assert gradient.isfinite().all()
    sure = torch.tensor([200.0, 0.0], requires_grad=True)  # softmax has given up learning here
    assert torch.autograd.grad(F.cross_entropy(sure, torch.tensor(0)), sure)[0].abs().max() == 0
    assert torch.autograd.grad(stablemax_cross_entropy(sure, torch.tensor(0)), sure)[0].abs().max() > 0


# ------------------------------------------------------------------------------------------------------ loops by hand


@pytest.mark.parametrize("changes", [{}, {"shared": False}, {"mixer": "mlp"}, {"prefix": 2, "num_puzzles": 1}])
def test_a_segment_is_the_recurrence_written_out(changes):
    model, puzzles = tiny(**changes).eval(), some_puzzles()
    e, state = model.embedding(puzzles), model.begin(3)
    high, low = state.high, state.low
    for _ in range(2):
        for _ in range(3):
            low = model.low_network(low, high + e, model.places)
        high = model.high_network(high, low, model.places)
    segment = model.segment(state, puzzles)
    torch.testing.assert_close(segment.state.high, high)
    torch.testing.assert_close(segment.state.low, low)
    prefix = model.config.prefix
    torch.testing.assert_close(segment.logits, high[:, prefix:] @ model.head.weight.T)
    assert (model.low_network is model.high_network) == model.config.shared
    torch.testing.assert_close(high.square().mean(-1), torch.ones(high.shape[:2]), atol=1e-3, rtol=0)  # post-norm


def gradients(model, loss):
    model.zero_grad()
    loss.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("gradient", ["one-step", "last-cycle", "full"])
@pytest.mark.parametrize("shared", [True, False])
def test_gradients_go_as_far_as_detaching_by_hand(gradient, shared):
    model, puzzles = tiny(gradient=gradient, shared=shared), some_puzzles()
    weight = torch.randn(3, 16, 5, generator=torch.Generator().manual_seed(3))
    found = gradients(model, (model.segment(model.begin(3), puzzles).logits * weight).sum())

    e, state = model.embedding(puzzles), model.begin(3)
    high, low = state.high, state.low
    for cycle in range(2):
        for step in range(3):
            low = model.low_network(low, high + e, model.places)
            before_last = cycle == 0 or step < 2
            if gradient == "one-step" and before_last:
                low = low.detach()
        high = model.high_network(high, low, model.places)
        if gradient != "full" and cycle == 0:
            high, low = high.detach(), low.detach()
    expected = gradients(model, (model.head(high) * weight).sum())
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-5)


def test_how_far_the_gradient_goes_makes_a_difference():
    puzzles = some_puzzles()
    norms = []
    for gradient in ("one-step", "last-cycle", "full"):
        model = tiny(gradient=gradient)
        norms.append(gradients(model, model.segment(model.begin(3), puzzles).logits.square().sum()))
    name = "low_network.blocks.0.feed_forward.up_proj.weight"
    assert not torch.allclose(norms[0][name], norms[1][name], rtol=1e-2)
    assert not torch.allclose(norms[1][name], norms[2][name], rtol=1e-2)


def test_the_mixer_across_cells_is_the_feed_forward_of_the_transpose():
    model = tiny(mixer="mlp", positions="learned")
    block = model.low_network.blocks[0]
    x = torch.randn(2, 16, 16)
    mixed = block.attention.module(x.transpose(1, 2)).transpose(1, 2)
    y = (x + mixed).transpose(1, 2)
    y = (y / (y.square().mean(-1, keepdim=True) + 1e-5).sqrt()).transpose(1, 2)  # normalised over cells
    z = y + block.feed_forward(y)
    z = z / (z.square().mean(-1, keepdim=True) + 1e-5).sqrt()
    torch.testing.assert_close(block(x, None), z)


def test_attention_without_positions_does_not_know_cells_apart_and_with_them_it_does():
    order = torch.randperm(16, generator=torch.Generator().manual_seed(0))
    puzzles = some_puzzles()
    for positions in ("rotary", "learned", "grid"):
        model = tiny(positions=positions, box_rows=2, box_columns=2).eval()
        one = model.segment(model.begin(3), puzzles).logits[:, order]
        other = model.segment(model.begin(3), puzzles[:, order]).logits
        assert not torch.allclose(one, other, atol=1e-3)
        for table in model.embedding.tables:
            nn.init.zeros_(table.weight)
        if positions != "rotary":
            one = model.segment(model.begin(3), puzzles).logits[:, order]
            torch.testing.assert_close(
                one, model.segment(model.begin(3), puzzles[:, order]).logits, atol=1e-4, rtol=1e-3
            )


def test_grid_positions_name_row_column_and_box():
    places = small("trm", puzzle_family("sudoku-6")).replace(dim=16)
    embedding = RecursiveModel(places).embedding
    assert embedding.places.shape == (3, 36)
    assert embedding.places[:, 0].tolist() == [0, 0, 0]
    assert embedding.places[:, 35].tolist() == [5, 5, 5]
    assert embedding.places[:, 2 * 6 + 3].tolist() == [2, 3, 3]  # row 2, column 3: second band, right box
    torch.manual_seed(0)
    wide = RecursiveModel(places.replace(dim=512)).embedding(torch.randint(0, 7, (4, 36)))
    assert wide.var().item() == pytest.approx(1.0, abs=0.1)


def test_a_plain_model_passes_once_and_never_changes_its_mind():
    config = small("plain", puzzle_family("sudoku-4"))
    torch.manual_seed(0)
    model, puzzles = RecursiveModel(config).eval(), some_puzzles()
    recursive = RecursiveModel(small("trm", puzzle_family("sudoku-4")))
    assert model.num_parameters() == recursive.num_parameters()
    first, second = model.solve(puzzles, 2)
    assert torch.equal(first.logits, second.logits)
    x = model.embedding(puzzles)
    for block in model.low_network.blocks:
        x = block(x, model.places)
    torch.testing.assert_close(first.logits, model.head(x))
    compute = plain_twin(recursive.config, "compute")
    assert compute.depth == recursive.config.depth == 16
    deep = plain_twin(recursive.config, "parameters", layers=8)
    assert (deep.layers, deep.dim) == (8, 32)
    assert 0.5 < RecursiveModel(deep).num_parameters() / recursive.num_parameters() <= 1
    with pytest.raises(ValueError, match="do not fit"):
        plain_twin(recursive.config, "parameters", layers=500)


def test_what_does_not_fit_is_refused_with_its_value():
    for changes, words in (
        ({"dim": 15}, "dim = 15"),
        ({"high_cycles": 0}, "high_cycles = 0"),
        ({"num_puzzles": 3}, "prefix"),
        ({"box_rows": 3}, "3 x 1"),
        ({"gradient": "all"}, "'one-step', 'last-cycle', 'full'"),
        ({"exploration": 2.0}, "exploration = 2.0"),
        ({"dim": 6}, "pairs of channels"),
    ):
        with pytest.raises(ValueError, match=words):
            tiny(**changes)
    with pytest.raises(ValueError, match="16"):
        tiny().segment(tiny().begin(2), torch.zeros(2, 81, dtype=torch.int64))
    with pytest.raises(ValueError, match="hrm, trm, trm-mlp or plain"):
        small("gru", puzzle_family("sudoku-4"))


def test_a_model_survives_a_file_to_the_last_bit(tmp_path):
    for changes in ({}, {"shared": False, "prefix": 1, "num_puzzles": 2}):
        model, puzzles = tiny(**changes).eval(), some_puzzles()
        model.save(tmp_path / "m")
        again = RecursiveModel.load(tmp_path / "m").eval()
        assert again.config == model.config
        for one, other in zip(model.solve(puzzles, 3), again.solve(puzzles, 3), strict=True):
            assert torch.equal(one.logits, other.logits)
    with pytest.raises(ValueError, match="do not fit"):
        tiny().load_weights(tiny(layers=3).weights())
    with pytest.raises(FileNotFoundError):
        RecursiveModel.load(tmp_path / "nothing")


# -------------------------------------------------------------------------------------------------------------- losses


def a_segment(logits, halt=(0.0, 0.0), go_on=(0.0, 0.0)):
    none = torch.zeros(2, 1, 1)
    return Segment(State(none, none), logits, torch.tensor(halt), torch.tensor(go_on))


def test_segment_loss_by_hand():
    targets = torch.tensor([[1, 2], [2, 1]])
    logits = torch.log(torch.tensor([[[0.1, 0.7, 0.2], [0.2, 0.2, 0.6]], [[0.3, 0.3, 0.4], [0.5, 0.25, 0.25]]]))
    config = RecursionConfig(3, 2, dim=8, num_heads=2)
    loss = segment_loss(a_segment(logits, halt=(1.0, -2.0)), targets, config)
    cells = -(math.log(0.7) + math.log(0.6) + math.log(0.4) + math.log(0.25)) / 4
    halting = (-math.log(1 / (1 + math.exp(-1))) - math.log(1 - 1 / (1 + math.exp(2)))) / 2
    assert loss.solved.tolist() == [True, False]
    assert float(loss.cells) == pytest.approx(cells, rel=1e-5)
    assert float(loss.total) == pytest.approx(cells + 0.5 * halting, rel=1e-5)
    none = segment_loss(a_segment(logits), targets, config.replace(halting="none"))
    assert float(none.total) == pytest.approx(cells, rel=1e-5)


def test_q_learning_takes_the_better_of_stopping_and_going_on_next():
    following = a_segment(torch.zeros(2, 2, 3), halt=(1.0, 1.0), go_on=(2.0, 2.0))
    value = value_of_going_on(following, torch.tensor([False, True]))
    torch.testing.assert_close(value, torch.tensor([2.0, 1.0]).sigmoid())
    targets = torch.ones(2, 2, dtype=torch.int64)
    config = RecursionConfig(3, 2, dim=8, num_heads=2, halting="q-learning")
    segment = a_segment(torch.zeros(2, 2, 3), halt=(0.0, 0.0), go_on=(0.5, -0.5))
    loss = segment_loss(segment, targets, config, value)
    expected = math.log(2) + F.binary_cross_entropy_with_logits(segment.go_on, value)
    assert float(loss.halting) == pytest.approx(float(expected), rel=1e-5)


# ---------------------------------------------------------------------------------------------------------- optimizers


def test_adam_atan2_by_hand_and_without_epsilon():
    weight = nn.Parameter(torch.tensor([1.0, -2.0]))
    optimizer = AdamATan2([weight], lr=0.1, betas=(0.9, 0.95), weight_decay=0.1)
    w, m, v = weight.detach().clone(), torch.zeros(2), torch.zeros(2)
    for t, g in enumerate((torch.tensor([3.0, -1e-12]), torch.tensor([-1.0, 2e-12])), 1):
        weight.grad = g
        optimizer.step()
        m, v = 0.9 * m + 0.1 * g, 0.95 * v + 0.05 * g * g
        w = w * (1 - 0.1 * 0.1) - 0.1 * torch.atan2(m / (1 - 0.9**t), (v / (1 - 0.95**t)).sqrt())
        torch.testing.assert_close(weight.detach(), w)
        if t == 1:  # the first step is pi / 4 for every weight, however small its gradient
            steps = (torch.tensor([1.0, -2.0]) * 0.99 - w).abs() / 0.1
            torch.testing.assert_close(steps, torch.full((2,), math.pi / 4))


def test_sign_sgd_moves_the_rows_of_the_batch_and_no_others():
    model = tiny(prefix=1, num_puzzles=4)
    with torch.no_grad():
        model.embedding.puzzles.weight.normal_()
    before = model.embedding.puzzles.weight.clone()
    ids = torch.tensor([2, 0, 2])
    segment = model.segment(model.begin(3), some_puzzles(), ids)
    (segment.logits.square().sum() + segment.halt.sum()).backward()
    used = model.embedding.puzzles.used.grad
    gradient = {0: used[1], 2: used[0] + used[2]}
    SignSGD(model.embedding.puzzles, lr=0.01, weight_decay=0.5).step()
    after = model.embedding.puzzles.weight
    assert torch.equal(after[[1, 3]], before[[1, 3]])
    for row, g in gradient.items():
        torch.testing.assert_close(after[row], before[row] * (1 - 0.005) - 0.01 * g.sign())
    assert "embedding.puzzles.weight" not in dict(model.named_parameters())
    assert "embedding.puzzles.weight" in model.weights()


# ------------------------------------------------------------------------------------------------- adaptive computation


def slow_layer(dim=6, **options):
    torch.manual_seed(4)
    return AdaptiveComputation(dim, nn.Sequential(nn.Linear(dim, dim), nn.Tanh()), **options)


def test_halting_weights_add_up_to_one_and_the_output_is_the_mean_by_hand():
    layer, x = slow_layer(), torch.randn(2, 5, 6)
    with torch.no_grad():
        layer.halting.bias.fill_(-1.0)  # think longer than at the start
        out = layer(x)
        torch.testing.assert_close(layer.weights.sum(0), torch.ones(2, 5))
        assert len(set(layer.steps.flatten().tolist())) > 1
        for b in range(2):
            for t in range(5):
                state, total, mean, steps = x[b, t], 0.0, torch.zeros(6), 0
                for n in range(8):
                    h = torch.sigmoid(layer.halting(state)).item()
                    steps += 1
                    if total + h >= 0.99 or n == 7:
                        mean = mean + (1 - total) * state
                        break
                    total, mean, state = total + h, mean + h * state, state + layer.transition(state)
                torch.testing.assert_close(out[b, t], mean)
                assert layer.steps[b, t] == steps


def test_who_halts_at_once_is_passed_through_and_nobody_thinks_for_ever():
    layer, x = slow_layer(max_steps=5), torch.randn(3, 6)
    with torch.no_grad():
        layer.halting.weight.zero_()
        layer.halting.bias.fill_(20.0)
        assert torch.equal(layer(x), x)
        assert (layer.steps == 1).all()
        layer.halting.bias.fill_(-20.0)
        layer(x)
        assert (layer.steps == 5).all()
        torch.testing.assert_close(layer.weights.sum(0), torch.ones(3))


def test_time_has_a_price_that_training_can_lower():
    layer, x = slow_layer(), torch.randn(8, 6)
    layer.halting.bias.data.fill_(-1.0)
    layer(x)
    before = float(layer.auxiliary_loss().detach())
    optimizer = torch.optim.SGD(layer.halting.parameters(), lr=20.0)
    for _ in range(20):
        optimizer.zero_grad()
        layer(x)
        layer.auxiliary_loss().backward()
        optimizer.step()
    assert float(layer.auxiliary_loss().detach()) < before / 2
    assert torch.autograd.grad(layer(x).sum(), layer.halting.weight)[0].abs().max() > 0


def test_adaptive_time_is_a_feed_forward_of_a_language_model():
    config = ModelConfig(11, 16, 2, 8, AttentionConfig(2), FeedForwardConfig(24))
    torch.manual_seed(0)
    model = LanguageModel(config, feed_forward=AdaptiveFeedForward)
    layer = model.core.layers[0].feed_forward
    assert sum(p.numel() for p in layer.halting.parameters()) == 16 + 1
    ids = torch.randint(0, 11, (2, 8))
    model(ids).logsumexp(-1).sum().backward()
    assert float(model.auxiliary_loss().detach()) == pytest.approx(
        sum(float(block.feed_forward.auxiliary_loss().detach()) for block in model.core.layers)
    )
    assert layer.transition.up_proj.weight.grad.abs().max() > 0
    with pytest.raises(ValueError, match="threshold = 1"):
        AdaptiveComputation(4, nn.Identity(), threshold=1.0)
