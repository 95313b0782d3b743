from typing import Any

import pytest
import torch

from minilm.model import LanguageModel
from minilm.presets import PRESETS, config, doge_parameters

PER_TOKEN = {"kind": "per_token"}


class TestGoldenCounts:
    """Published or derived parameter counts, by the assembled module."""

    @pytest.mark.parametrize(
        ("name", "overrides", "convention", "count"),
        [
            ("dlib-char", {}, "dlib", 5_185_864),
            ("dlib-bpe", {}, "dlib", 4_002_458),
            ("dlib-bpe", {"head": PER_TOKEN}, "dlib", 3_301_301),
            ("slim", {"vocab_size": 1024}, "all", 6_294_784 + 256 * 1024),
            ("slim", {}, "all", 6_294_784 + 256 * 4096),
            ("slim", {"vocab_size": 8192}, "all", 6_294_784 + 256 * 8192),
            ("slim", {"head": {"tied": False}}, "all", 6_294_784 + 2 * 256 * 4096),
            ("mnemos", {}, "all", 3_701_248),
            ("mnemos", {"head": {"tied": True, "bias": False}}, "all", 3_438_080),
            ("mnemos", {"positions": {"kind": "sinusoidal"}}, "all", 3_684_864),
            ("stlm", {}, "all", 47_203_328),
            ("stlm-10", {}, "all", 55_888_896),
            ("stlm-shared", {}, "all", 34_655_232),
            ("gpt2", {}, "all", 124_439_808),
            ("llama-tiny", {}, "all", 15_191_712),
            ("doge-20m", {}, "all", 13_117_712),
            ("doge-60m", {}, "all", 54_575_680),
            ("doge-160m", {}, "all", 152_697_744),
            ("doge-320m", {}, "all", 335_807_744),
            ("doge-20m-hf", {}, "all", 13_118_728),
            ("doge-60m-hf", {}, "all", 54_571_552),
            ("doge-160m-hf", {}, "all", 152_676_168),
            ("doge-320m-hf", {}, "all", 335_750_272),
            ("doge-40m-moe", {}, "all", 43_460_880),
            ("doge-180m-moe", {}, "all", 184_205_888),
            ("doge-600m-moe", {}, "all", 611_777_424),
            ("doge-1.6b-moe", {}, "all", 1_717_044_480),
        ],
    )
    def test_assembled(self, name: str, overrides: dict[str, Any], convention: str, count: int) -> None:
        assert LanguageModel.from_preset(name, device="meta", **overrides).num_parameters(convention) == count

    def test_dlib_char_by_formula(self) -> None:
        window, dim, hidden, vocab = 50 * 64, 64, 256, 257
        layer = window * 3 * dim + dim * dim + (window * hidden + hidden) + (hidden * dim + dim)
        assert 3 * layer + window * vocab + vocab + 7 == 5_185_864

    def test_dlib_file_sizes(self) -> None:
        """Counts and uncounted tables together give the documented file sizes of 20 MB and 18.5 MB."""
        for name, size in (("dlib-char", 19.85), ("dlib-bpe", 18.31)):
            assert LanguageModel.from_preset(name).summary().weight_bytes / 2**20 == pytest.approx(size, abs=0.005)

    def test_sharing_saves_nine_of_ten_feed_forwards(self) -> None:
        assert 55_888_896 - 34_655_232 == 9 * 2_359_296

    @pytest.mark.parametrize(
        ("name", "millions"),
        [("doge-40m-moe", 39.30), ("doge-180m-moe", 117.4), ("doge-600m-moe", 272.9), ("doge-1.6b-moe", 645.4)],
    )
    def test_what_a_token_uses_of_product_key_experts(self, name: str, millions: float) -> None:
        model, preset = LanguageModel.from_preset(name, device="meta"), config(name)
        moe = preset.feed_forward.moe
        idle = (
            (moe.num_experts - moe.chosen) * 2 * preset.dim * preset.num_layers
        )  # an expert: a row that reads, one that writes
        assert (model.num_parameters() - idle) / 1e6 == pytest.approx(millions, abs=0.05)

    def test_doge_by_formula(self) -> None:
        assert doge_parameters(256, 8, 2, 1) == 13_117_712
        assert doge_parameters(512, 16, 4, 2) == 54_575_680
        assert doge_parameters(768, 24, 6, 3) == 152_697_744
        assert doge_parameters(1024, 32, 8, 4) == 335_807_744
        assert doge_parameters(256, 8, 2, 1) - 32_768 * 256 == 4_729_104


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_runs_and_trains(name: str) -> None:
    torch.manual_seed(0)
    model = LanguageModel.from_preset(name, vocab_size=50, num_layers=2, context_length=10)
    ids = torch.randint(50, (2, 10))
    logits = model(ids)
    assert logits.shape[::2] == (2, 50)
    logits.sum().backward()


@pytest.mark.parametrize("name", PRESETS)
def test_presets_cost_nothing_on_meta(name: str) -> None:
    assert all(parameter.is_meta for parameter in LanguageModel.from_preset(name, device="meta").parameters())
    model = LanguageModel.from_preset(name, device="meta", num_layers=2)
    assert model.summary(length=model.config.context_length).parameters == model.num_parameters()


def test_unknown_names_offer_the_nearest() -> None:
    with pytest.raises(ValueError, match="no preset 'gpt-2': did you mean 'gpt2'"):
        config("gpt-2")
    with pytest.raises(ValueError, match="there are 'dlib-char'"):
        config("xyz")
    with pytest.raises(ValueError, match="ModelConfig has no 'layers'"):
        config("slim", layers=3)


def test_overrides_change_parts_in_part() -> None:
    changed = config("mnemos", head={"tied": True, "bias": False}, num_layers=2)
    assert (changed.head.tied, changed.head.kind, changed.num_layers) == (True, "per_token", 2)
    assert config("mnemos").num_layers == 4
