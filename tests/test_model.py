import json
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import Float
from torch import Tensor, nn

from minilm.attention import document_mask
from minilm.block import Block
from minilm.config import (
    AttentionConfig,
    BlockConfig,
    FeedForwardConfig,
    HeadConfig,
    InitConfig,
    ModelConfig,
    NormConfig,
    PositionConfig,
    RotaryScaling,
)
from minilm.data.windows import pack
from minilm.embeddings import RotaryEmbedding
from minilm.model import LanguageModel, attention_flops, kv_cache_bytes
from minilm.model.accounts import dry_run, measure_step

BASE = ModelConfig(
    vocab_size=17,
    dim=16,
    num_layers=2,
    context_length=12,
    attention=AttentionConfig(num_heads=4),
    feed_forward=FeedForwardConfig(hidden=24),
    initialization=InitConfig("normal", std=0.3),  # large, so that differences show
)
YARN = RotaryScaling("yarn", 4.0, 6)
CONFIGS: dict[str, ModelConfig] = {
    "llama-like": BASE,
    "grouped, untied": BASE.replace(attention={"num_kv_heads": 2}, head={"tied": False, "bias": True}),
    "window": BASE.replace(attention={"window": 4}),
    "window and sinks": BASE.replace(attention={"window": 3, "sinks": 2, "num_kv_heads": 1}),
    "qk-norm, residual scale": BASE.replace(attention={"qk_norm": True}, block={"residual_scale": True}),
    "post-norm": BASE.replace(block={"norm_first": False}),
    "no norm": BASE.replace(norm={"kind": "none"}, initialization={"std": 0.1}),
    "gpt-like": BASE.replace(
        attention={"bias": True, "output_bias": True},
        positions={"kind": "learned"},
        norm={"kind": "layer", "eps": 1e-5, "bias": True},
        feed_forward={"kind": "plain", "activation": "gelu", "bias": True},
    ),
    "sinusoidal": BASE.replace(positions={"kind": "sinusoidal"}),
    "dlib sinusoidal": BASE.replace(positions={"kind": "sinusoidal-dlib"}),
    "relative": BASE.replace(positions={"kind": "relative", "max_distance": 3}),
    "alibi": BASE.replace(positions={"kind": "alibi"}),
    "no positions": BASE.replace(positions={"kind": "none"}),
    "yarn, half-split, partial": BASE.replace(
        positions={"interleaved": False, "partial": 0.5, "scaling": YARN}, attention={"head_dim": 8}
    ),
    "shared feed-forward": BASE.replace(feed_forward={"shared": True}),
    "learned activation": BASE.replace(feed_forward={"kind": "plain", "activation": "learned"}),
    "prefix": BASE.replace(attention={"prefix": 4}),
    "dynamic": BASE.replace(positions={"scaling": RotaryScaling("dynamic", 2.0, 6)}),
    "bidirectional": BASE.replace(attention={"causal": False}),
    "whole-sample norm": BASE.replace(norm={"kind": "whole-sample", "eps": 1e-5}),
    "flat": BASE.replace(head={"kind": "flat", "tied": False, "bias": True}),
    "flat_squeeze": BASE.replace(head={"kind": "flat_squeeze", "tied": False, "bias": True}),
}
UNCACHED = {"dynamic", "bidirectional", "whole-sample norm", "flat", "flat_squeeze"}
LEAKING = {"bidirectional", "whole-sample norm", "prefix"}


def make(name: str, **parts: Any) -> LanguageModel:
    torch.manual_seed(0)
    return LanguageModel(CONFIGS[name], **parts).double().eval()


def some_ids(batch: int = 2, seq: int = 12, seed: int = 0) -> Tensor:
    return torch.randint(17, (batch, seq), generator=torch.Generator().manual_seed(seed))


