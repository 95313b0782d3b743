"""Adapters that start as nothing and end as one matrix; models merged."""

import json

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from minilm.finetuning import (
    DoRALinear,
    LoRAConfig,
    LoRALinear,
    adapters,
    add_lora,
    load_adapter,
    merge,
    merge_models,
    merged_weights,
    save_adapter,
    slerp,
    trainable,
)
from minilm.training import DocumentBatches, Trainer, TrainingConfig
from tests.training_samples import tiny_batches, tiny_config, tiny_model

IDS = torch.arange(12)[None] % 20
KINDS = [{}, {"dora": True}]


def disturbed(model, seed=1):
    """The adapters with weights as after some training."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for _, part in adapters(model):
            part.lora_b.normal_(std=0.3)
            if isinstance(part, DoRALinear):
                part.magnitude.mul_(torch.rand_like(part.magnitude) + 0.5)
    return model


# --- one layer ---


def test_lora_is_the_formula():
    torch.manual_seed(0)
    base = nn.Linear(5, 3)
    layer = LoRALinear(base, LoRAConfig(rank=2, alpha=6))
    nn.init.normal_(layer.lora_b)
    x = torch.randn(4, 5)
    by_hand = x @ base.weight.T + base.bias + 3 * (x @ layer.lora_a.T @ layer.lora_b.T)
    torch.testing.assert_close(layer(x), by_hand)
    torch.testing.assert_close(layer.merged(), base.weight + 3 * layer.lora_b @ layer.lora_a)


def test_dora_is_the_formula_row_by_row():
    torch.manual_seed(0)
    base = nn.Linear(5, 3)
    layer = DoRALinear(base, LoRAConfig(rank=2, alpha=6, dora=True))
    nn.init.normal_(layer.lora_b)
    nn.init.uniform_(layer.magnitude, 0.5, 2)
    rows = []
    for out in range(3):
        direction = base.weight[out] + 3 * layer.lora_b[out] @ layer.lora_a
        rows.append(layer.magnitude[out] * direction / direction.norm())
    x = torch.randn(4, 5)
    torch.testing.assert_close(layer(x), F.linear(x, torch.stack(rows), base.bias))
    torch.testing.assert_close(layer.merged().norm(dim=1), layer.magnitude.detach())


def test_doras_length_is_a_constant_to_the_gradient():
    torch.manual_seed(0)
    layer = DoRALinear(nn.Linear(5, 3, bias=False), LoRAConfig(rank=2, alpha=2, dora=True))
    nn.init.normal_(layer.lora_b)
    x = torch.randn(4, 5)
    layer(x).sum().backward()
    fixed = (layer.magnitude / (layer.weight + layer.lora_b @ layer.lora_a).norm(dim=1)).detach()
    b = layer.lora_b.detach().clone().requires_grad_()
    (((x @ layer.weight.T) + x @ layer.lora_a.detach().T @ b.T) * fixed).sum().backward()
    torch.testing.assert_close(layer.lora_b.grad, b.grad)


def test_dropout_acts_on_the_adapter_alone_and_only_in_training():
    torch.manual_seed(0)
    layer = LoRALinear(nn.Linear(50, 3), LoRAConfig(rank=2, dropout=0.5))
    x = torch.randn(4, 50)
    torch.testing.assert_close(layer.train()(x), F.linear(x, layer.weight, layer.bias))  # B is 0
    nn.init.normal_(layer.lora_b)
    assert not torch.allclose(layer.train()(x), layer.train()(x))
    torch.testing.assert_close(layer.eval()(x), layer.eval()(x))


# --- a model ---


@pytest.mark.parametrize("kind", KINDS)
def test_new_adapters_change_nothing(kind):
    model = tiny_model().eval()
    before = model(IDS)
    torch.testing.assert_close(add_lora(model, LoRAConfig(rank=3, **kind))(IDS), before)


@pytest.mark.parametrize("kind", KINDS)
def test_merging_changes_nothing_either(kind):
    model = disturbed(add_lora(tiny_model().eval(), LoRAConfig(rank=3, **kind)))
    before, weights = model(IDS), merged_weights(model)
    assert merge(model) is model
    torch.testing.assert_close(model(IDS), before)
    assert not torch.allclose(tiny_model().eval()(IDS), before)
    plain = dict(tiny_model().named_parameters())
    assert {name: p.shape for name, p in model.named_parameters()} == {name: p.shape for name, p in plain.items()}
    torch.testing.assert_close(weights, {name: p.detach() for name, p in model.named_parameters()})
    assert all(p.requires_grad for p in model.parameters())


def test_which_matrices_get_one_and_what_is_trained():
    model = add_lora(tiny_model(), LoRAConfig(rank=2, projections="q_proj,v_proj"))
    assert [name for name, _ in adapters(model)] == [
        f"core.layers.{i}.attention.{name}" for i in range(2) for name in ("q_proj", "v_proj")
    ]
    trained, total = trainable(model)
    assert trained == 2 * 2 * (2 * 8 + 2 * 8)
    assert total == tiny_model().num_parameters() + trained
    assert len(list(adapters(add_lora(tiny_model(), LoRAConfig(projections="attention"))))) == 8
    assert len(list(adapters(add_lora(tiny_model(), LoRAConfig(projections="feed-forward"))))) == 6
    assert len(list(adapters(add_lora(tiny_model())))) == 14


def test_the_same_seed_draws_the_same_adapters_and_nobody_elses_numbers():
    torch.manual_seed(5)
    first = add_lora(tiny_model(), seed=7)
    torch.manual_seed(5)
    tiny_model()
    expected = torch.rand(1)
    torch.manual_seed(5)
    second = add_lora(tiny_model(), seed=7)
    torch.manual_seed(5)
    add_lora(tiny_model(), seed=7)
    torch.testing.assert_close(torch.rand(1), expected)
    torch.testing.assert_close(dict(first.named_parameters()), dict(second.named_parameters()))


@pytest.mark.parametrize("kind", [*KINDS, {"also": "embedder"}])
def test_training_moves_the_adapters_and_what_is_asked_for_only(kind):
    model = add_lora(tiny_model(), LoRAConfig(rank=2, **kind))
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    Trainer(model, tiny_batches(), TrainingConfig(steps=3, learning_rate=0.01)).train()
    moved = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    expected = {name for name in before if name.endswith(("lora_a", "lora_b", "magnitude"))}
    assert moved == expected | ({"embedder.tokens.weight"} if "also" in kind else set())


def test_errors_name_the_fix():
    with pytest.raises(ValueError, match=r"no linear layer is called query: this model has .*q_proj"):
        add_lora(tiny_model(), LoRAConfig(projections="query"))
    with pytest.raises(ValueError, match=r"has adapters already: merge\(model\)"):
        add_lora(add_lora(tiny_model()))
    with pytest.raises(ValueError, match="no part 'head2'"):
        add_lora(tiny_model(), LoRAConfig(also="head2"))
    with pytest.raises(ValueError, match="rank = 0"):
        LoRAConfig(rank=0)


# --- saved ---


@pytest.mark.parametrize("kind", [*KINDS, {"also": "embedder"}])
def test_a_saved_adapter_holds_what_was_trained_and_gives_the_same_model(tmp_path, kind):
    model = disturbed(add_lora(tiny_model().eval(), LoRAConfig(rank=3, alpha=5, **kind)))
    if "also" in kind:
        with torch.no_grad():
            model.embedder.tokens.weight.add_(0.1)
    save_adapter(model, tmp_path)
    assert {each.name for each in tmp_path.iterdir()} == {"adapter.json", "adapter.safetensors"}
    size = (tmp_path / "adapter.safetensors").stat().st_size
    assert size < 4 * trainable(model)[0] + 8000  # and not the model itself
    other = tiny_model().eval()
    assert load_adapter(other, tmp_path) == LoRAConfig(rank=3, alpha=5, **kind)
    torch.testing.assert_close(other(IDS), model(IDS))


def test_an_adapter_of_another_model_is_refused_and_leaves_the_model_as_it_was(tmp_path):
    save_adapter(disturbed(add_lora(tiny_model(dim=16), LoRAConfig(rank=3))), tmp_path)
    model = tiny_model().eval()
    before = model(IDS)
    with pytest.raises(ValueError, match=r"another model's:\n.*lora_a is \[3, 16\], the model's is \[3, 8\]"):
        load_adapter(model, tmp_path)
    torch.testing.assert_close(model(IDS), before)
    assert not list(adapters(model))


def test_a_folder_without_an_adapter_is_refused(tmp_path):
    with pytest.raises(ValueError, match="holds no adapter"):
        load_adapter(tiny_model(), tmp_path)
    (tmp_path / "adapter.json").write_text(json.dumps({"format": "another"}))
    with pytest.raises(ValueError, match="minilm-adapter-1"):
        load_adapter(tiny_model(), tmp_path)
    with pytest.raises(ValueError, match="has no adapters"):
        save_adapter(tiny_model(), tmp_path)


def test_a_run_with_adapters_publishes_the_merged_model_and_goes_on_from_its_adapters(tmp_path):
    from minilm.model import LanguageModel

    def trainer(out):
        model = add_lora(tiny_model(), LoRAConfig(rank=2, dora=True))
        return Trainer(
            model, tiny_batches(), tiny_config(9, ema=None), out=out, publish=lambda weights: merged_weights(model)
        )

    whole = trainer(tmp_path / "whole")
    whole.train()
    loaded = LanguageModel.load(tmp_path / "whole").eval()
    torch.testing.assert_close(loaded(IDS), whole.model.eval()(IDS))
    first = trainer(tmp_path / "parts")
    for record in first.steps():
        if record.step == 3:
            break
    second = trainer(tmp_path / "parts")
    assert second.resume() == 3
    second.train()
    torch.testing.assert_close(
        dict(second.model.named_parameters()), dict(whole.model.named_parameters()), rtol=0, atol=0
    )


def test_an_average_and_something_to_publish_contradict_each_other():
    with pytest.raises(ValueError, match="choose one"):
        Trainer(tiny_model(), tiny_batches(), tiny_config(), publish=lambda weights: weights)


# --- merging models ---


def state(model):
    return {name: p.detach() for name, p in model.named_parameters()}


def test_linear_is_the_weighted_average():
    a, b = tiny_model(1), tiny_model(2)
    merged = state(merge_models([a, b], [3, 1]))
    for name, tensor in merged.items():
        torch.testing.assert_close(tensor, 0.75 * state(a)[name] + 0.25 * state(b)[name])
    torch.testing.assert_close(state(merge_models([a, a, a])), state(a))


def test_task_arithmetic_adds_what_each_has_learned():
    base, a, b = tiny_model(0), tiny_model(1), tiny_model(2)
    merged = state(merge_models([a, b], [0.5, -1], "task-arithmetic", base))
    for name, tensor in merged.items():
        start = state(base)[name]
        torch.testing.assert_close(tensor, start + 0.5 * (state(a)[name] - start) - (state(b)[name] - start))
    torch.testing.assert_close(state(merge_models([a], method="task-arithmetic", base=base)), state(a))


def test_slerp_stays_on_the_arc():
    torch.manual_seed(0)
    a, b = F.normalize(torch.randn(50), dim=0), F.normalize(torch.randn(50), dim=0)
    for share in (0.0, 0.3, 1.0):
        point = slerp(a, b, share)
        assert float(point.norm()) == pytest.approx(1, abs=1e-5)
        whole = torch.acos((a * b).sum())
        assert float(torch.acos((a * point).sum().clamp(-1, 1))) == pytest.approx(float(share * whole), abs=1e-3)
    torch.testing.assert_close(slerp(a, a, 0.4), a)
    torch.testing.assert_close(slerp(a, 3 * a, 0.5), 2 * a)
    torch.testing.assert_close(slerp(a, torch.zeros(50), 0.5), a / 2)


def test_slerp_of_models_at_its_ends():
    a, b = tiny_model(1), tiny_model(2)
    torch.testing.assert_close(state(merge_models([a, b], [1, 0], "slerp")), state(a))
    torch.testing.assert_close(state(merge_models([a, b], [0, 1], "slerp")), state(b))


def test_models_that_do_not_fit_are_named():
    with pytest.raises(
        ValueError, match=r"of one shape .*:\n.*embedder.tokens.weight: \[20, 8\] and, in model 2, \[20, 16\]"
    ):
        merge_models([tiny_model(), tiny_model(dim=16)])
    with pytest.raises(ValueError, match="not in model 2"):
        merge_models([tiny_model(), tiny_model(num_layers=1)])
    with pytest.raises(ValueError, match="slerp takes two"):
        merge_models([tiny_model()], method="slerp")
    with pytest.raises(ValueError, match="needs a base"):
        merge_models([tiny_model()], method="task-arithmetic")
    with pytest.raises(ValueError, match="3 weights for 2 models"):
        merge_models([tiny_model(), tiny_model()], [1, 1, 1])
    with pytest.raises(ValueError, match="not all of them 0"):
        merge_models([tiny_model(), tiny_model()], [0, 0])


def test_merged_models_leave_their_sources_alone():
    a, b = tiny_model(1), tiny_model(2)
    before = {name: p.clone() for name, p in state(a).items()}
    merged = merge_models([a, b])
    with torch.no_grad():
        next(merged.parameters()).add_(1)
    torch.testing.assert_close(state(a), before)


def test_adapters_learn_what_a_document_says():
    model = tiny_model(block={"dropout": 0.0})
    documents = [[3, 4, 5, 6, 7]] * 8
    add_lora(model, LoRAConfig(rank=4, also="embedder"))
    records = Trainer(
        model, DocumentBatches(documents, 8, end_id=0), TrainingConfig(steps=60, learning_rate=0.03)
    ).train()
    assert records[-1].loss < 0.5 * records[0].loss
