"""Doge, dense and with product-key experts, to and from transformers."""

import random
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

from minilm.config import MoEConfig
from minilm.exhibits import UpstreamCDMoE, batch_leak, future_leak
from minilm.interop import (
    config_from_transformers,
    config_to_transformers,
    from_transformers,
    load_transformers,
    save_transformers,
    to_transformers,
)
from minilm.model import LanguageModel
from minilm.presets import config as preset
from tests.test_interop import random_llama, scrambled

transformers = pytest.importorskip("transformers")

KEEP = [2, 6, 16, 17, 40]  # keys that a query keeps, of 17


def some_ids(vocab: int, seq: int, seed: int) -> torch.Tensor:
    """No token twice: in the first layer two of a kind have equal biases, and of equals each side keeps another."""
    generator = torch.Generator().manual_seed(seed)
    return torch.stack([torch.randperm(vocab, generator=generator)[:seq] for _ in range(2)])


def random_doge(seed: int, experts: bool = False, bias: bool | None = None) -> Any:
    rng = random.Random(seed)
    common = random_llama(rng).to_dict()
    shared = (
        "vocab_size",
        "hidden_size",
        "num_hidden_layers",
        "num_attention_heads",
        "num_key_value_heads",
        "head_dim",
    )
    shared += ("hidden_act", "max_position_embeddings", "rms_norm_eps", "tie_word_embeddings", "rope_parameters")
    options = {name: common[name] for name in shared} | {"bos_token_id": None, "eos_token_id": None}
    options["vocab_size"] = rng.randint(17, 60)
    if experts:
        keys = rng.randint(1, 5)
        options |= {
            "is_moe": True,
            "num_experts": keys**2,
            "num_experts_per_tok": rng.randint(1, keys**2),
            "norm_topk_prob": rng.random() < 0.5,
        }
    return transformers.DogeConfig(
        **options,
        intermediate_size=rng.choice([16, 25]),
        attention_bias=rng.random() < 0.5 if bias is None else bias,
        mlp_bias=rng.random() < 0.5,
        keep_window_size=KEEP[seed % 5],
        sliding_window=rng.choice([None, None, 5]),
    )


def theirs_of(config: Any, seed: int, attention: str = "sdpa") -> Any:
    torch.manual_seed(seed)
    return scrambled(transformers.AutoModelForCausalLM.from_config(config, attn_implementation=attention), seed)


def our_moe(**changes: Any) -> LanguageModel:
    moe = MoEConfig(num_experts=16, top_k=4, route="product-key", scoring="softmax-chosen")
    config = preset("doge-20m-hf", vocab_size=40, dim=16, num_layers=2, context_length=8)
    config = config.replace(
        attention={"head_dim": 8, "dynamic_mask": {"keep_window": 6}}, feed_forward={"hidden": 20, "moe": moe}
    )
    return scrambled(LanguageModel(config.replace(**changes)), 0)