class TestConfig:
    @pytest.mark.parametrize("name", CONFIGS)
    def test_json_round_trip(self, name: str) -> None:
        assert ModelConfig.from_json(CONFIGS[name].to_json()) == CONFIGS[name]

    def test_unknown_keys_name_the_nearest(self) -> None:
        data = BASE.to_dict()
        with pytest.raises(ValueError, match="ModelConfig has no 'num_layer': did you mean 'num_layers'"):
            ModelConfig.from_dict({**data, "num_layer": 3})
        data["attention"]["n_heads"] = 4
        with pytest.raises(ValueError, match="AttentionConfig has no 'n_heads': did you mean 'num_heads'"):
            ModelConfig.from_dict(data)
        with pytest.raises(ValueError, match="HeadConfig has no 'tie': did you mean 'tied'"):
            BASE.replace(head={"tie": True})

    def test_frozen(self) -> None:
        with pytest.raises(AttributeError):
            BASE.dim = 32  # type: ignore[misc]

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"dim": 18}, r"dim = 18 is not divisible by num_heads = 4: choose one of \[1, 2, 3, 6, 9, 18\] heads"),
            ({"attention": {"num_kv_heads": 3}}, r"num_kv_heads = 3 does not divide num_heads = 4.*\[1, 2, 4\]"),
            ({"num_layers": 0}, r"num_layers = 0: it must be above 0"),
            ({"vocab_size": 2.5}, r"vocab_size = 2\.5: expected int"),
            ({"num_layers": True}, r"num_layers = True: expected int"),
            ({"norm": {"kind": "batch"}}, r"'batch': expected one of 'rms', 'layer'"),
            ({"norm": {"bias": True}}, r"bias belongs to a 'layer' norm"),
            ({"attention": {"head_dim": 5}}, r"5 of 5 channels a head is an odd number"),
            ({"attention": {"sinks": 2}}, r"sinks = 2 means something only with a window"),
            ({"attention": {"window": 2, "prefix": 2}}, r"contradict"),
            ({"attention": {"causal": False, "window": 2}}, r"are for causal attention"),
            ({"attention": {"dropout": 1.0}}, r"dropout = 1\.0"),
            ({"head": {"kind": "flat"}}, r"cannot be tied: set head\.tied=False"),
            ({"positions": {"kind": "alibi", "scaling": YARN}}, r"scaling is for rotary"),
            ({"positions": {"partial": 0.0}}, r"partial = 0\.0"),
            ({"attention": {"prefix": 13}}, r"prefix = 13 exceeds context_length = 12"),
        ],
    )
    def test_bad_values_name_the_fix(self, change: dict[str, Any], message: str) -> None:
        with pytest.raises(ValueError, match=message):
            BASE.replace(**change)

    def test_parts_have_defaults(self) -> None:
        config = ModelConfig(10, 8, 1, 4, AttentionConfig(2), FeedForwardConfig(16))
        assert (config.positions, config.norm, config.block, config.head) == (
            PositionConfig(),
            NormConfig(),
            BlockConfig(),
            HeadConfig(),
        )


