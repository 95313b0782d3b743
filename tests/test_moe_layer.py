"""The layer and models made of it: both dispatches are one function, who can be trained on every position, accounts, files."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from minilm.block import SwiGLU, initialize
from minilm.config import AttentionConfig, FeedForwardConfig, ModelConfig, MoEConfig
from minilm.exhibits import UpstreamCDMoE, batch_leak
from minilm.model import LanguageModel
from minilm.moe import (
    ExpertBank,
    MixtureOfExperts,
    Routing,
    SampleRouter,
    dispatch_loop,
    dispatch_sorted,
    moe_report,
    top_k_route,
)
from minilm.training import Trainer, TrainingConfig, parameter_groups
from tests.training_samples import VOCAB, tiny_batches, tiny_config, tiny_model

ROUTERS: dict[str, dict[str, Any]] = {
    "default": {},
    "top-2": {"top_k": 2},
    "top-2, normalised": {"top_k": 2, "normalize": True},
    "all": {"top_k": 4},
    "softmax of the chosen": {"top_k": 2, "scoring": "softmax-chosen"},
    "sigmoid with a bias": {"top_k": 2, "scoring": "sigmoid", "normalize": True, "balance": "bias"},
    "noise": {"top_k": 2, "noise": 1.0},
    "learned noise": {"top_k": 2, "noise": 1.0, "noise_kind": "learned"},
    "capacity, next": {"top_k": 2, "capacity_factor": 1.0},
    "capacity, next, normalised": {"top_k": 2, "capacity_factor": 1.0, "normalize": True},
    "capacity, next, softmax of the chosen": {"top_k": 2, "capacity_factor": 0.5, "scoring": "softmax-chosen"},
    "capacity, drop": {"top_k": 2, "capacity_factor": 0.5, "overflow": "drop"},
    "expert choice": {"top_k": 2, "route": "expert-choice"},
    "sample": {"top_k": 2, "route": "sample"},
    "shared expert": {"top_k": 1, "shared_hidden": 6},
}


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def layer(bias: bool = False, **options: Any) -> MixtureOfExperts:
    torch.manual_seed(0)
    return MixtureOfExperts(6, 8, moe=MoEConfig(4, **options), bias=bias, context_length=5).double()


def model(feed_forward: Any = None, bias: bool = False, **options: Any) -> LanguageModel:
    """Two layers whose predictions depend on the context, in eval mode."""
    torch.manual_seed(0)
    config = ModelConfig(
        vocab_size=20,
        dim=8,
        num_layers=2,
        context_length=10,
        attention=AttentionConfig(num_heads=2),
        feed_forward=FeedForwardConfig(hidden=8, bias=bias, moe=MoEConfig(**({"num_experts": 4} | options))),
    )
    made = LanguageModel(config, feed_forward=feed_forward).double().eval()
    for parameter in made.parameters():
        parameter.data *= 10
    return made


class TestDispatch:
    @pytest.mark.parametrize("bias", [False, True])
    @pytest.mark.parametrize("name", ROUTERS)
    def test_both_are_one_function_forward_and_backward(self, name: str, bias: bool) -> None:
        readable, fast = layer(bias, **ROUTERS[name]), layer(bias, **ROUTERS[name])
        readable.dispatch = dispatch_loop
        assert fast.dispatch is dispatch_sorted
        results = []
        for each in (readable, fast):
            torch.manual_seed(1)  # the same noise
            x = noise(3, 5, 6).requires_grad_()
            y = each(x)
            y.square().sum().backward()
            results.append([y, x.grad, *(p.grad for p in each.parameters())])
        for one, other in zip(*results, strict=True):
            assert (one is None) == (other is None)
            if one is not None:
                torch.testing.assert_close(one, other, atol=1e-10, rtol=1e-10)

    def test_one_expert_of_one_is_a_swiglu(self) -> None:
        bank, plain = ExpertBank(1, 6, 8, bias=True).double(), SwiGLU(6, 8, bias=True).double()
        with torch.no_grad():
            plain.gate_proj.weight.copy_(bank.gate_up_proj[0, :8])
            plain.up_proj.weight.copy_(bank.gate_up_proj[0, 8:])
            plain.down_proj.weight.copy_(bank.down_proj[0])
            assert bank.gate_up_bias is not None
            assert bank.down_bias is not None
            plain.gate_proj.bias.copy_(bank.gate_up_bias[0, :8])
            plain.up_proj.bias.copy_(bank.gate_up_bias[0, 8:])
            plain.down_proj.bias.copy_(bank.down_bias[0])
        x = noise(7, 6)
        for dispatch in (dispatch_loop, dispatch_sorted):
            torch.testing.assert_close(dispatch(x, top_k_route(noise(7, 1), 1), bank), plain(x))

    def test_experts_may_be_any_functions(self) -> None:
        experts = [lambda x: x, lambda x: 10 * x, lambda x: 100 * x]
        routing = Routing(
            torch.tensor([[0, 2], [1, 1]]), torch.tensor([[1.0, 2.0], [1.0, 9.0]]), torch.eye(2, 3), torch.eye(2, 3),
            kept=torch.tensor([[True, True], [True, False]]),
        )  # fmt: skip
        x = torch.tensor([[1.0], [2.0]])
        for dispatch in (dispatch_loop, dispatch_sorted):
            assert dispatch(x, routing, experts).flatten().tolist() == [1 + 200, 20]

    def test_nobody_served_is_zero(self) -> None:
        routing = Routing(torch.zeros(3, 1, dtype=torch.long), torch.ones(3, 1), torch.eye(3), torch.eye(3),
                          kept=torch.zeros(3, 1, dtype=torch.bool))  # fmt: skip
        for dispatch in (dispatch_loop, dispatch_sorted):
            assert not dispatch(torch.ones(3, 6), routing, ExpertBank(3, 6, 8)).any()

    @pytest.mark.parametrize("dispatch", [dispatch_loop, dispatch_sorted])
    def test_gradients_reach_the_chosen_and_the_router_only(self, dispatch: Any) -> None:
        each = layer(top_k=1)
        each.dispatch = dispatch
        x = noise(1, 3, 6)
        each(x)
        assert each.routing is not None
        chosen = set(each.routing.experts.flatten().tolist())
        assert len(chosen) < 4
        each(x).square().sum().backward()
        for bank in (each.experts.gate_up_proj, each.experts.down_proj):
            assert bank.grad is not None
            reached = {e for e in range(4) if bank.grad[e].any()}
            assert reached == chosen
        assert all(p.grad is not None for p in each.gate.parameters())

    def test_mixed_precision(self) -> None:
        torch.manual_seed(0)
        each = MixtureOfExperts(8, 8, moe=MoEConfig(4, top_k=2, normalize=True))
        x = torch.randn(2, 5, 8)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            y = each(x)
        y.sum().backward()
        torch.testing.assert_close(y.float(), each(x), atol=0.02, rtol=0.1)


#            route                          causal, independent of the batch, the same written token by token
TABLE = {
    "top-k by token": ({"top_k": 2}, True, True, True),
    "sigmoid with a bias": ({"top_k": 2, "scoring": "sigmoid", "balance": "bias"}, True, True, True),
    "learned noise": ({"noise": 1.0, "noise_kind": "learned"}, True, True, True),  # none of it once trained
    "shared expert": ({"shared_hidden": 8}, True, True, True),
    "product keys": ({"num_experts": 16, "top_k": 4, "route": "product-key"}, True, True, True),
    # reads the whole window, later tokens among it
    "sample": ({"route": "sample"}, False, True, False),
    # a token is taken where its score is among the best of the batch
    "expert choice": ({"top_k": 2, "route": "expert-choice"}, False, False, False),
    # a later token's first choice comes before an earlier one's second; and the queue runs through the batch
    "capacity, next best": ({"top_k": 2, "capacity_factor": 1.0}, False, False, False),
    "capacity, dropped": ({"top_k": 2, "capacity_factor": 0.5, "overflow": "drop"}, False, False, False),
    # with one choice the queue is in the order of the text, and causal; but its length is the batch's, and so is the room
    "capacity, one choice": ({"top_k": 1, "capacity_factor": 0.5, "overflow": "drop"}, True, False, False),
    # scores cut from the wrong tokens
    "upstream's view of CDMoE": ({"num_experts": 16, "top_k": 4, "route": "product-key"}, False, False, False),
}


def own_future_leak(made: LanguageModel, ids: Tensor) -> float:
    """How far a sequence's earlier logits move when its own last token is replaced, and nothing else in the batch."""
    moved = 0.0
    with torch.no_grad():
        before = made(ids)
        for row in range(len(ids)):
            changed = ids.clone()
            changed[row, -1] = 0
            moved = max(moved, float((made(changed) - before)[row, :-1].abs().max()))
    return moved