class TestDense:
    @pytest.mark.parametrize("attention", ["eager", "sdpa"])
    @pytest.mark.parametrize("seed", range(10))
    def test_theirs_as_ours_and_back(self, seed: int, attention: str) -> None:
        """Within the keep window and past it, with and without biases, under both of transformers' attention kernels."""
        theirs = theirs_of(random_doge(seed), seed, attention)
        ours = from_transformers(theirs)
        ids = some_ids(theirs.config.vocab_size, 17, seed)
        back = to_transformers(ours)
        with torch.no_grad():
            expected = theirs(ids).logits
            torch.testing.assert_close(ours(ids), expected, atol=1e-5, rtol=1e-5)
            torch.testing.assert_close(back(ids).logits, expected, atol=1e-5, rtol=1e-5)
        assert ours.num_parameters() == sum(p.numel() for p in theirs.parameters())

    def test_keys_past_the_window_are_dropped_and_it_shows(self) -> None:
        theirs = theirs_of(random_doge(0), 0)
        ids = some_ids(theirs.config.vocab_size, 17, 0)
        wide = from_transformers(theirs).config.replace(attention={"dynamic_mask": {"keep_window": 17}})
        unmasked = LanguageModel(wide).eval()
        unmasked.load_state_dict(from_transformers(theirs).state_dict())
        with torch.no_grad():
            assert (unmasked(ids) - theirs(ids).logits).abs().max() > 1e-3

    @pytest.mark.parametrize("keep", [4, 40])
    def test_cached_generation_agrees(self, keep: int) -> None:
        config = random_doge(3)
        config.keep_window_size, config.sliding_window = keep, None
        config.rope_parameters = {"rope_type": "default", "rope_theta": 1e4}
        theirs = theirs_of(config, 3)
        ours = from_transformers(theirs)
        ids = some_ids(theirs.config.vocab_size, 5, 3)[:1]
        everything = torch.ones_like(ids)  # or generate() takes token 0 for padding
        expected = theirs.generate(ids, attention_mask=everything, max_new_tokens=10, do_sample=False, pad_token_id=0)
        with torch.no_grad():
            cache, new, text = ours.new_cache(), ids, ids
            for _ in range(10):
                new = ours(new, cache)[:, -1:].argmax(-1)
                text = torch.cat((text, new), dim=1)
        assert text.tolist() == expected.tolist()

    def test_presets_and_their_counts(self) -> None:
        for name in ("doge-20m-hf", "doge-60m-hf"):
            with torch.device("meta"):
                theirs = transformers.AutoModelForCausalLM.from_config(config_to_transformers(preset(name)))
            ours = LanguageModel.from_preset(name, device="meta")
            assert sum(p.numel() for p in theirs.parameters()) == ours.num_parameters()

    def test_folders_and_interleaved_rotation(self, tmp_path: Path) -> None:
        dense = preset("doge-20m-hf", vocab_size=40, dim=16, num_layers=2, positions={"interleaved": True})
        ours = scrambled(LanguageModel(dense.replace(attention={"head_dim": 8, "dynamic_mask": {"keep_window": 6}})), 0)
        save_transformers(ours, tmp_path)
        theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path).eval()
        ids = some_ids(40, 12, 0)
        with torch.no_grad():
            torch.testing.assert_close(theirs(ids).logits, ours(ids), atol=1e-5, rtol=1e-5)
            torch.testing.assert_close(load_transformers(tmp_path).eval()(ids), ours(ids), atol=1e-5, rtol=1e-5)


@pytest.mark.filterwarnings("ignore:transformers' Doge cuts its router's scores")
class TestExperts:
    @pytest.mark.parametrize("seed", range(10))
    def test_theirs_as_ours_and_back_with_their_router(self, seed: int) -> None:
        theirs = theirs_of(random_doge(seed, experts=True), seed, ["eager", "sdpa"][seed % 2])
        ours = from_transformers(theirs, legacy_router_view=True)
        ids = some_ids(theirs.config.vocab_size, 17, seed)
        back = to_transformers(ours)
        with torch.no_grad():
            expected = theirs(ids).logits
            torch.testing.assert_close(ours(ids), expected, atol=1e-5, rtol=1e-5)
            torch.testing.assert_close(back(ids).logits, expected, atol=1e-5, rtol=1e-5)

    @pytest.mark.parametrize("seed", range(10))
    def test_each_token_for_itself_agrees_one_token_at_a_time(self, seed: int) -> None:
        """The same weights routed correctly: what transformers computes when it is given a text token by token."""
        config = random_doge(seed, experts=True)
        config.rope_parameters = {"rope_type": "default", "rope_theta": 1e4}
        config.sliding_window = None
        theirs = theirs_of(config, seed)
        ours = from_transformers(theirs, legacy_router_view=False)
        ids = some_ids(config.vocab_size, 12, seed)[:1]
        with torch.no_grad():
            cache, steps = None, []
            for t in range(12):
                out = theirs(ids[:, t : t + 1], past_key_values=cache, use_cache=True)
                cache = out.past_key_values
                steps.append(out.logits)
            torch.testing.assert_close(ours(ids), torch.cat(steps, dim=1), atol=1e-5, rtol=1e-5)

    def test_their_router_is_not_causal_and_ours_is(self) -> None:
        config = random_doge(4, experts=True)
        config.num_experts, config.num_experts_per_tok = 25, 3
        config.rope_parameters = {
            "rope_type": "default",
            "rope_theta": 1e4,
        }  # dynamic scaling would itself hear of the length
        theirs = theirs_of(config, 4)
        ids = some_ids(config.vocab_size, 12, 0)
        for ours, least, most in (
            (lambda ids: theirs(ids).logits, 1e-3, 1e9),
            (from_transformers(theirs, legacy_router_view=True), 1e-3, 1e9),
            (from_transformers(theirs, legacy_router_view=False), 0, 1e-5),
        ):
            assert least <= future_leak(ours, ids[:1], replacement=int(ids[0, -1]) - 1) <= most
            assert least <= batch_leak(ours, ids, replacement=1) <= most

    def test_folders(self, tmp_path: Path) -> None:
        ours, ids = our_moe(), some_ids(40, 12, 0)
        with pytest.raises(ValueError, match="Pass legacy_router_view=True to have its weights there all the same"):
            save_transformers(ours, tmp_path)
        save_transformers(ours, tmp_path, legacy_router_view=True)
        with torch.no_grad():
            again = load_transformers(tmp_path, legacy_router_view=False).eval()
            torch.testing.assert_close(again(ids), ours(ids), atol=1e-5, rtol=1e-5)
            mixing = load_transformers(tmp_path, legacy_router_view=True).eval()
            theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path).eval()
            torch.testing.assert_close(mixing(ids), theirs(ids).logits, atol=1e-5, rtol=1e-5)
        mixing.save(tmp_path / "ours")
        with pytest.raises(ValueError, match="feed_forward=UpstreamCDMoE"):
            LanguageModel.load(tmp_path / "ours")
        again = LanguageModel.load(tmp_path / "ours", feed_forward=UpstreamCDMoE).eval()
        with torch.no_grad():
            torch.testing.assert_close(again(ids), mixing(ids), atol=1e-6, rtol=1e-6)