class TestForward:
    @pytest.mark.parametrize("name", CONFIGS)
    def test_shapes_and_gradients_everywhere(self, name: str) -> None:
        model = make(name)
        logits = model(some_ids())
        assert logits.shape == ((2, 1, 17) if "flat" in name else (2, 12, 17))
        F.cross_entropy(
            logits.flatten(0, 1), torch.zeros(logits.shape[0] * logits.shape[1], dtype=torch.long)
        ).backward()
        for parameter_name, parameter in model.named_parameters():
            assert parameter.grad is not None, parameter_name
            assert parameter.grad.isfinite().all()

    @pytest.mark.parametrize("name", [n for n in CONFIGS if "flat" not in n])
    @given(t=st.integers(1, 11), seed=st.integers(0, 100))
    @settings(max_examples=8, deadline=None)
    def test_the_future_is_hidden(self, name: str, t: int, seed: int) -> None:
        model, ids = make(name), some_ids(seed=seed)
        changed = ids.clone()
        changed[:, t:] = (changed[:, t:] + 1) % 17
        moved = (model(changed)[:, :t] - model(ids)[:, :t]).abs().max()
        if name not in LEAKING or (name == "prefix" and t >= 4):
            assert moved < 1e-12
        else:
            assert moved > 1e-9

    @pytest.mark.parametrize("name", [n for n in CONFIGS if n not in UNCACHED])
    def test_cached_equals_uncached_step_by_step(self, name: str) -> None:
        model, ids = make(name), some_ids()
        first = max(1, CONFIGS[name].attention.prefix)
        with torch.inference_mode():
            whole, cache = model(ids), model.new_cache(capacity=2)
            parts = [model(ids[:, :first], cache)]
            parts += [model(ids[:, t : t + 1], cache) for t in range(first, 12)]
        torch.testing.assert_close(torch.cat(parts, dim=1), whole)

    @pytest.mark.parametrize("name", sorted(UNCACHED))
    def test_models_that_cannot_be_cached_say_why(self, name: str) -> None:
        model = make(name)
        with pytest.raises(ValueError, match=r"cannot use a cache: .*whole"):
            model.new_cache()
        with pytest.raises(ValueError, match="cannot use a cache"), torch.no_grad():
            model(some_ids(), make("llama-like").new_cache())

    @pytest.mark.parametrize("name", ["llama-like", "gpt-like", "window", "alibi", "sinusoidal"])
    def test_prompts_of_unequal_length_in_one_batch(self, name: str) -> None:
        model, ids, padding = make(name), some_ids(3, 9), torch.tensor([0, 2, 4])
        with torch.no_grad():
            cache = model.new_cache(padding=padding)
            model(ids[:, :6], cache)
            last = [model(ids[:, t : t + 1], cache) for t in range(6, 9)]
            for row, pads in enumerate(padding.tolist()):
                alone = model(ids[row : row + 1, pads:])
                torch.testing.assert_close(torch.cat([step[row] for step in last]), alone[0, -3:])

    def test_packed_documents_do_not_see_each_other(self) -> None:
        model = make("llama-like")
        packed = pack([[1, 2, 3], [4, 5, 6, 7, 8]], length=8)
        logits = model(packed.inputs, positions=packed.positions, mask=document_mask(packed.documents))
        torch.testing.assert_close(logits[:, 3:], model(torch.tensor([[4, 5, 6, 7, 8]])))

    def test_beyond_the_training_length(self) -> None:
        long = some_ids(1, 20)
        for name in ("llama-like", "alibi", "sinusoidal", "relative", "no positions", "dynamic"):
            assert make(name)(long).isfinite().all()
        with pytest.raises(ValueError, match=r"position 19 is past the limit.*context_length = 12"):
            make("gpt-like")(long)
        with pytest.raises(ValueError, match="windows of exactly 12 tokens and got 20"):
            make("flat")(long)

    def test_bad_ids_name_the_fix(self) -> None:
        model = make("llama-like")
        with pytest.raises(ValueError, match=r"token id 17 is outside 0 \.\. 16"):
            model(torch.tensor([[3, 17]]))
        with pytest.raises(ValueError, match=r"shape \[3\].*ids\[None\]"):
            model(torch.tensor([1, 2, 3]))
        with pytest.raises(ValueError, match="at least one token"):
            model(torch.zeros(1, 0, dtype=torch.long))
        with pytest.raises(TypeError, match=r"got torch\.float32.*ids\.long\(\)"):
            model(torch.zeros(1, 3))
        with pytest.raises(ValueError, match=r"ids are on meta and the model on cpu"):
            model(torch.zeros(1, 3, dtype=torch.long, device="meta"))

    def test_gradients_against_finite_differences(self) -> None:
        for name in ("llama-like", "gpt-like", "flat_squeeze"):
            model, ids = make(name), some_ids(1)
            names = [n for n, _ in model.named_parameters()]

            def run(*values: Tensor, model: nn.Module = model, names: list[str] = names, ids: Tensor = ids) -> Any:
                return torch.func.functional_call(model, dict(zip(names, values, strict=True)), (ids,))

            torch.manual_seed(0)
            assert torch.autograd.gradcheck(run, tuple(model.parameters()), fast_mode=True, atol=1e-4)

    def test_auxiliary_loss_is_zero_unless_a_part_has_one(self) -> None:
        class Balanced(nn.Module):
            def __init__(self, dim: int, hidden: int) -> None:
                super().__init__()
                self.factor = nn.Parameter(torch.ones(()))

            def forward(self, x: Tensor) -> Tensor:
                return x * self.factor

            def auxiliary_loss(self) -> Tensor:
                return 3 * self.factor

        assert make("llama-like").auxiliary_loss().item() == 0
        assert make("llama-like", feed_forward=Balanced).auxiliary_loss().item() == 6

    def test_shared_parts_are_one(self) -> None:
        shared, plain = make("shared feed-forward"), make("llama-like")
        assert shared.core.layers[0].feed_forward is shared.core.layers[1].feed_forward
        assert plain.num_parameters() - shared.num_parameters() == 3 * 16 * 24
        assert sum(p.numel() for n, p in make("learned activation").named_parameters() if "activation" in n) == 31

    def test_tied_head_is_the_table(self) -> None:
        model = make("llama-like")
        assert model.head.weight is model.embedder.tokens.weight
        assert make("grouped, untied").head.weight is not make("grouped, untied").embedder.tokens.weight

    def test_deep_models_start_at_the_uniform_loss(self) -> None:
        torch.manual_seed(0)
        model = LanguageModel(BASE.replace(num_layers=12, initialization=InitConfig()))
        loss = F.cross_entropy(model(some_ids()).flatten(0, 1), some_ids(seed=1).flatten())
        assert loss.item() == pytest.approx(torch.tensor(17.0).log().item(), abs=0.02)