class TestWhoCanBeTrainedOnEveryPosition:
    """A loss at every position wants predictions that the model will also make when it writes, one token after the other."""

    @pytest.mark.parametrize("name", TABLE)
    def test_by_perturbation(self, name: str) -> None:
        options, causal, independent, same_when_writing = TABLE[name]
        made = model(UpstreamCDMoE if name.startswith("upstream") else None, **options)
        generator = torch.Generator().manual_seed(2)
        future, batch, writing = 0.0, 0.0, 0.0
        for _ in range(5):
            ids = torch.randint(1, 20, (4, 10), generator=generator)
            future = max(future, own_future_leak(made, ids))
            # any place in the batch: queues run from its first sequence to its last
            batch = max(batch, batch_leak(made, ids, 0), batch_leak(lambda x: made(x.flip(0)).flip(0), ids, 0))  # type: ignore[arg-type]
            if options.get("route") != "sample":  # which reads full windows only
                with torch.no_grad():
                    writing = max(writing, float((made(ids[:1, :6])[:, -1] - made(ids[:1])[:, 5]).abs().max()))
        assert (future < 1e-10) == causal
        assert (batch < 1e-10) == independent
        if options.get("route") != "sample":
            assert (writing < 1e-10) == same_when_writing

    @pytest.mark.parametrize("name", TABLE)
    def test_a_cache_is_refused_exactly_where_it_would_lie(self, name: str) -> None:
        options, *_, same_when_writing = TABLE[name]
        made = model(UpstreamCDMoE if name.startswith("upstream") else None, **options)
        if not same_when_writing:
            reason = {"sample": "whole window", "expert choice": "all tokens of a batch"}.get(
                name, "capacity|later tokens"
            )
            with pytest.raises(ValueError, match=f"cannot use a cache: .*({reason})"):
                made.new_cache()
            return
        ids = torch.randint(20, (3, 10), generator=torch.Generator().manual_seed(3))
        cache = made.new_cache()
        with torch.no_grad():
            pieces = [made(piece, cache) for piece in ids.split([4, 1, 1, 3, 1], dim=1)]
            torch.testing.assert_close(torch.cat(pieces, dim=1), made(ids))

    @pytest.mark.parametrize("name", [name for name, (_, _, independent, _) in TABLE.items() if independent])
    def test_the_order_of_the_batch_does_not_matter(self, name: str) -> None:
        made, ids = model(**TABLE[name][0]), torch.randint(20, (5, 10), generator=torch.Generator().manual_seed(4))
        order = torch.tensor([3, 0, 4, 1, 2])
        with torch.no_grad():
            torch.testing.assert_close(made(ids[order]), made(ids)[order])


