"""The budget explorer shows what the assembled models cost, whatever its knobs say."""

import pytest
import torch

from minilm.course.widgets import BudgetExplorer
from minilm.course.widgets.budget_explorer import KNOWN, binary, budget, human
from minilm.model import LanguageModel, kv_cache_bytes
from minilm.presets import config


def assert_true(explorer: BudgetExplorer) -> None:
    """Everything shown equals what is counted in the assembled module and in a dry run."""
    shown, wanted = explorer.budget(), explorer.config()
    summary = LanguageModel.from_config(wanted, device="meta").summary()
    counted = {part: count for part, (count, _) in summary.parts.items()}
    assert {part: count for part, count in shown.parameters.items() if count} == counted
    assert shown.flops == summary.forward_flops
    assert shown.memory["weights"] == summary.weight_bytes
    assert shown.memory["gradients"] == summary.gradient_bytes
    assert shown.memory["AdamW"] == summary.optimizer_bytes
    assert shown.kv_cache == summary.kv_cache_bytes == kv_cache_bytes(wanted, 1, wanted.context_length, torch.float32)


@pytest.mark.parametrize("name", KNOWN)
def test_every_preset_shows_what_its_model_costs(name):
    explorer = BudgetExplorer("slim")
    explorer.preset.value = name
    wanted = config(name)
    assert explorer.config() == wanted.replace(attention={"num_kv_heads": wanted.num_kv_heads})
    assert_true(explorer)


def test_knobs_change_what_they_say():
    explorer = BudgetExplorer("mnemos")
    for knob, value in [
        (explorer.layers, 3),
        (explorer.dim, 96),
        (explorer.heads, 12),
        (explorer.kv_heads, 3),
        (explorer.hidden, 104),
        (explorer.vocabulary, 301),
        (explorer.context, 128),
        (explorer.tied, True),
    ]:
        before = explorer.view.value
        knob.value = value
        assert explorer.view.value != before
    assert_true(explorer)


def test_a_new_width_keeps_heads_that_fit():
    explorer = BudgetExplorer("llama-tiny")  # width 288, 6 heads
    explorer.dim.value = 256
    assert explorer.dim.value % (2 * explorer.heads.value) == 0
    assert explorer.heads.value % explorer.kv_heads.value == 0
    explorer.heads.value = 1
    assert explorer.kv_heads.value == 1
    assert_true(explorer)


def test_a_preset_brings_everything_back():
    explorer = BudgetExplorer("stlm")
    fresh = repr(explorer)
    explorer.dim.value, explorer.tied.value, explorer.context.value = 64, False, 64
    explorer.preset.value = "gpt2"
    explorer.preset.value = "stlm"
    assert repr(explorer) == fresh
    assert "47,203,328 parameters" in fresh
    assert "47,203,328 parameters" in explorer.view.value


def test_the_same_at_every_run_and_has_an_alt_text():
    data, metadata = BudgetExplorer("gpt2")._repr_mimebundle_()
    assert data["text/plain"] == metadata["image/png"]["alt"] == repr(BudgetExplorer("gpt2"))
    assert data["image/png"] == BudgetExplorer("gpt2")._repr_mimebundle_()[0]["image/png"]


def test_what_the_formulas_do_not_know_is_refused():
    with pytest.raises(ValueError, match="no preset 'dlib-char'"):
        BudgetExplorer("dlib-char")
    with pytest.raises(ValueError, match="flattened window"):
        budget(config("dlib-bpe"))
    with pytest.raises(ValueError, match="relative"):
        budget(config("slim", positions={"kind": "relative"}))


@pytest.mark.parametrize(("number", "text"), [(999, "999"), (47_203_328, "47.2 million"), (8.03e9, "8.03 billion")])
def test_large_numbers_in_words(number, text):
    assert human(number) == text


@pytest.mark.parametrize(("size", "text"), [(512, "512 bytes"), (2**30, "1 GiB"), (1.5 * 2**20, "1.5 MiB")])
def test_sizes_in_words(size, text):
    assert binary(size) == text