class LearnersAttention(nn.Module):
    """What lesson 03 builds, and nothing of the library in it but the rotary embedding of lesson 02."""

    def __init__(self, dim: int, num_heads: int, num_kv_heads: int, rotary: RotaryEmbedding | None = None) -> None:
        super().__init__()
        self.heads, self.kv_heads, self.width, self.rotary = num_heads, num_kv_heads, dim // num_heads, rotary
        self.q_proj = nn.Linear(dim, num_heads * self.width, bias=False)
        self.k_proj = nn.Linear(dim, num_kv_heads * self.width, bias=False)
        self.v_proj = nn.Linear(dim, num_kv_heads * self.width, bias=False)
        self.o_proj = nn.Linear(num_heads * self.width, dim, bias=False)

    def forward(
        self, x: Float[Tensor, "batch seq dim"], positions: Tensor, mask: Tensor | None = None, cache: Any = None
    ) -> Tensor:
        batch, seq, _ = x.shape
        q = self.q_proj(x).view(batch, seq, self.heads, -1).transpose(1, 2)
        k = self.k_proj(x).view(batch, seq, self.kv_heads, -1).transpose(1, 2)
        v = self.v_proj(x).view(batch, seq, self.kv_heads, -1).transpose(1, 2)
        if self.rotary is not None:
            q, k = self.rotary(q, positions), self.rotary(k, positions)
        if cache is not None:
            k, v, _ = cache.append(k, v)
        k = k.repeat_interleave(self.heads // self.kv_heads, dim=1)
        v = v.repeat_interleave(self.heads // self.kv_heads, dim=1)
        future = torch.ones(seq, k.shape[2], dtype=torch.bool).triu(k.shape[2] - seq + 1)
        scores = (q @ k.mT / self.width**0.5).masked_fill(future, -torch.inf)
        return self.o_proj((scores.softmax(-1) @ v).transpose(1, 2).reshape(batch, seq, -1))


class TestOwnParts:
    @pytest.mark.parametrize("name", ["llama-like", "grouped, untied", "no positions", "post-norm"])
    def test_a_learners_attention_gives_the_librarys_logits(self, name: str) -> None:
        library, learner = make(name), make(name, attention=LearnersAttention)
        learner.load_state_dict(library.state_dict())
        torch.testing.assert_close(learner(some_ids()), library(some_ids()))
        with torch.no_grad():
            cache = learner.new_cache()
            parts = [learner(some_ids()[:, t : t + 1], cache) for t in range(12)]
        torch.testing.assert_close(torch.cat(parts, dim=1), library(some_ids()))

    def test_learners_blocks_norms_and_feed_forwards(self) -> None:
        class MyNorm(nn.Module):
            def __init__(self, dim: int) -> None:
                super().__init__()
                self.weight = nn.Parameter(torch.ones(dim))

            def forward(self, x: Tensor) -> Tensor:
                return x / (x.pow(2).mean(-1, keepdim=True) + 1e-6).sqrt() * self.weight

        class MySwiGLU(nn.Module):
            def __init__(self, dim: int, hidden: int) -> None:
                super().__init__()
                self.gate_proj = nn.Linear(dim, hidden, bias=False)
                self.up_proj = nn.Linear(dim, hidden, bias=False)
                self.down_proj = nn.Linear(hidden, dim, bias=False)

            def forward(self, x: Tensor) -> Tensor:
                gate = self.gate_proj(x)
                return self.down_proj(gate * gate.sigmoid() * self.up_proj(x))  # type: ignore[no-any-return]

        class MyBlock(nn.Module):
            def __init__(
                self,
                attention: nn.Module,
                feed_forward: nn.Module,
                attention_norm: nn.Module,
                feed_forward_norm: nn.Module,
            ) -> None:
                super().__init__()
                self.attention, self.feed_forward = attention, feed_forward
                self.attention_norm, self.feed_forward_norm = attention_norm, feed_forward_norm

            def forward(self, x: Tensor, positions: Tensor, mask: Any = None, cache: Any = None) -> Tensor:
                x = x + self.attention(self.attention_norm(x), positions, mask, cache)
                return x + self.feed_forward(self.feed_forward_norm(x))  # type: ignore[no-any-return]

        parts = {"attention": LearnersAttention, "feed_forward": MySwiGLU, "norm": MyNorm, "block": MyBlock}
        library, learner = make("llama-like"), make("llama-like", **parts)
        learner.load_state_dict(library.state_dict())
        torch.testing.assert_close(learner(some_ids()), library(some_ids()))

    def test_an_option_that_a_class_lacks_is_named(self) -> None:
        with pytest.raises(
            TypeError, match=r"LearnersAttention takes no 'window', which the config asks for \(window=4\)"
        ):
            make("window", attention=LearnersAttention)

    def test_from_preset_takes_classes_too(self) -> None:
        model = LanguageModel.from_preset("slim", num_layers=1, attention=LearnersAttention, device="meta")
        assert isinstance(model.core.layers[0].attention, LearnersAttention)


class TestAccounts:
    @pytest.mark.parametrize("name", CONFIGS)
    def test_dry_run_equals_the_real_step(self, name: str) -> None:
        torch.manual_seed(0)
        model = LanguageModel(CONFIGS[name])
        assert dry_run(model, 3, 12) == measure_step(model, some_ids(3))
        assert model.summary(3).parameters == model.num_parameters()
        assert model.summary(3).dlib_parameters == model.num_parameters("dlib")

    def test_operations_by_hand(self) -> None:
        model = LanguageModel(CONFIGS["grouped, untied"])
        matrices = sum(p.numel() for n, p in model.named_parameters() if "_proj" in n or n == "head.weight")
        summary = model.summary(2)
        assert summary.forward_flops == 2 * matrices + attention_flops(model.config, 12)
        # backward: every product twice, except that attention's scores are computed once more
        extra = attention_flops(model.config, 12) // 2
        assert summary.training_flops == 3 * summary.forward_flops + extra

    def test_activations_by_hand(self) -> None:
        """A model simple enough to list what the backward pass needs: no norms, no positions, one plain layer."""
        config = BASE.replace(
            num_layers=1,
            norm={"kind": "none"},
            positions={"kind": "none"},
            head={"tied": False},
            feed_forward={"kind": "plain", "activation": "relu", "bias": False},
        )
        tokens, dim, hidden, vocab, heads = 2 * 12, 16, 24, 17, 4
        floats = tokens * (
            dim  # the stream before attention, which q, k and v read
            + 4 * dim  # q, k, v, and what attention gives to o
            + heads  # one logarithm of a sum a head and token, for the softmax
            + dim  # the stream after attention, which up reads
            + hidden  # relu's result, which relu and down need
            + dim  # the stream after the feed-forward, which the head reads
            + vocab  # log-probabilities
        )
        integers = 8 * 2 * tokens  # ids for the lookup, targets for the loss
        kept = LanguageModel(config).summary(2).activation_bytes
        assert kept == 4 * floats + integers + 4  # and one float: the total weight of the targets

    def test_memory_of_weights_gradients_and_adamw(self) -> None:
        model = LanguageModel(BASE)
        summary = model.summary()
        optimizer = torch.optim.AdamW(model.parameters())
        model(some_ids()).sum().backward()
        optimizer.step()
        assert summary.weight_bytes == sum(p.nbytes for p in model.parameters())
        assert summary.gradient_bytes == sum(p.grad.nbytes for p in model.parameters() if p.grad is not None)
        held = sum(t.nbytes for state in optimizer.state.values() for n, t in state.items() if n != "step")
        assert summary.optimizer_bytes == held

    @pytest.mark.parametrize("name", ["llama-like", "grouped, untied", "window", "window and sinks"])
    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
    def test_kv_cache_bytes(self, name: str, dtype: torch.dtype) -> None:
        model = LanguageModel(CONFIGS[name]).to(dtype)
        with torch.no_grad():
            cache = model.new_cache()
            model(some_ids(3), cache)
        assert cache.nbytes == kv_cache_bytes(model.config, 3, 12, dtype) == model.summary(3).kv_cache_bytes

    def test_the_table(self) -> None:
        text = str(LanguageModel(CONFIGS["grouped, untied"]).summary())
        for word in ("token table", "attention", "feed-forward", "head", "as dlib counts", "AdamW", "KV cache"):
            assert word in text
        assert "none possible" in str(LanguageModel(CONFIGS["flat"]).summary())

    def test_unknown_convention(self) -> None:
        with pytest.raises(ValueError, match="convention 'keras': choose 'all' or 'dlib'"):
            LanguageModel(BASE).num_parameters("keras")


class FakeTokenizer:
    def save(self, path: str | Path) -> None:
        Path(path).write_text('{"tokens": []}')


class TestFiles:
    @pytest.mark.parametrize("name", CONFIGS)
    def test_round_trip(self, name: str, tmp_path: Path) -> None:
        torch.manual_seed(0)
        model = LanguageModel(CONFIGS[name]).eval()
        model.save(tmp_path / "m", FakeTokenizer())
        before = torch.random.get_rng_state()
        loaded = LanguageModel.load(tmp_path / "m").eval()
        assert torch.equal(torch.random.get_rng_state(), before)
        assert loaded.config == model.config
        assert torch.equal(loaded(some_ids()), model(some_ids()))
        assert sorted(p.name for p in tmp_path.rglob("*")) == [
            "config.json",
            "m",
            "model.safetensors",
            "tokenizer.json",
        ]
        if model.config.head.tied:
            assert loaded.head.weight is loaded.embedder.tokens.weight

    def test_precision_is_kept(self, tmp_path: Path) -> None:
        LanguageModel(BASE).bfloat16().save(tmp_path / "m")
        assert next(LanguageModel.load(tmp_path / "m").parameters()).dtype == torch.bfloat16

    def test_saving_again_replaces(self, tmp_path: Path) -> None:
        LanguageModel(BASE).save(tmp_path / "m")
        LanguageModel(BASE.replace(dim=32)).save(tmp_path / "m")
        assert LanguageModel.load(tmp_path / "m").config.dim == 32
        assert [p.name for p in tmp_path.iterdir()] == ["m"]

    def test_a_save_that_fails_or_is_killed_keeps_the_old_one(self, tmp_path: Path) -> None:
        class Broken:
            def save(self, path: str | Path) -> None:
                raise OSError("disk full")

        LanguageModel(BASE).save(tmp_path / "m")
        with pytest.raises(OSError, match="disk full"):
            LanguageModel(BASE.replace(dim=32)).save(tmp_path / "m", Broken())
        assert LanguageModel.load(tmp_path / "m").config.dim == 16
        (tmp_path / "m").rename(tmp_path / ".m.previous")  # killed between the two renames
        assert LanguageModel.load(tmp_path / "m").config.dim == 16
        LanguageModel(BASE.replace(dim=32)).save(tmp_path / "m")  # and the next save clears up
        assert [p.name for p in tmp_path.iterdir()] == ["m"]

    def test_killed_between_the_two_renames(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        LanguageModel(BASE).save(tmp_path / "m")
        rename = Path.rename

        def killed(self: Path, target: Path) -> Path:
            if self.name == ".m.partial":
                raise KeyboardInterrupt
            return rename(self, target)

        monkeypatch.setattr(Path, "rename", killed)
        with pytest.raises(KeyboardInterrupt):
            LanguageModel(BASE.replace(dim=32)).save(tmp_path / "m")
        assert LanguageModel.load(tmp_path / "m").config.dim == 16

    def test_other_files_are_not_overwritten(self, tmp_path: Path) -> None:
        (tmp_path / "notes.txt").touch()
        with pytest.raises(FileExistsError, match="not a saved model"):
            LanguageModel(BASE).save(tmp_path)

    def test_partial_and_mismatched_files_are_refused_with_a_list(self, tmp_path: Path) -> None:
        path = tmp_path / "m"
        LanguageModel(BASE).save(path)
        config = json.loads((path / "config.json").read_text())
        config["model"]["num_layers"] = 3
        config["model"]["feed_forward"]["hidden"] = 20
        config["model"]["attention"]["qk_norm"] = True
        (path / "config.json").write_text(json.dumps(config))
        with pytest.raises(ValueError, match="not those of its config") as caught:
            LanguageModel.load(path)
        message = str(caught.value)
        assert "missing: core.layers.2.attention.q_proj.weight [16, 16]" in message
        assert "missing: core.layers.0.attention.q_norm.weight [4]" in message
        assert "core.layers.1.feed_forward.down_proj.weight is [16, 24], the config makes it [16, 20]" in message
        config["model"] = BASE.replace(num_layers=1).to_dict()
        (path / "config.json").write_text(json.dumps(config))
        with pytest.raises(ValueError, match=r"unknown: core\.layers\.1\.attention\.k_proj\.weight \[16, 16\]"):
            LanguageModel.load(path)

    def test_damage_is_named(self, tmp_path: Path) -> None:
        path = tmp_path / "m"
        with pytest.raises(FileNotFoundError, match="is no folder"):
            LanguageModel.load(path)
        LanguageModel(BASE).save(path)
        weights = (path / "model.safetensors").read_bytes()
        for damaged in (weights[: len(weights) // 2], weights[:4], b"\xff" * 100):
            (path / "model.safetensors").write_bytes(damaged)
            with pytest.raises(ValueError, match="damaged or cut short"):
                LanguageModel.load(path)
        (path / "model.safetensors").unlink()
        with pytest.raises(FileNotFoundError, match=r"lacks model\.safetensors"):
            LanguageModel.load(path)
        (path / "model.safetensors").write_bytes(weights)
        (path / "config.json").write_text('{"model_type": "llama"}')
        with pytest.raises(ValueError, match="transformers model of type 'llama'"):
            LanguageModel.load(path)
        (path / "config.json").write_text("{")
        with pytest.raises(ValueError, match=r"config\.json is damaged"):
            LanguageModel.load(path)

    def test_own_parts_are_asked_for(self, tmp_path: Path) -> None:
        model = LanguageModel(BASE, attention=LearnersAttention).eval()
        model.save(tmp_path / "m")
        with pytest.raises(ValueError, match="attention=LearnersAttention"):
            LanguageModel.load(tmp_path / "m")
        loaded = LanguageModel.load(tmp_path / "m", attention=LearnersAttention).eval()
        assert torch.equal(loaded(some_ids()), model(some_ids()))

    def test_names_are_close_to_llamas(self) -> None:
        names = set(LanguageModel(BASE).state_dict())
        assert {
            "embedder.tokens.weight",
            "core.layers.0.attention.q_proj.weight",
            "core.layers.1.feed_forward.gate_proj.weight",
            "core.layers.1.attention_norm.weight",
            "core.norm.weight",
            "head.weight",
        } <= names
        assert len(names) == 2 * 9 + 3


def test_compiled_form_of_rotary_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    model, ids = make("yarn, half-split, partial"), some_ids()
    expected = model(ids)
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    torch.testing.assert_close(model(ids), expected)


def test_blocks_are_plain_modules() -> None:
    assert all(isinstance(layer, Block) for layer in make("llama-like").core.layers)