class TestSampleRouter:
    def test_the_gate_by_hand(self) -> None:
        each = layer(route="sample", gate_hidden=3)
        gate, x = each.gate, noise(2, 5, 6)
        assert isinstance(gate, SampleRouter)
        hidden = x.flatten(1) @ gate.squeeze.weight.T + gate.squeeze.bias
        hidden = torch.where(hidden > 0, hidden, 0.01 * hidden)
        torch.testing.assert_close(gate(x).logits, hidden @ gate.output.weight.T + gate.output.bias)
        assert gate(x).tokens_per_row == 5

    def test_it_reads_the_stream_if_asked_and_the_norm_else(self) -> None:
        """dlib's gate stands before the norm: it sees how long the vectors are."""
        torch.manual_seed(0)
        reads = layer(route="sample", gate_reads_stream=True)
        x, stream = noise(2, 5, 6), noise(2, 5, 6, seed=1)
        torch.testing.assert_close(reads(x, stream), reads(x, stream))
        reads(x, stream)
        assert reads.routing is not None
        torch.testing.assert_close(reads.routing.logits, reads.gate(stream).logits)
        # and a block hands it over: twice the stream is twice the logits of a linear gate, the norm notwithstanding
        made = model(route="token", gate_reads_stream=True)
        seen: list[Tensor] = []
        block = made.core.layers[0]
        block.feed_forward.register_forward_pre_hook(lambda module, inputs: seen.extend(inputs))  # type: ignore[union-attr]
        made(torch.randint(20, (1, 10)))
        normed, unnormed = seen
        torch.testing.assert_close(block.feed_forward_norm(unnormed), normed)  # type: ignore[operator]

    def test_a_window_that_is_not_full_is_refused(self) -> None:
        with pytest.raises(ValueError, match="exactly 5 tokens and got 4"):
            layer(route="sample")(noise(1, 4, 6))
        with pytest.raises(ValueError, match="give the layer context_length"):
            MixtureOfExperts(6, 8, moe=MoEConfig(4, route="sample"))


