"""HRM-Text equals transformers' own on random weights, with its cache, its prefix mask and its gradients."""

import pytest
import torch

from minilm.interop.hrm_text import hrm_text_from_transformers, hrm_text_to_transformers
from minilm.recursion.hrm_text import HrmText, HrmTextConfig

transformers = pytest.importorskip("transformers")
if not hasattr(transformers, "HrmTextForCausalLM"):
    pytest.skip("the installed transformers has no HrmText", allow_module_level=True)

SHAPE = {"vocab_size": 61, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "num_attention_heads": 4}
SHAPE |= {"head_dim": 8, "max_position_embeddings": 64}
CONFIGS = {
    "as it comes": {},
    "two blocks a stack": {"num_hidden_layers": 2},
    "three cycles of one": {"H_cycles": 3, "L_cycles": 1},
    "one cycle of four": {"H_cycles": 1, "L_cycles": 4},
    "wide heads": {"head_dim": 16, "num_attention_heads": 2},
    "biases": {"attention_bias": True, "mlp_bias": True},
    "tied": {"tie_word_embeddings": True},
    "its own scale": {"embedding_scale": 7.0, "rms_norm_eps": 1e-3},
    "another base, gelu": {"rope_parameters": {"rope_type": "default", "rope_theta": 500.0}, "hidden_act": "gelu"},
    "gradients for each cycle": {"H_cycles": 2, "L_cycles": 3, "L_bp_cycles": [3, 1]},
}
assert len(CONFIGS) == 10


def their_model(**changes):
    torch.manual_seed(0)
    config = transformers.HrmTextConfig(**(SHAPE | changes))
    model = transformers.HrmTextForCausalLM(config).eval()
    with torch.no_grad():  # biases begin at 0, which would hide them
        for name, parameter in model.named_parameters():
            if "z_L_init" not in name:
                parameter.add_(torch.randn_like(parameter) * 0.1)
    return model


def some_ids(batch=2, seq=9):
    return torch.randint(0, SHAPE["vocab_size"], (batch, seq), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", sorted(CONFIGS))
def test_logits_equal_transformers(name):
    theirs, ids = their_model(**CONFIGS[name]), some_ids()
    ours = hrm_text_from_transformers(theirs)
    with torch.no_grad():
        torch.testing.assert_close(ours(ids), theirs(ids).logits, rtol=1e-4, atol=1e-5)
        kinds = torch.zeros_like(ids)
        kinds[0, :4], kinds[1, :7] = 1, 1
        expected = theirs(ids, token_type_ids=kinds).logits
        torch.testing.assert_close(ours(ids, prefix=torch.tensor([4, 7])), expected, rtol=1e-4, atol=1e-5)
        assert not torch.allclose(expected, theirs(ids).logits, atol=1e-3)  # the prefix makes a difference
        back = hrm_text_to_transformers(ours)
        assert torch.equal(back(ids).logits, theirs(ids).logits)
        assert back.config.to_dict() == theirs.config.to_dict() | {"dtype": back.config.to_dict()["dtype"]}


@pytest.mark.parametrize("name", ["as it comes", "gradients for each cycle"])
def test_gradients_take_the_same_ways(name):
    theirs, ids = their_model(**CONFIGS[name]).train(), some_ids()
    ours = hrm_text_from_transformers(theirs)
    ours(ids).square().mean().backward()
    theirs(ids).logits.square().mean().backward()
    q_proj = theirs.model.L_module.layers[0].self_attn.q_proj.weight.grad
    torch.testing.assert_close(ours.low_stack.layers[0].attention.q_proj.weight.grad, q_proj, rtol=1e-3, atol=1e-6)
    down = theirs.model.H_module.layers[0].mlp.down_proj.weight.grad
    torch.testing.assert_close(ours.high_stack.layers[0].feed_forward.down_proj.weight.grad, down, rtol=1e-3, atol=1e-6)


def small_model():
    torch.manual_seed(2)
    return HrmText(HrmTextConfig(61, 32, 2, 4, 48, init_std=0.2, embedding_scale=5.0)).eval()


@torch.no_grad()
def test_a_cache_changes_nothing_and_has_a_slot_for_each_call():
    model, ids = small_model(), some_ids()
    cache = model.new_cache()
    assert len(cache) == 2 * (3 + 1) * 2
    parts = [
        model(ids[:, :4], cache, prefix=3),
        model(ids[:, 4:6], cache),
        model(ids[:, 6:7], cache),
        model(ids[:, 7:], cache),
    ]
    torch.testing.assert_close(torch.cat(parts, dim=1), model(ids, prefix=3), rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="one call"):
        model(ids, cache, prefix=2)


@torch.no_grad()
def test_it_is_causal_after_the_prefix_and_not_within():
    model, ids = small_model(), some_ids()
    changed = ids.clone()
    changed[:, 5] = (changed[:, 5] + 1) % 61
    assert torch.equal(model(ids)[:, :5], model(changed)[:, :5])
    within = (model(ids, prefix=6) - model(changed, prefix=6)).abs().amax(dim=(0, 2))
    assert (within > 1e-4).all()  # everybody saw it


def test_what_has_no_counterpart_is_refused_by_name():
    theirs = their_model()
    theirs.config.attention_dropout = 0.1
    with pytest.raises(ValueError, match="attention_dropout"):
        hrm_text_from_transformers(theirs)
    theirs = their_model()
    with torch.no_grad():
        theirs.model.z_L_init.fill_(1.0)
    with pytest.raises(ValueError, match="z_L_init"):
        hrm_text_from_transformers(theirs)
    llama = transformers.LlamaForCausalLM(
        transformers.LlamaConfig(
            vocab_size=9, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1
        )
    )
    with pytest.raises(ValueError, match="'llama'"):
        hrm_text_from_transformers(llama)


def test_the_config_survives_json_and_says_what_is_wrong():
    config = HrmTextConfig(61, 32, 2, 4, 48, gradient_steps=(1, 2))
    assert HrmTextConfig.from_json(config.to_json()) == config
    assert [config.steps_with_gradient(cycle) for cycle in (0, 1)] == [1, 2]
    assert [HrmTextConfig(61, 32, 2, 4, 48).steps_with_gradient(cycle) for cycle in (0, 1)] == [1, 2]
    with pytest.raises(ValueError, match="num_heads = 5"):
        HrmTextConfig(61, 32, 2, 5, 48)
