"""Our losses for preferences and for groups of answers against TRL's own code, on the same tensors, values and gradients.

TRL 1.x keeps its formulas inside of its trainers. What surrounds them there (a model, a data loader, logging) is replaced here by the
least that they touch; the formulas are TRL's. Without TRL (`pip install trl`) these tests are skipped.
"""

import collections
import types

import pytest
import torch
from torch import Tensor

from minilm.data.windows import IGNORE
from minilm.finetuning import dpo_loss, implicit_reward, ipo_loss, kto_loss, sequence_log_probs
from minilm.grpo import averaged, clipped_policy_loss, clipped_share, group_advantages, kl_estimate

trl = pytest.importorskip("trl", reason="TRL is not installed here")
if int(trl.__version__.split(".")[0]) < 1:
    pytest.skip(f"these are the losses of TRL 1, and this is {trl.__version__}", allow_module_level=True)

PAIRS, SEQ, VOCAB = 5, 7, 11


class Accelerator:
    """One process."""

    device = torch.device("cpu")
    num_processes = 1
    sync_gradients = True

    def gather(self, value):
        return value

    def gather_for_metrics(self, value):
        return value

    def reduce(self, value, reduction):
        return value


def surroundings(**values):
    """What TRL's losses ask their trainer for."""
    metrics = collections.defaultdict(lambda: collections.defaultdict(list))
    always = {
        "accelerator": Accelerator(),
        "model": types.SimpleNamespace(training=True),
        "_metrics": metrics,
        "aux_loss_enabled": False,
        "precompute_ref_logps": True,
        "_total_train_tokens": 0,
        "_tp_size": 1,
    }
    return types.SimpleNamespace(**always, **values)