class TestLosses:
    def test_of_a_layer_are_weighed_and_added_up_by_the_model(self) -> None:
        made = model(top_k=2, balance="switch", balance_weight=0.1, z_loss=0.01)
        made(torch.randint(20, (2, 10), generator=torch.Generator().manual_seed(0)))
        expected = 0.0
        for block in made.core.layers:
            routing = block.feed_forward.routing  # type: ignore[union-attr]
            f = torch.bincount(routing.experts.flatten(), minlength=4) / routing.experts.numel()  # type: ignore[union-attr]
            expected += 0.1 * float(4 * (f * routing.probabilities.mean(0)).sum())  # type: ignore[union-attr]
            expected += 0.01 * float(routing.logits.logsumexp(-1).square().mean())  # type: ignore[union-attr]
        assert float(made.auxiliary_loss().detach()) == pytest.approx(expected)

    def test_none_before_a_forward_pass_and_where_none_is_wanted(self) -> None:
        assert float(layer(balance="switch").auxiliary_loss()) == 0
        each = layer()
        each(noise(1, 5, 6))
        assert float(each.auxiliary_loss()) == 0

    @pytest.mark.parametrize("balance", ["switch", "importance"])
    def test_a_full_expert_still_counts_as_wanted(self, balance: Any) -> None:
        """With room for half, what is served looks even; the loss goes by what was wanted."""
        x = noise(1, 40, 6)
        with_room, without = layer(balance=balance), layer(balance=balance, capacity_factor=0.7)
        with_room(x)
        without(x)
        assert with_room.routing is not None
        assert without.routing is not None
        assert not torch.equal(with_room.routing.counts, without.routing.counts)
        torch.testing.assert_close(with_room.auxiliary_loss(), without.auxiliary_loss())

    def test_a_trained_balance_loss_evens_the_load_out(self) -> None:
        torch.manual_seed(0)
        each = MixtureOfExperts(8, 8, moe=MoEConfig(8, top_k=2, balance="switch", balance_weight=1.0))
        x = torch.randn(4, 64, 8) + 1
        optimizer = torch.optim.Adam(each.gate.parameters(), 0.01)
        spread = []
        for _ in range(100):
            each(x)
            optimizer.zero_grad()
            each.auxiliary_loss().backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            assert each.routing is not None
            counts = each.routing.counts.double()
            spread.append(float(counts.std() / counts.mean()))
        assert spread[0] > 0.5
        assert spread[-1] < 0.3


class TestMemory:
    def test_usage_is_dlib_s_running_average(self) -> None:
        each = layer(top_k=1)
        usage = torch.full((4,), 0.25, dtype=torch.float64)
        for seed in range(3):
            each(noise(2, 5, 6, seed=seed))
            assert each.routing is not None
            usage = 0.95 * usage + 0.05 * each.routing.counts / 10
        torch.testing.assert_close(each.usage, usage)
        each.eval()(noise(2, 5, 6, seed=9))
        torch.testing.assert_close(each.usage, usage)  # reading is not using

    def test_a_model_can_be_copied_after_a_forward_pass(self) -> None:
        made = model(balance="switch")
        made(torch.randint(20, (1, 10)))
        twin = copy.deepcopy(made)
        assert float(twin.auxiliary_loss()) == 0
        assert float(made.auxiliary_loss().detach()) > 0

    def test_saved_and_loaded(self, tmp_path: Path) -> None:
        made = model(top_k=2, balance="bias", scoring="sigmoid").float().train()
        ids = torch.randint(20, (4, 10), generator=torch.Generator().manual_seed(0))
        for _ in range(50):
            made(ids)
            made.after_step()
        made.eval().save(tmp_path / "model")
        again = LanguageModel.load(tmp_path / "model").eval()
        for block, other in zip(made.core.layers, again.core.layers, strict=True):
            for name in ("usage", "gate.balance_bias"):
                ours = block.feed_forward.get_buffer(name)  # type: ignore[union-attr]
                torch.testing.assert_close(other.feed_forward.get_buffer(name), ours)  # type: ignore[union-attr]
                assert ours.unique().numel() > 1
        assert torch.equal(made(ids), again(ids))

    def test_weights_without_the_memory_are_refused_by_name(self, tmp_path: Path) -> None:
        from safetensors.torch import load_file, save_file

        model().save(tmp_path / "model")
        file = tmp_path / "model" / "model.safetensors"
        tensors = {name: t for name, t in load_file(file).items() if "usage" not in name}
        save_file(tensors, file, metadata={"format": "pt"})
        with pytest.raises(ValueError, match=r"missing: core.layers.0.feed_forward.usage \[4\]"):
            LanguageModel.load(tmp_path / "model")


