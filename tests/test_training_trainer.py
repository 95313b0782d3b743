"""The trainer learns what can be learned, and each of its parts does what it says."""

import itertools
import math
import os
import random
import signal

import numpy as np
import pytest
import torch
from torch import nn

from minilm.model import LanguageModel
from minilm.training import (
    IGNORE,
    AdamW,
    Batch,
    DropoutConfig,
    NotFiniteError,
    OptimizerConfig,
    ScheduleConfig,
    Trainer,
    TrainingConfig,
    TrainingError,
    WindowBatches,
    clip_gradients,
    cross_entropy,
    parameter_groups,
    read_curve,
    warmup_cosine,
)
from tests.training_samples import VOCAB, curve, measure, tiny_batches, tiny_config, tiny_model, tiny_trainer


class Fixed:
    """The same few batches again and again."""

    def __init__(self, *batches):
        self.batches, self.drawn = batches, 0

    def __iter__(self):
        return self

    def __next__(self):
        self.drawn += 1
        return self.batches[(self.drawn - 1) % len(self.batches)]

    def state_dict(self):
        return {"drawn": self.drawn}

    def load_state_dict(self, state):
        self.drawn = state["drawn"]


def some_batch(rows, length=12, seed=0, ignored=0.0):
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(VOCAB, (rows, length), generator=generator)
    targets = torch.randint(VOCAB, (rows, length), generator=generator)
    targets[torch.rand(rows, length, generator=generator) < ignored] = IGNORE
    return Batch(ids, targets)


def plain(steps=1, **changes):
    """Nothing but steps: a constant rate and no schedule."""
    return TrainingConfig(steps=steps, schedule=ScheduleConfig("constant", warmup=0), **changes)


def test_it_learns_a_chain_to_its_floor():
    """Every token is followed by one of two, with 0.8 and 0.2: no model can be below that choice's entropy."""
    generator, tokens = torch.Generator().manual_seed(0), [0]
    for likely in (torch.rand(20_000, generator=generator) < 0.8).tolist():
        tokens.append((3 * tokens[-1] + 1) % VOCAB if likely else (tokens[-1] + 7) % VOCAB)
    floor = -(0.8 * math.log(0.8) + 0.2 * math.log(0.2))
    model = tiny_model(dim=32, feed_forward={"hidden": 64}, block={"dropout": 0.0})
    trainer = Trainer(model, WindowBatches(tokens, 16, 12), TrainingConfig(steps=120, learning_rate=1e-2))
    losses = [record.loss for record in trainer.train()]
    assert losses[0] == pytest.approx(math.log(VOCAB), rel=0.05)
    assert floor - 0.05 < sum(losses[-20:]) / 20 < floor + 0.08


