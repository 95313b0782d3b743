"""Lesson 11: fine-tuning. From a model that goes on with text to one that answers, and answers as people like it.

Read in this order:

- `chat`: conversations as ids, of which only the answers are learned; special tokens for a model that has none;
- `batches`: conversations as padded rows, or packed many to a row, with the same losses and gradients;
- `lora`: adapters (LoRA, DoRA) beside frozen matrices, folded in afterwards; `merging`: models of one shape averaged and added;
- `preferences`: DPO, IPO and KTO on log-probabilities of answers; `preference_training`: pairs, the reference, the trainer;
- `frontier`: the best reward for a given distance from the reference, and where a policy stands;
- `measuring`: does it follow instructions (checked exactly), and what did it forget.

    model, tokenizer = with_chat_tokens(*zoo.load("story"))
    examples = [encode_chat(tokenizer, task.messages) for task in instructions("easy", 2000)]
    Trainer(model, ChatBatches(examples, 32), TrainingConfig(steps=200)).train()
"""

from minilm.finetuning.batches import ChatBatches, PackedBatch, PackedChatBatches, pack_whole, why_not_packed
from minilm.finetuning.chat import Example, encode_chat, knows_turns, with_chat_tokens
from minilm.finetuning.frontier import (
    Estimate,
    FrontierPoint,
    PolicyPoint,
    best_reward_at,
    policy_point,
    reward_frontier,
    sample_answers,
)
from minilm.finetuning.lora import (
    DoRALinear,
    LoRAConfig,
    LoRALinear,
    adapters,
    add_lora,
    load_adapter,
    merge,
    merged_weights,
    save_adapter,
    trainable,
)
from minilm.finetuning.measuring import FollowReport, Forgetting, follow_report, forgetting
from minilm.finetuning.merging import add_tasks, average_weights, merge_models, slerp
from minilm.finetuning.preference_training import (
    Pair,
    PreferenceBatch,
    PreferenceBatches,
    PreferenceTrainer,
    answer_log_probs,
    encode_pair,
    preference_loss,
    preference_report,
)
from minilm.finetuning.preferences import (
    PreferenceConfig,
    PreferenceReport,
    dpo_loss,
    implicit_reward,
    ipo_loss,
    kto_loss,
    sequence_log_probs,
)

__all__ = [
    "ChatBatches",
    "DoRALinear",
    "Estimate",
    "Example",
    "FollowReport",
    "Forgetting",
    "FrontierPoint",
    "LoRAConfig",
    "LoRALinear",
    "PackedBatch",
    "PackedChatBatches",
    "Pair",
    "PolicyPoint",
    "PreferenceBatch",
    "PreferenceBatches",
    "PreferenceConfig",
    "PreferenceReport",
    "PreferenceTrainer",
    "adapters",
    "add_lora",
    "add_tasks",
    "answer_log_probs",
    "average_weights",
    "best_reward_at",
    "dpo_loss",
    "encode_chat",
    "encode_pair",
    "follow_report",
    "forgetting",
    "implicit_reward",
    "ipo_loss",
    "knows_turns",
    "kto_loss",
    "load_adapter",
    "merge",
    "merge_models",
    "merged_weights",
    "pack_whole",
    "policy_point",
    "preference_loss",
    "preference_report",
    "reward_frontier",
    "sample_answers",
    "save_adapter",
    "sequence_log_probs",
    "slerp",
    "trainable",
    "why_not_packed",
    "with_chat_tokens",
]