BALANCED_BY_BIAS: dict[str, Any] = {
    "hidden": 8,
    "moe": {
        "num_experts": 4,
        "top_k": 2,
        "scoring": "sigmoid",
        "normalize": True,
        "balance": "bias",
        "noise": 0.1,
        "z_loss": 0.01,
    },
}


class TestTraining:
    def trainer(self, out: Path | None = None, steps: int = 8, **changes: Any) -> Trainer:
        config = TrainingConfig(steps=1, accumulate=3) if steps == 1 else tiny_config(steps, **changes)
        return Trainer(tiny_model(feed_forward=BALANCED_BY_BIAS), tiny_batches(), config, out=out)

    def test_a_step_moves_the_bias_once_whatever_is_accumulated(self) -> None:
        trainer = self.trainer(steps=1)
        demand: dict[int, Tensor] = {}
        parts = [block.feed_forward for block in trainer.model.core.layers]  # type: ignore[union-attr]
        for i, part in enumerate(parts):
            hook = lambda module, *_, i=i: demand.__setitem__(i, demand.get(i, 0) + module.routing.counts)  # type: ignore[operator, union-attr]  # noqa: E731
            part.register_forward_hook(hook)  # type: ignore[union-attr]
        record = trainer.step()
        for i, part in enumerate(parts):
            wanted = demand[i].float()
            assert int(wanted.sum()) == 3 * 4 * 12 * 2  # three batches of 4 x 12 tokens, two experts each
            bias = part.get_buffer("gate.balance_bias")  # type: ignore[union-attr]
            torch.testing.assert_close(bias, 0.001 * (wanted.mean() - wanted).sign())
        assert 0 < record.auxiliary < record.loss

    def test_a_resumed_run_goes_on_with_its_memory(self, tmp_path: Path) -> None:
        whole = self.trainer(tmp_path / "whole")
        whole.train()
        part = self.trainer(tmp_path / "part", checkpoint_every=3)
        steps = part.steps()
        for _ in range(4):
            next(steps)
        steps.close()  # type: ignore[attr-defined]
        resumed = self.trainer(tmp_path / "part", checkpoint_every=3)
        assert resumed.resume() == 3
        resumed.train()
        for (name, ours), theirs in zip(
            whole.model.state_dict().items(), resumed.model.state_dict().values(), strict=True
        ):
            assert torch.equal(ours, theirs), name
        published = LanguageModel.load(tmp_path / "part")  # the averaged weights, and the memory of the last step
        bias = published.core.layers[0].feed_forward.get_buffer("gate.balance_bias")  # type: ignore[union-attr]
        assert bias.any()
        assert torch.equal(bias, whole.model.core.layers[0].feed_forward.get_buffer("gate.balance_bias"))  # type: ignore[union-attr]

    def test_biases_of_experts_do_not_decay(self) -> None:
        groups = parameter_groups(model(bias=True), 0.1)
        decayed = {id(p) for p in groups[0]["params"]}
        bank = model(bias=True).core.layers[0].feed_forward.experts  # type: ignore[union-attr]
        assert sum(p.dim() == 3 for p in groups[0]["params"]) == 4  # two banks in two layers
        assert bank.gate_up_bias.dim() == 2  # type: ignore[union-attr]
        assert all(id(p) in decayed for p in groups[0]["params"])
        assert sum(p.dim() == 2 for p in groups[1]["params"]) == 4  # their biases

    def test_sample_routed_models_learn_what_follows_a_window(self) -> None:
        options = {
            "feed_forward": {"hidden": 8, "moe": {"num_experts": 4, "route": "sample", "balance": "switch"}},
            "head": {"kind": "flat", "tied": False},
        }
        trainer = Trainer(tiny_model(**options), tiny_batches(), TrainingConfig(steps=60, learning_rate=1e-2))
        losses = [record.loss - record.auxiliary for record in trainer.steps()]
        assert sum(losses[-10:]) < 0.7 * sum(losses[:10])
        assert trainer.model(torch.zeros(2, 12, dtype=torch.long)).shape == (2, 1, VOCAB)