def answers(count: int = 2 * PAIRS, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Logits of rows, their targets, and which of those are of the answer: two tokens are asked, the lengths differ."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(count, SEQ, VOCAB, generator=generator, dtype=torch.float64).requires_grad_()
    targets = torch.randint(VOCAB, (count, SEQ), generator=generator)
    lengths = torch.randint(1, SEQ - 1, (count, 1), generator=generator)
    places = torch.arange(SEQ)[None]
    return logits, targets, (places >= 2) & (places < 2 + lengths)


def as_trl_sees(logits: Tensor, targets: Tensor, mask: Tensor):
    """A model of TRL's fused head: it gives log-probabilities of the answer's tokens, 0 elsewhere."""
    each = logits.log_softmax(-1).gather(-1, targets[..., None])[..., 0].where(mask, 0.0)
    nothing = torch.zeros_like(each)
    out = types.SimpleNamespace(log_probs=each, entropy=nothing, mean_logits=nothing, is_top1=nothing.bool())
    return lambda **inputs: out


def batch_for_trl(targets: Tensor, mask: Tensor) -> dict[str, Tensor]:
    first = torch.zeros(len(targets), 1, dtype=torch.long)
    ids = torch.cat([first, targets], dim=1)
    return {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "completion_mask": torch.cat([first, mask.long()], dim=1),
    }


def gradient_of(loss: Tensor, logits: Tensor) -> Tensor:
    (gradient,) = torch.autograd.grad(loss, logits, retain_graph=True)
    return gradient


def assert_same(ours: Tensor, theirs: Tensor, leaf: Tensor) -> None:
    torch.testing.assert_close(ours, theirs)
    gradient = gradient_of(ours, leaf)
    assert gradient.abs().max() > 1e-6
    torch.testing.assert_close(gradient, gradient_of(theirs, leaf))


# ---------------------------------------------------------------------------------------------------------- preferences


@pytest.mark.parametrize("beta", [0.1, 0.7])
@pytest.mark.parametrize("kind", ["sigmoid", "ipo"])
def test_dpo_and_ipo(kind, beta):
    logits, targets, mask = answers()
    reference = sequence_log_probs(answers(seed=1)[0].detach(), targets.where(mask, IGNORE))
    trainer = surroundings(
        beta=beta,
        loss_types=[kind],
        loss_weights=[1.0],
        f_divergence_type="reverse_kl",
        label_smoothing=0.0,
        ld_alpha=None,
        use_weighting=False,
    )
    chosen, rejected = reference.chunk(2)
    inputs = batch_for_trl(targets, mask) | {"ref_chosen_logps": chosen, "ref_rejected_logps": rejected}
    theirs = trl.DPOTrainer._compute_loss(trainer, as_trl_sees(logits, targets, mask), inputs, return_outputs=False)

    per_token = kind == "ipo"  # TRL's IPO is of the mean over an answer's tokens
    policy = sequence_log_probs(logits, targets.where(mask, IGNORE), average=per_token)
    ours_reference = reference / mask.sum(1) if per_token else reference
    loss = {"sigmoid": dpo_loss, "ipo": ipo_loss}[kind]
    assert_same(loss(*policy.chunk(2), *ours_reference.chunk(2), beta).mean(), theirs, logits)

    whole = sequence_log_probs(logits, targets.where(mask, IGNORE)).detach()
    rewards = implicit_reward(whole, reference, beta)
    for name, part in zip(("chosen", "rejected"), rewards.chunk(2), strict=True):
        assert trainer._metrics["train"][f"rewards/{name}"] == [pytest.approx(part.mean().item())]


@pytest.mark.parametrize("shift", [2.0, -2.0])  # above and below the point of comparison's floor
def test_kto(shift):
    logits, targets, mask = answers(count=7)
    liked = torch.tensor([True, False, True, True, False, True, False])
    reference = sequence_log_probs(answers(count=7, seed=1)[0].detach(), targets.where(mask, IGNORE))
    mismatched, its_reference = reference + shift, reference
    trainer = surroundings(
        beta=0.3,
        loss_type="kto",
        calculate_KL=True,
        desirable_weight=1.3,
        undesirable_weight=0.7,
        _compute_kl_logps=lambda model, batch: mismatched,
    )
    inputs = batch_for_trl(targets, mask) | {"label": liked, "ref_logps": reference, "ref_KL_logps": its_reference}
    theirs = trl.KTOTrainer._compute_loss(trainer, as_trl_sees(logits, targets, mask), inputs, return_outputs=False)
    policy = sequence_log_probs(logits, targets.where(mask, IGNORE))
    ours = kto_loss(
        policy[liked], policy[~liked], reference[liked], reference[~liked], mismatched, its_reference, 0.3, 1.3, 0.7
    )
    assert_same(ours.mean(), theirs, logits)


# ------------------------------------------------------------------------------------------------------ groups of answers

AVERAGES = {"answer": "grpo", "token": "bnpo", "constant": "dr_grpo"}


@pytest.mark.parametrize("kl", [0.0, 0.04])
@pytest.mark.parametrize("clip_high", [None, 0.28])
@pytest.mark.parametrize("average", [*AVERAGES, "token of all processes"])
def test_grpo(average, clip_high, kl):
    logits, targets, mask = answers(count=8)
    each = logits.log_softmax(-1).gather(-1, targets[..., None])[..., 0]
    old = (each + 0.4 * torch.randn(each.shape, generator=torch.Generator().manual_seed(2))).detach()
    reference = (each + 0.4 * torch.randn(each.shape, generator=torch.Generator().manual_seed(3))).detach()
    rewards = torch.tensor([[1.0, 0.0, 0.0, 1.0], [0.0, 0.0, 1.0, 0.0]])
    advantages = group_advantages(rewards).flatten().double()
    trainer = surroundings(
        loss_type=AVERAGES.get(average, "dapo"),
        beta=kl,
        epsilon_low=0.2,
        epsilon_high=clip_high or 0.2,
        max_completion_length=20,
        importance_sampling_level="token",
        top_entropy_quantile=1.0,
        off_policy_mask_threshold=None,
        use_vllm=False,
        current_gradient_accumulation_steps=1,
        _entropy_bonus_enabled=False,
        args=types.SimpleNamespace(delta=None, use_bias_correction_kl=False, steps_per_generation=1),
        _get_per_token_logps_and_entropies=lambda *args, **options: (each, torch.zeros_like(each), None),
    )
    empty = torch.zeros(8, 0, dtype=torch.long)
    inputs = {
        "prompt_ids": empty,
        "prompt_mask": empty,
        "completion_ids": targets,
        "completion_mask": mask.long(),
        "advantages": advantages,
        "old_per_token_logps": old,
        "ref_per_token_logps": reference,
        "num_items_in_batch": mask.sum(),
    }
    theirs = trl.GRPOTrainer._compute_loss(trainer, None, inputs)

    kind = average if average in AVERAGES else "token"
    ours = clipped_policy_loss(each, old, advantages, mask, clip=0.2, clip_high=clip_high, average=kind, length=20)
    if kl:
        ours = ours + kl * averaged(kl_estimate(each, reference), mask, kind, 20)
    assert_same(ours, theirs, logits)
    held = clipped_share(each, old, advantages, mask, 0.2, clip_high)
    assert 0 < held < 1
    assert trainer._metrics["train"]["clip_ratio/region_mean"] == [pytest.approx(held)]


def test_the_spread_of_a_group_is_the_one_trl_divides_by():
    from trl.trainer.utils import nanstd

    rewards = torch.tensor([[1.0, 0.0, 0.0, 1.0], [0.0, 0.0, 1.0, 0.0], [1.0, 1.0, 1.0, 1.0]])
    expected = (rewards - rewards.mean(dim=1, keepdim=True)) / (nanstd(rewards, dim=1)[:, None] + 1e-4)
    torch.testing.assert_close(group_advantages(rewards), expected)