def test_the_loop_is_the_one_written_out_by_hand():
    model, config = tiny_model(block={"dropout": 0.0}), TrainingConfig(steps=12, clip=0.5, z_loss=1e-3)
    records = Trainer(model, tiny_batches(), config).train()

    twin, batches = tiny_model(block={"dropout": 0.0}), tiny_batches()
    optimizer = AdamW(parameter_groups(twin, 0.1), betas=(0.9, 0.95))
    for step, record in enumerate(records, start=1):
        batch = next(batches)
        for group in optimizer.param_groups:
            group["lr"] = 3e-3 * warmup_cosine(step, warmup=1, total=12, final=0.1)
        optimizer.zero_grad()
        loss = cross_entropy(twin(batch.ids), batch.targets, z_loss=1e-3)
        loss.backward()
        norm = clip_gradients(twin.parameters(), 0.5)
        optimizer.step()
        assert (record.step, record.loss, record.gradient_norm) == (step, float(loss.detach()), norm)
        assert record.learning_rate == optimizer.param_groups[0]["lr"]
        assert record.tokens == step * 4 * 12
    for ours, theirs in zip(model.parameters(), twin.parameters(), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("smoothing", [{}, {"label_smoothing": 0.1, "smoothing": "others"}])
def test_accumulated_batches_are_one_large_batch_whatever_they_ignore(smoothing):
    parts = [some_batch(2, seed=1, ignored=0.0), some_batch(2, seed=2, ignored=0.9), some_batch(2, seed=3, ignored=0.5)]
    counts = {int((part.targets != IGNORE).sum()) for part in parts}
    assert len(counts) == 3  # unequal, or the test would show nothing
    whole = Batch(torch.cat([p.ids for p in parts]), torch.cat([p.targets for p in parts]))
    models, records = [], []
    for batches, accumulate in ((Fixed(*parts), 3), (Fixed(whole), 1)):
        models.append(tiny_model(block={"dropout": 0.0}).double())
        records.append(Trainer(models[-1], batches, plain(accumulate=accumulate, **smoothing)).train()[0])
    assert records[0].loss == pytest.approx(records[1].loss, rel=1e-12)
    assert records[0].gradient_norm == pytest.approx(records[1].gradient_norm, rel=1e-10)
    assert records[0].tokens == records[1].tokens == sum(counts)
    for ours, theirs in zip(*(model.parameters() for model in models), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_a_part_s_own_loss_is_added_and_weighs_as_much_whatever_is_accumulated():
    class Balanced(nn.Linear):
        def auxiliary_loss(self):
            return 100 * self.weight.square().sum()

    norms = []
    for accumulate in (1, 2):
        model = tiny_model(block={"dropout": 0.0})
        model.core.layers[0].feed_forward.up_proj = Balanced(8, 8, bias=False)
        torch.nn.init.constant_(model.core.layers[0].feed_forward.up_proj.weight, 0.5)
        batches = Fixed(*[some_batch(4, ignored=0.3)] * accumulate)
        record = Trainer(model, batches, plain(accumulate=accumulate)).train()[0]
        assert record.loss > 100 * 64 * 0.25
        norms.append(record.gradient_norm)
    assert norms[0] == pytest.approx(norms[1], rel=1e-5)


def test_a_flat_head_learns_what_follows_its_window():
    model = tiny_model(head={"kind": "flat", "tied": False})
    record = Trainer(model, tiny_batches(), plain()).train()[0]
    assert record.tokens == 4


@pytest.mark.parametrize("kind", ["adamw", "adam", "sgd"])
def test_every_optimizer_trains(kind):
    config = TrainingConfig(steps=40, learning_rate=0.02 if kind != "sgd" else 0.3, optimizer=OptimizerConfig(kind))
    records = Trainer(tiny_model(), tiny_batches(), config).train()
    assert records[-1].loss < 0.85 * records[0].loss


def test_bfloat16_trains_close_to_float32_and_keeps_its_weights_in_float32():
    losses = {}
    for precision in ("float32", "bfloat16"):
        model = tiny_model(block={"dropout": 0.0}, dim=32)
        losses[precision] = [r.loss for r in Trainer(model, tiny_batches(), plain(20, precision=precision)).train()]
        assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert losses["bfloat16"] == pytest.approx(losses["float32"], rel=0.02)
    assert losses["bfloat16"] != losses["float32"]


class TestBfloat16Weights:
    def test_steps_that_bfloat16_cannot_take_are_taken(self):
        """A rate so low that no weight of a bfloat16 model would move."""
        model, config = tiny_model(block={"dropout": 0.0}, dim=32), plain(30, precision="bfloat16-weights")
        before = {name: p.detach().clone() for name, p in model.named_parameters()}
        trainer = Trainer(model, tiny_batches(), config.replace(learning_rate=1e-5))
        trainer.train()
        gains = {name: p.detach() for name, p in model.named_parameters() if name.endswith("norm.weight")}
        assert all(bool((gain != before[name]).any()) for name, gain in gains.items())
        assert all(torch.equal(gain.bfloat16(), before[name].bfloat16()) for name, gain in gains.items())

    def test_it_follows_float32(self):
        losses = {}
        for precision in ("float32", "bfloat16-weights"):
            model = tiny_model(block={"dropout": 0.0}, dim=32)
            trainer = Trainer(model, tiny_batches(), plain(20, precision=precision, accumulate=2))
            losses[precision] = [r.loss for r in trainer.train()]
            assert {p.dtype for p in model.parameters()} == {torch.float32}
        assert losses["bfloat16-weights"] == pytest.approx(losses["float32"], rel=0.02)
        assert losses["bfloat16-weights"] != losses["float32"]

    def test_gradients_of_several_batches_are_summed_in_float32(self):
        trainer = Trainer(tiny_model(), tiny_batches(), plain(precision="bfloat16-weights"))
        assert trainer.half is not None
        weight, half = next(trainer.model.parameters()), next(trainer.network.parameters())
        for gradient in (1.0, 2**-12, 2**-12):  # in bfloat16 the small ones would be lost
            half.grad = torch.full_like(half, gradient)
            trainer.half.collect_gradients()
        assert half.grad is None
        assert weight.grad is not None
        assert weight.grad.unique().tolist() == [1 + 2**-11]

    def test_the_copy_is_computed_with_and_follows_the_model(self):
        trainer = Trainer(tiny_model(), tiny_batches(), plain(3, precision="bfloat16-weights"))
        seen = []
        trainer.network.register_forward_hook(lambda module, args, output: seen.append(output.dtype))
        trainer.train()
        assert seen == [torch.bfloat16] * 3
        trainer.step()
        with torch.no_grad():
            next(trainer.model.parameters()).zero_()
        trainer.half.refresh()
        assert bool((next(trainer.network.parameters()) == 0).all())

    def test_attention_is_computed_in_float32(self, monkeypatch):
        seen = watch_attention(monkeypatch)
        Trainer(tiny_model(), tiny_batches(), plain(precision="bfloat16-weights")).train()
        assert seen == {torch.float32}

    def test_a_schedule_of_dropout_reaches_the_copy(self):
        config = plain(4, precision="bfloat16-weights", dropout=DropoutConfig("linear", end=0.5))
        trainer = Trainer(tiny_model(), tiny_batches(), config)
        for _ in range(4):
            trainer.step()
        assert trainer.network.embedder.dropout == 0.5

    def test_what_has_a_state_of_its_own_is_refused(self):
        moe = {"moe": {"num_experts": 2, "top_k": 1, "balance": "bias"}}
        with pytest.raises(ValueError, match=r"a state of its own.*precision='bfloat16'"):
            Trainer(tiny_model(feed_forward=moe), tiny_batches(), plain(precision="bfloat16-weights"))
        with pytest.raises(ValueError, match=r"float64.*model.float\(\)"):
            Trainer(tiny_model().double(), tiny_batches(), plain(precision="bfloat16-weights"))


def test_float32_medium_is_pytorchs_setting_for_the_length_of_a_step():
    seen, losses = [], {}
    for precision in ("float32", "float32-medium"):
        model = tiny_model(block={"dropout": 0.0}, dim=32)
        model.head.register_full_backward_hook(lambda *_: seen.append(torch.get_float32_matmul_precision()))
        losses[precision] = [r.loss for r in Trainer(model, tiny_batches(), plain(5, precision=precision)).train()]
    assert seen == ["highest"] * 5 + ["medium"] * 5
    assert torch.get_float32_matmul_precision() == "highest"
    assert losses["float32-medium"] == pytest.approx(losses["float32"], rel=0.02)  # 1e-6 without bfloat16 units


def watch_attention(monkeypatch):
    seen = set()
    kernel = torch.nn.functional.scaled_dot_product_attention

    def watch(q, k, v, *rest, **options):
        seen.update({q.dtype, k.dtype, v.dtype})
        return kernel(q, k, v, *rest, **options)

    monkeypatch.setattr("torch.nn.functional.scaled_dot_product_attention", watch)
    return seen


def test_under_autocast_attention_is_computed_in_float32(monkeypatch):
    seen = watch_attention(monkeypatch)
    Trainer(tiny_model(), tiny_batches(), plain(precision="bfloat16")).train()
    assert seen == {torch.float32}


@pytest.mark.parametrize(
    ("lacking", "message"), [("compiler", "C\\+\\+ compiler.*apt install g"), ("headers", "Python.h.*python3-dev")]
)
def test_without_a_compiler_the_way_out_is_named(monkeypatch, tmp_path, lacking, message):
    if lacking == "compiler":
        monkeypatch.setattr("shutil.which", lambda name: None)
    else:
        monkeypatch.setattr("shutil.which", lambda name: "/usr/bin/c++")
        monkeypatch.setattr("sys.platform", "linux")
        monkeypatch.setattr("sysconfig.get_path", lambda name: str(tmp_path))
    with pytest.raises(RuntimeError, match=message):
        Trainer(tiny_model(), tiny_batches(), plain(compile=True))


def test_looking_does_not_change_the_run():
    def losses(**options):
        torch.manual_seed(random.randrange(1000))
        trainer = Trainer(tiny_model(), tiny_batches(), tiny_config(12, sample_every=2), **options)
        found = []
        for record in trainer.steps():
            torch.rand(5)  # the reader of the loop draws, too
            found.append(record.loss)
        return found

    def draw(model):
        assert not model.training
        assert not torch.is_grad_enabled()
        return f"{torch.rand(3).sum()} {np.random.rand()} {random.random()}"  # noqa: NPY002

    assert losses() == losses(evaluate=measure, sample=draw)


def test_evaluation_sees_the_average_and_training_the_weights():
    seen = []

    def evaluate(model):
        seen.append({name: p.detach().clone() for name, p in model.named_parameters()})
        return {}

    trainer = Trainer(tiny_model(), tiny_batches(), plain(4, evaluate_every=4, ema=0.9), evaluate=evaluate)
    trainer.train()
    for name, parameter in trainer.model.named_parameters():
        assert torch.equal(seen[0][name], trainer.average.averages[name])
        assert not torch.equal(seen[0][name], parameter)


def test_metrics_and_texts_come_at_their_turns_and_at_the_end():
    trainer = Trainer(
        tiny_model(), tiny_batches(), plain(10, evaluate_every=4, sample_every=3),
        evaluate=lambda model: {"answer": 42.0}, sample=lambda model: "Once",
    )  # fmt: skip
    records = trainer.train()
    assert [r.step for r in records if r.metrics] == [4, 8, 10]
    assert [r.step for r in records if r.text == "Once"] == [3, 6, 9, 10]
    assert all(later.seconds >= earlier.seconds for earlier, later in itertools.pairwise(records))


def test_a_run_that_is_left_and_taken_up_again_is_the_whole_run():
    whole = [r.loss for r in Trainer(tiny_model(), tiny_batches(), tiny_config(10)).train()]
    trainer, losses = Trainer(tiny_model(), tiny_batches(), tiny_config(10)), []
    for record in trainer.steps():
        losses.append(record.loss)
        if record.step == 4:
            break
    torch.rand(100)
    losses += [r.loss for r in trainer.steps()]
    assert losses == whole


def test_a_plateau_ends_the_run_when_the_rate_has_nowhere_to_go():
    schedule = ScheduleConfig("plateau", warmup=0, patience=10, shrink=0.1, final=0.01)
    model = tiny_model()
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    model.core.norm.weight.requires_grad_(True)
    config = TrainingConfig(steps=1000, learning_rate=1e-9, schedule=schedule)
    records = Trainer(model, Fixed(some_batch(4)), config).train()
    rates = sorted({r.learning_rate for r in records})
    assert rates == pytest.approx([1e-11, 1e-10, 1e-9])
    assert len(records) < 300


def test_a_dropout_schedule_starts_with_the_first_step_and_leaves_the_model_as_it_was():
    model, seen = tiny_model(), []
    config = plain(3, dropout=DropoutConfig("linear", 0.4, 0.0))
    for _ in Trainer(model, tiny_batches(), config).steps():
        seen.append(model.core.layers[1].dropout)
    assert seen == pytest.approx([0.4, 0.2, 0.0])
    assert model.core.layers[1].dropout == 0.1


def test_a_loss_and_an_optimizer_of_one_s_own():
    class Descent:
        """As a learner would write it: no groups."""

        def __init__(self, params, lr):
            self.params, self.lr = list(params), lr

        def zero_grad(self):
            for p in self.params:
                p.grad = None

        def step(self):
            for p in self.params:
                p.data -= self.lr * p.grad

    model = tiny_model(block={"dropout": 0.0})
    optimizer = Descent(model.parameters(), lr=0.0)
    trainer = Trainer(
        model,
        tiny_batches(),
        TrainingConfig(steps=30, learning_rate=0.5),
        loss=lambda logits, targets: nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten()),
        optimizer=optimizer,
    )
    records = trainer.train()
    assert records[-1].loss < records[0].loss - 0.2
    assert optimizer.lr == records[-1].learning_rate == pytest.approx(0.05)


# --------------------------------------------------------------------------------------------------------- going wrong


def break_after(trainer, step, breaking):
    """Train, break something after a step, and return the error."""
    records = trainer.steps()
    for _ in range(step):
        next(records)
    breaking(trainer.model)
    with pytest.raises(NotFiniteError) as caught:
        next(records)
    return caught.value


def set_weight(name, value):
    def breaking(model):
        model.get_parameter(name).data[0, 0] = value

    return breaking


@pytest.mark.parametrize(
    ("breaking", "layer", "words"),
    [
        (set_weight("core.layers.1.feed_forward.up_proj.weight", math.nan), "core.layers.1.feed_forward.up_proj", "its weights"),
        (set_weight("core.layers.1.feed_forward.down_proj.weight", 3e38), "core.layers.1.feed_forward.down_proj", "its output"),
        (set_weight("core.layers.0.attention.o_proj.weight", 3e38), "core.layers.0.attention.o_proj", "its output"),
    ],
)  # fmt: skip
def test_infinity_is_traced_to_its_step_and_layer(breaking, layer, words):
    torch.manual_seed(0)
    model = tiny_model(norm={"kind": "none"}, block={"dropout": 0.0})
    for parameter in model.parameters():
        parameter.data *= 40
    error = break_after(Trainer(model, tiny_batches(), plain(9, learning_rate=1e-4)), 3, breaking)
    assert (error.step, error.layer) == (4, layer)
    assert str(error).startswith("step 4: the loss is")
    assert words in str(error)
    assert "lower learning rate than 0.0001" in str(error)


class NoGradientAtZero(nn.Module):
    """A norm whose output is fine and whose gradient is not: the root of zero has an infinite slope."""

    def __init__(self, dim):
        super().__init__()
        self.weight, self.broken = nn.Parameter(torch.ones(dim)), False

    def forward(self, x):
        return x * self.weight + ((x * 0).sum(-1, keepdim=True).sqrt() if self.broken else 0)


def test_a_gradient_that_breaks_on_its_way_back_is_traced_too():
    model = tiny_model(norm={"kind": "rms"})
    broken = tiny_model()
    model = LanguageModel(broken.config, norm=lambda dim, **options: NoGradientAtZero(dim))

    def breaking(model):
        model.core.layers[1].attention_norm.broken = True

    error = break_after(Trainer(model, tiny_batches(), plain(9)), 2, breaking)
    assert error.step == 3
    assert error.layer.startswith(
        "core.layers.0"
    )  # the last layer before the broken norm: the gradient comes from behind
    assert "gradient" in str(error)


def test_what_breaks_between_layers_is_laid_to_what_holds_them():
    class Dividing(nn.Module):
        def __init__(self, dim, hidden, **options):
            super().__init__()
            self.up_proj, self.down_proj = nn.Linear(dim, hidden), nn.Linear(hidden, dim)
            self.divisor = 1.0

        def forward(self, x):
            return self.down_proj(self.up_proj(x) / self.divisor)

    model = LanguageModel(tiny_model().config, feed_forward=Dividing)

    def breaking(model):
        model.core.layers[1].feed_forward.divisor = 0.0

    error = break_after(Trainer(model, tiny_batches(), plain(9)), 2, breaking)
    assert error.layer == "core.layers.1.feed_forward"
    assert "before down_proj" in str(error)


def test_a_loss_of_one_s_own_that_breaks_is_named():
    trainer = Trainer(tiny_model(), tiny_batches(), plain(3), loss=lambda logits, targets: logits.sum() * math.nan)
    with pytest.raises(NotFiniteError, match="begins in the loss"):
        trainer.train()


def test_the_weights_are_not_touched_by_a_step_that_breaks(tmp_path):
    trainer = tiny_trainer(tmp_path / "run")
    records = trainer.steps()
    for _ in range(4):
        next(records)
    before = {name: p.detach().clone() for name, p in trainer.model.named_parameters()}
    trainer.loss = lambda logits, targets: logits.sum() * math.inf
    with pytest.raises(NotFiniteError, match=r"step-00000003 can be resumed\."):
        next(records)
    for name, parameter in trainer.model.named_parameters():
        assert torch.equal(parameter, before[name])
    assert tiny_trainer(tmp_path / "run").resume() == 3


def test_a_batch_without_targets_and_batches_that_end_are_named():
    with pytest.raises(TrainingError, match="step 1: every target of the batch is IGNORE"):
        Trainer(tiny_model(), Fixed(some_batch(2, ignored=1.1)), plain(3)).train()

    class Few(Fixed):
        def __next__(self):
            if self.drawn == 2:
                raise StopIteration
            return super().__next__()

    with pytest.raises(TrainingError, match="step 3 of 5: the batches have come to an end"):
        Trainer(tiny_model(), Few(some_batch(2)), plain(5)).train()


# ------------------------------------------------------------------------------------------------------------- stopping


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_signal_lets_the_step_finish_saves_and_stops(name, tmp_path):
    whole = tiny_trainer(tmp_path / "whole")
    whole.train()
    handler = signal.getsignal(signal.SIGTERM)
    trainer = tiny_trainer(tmp_path / "run", checkpoint_every=None)
    for record in trainer.steps():
        if record.step == 7:
            os.kill(os.getpid(), getattr(signal, name))
    assert (trainer.stopped, trainer.step_number) == (name, 7)
    assert signal.getsignal(signal.SIGTERM) is handler
    assert read_curve(tmp_path / "run" / "curve.csv")[-1]["step"] == 7
    again = tiny_trainer(tmp_path / "run", seed=5)
    assert again.resume() == 7
    again.train()
    assert again.stopped is None
    assert curve(tmp_path / "run") == curve(tmp_path / "whole")


def test_a_signal_during_an_evaluation_waits_for_its_end_and_a_second_one_does_not(tmp_path):
    trainer = tiny_trainer(tmp_path / "run")
    trainer.evaluate = lambda model: os.kill(os.getpid(), signal.SIGINT) or {"first_logit": 1.0}
    assert [r.metrics for r in trainer.steps()][-1] == {"first_logit": 1.0}
    assert (trainer.step_number, trainer.stopped) == (4, "SIGINT")

    def impatient(model):
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    trainer = tiny_trainer(tmp_path / "other")
    trainer.evaluate = impatient
    with pytest.raises(KeyboardInterrupt):
        trainer.train()
    assert tiny_trainer(tmp_path / "other").resume() == 3


def test_without_signals_in_another_thread():
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as pool:
        records = pool.submit(Trainer(tiny_model(), tiny_batches(), plain(2)).train).result()
    assert len(records) == 2


def test_a_text_of_any_size_is_streamed(tmp_path):
    path = tmp_path / "tokens.bin"
    with path.open("wb") as file:
        file.truncate(8_000_000_000)  # sparse: 8 GB of zeros that take no room, and that no test could hold
    from minilm.data.windows import open_tokens

    record = Trainer(tiny_model(), WindowBatches(open_tokens(path, VOCAB), 4, 12), plain(2)).train()[-1]
    assert record.tokens == 2 * 4 * 12