class TestInitialization:
    def test_a_bank_starts_as_its_experts_would(self) -> None:
        torch.manual_seed(0)
        bank = ExpertBank(3, 256, 128, bias=True)
        bound = 256**-0.5
        assert 0.99 * bound < float(bank.gate_up_proj.detach().abs().max()) <= bound
        layer = MixtureOfExperts(256, 128, moe=MoEConfig(3), bias=True)
        initialize(layer, "scaled", std=0.02, num_layers=8)
        assert float(layer.experts.gate_up_proj.detach().std()) == pytest.approx(0.02, rel=0.02)
        assert float(layer.experts.down_proj.detach().std()) == pytest.approx(
            0.02 / 4, rel=0.02
        )  # writes to the stream
        assert layer.experts.gate_up_bias is not None
        assert not layer.experts.gate_up_bias.any()
        initialize(layer, "lecun", num_layers=8)
        assert float(layer.experts.gate_up_proj.detach().std()) == pytest.approx(256**-0.5, rel=0.03)
        assert float(layer.experts.down_proj.detach().std()) == pytest.approx(128**-0.5, rel=0.03)


class TestAccounts:
    def test_dlib_s_count_and_where_it_sits(self) -> None:
        made = LanguageModel.from_preset("dlib-moe", device="meta")
        assert made.num_parameters("dlib") == 5_970_554
        assert made.num_parameters("dlib", active=True) == 5_432_738
        parts = made.summary().parts
        expert, gate = 2 * (228 * 65 + 65) + (65 * 228 + 228), 22_800 * 32 + 32 + 32 * 4 + 4
        assert (expert, gate) == (44_818, 729_764)
        assert parts["experts"] == (4 * 4 * expert, 4 * 4 * expert)
        assert parts["routers"] == (4 * gate, 4 * gate)
        assert round(100 * 4 * gate / 5_970_554) == 49
        assert round(100 * 16 * expert / 5_970_554) == 12
        assert 5_970_554 - 5_432_738 == 4 * 3 * expert == 537_816  # what is idle: 9 %

    def test_the_planned_variant(self) -> None:
        made = LanguageModel.from_preset("dlib-moe-8", device="meta")
        gate = 22_800 * 32 + 32 + 32 * 8 + 8
        other = 4 * (4 * 228**2 + 2) + 1_502_657 + 1
        assert made.num_parameters("dlib") == other + 4 * (gate + 8 * 44_818)
        assert made.num_parameters("dlib", active=True) == other + 4 * (gate + 2 * 44_818)

    @pytest.mark.parametrize(("name", "experts", "k"), [("mixtral-tiny", 8, 2), ("qwen3-moe-tiny", 32, 4)])
    def test_small_models_of_the_field(self, name: str, experts: int, k: int) -> None:
        made = LanguageModel.from_preset(name, device="meta")
        c = made.config
        expert = 3 * c.dim * c.feed_forward.hidden
        assert made.num_parameters() - made.num_parameters(active=True) == c.num_layers * (experts - k) * expert

    def test_operations_are_those_of_the_chosen(self) -> None:
        """4 experts of width 8, 2 a token, cost a dense layer of width 16 and the router."""
        sparse = model(top_k=2).float()
        dense = LanguageModel(sparse.config.replace(feed_forward={"hidden": 16, "moe": None}))
        router = 2 * 8 * 4 * 2  # multiply and add, dim x experts, two layers
        for length in (10, 7):
            ours, theirs = sparse.summary(1, length), dense.summary(1, length)
            assert ours.forward_flops == pytest.approx(theirs.forward_flops + router, abs=2 * 8 * 8 * 3)
        assert sparse.summary().idle_parameters == 2 * 2 * 3 * 8 * 8
        assert "active for a token" in str(sparse.summary())
        assert "active for a token" not in str(dense.summary())

    @pytest.mark.parametrize("name", ROUTERS)
    def test_every_router_has_accounts(self, name: str) -> None:
        options = {"shared_hidden": None} | ROUTERS[name]
        assert model(**options).float().summary().forward_flops > 0


