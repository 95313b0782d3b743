"""Lesson 13: reasoning in loops. Adaptive computation time, HRM and TRM as one family, and loops inside a language model.

Read in this order:

- `adaptive`: a layer that decides how often it is applied (Graves);
- `config`, `presets`: what the family's members differ in, and the published ones;
- `network`, `embedding`, `model`: one call, what it reads, and the segments of calls;
- `losses`: stablemax, and the head that says when to stop;
- `optimizers`: Adam by arctangent, signs for puzzle embeddings;
- `training`, `run`: slots that are filled anew, and a run that survives being killed;
- `evaluation`: solved puzzles by segment and by givens;
- `hrm_text`: the same loops in a causal language model.
"""

from minilm.recursion.adaptive import AdaptiveComputation, AdaptiveFeedForward
from minilm.recursion.config import RecursionConfig
from minilm.recursion.evaluation import PuzzleReport, answers, evaluate
from minilm.recursion.losses import segment_loss, stablemax, stablemax_cross_entropy
from minilm.recursion.model import RecursiveModel, Segment, State
from minilm.recursion.optimizers import AdamATan2, SignSGD
from minilm.recursion.presets import hrm, plain_twin, small, trm, trm_mlp
from minilm.recursion.training import PuzzleTrainer, PuzzleTraining

__all__ = [
    "AdamATan2",
    "AdaptiveComputation",
    "AdaptiveFeedForward",
    "PuzzleReport",
    "PuzzleTrainer",
    "PuzzleTraining",
    "RecursionConfig",
    "RecursiveModel",
    "Segment",
    "SignSGD",
    "State",
    "answers",
    "evaluate",
    "hrm",
    "plain_twin",
    "segment_loss",
    "small",
    "stablemax",
    "stablemax_cross_entropy",
    "trm",
    "trm_mlp",
]
