"""Qwen3, Mixtral and Qwen3-MoE, to and from transformers."""

import random
from pathlib import Path
from typing import Any

import pytest
import torch

from minilm.config import ModelConfig, MoEConfig
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
from tests.oracles import small_config
from tests.test_interop import random_llama, scrambled, some_ids

transformers = pytest.importorskip("transformers")


def random_config(family: str, seed: int) -> Any:
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
    window = rng.choice([None, 1, 5, 40])
    experts = rng.randint(1, 7)
    mixture = {"num_experts_per_tok": rng.randint(1, experts)}
    if family == "Mixtral":
        return transformers.MixtralConfig(
            **options,
            **mixture,
            num_local_experts=experts,
            intermediate_size=rng.choice([8, 11]),
            sliding_window=window,
        )
    options |= {
        "use_sliding_window": window is not None,
        "sliding_window": window,
        "attention_bias": rng.random() < 0.5,
    }
    if family == "Qwen3":
        return transformers.Qwen3Config(**options, intermediate_size=rng.choice([16, 25]), max_window_layers=0)
    return transformers.Qwen3MoeConfig(
        **options,
        **mixture,
        num_experts=experts,
        moe_intermediate_size=rng.choice([8, 11]),
        norm_topk_prob=rng.random() < 0.5,
    )


RANDOM = [(family, seed) for family in ("Qwen3", "Mixtral", "Qwen3Moe") for seed in range(10)]


def tiny(**feed_forward: Any) -> ModelConfig:
    moe = MoEConfig(**{"num_experts": 4, "top_k": 2, "normalize": True, **feed_forward})
    return small_config(vocab_size=40, feed_forward={"hidden": 12, "moe": moe}, context_length=16)


class TestEquality:
    @pytest.mark.parametrize(("family", "seed"), RANDOM)
    def test_theirs_as_ours_and_back(self, family: str, seed: int) -> None:
        torch.manual_seed(seed)
        options = {} if family == "Qwen3" else {"experts_implementation": "eager"}  # others refuse odd widths
        config = random_config(family, seed)
        theirs = scrambled(transformers.AutoModelForCausalLM.from_config(config, **options), seed)
        ours = from_transformers(theirs)
        ids = some_ids(theirs.config.vocab_size, 17, seed)
        back = to_transformers(ours)
        assert type(back) is type(theirs)
        with torch.no_grad():
            expected = theirs(ids).logits
            torch.testing.assert_close(ours(ids), expected, atol=1e-5, rtol=1e-5)
            torch.testing.assert_close(back(ids).logits, expected, atol=1e-6, rtol=1e-6)
        assert ours.num_parameters() == sum(p.numel() for p in theirs.parameters())

    @pytest.mark.parametrize("attention", [{}, {"qk_norm": True}, {"qk_norm": True, "num_kv_heads": 1, "window": 4}])
    @pytest.mark.parametrize("scoring", ["softmax", "softmax-chosen"])
    def test_our_interleaved_models_travel(self, attention: dict[str, Any], scoring: str) -> None:
        config = tiny(scoring=scoring, balance="switch", noise=0.3).replace(attention=attention)
        ours = scrambled(LanguageModel(config), 0)
        theirs = to_transformers(ours)
        assert type(theirs).__name__ == ("Qwen3MoeForCausalLM" if attention else "MixtralForCausalLM")
        ids = some_ids(40, 12, 0)
        with torch.no_grad():
            torch.testing.assert_close(theirs(ids).logits, ours(ids), atol=1e-5, rtol=1e-5)

    @pytest.mark.parametrize("name", ["mixtral-tiny", "qwen3-moe-tiny"])
    def test_presets_open_in_transformers(self, name: str, tmp_path: Path) -> None:
        dim = 8 * preset(name).attention.num_heads
        config = preset(name, vocab_size=40, dim=dim, num_layers=2, feed_forward={"hidden": 16})
        ours = scrambled(LanguageModel(config), 0)
        save_transformers(ours, tmp_path)
        theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path).eval()
        ids = some_ids(40, 12, 0)
        with torch.no_grad():
            torch.testing.assert_close(theirs(ids).logits, ours(ids), atol=1e-5, rtol=1e-5)
            torch.testing.assert_close(load_transformers(tmp_path).eval()(ids), ours(ids), atol=1e-5, rtol=1e-5)

    def test_learned_noise_stays_behind(self) -> None:
        ours = scrambled(LanguageModel(tiny(noise=1.0, noise_kind="learned")), 0)
        theirs, ids = to_transformers(ours), some_ids(40, 12, 0)
        with torch.no_grad():
            torch.testing.assert_close(theirs(ids).logits, ours(ids), atol=1e-5, rtol=1e-5)


class TestRefusals:
    @pytest.mark.parametrize(
        ("moe", "reasons"),
        [
            ({"normalize": False}, "Mixtral cannot express this model: weights of experts that don't sum to 1$"),
            ({"scoring": "sigmoid", "balance": "bias"}, "experts chosen by a balancing bias; sigmoid scores$"),
            ({"shared_hidden": 8, "capacity_factor": 1.5}, "an expert that all tokens share; a capacity$"),
            (
                {"route": "expert-choice", "normalize": False, "gate_reads_stream": True},
                "'expert-choice' routing; a router",
            ),
        ],
    )
    def test_mixtures(self, moe: dict[str, Any], reasons: str) -> None:
        with pytest.raises(ValueError, match=reasons):
            config_to_transformers(tiny(**moe))

    def test_attention(self) -> None:
        biased = tiny().replace(attention={"bias": True, "output_bias": True})
        with pytest.raises(ValueError, match=r"Mixtral cannot express this model: biases in attention$"):
            config_to_transformers(biased)
        assert config_to_transformers(biased.replace(attention={"qk_norm": True})).attention_bias
        other_eps = tiny().replace(attention={"qk_norm": True, "qk_norm_eps": 1e-3})
        with pytest.raises(ValueError, match=r"Qwen3-MoE cannot .*: QK-norm with another eps than the other norms'$"):
            config_to_transformers(other_eps)

    def test_what_ours_cannot_express_is_named(self) -> None:
        with pytest.raises(ValueError, match=r"router_jitter_noise = 0.1: ours has no noise that multiplies"):
            config_from_transformers(transformers.MixtralConfig(router_jitter_noise=0.1))
        for option in ({"decoder_sparse_step": 2}, {"mlp_only_layers": [0]}):
            with pytest.raises(ValueError, match="dense layers among those of experts"):
                config_from_transformers(transformers.Qwen3MoeConfig(**option))
        windows = transformers.Qwen3Config(use_sliding_window=True, sliding_window=4, max_window_layers=1)
        with pytest.raises(ValueError, match="a window in some layers only"):
            config_from_transformers(windows)