class TestRefusals:
    def test_the_router_is_a_choice_to_make(self) -> None:
        theirs = theirs_of(random_doge(0, experts=True), 0)
        with pytest.raises(
            ValueError, match=r"Choose legacy_router_view=True for the same logits .* or False for a causal"
        ):
            from_transformers(theirs)
        with pytest.warns(UserWarning, match="chosen by other tokens, later ones and those of other sequences"):
            mixing = from_transformers(theirs, legacy_router_view=True)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            from_transformers(theirs, legacy_router_view=False)
            to_transformers(mixing)
        with pytest.warns(UserWarning, match="its logits there are not this model's"):
            to_transformers(our_moe(), legacy_router_view=True)

    def test_what_transformers_cannot_express_is_listed(self) -> None:
        with pytest.raises(
            ValueError, match=r"Doge cannot .*: attention without QK-norm; a dynamic mask for each head"
        ):
            config_to_transformers(preset("doge-20m"))
        changed = preset("doge-20m-hf", block={"residual_scale": False}, attention={"qk_norm_eps": 1e-3})
        with pytest.raises(ValueError, match=r"QK-norm with another eps than the other norms'; no residual scales$"):
            config_to_transformers(changed)
        experts = MoEConfig(num_experts=16, top_k=2, route="product-key")
        with pytest.raises(
            ValueError, match=r"Doge cannot express this model: weights of experts that don't sum to 1$"
        ):
            config_to_transformers(preset("doge-20m-hf", feed_forward={"moe": experts}))
        with pytest.raises(ValueError, match=r"Doge cannot express this model: experts other than product-key ones$"):
            config_to_transformers(preset("doge-20m-hf", feed_forward={"moe": MoEConfig(4, 2, normalize=True)}))
        with pytest.raises(ValueError, match=r"Mixtral cannot express this model: .*'product-key' routing"):
            config_to_transformers(preset("slim", feed_forward={"moe": experts}))

    def test_what_ours_cannot_express_is_named(self) -> None:
        with pytest.raises(ValueError, match=r"hidden_dropout = 0.1: ours acts on the embeddings too"):
            config_from_transformers(transformers.DogeConfig(hidden_dropout=0.1))
        with pytest.raises(ValueError, match="num_experts = 20: product keys find experts in a square"):
            config_from_transformers(transformers.DogeConfig(is_moe=True, num_experts=20, num_experts_per_tok=4))
