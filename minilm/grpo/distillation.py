"""Learning from a teacher's whole distribution, not only from what it happened to say."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def distillation_loss(
    logits: Float[Tensor, "*batch vocab"],
    teacher: Float[Tensor, "*batch vocab"],
    mask: Bool[Tensor, "*batch"] | None = None,
    *,
    temperature: float = 1.0,
    kind: str = "forward",
) -> Float[Tensor, ""]:
    """The mean over places of KL between the teacher's probabilities and the student's, in nats (Hinton et al. 2015).

    - "forward", KL(teacher || student): the student must give every token that the teacher could say its share; its gradient is
      that of the cross-entropy on the teacher's text, without the noise of having drawn it.
    - "reverse", KL(student || teacher): the student must say nothing that the teacher would not (MiniLLM, Gu et al. 2024). Where the
      teacher's probability is exactly 0, this is infinite unless the student's is 0 too.

    `teacher` are probabilities, exact ones where the teacher is a grammar. With a `temperature` the student's logits are divided by
    it and the loss is multiplied by its square; soften the teacher's by the same yourself (`soften`).
    """
    if not temperature > 0:
        raise ValueError(f"temperature = {temperature}: it must be above 0")
    if logits.shape != teacher.shape:
        raise ValueError(f"logits have shape {list(logits.shape)} and the teacher's odds {list(teacher.shape)}")
    sums = teacher.sum(dim=-1)
    wrong = (sums - 1).abs() > 1e-3
    if mask is not None:
        wrong = wrong & mask
    if bool(wrong.any()):
        raise ValueError(
            f"the teacher's odds add up to {sums[wrong][0].item():.4f}: give probabilities, such as logits.softmax(-1)"
        )
    student = (logits / temperature).log_softmax(dim=-1)
    if kind == "forward":
        each = (torch.xlogy(teacher, teacher) - teacher * student).sum(dim=-1)
    elif kind == "reverse":
        p = student.exp()
        each = torch.where(p > 0, p * (student - teacher.log()), 0).sum(dim=-1)
    else:
        raise ValueError(f"kind = {kind!r}: choose 'forward' or 'reverse'")
    if mask is not None:
        each = each[mask]
    return each.mean() * temperature**2


def soften(probabilities: Float[Tensor, "*batch vocab"], temperature: float) -> Float[Tensor, "*batch vocab"]:
    """Probabilities at a temperature: p^(1/T), normalised. Above 1 the unlikely ones get more."""
    if not temperature > 0:
        raise ValueError(f"temperature = {temperature}: it must be above 0")
    powers = probabilities ** (1 / temperature)
    return powers / powers.sum(dim=-1, keepdim=True)
