import random
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from minilm.config import RotaryScaling
from minilm.interop import (
    config_from_transformers,
    from_transformers,
    load_transformers,
    save_transformers,
    to_transformers,
)
from minilm.model import LanguageModel
from minilm.presets import config as preset

transformers = pytest.importorskip("transformers")


def some_ids(vocab: int, seq: int, seed: int) -> Tensor:
    return torch.randint(vocab, (2, seq), generator=torch.Generator().manual_seed(seed))


def scrambled(model: Any, seed: int) -> Any:
    """Weights large enough that logits differ by more than rounding, norms and biases away from 1 and 0."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.15)
    return model.eval()


def random_gpt2(rng: random.Random) -> Any:
    heads = rng.choice([1, 2, 3, 4])
    return transformers.GPT2Config(
        vocab_size=rng.randint(11, 60),
        n_embd=heads * rng.choice([4, 8, 10]),
        n_head=heads,
        n_layer=rng.randint(1, 3),
        n_positions=24,
        n_inner=rng.choice([None, 20, 33]),
        activation_function=rng.choice(["gelu_new", "gelu", "relu", "silu"]),
        layer_norm_epsilon=rng.choice([1e-5, 1e-3]),
        tie_word_embeddings=rng.random() < 0.7,
        bos_token_id=None,
        eos_token_id=None,
    )


SCALINGS: list[dict[str, Any]] = [
    {"rope_type": "default"},
    {"rope_type": "linear", "factor": 4.0},
    {"rope_type": "dynamic", "factor": 2.0},
    {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 6},
    {
        "rope_type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 6,
    },
]


def random_llama(rng: random.Random, family: str = "Llama", scaling: dict[str, Any] | None = None) -> Any:
    kv_heads = rng.choice([1, 2, 3])
    heads = kv_heads * rng.choice([1, 2, 3])
    head_dim = rng.choice([4, 8, 10])
    common = {
        "vocab_size": rng.randint(11, 60),
        "hidden_size": heads * rng.choice([4, 6, 8]),
        "num_hidden_layers": rng.randint(1, 3),
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "head_dim": head_dim,
        "intermediate_size": rng.choice([16, 25, 40]),
        "hidden_act": rng.choice(["silu", "gelu", "gelu_pytorch_tanh"]),
        "max_position_embeddings": 8,
        "rms_norm_eps": rng.choice([1e-6, 1e-5, 1e-2]),
        "tie_word_embeddings": rng.random() < 0.5,
        "rope_parameters": {
            "rope_theta": rng.choice([100.0, 10_000.0, 500_000.0]),
            **(scaling or rng.choice(SCALINGS)),
        },
        "bos_token_id": None,
        "eos_token_id": None,
    }
    if family == "Mistral":
        return transformers.MistralConfig(**common, sliding_window=rng.choice([1, 3, 5, 40]))
    return transformers.LlamaConfig(**common, attention_bias=rng.random() < 0.5, mlp_bias=rng.random() < 0.5)


RANDOM = {
    **{f"gpt2-{i}": random_gpt2(random.Random(i)) for i in range(10)},
    **{f"llama-{i}": random_llama(random.Random(i), scaling=SCALINGS[i % 5]) for i in range(10)},
    **{f"mistral-{i}": random_llama(random.Random(i), "Mistral") for i in range(10)},
}


class TestEquality:
    @pytest.mark.parametrize("name", RANDOM)
    def test_theirs_as_ours_and_back(self, name: str) -> None:
        seed = int(name.split("-")[1])
        torch.manual_seed(seed)
        theirs = scrambled(transformers.AutoModelForCausalLM.from_config(RANDOM[name]), seed)
        ours = from_transformers(theirs)
        ids = some_ids(theirs.config.vocab_size, 17, seed)  # past max_position_embeddings of the rotary ones
        with torch.no_grad():
            expected, logits = theirs(ids).logits, ours(ids)
            assert expected.std() > 0.1
            torch.testing.assert_close(logits, expected, atol=1e-5, rtol=1e-5)
            again = to_transformers(ours)
            assert type(again) is type(theirs)
            torch.testing.assert_close(again(ids).logits, expected, atol=1e-5, rtol=1e-5)
        assert from_transformers(again).config == ours.config
        assert sum(p.numel() for p in theirs.parameters()) == ours.num_parameters()

    @pytest.mark.parametrize("name", ["gpt2-0", "llama-0", "llama-3", "mistral-1"])
    def test_cached_generation_agrees(self, name: str) -> None:
        torch.manual_seed(0)
        theirs = scrambled(transformers.AutoModelForCausalLM.from_config(RANDOM[name]), 0)
        ours = from_transformers(theirs)
        ids = some_ids(theirs.config.vocab_size, 5, 0)[:1]
        everything = torch.ones_like(ids)  # or generate() takes token 0 for padding
        expected = theirs.generate(ids, attention_mask=everything, max_new_tokens=10, do_sample=False, pad_token_id=0)
        with torch.no_grad():
            cache, new, text = ours.new_cache(), ids, ids
            for _ in range(10):
                new = ours(new, cache)[:, -1:].argmax(-1)
                text = torch.cat((text, new), dim=1)
        assert text.tolist() == expected.tolist()

    @pytest.mark.parametrize("kind", ["linear", "yarn", "llama3"])
    def test_our_interleaved_models_become_llamas(self, kind: str) -> None:
        torch.manual_seed(0)
        config = preset("slim", vocab_size=50, dim=32, num_layers=2, attention={"num_heads": 4, "num_kv_heads": 2})
        scaling = RotaryScaling(kind, 4.0, 8)  # type: ignore[arg-type]
        ours = scrambled(LanguageModel(config.replace(positions={"scaling": scaling})), 0)
        ids = some_ids(50, 20, 0)
        with torch.no_grad():
            torch.testing.assert_close(to_transformers(ours)(ids).logits, ours(ids), atol=1e-5, rtol=1e-5)

    def test_precision_travels(self) -> None:
        theirs = transformers.AutoModelForCausalLM.from_config(RANDOM["llama-0"]).double()
        ours = from_transformers(theirs)
        assert next(ours.parameters()).dtype == torch.float64
        assert next(to_transformers(ours).parameters()).dtype == torch.float64


class TestFolders:
    @pytest.mark.parametrize("name", ["slim", "gpt2", "llama-tiny", "stlm"])
    def test_presets_open_in_transformers(self, name: str, tmp_path: Path) -> None:
        tokenizers = pytest.importorskip("tokenizers")
        torch.manual_seed(0)
        dim = 8 * preset(name).attention.num_heads
        ours = scrambled(LanguageModel.from_preset(name, vocab_size=40, dim=dim, num_layers=2, context_length=32), 0)
        words = tokenizers.Tokenizer(tokenizers.models.WordLevel({"<unk>": 0, "Mia": 1, "kite": 2}, unk_token="<unk>"))
        words.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
        save_transformers(ours, tmp_path, words)
        theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path).eval()
        tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path)
        assert tokenizer("Mia kite")["input_ids"] == [1, 2]
        assert tokenizer.model_max_length == 32
        ids = some_ids(40, 12, 0)
        with torch.no_grad():
            torch.testing.assert_close(theirs(ids).logits, ours(ids), atol=1e-5, rtol=1e-5)
            torch.testing.assert_close(load_transformers(tmp_path).eval()(ids), ours(ids), atol=1e-5, rtol=1e-5)

    def test_our_tokenizer_travels(self, tmp_path: Path) -> None:
        try:
            from minilm.tokenizer import BPETokenizer
        except ImportError:
            pytest.skip("minilm.tokenizer is not there yet")
        text = "Mia has a red kite. Ben has a blue boat. Mia sees the boat."
        tokenizer = BPETokenizer.train([text], vocab_size=280, special_tokens=["<end>"])
        ours = LanguageModel.from_preset("slim", vocab_size=tokenizer.vocab_size, dim=32, num_layers=1)
        save_transformers(ours, tmp_path, tokenizer)
        theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
        assert theirs(text)["input_ids"] == tokenizer.encode(text)
        assert theirs.decode(theirs(text)["input_ids"]) == text


class TestRefusals:
    def test_what_transformers_cannot_express_is_listed(self) -> None:
        with pytest.raises(ValueError, match=r"GPT-2 cannot express this model: a bias in the head$"):
            to_transformers(LanguageModel.from_preset("mnemos", num_layers=1))
        with pytest.raises(ValueError, match=r"a shared feed-forward$"):
            to_transformers(LanguageModel.from_preset("stlm-shared", vocab_size=10, num_layers=2))
        with pytest.raises(ValueError, match=r"Qwen3 cannot express this model: residual scales$"):
            to_transformers(
                LanguageModel.from_preset(
                    "slim", num_layers=1, attention={"qk_norm": True}, block={"residual_scale": True}
                )
            )
        with pytest.raises(ValueError, match=r"'flat' head.*'sinusoidal-dlib' positions"):
            to_transformers(LanguageModel.from_preset("dlib-char"))

    def test_own_parts(self) -> None:
        from minilm.attention import Attention

        model = LanguageModel.from_preset("slim", num_layers=1, vocab_size=10, attention=Attention)
        with pytest.raises(ValueError, match="parts of your own"):
            to_transformers(model)

    def test_what_ours_cannot_express_is_named(self) -> None:
        with pytest.raises(ValueError, match="no counterpart for transformers' 'gpt_neox'"):
            config_from_transformers(transformers.GPTNeoXConfig())
        hf = transformers.LlamaConfig(hidden_act="quick_gelu")
        with pytest.raises(ValueError, match="no counterpart for the activation 'quick_gelu'"):
            config_from_transformers(hf)
        yarn = {"rope_type": "yarn", "rope_theta": 1e4, "factor": 2.0, "original_max_position_embeddings": 8}
        hf = transformers.LlamaConfig(rope_parameters={**yarn, "mscale": 0.7})
        with pytest.raises(ValueError, match="no counterpart for rope parameters 'mscale'"):
            config_from_transformers(hf)