class TestReport:
    def test_counts_who_serves_whom(self) -> None:
        made = model(top_k=2, noise=50.0)  # of which the report is to be free
        ids = torch.randint(20, (3, 10), generator=torch.Generator().manual_seed(0))
        report = moe_report(made.train(), ids, token_class=lambda token: "low" if token < 10 else "high", ignore_id=3)
        assert made.training  # as it was
        assert report.tokens == int((ids != 3).sum())
        made.eval()(ids)
        for block, use in zip(made.core.layers, report.layers, strict=True):
            experts = block.feed_forward.routing.experts  # type: ignore[union-attr]
            for name, wanted in (("low", ids < 10), ("high", ids >= 10)):
                counts = torch.bincount(experts[(wanted & (ids != 3)).flatten()].flatten(), minlength=4).double()  # type: ignore[index]
                torch.testing.assert_close(use.by_class[name], counts / counts.sum())
            counts = torch.bincount(experts[(ids != 3).flatten()].flatten(), minlength=4).double()  # type: ignore[index]
            torch.testing.assert_close(use.usage, counts / counts.sum())
            assert use.cv == pytest.approx(float(counts.std(correction=0) / counts.mean()))
        assert report.chance_cv == pytest.approx((3 / (2 * report.tokens)) ** 0.5)

    def test_of_several_batches_is_that_of_one(self) -> None:
        made, ids = model(top_k=2), torch.randint(20, (4, 10), generator=torch.Generator().manual_seed(0))
        torch.testing.assert_close(moe_report(made, ids).usage, moe_report(made, ids.split(1)).usage)

    def test_dropped_tokens_are_told(self) -> None:
        made = model(capacity_factor=0.5, overflow="drop")
        report = moe_report(made, torch.randint(20, (3, 10), generator=torch.Generator().manual_seed(0)))
        for block, use in zip(made.core.layers, report.layers, strict=True):
            assert use.dropped == pytest.approx(block.feed_forward.routing.dropped)  # type: ignore[union-attr]
            assert use.dropped >= 1 - 16 / 30 - 1e-6  # four experts with room for four each

    def test_without_ids_it_tells_the_running_average(self) -> None:
        made = model()
        made.core.layers[0].feed_forward.usage.copy_(torch.tensor([0.97, 0.01, 0.01, 0.01]))  # type: ignore[union-attr, operator]
        report = moe_report(made)
        assert report.tokens is None
        assert report.layers[0].label == "poor (CV >= 0.8) - possible expert collapse"
        assert report.layers[1].label == "balanced"
        text = str(report)
        assert "running average of the training" in text
        assert "possible expert collapse" in text

    def test_text_and_figure(self) -> None:
        made = LanguageModel.from_preset("dlib-moe", vocab_size=20, num_layers=2, context_length=10)
        report = moe_report(
            made, torch.randint(20, (3, 10)), token_class=lambda token: "even" if token % 2 == 0 else "odd"
        )
        text = str(report)
        assert "route 'sample'" in text
        assert "as dlib counts" in text
        assert "the router learns nothing from the task" in text
        figure = report.figure()
        assert len(figure.axes) == 4
        assert [axis.get_title() for axis in figure.axes[:2]] == [
            f"layer {i}, CV {use.cv:.2f}" for i, use in enumerate(report.layers)
        ]
        many = LanguageModel.from_preset("doge-40m-moe", vocab_size=20, num_layers=1)
        assert len(moe_report(many).figure().axes) == 1

    def test_what_it_cannot_report(self) -> None:
        with pytest.raises(ValueError, match="has no mixture of experts"):
            moe_report(tiny_model())
        with pytest.raises(ValueError, match="give ids"):
            moe_report(model(), token_class=str)
