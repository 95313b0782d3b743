"""Lesson 08: evaluation. How good is it, and how do we know?

Read in this order:

- `likelihood`: log-probabilities of texts, perplexity, bits per byte, windows for texts longer than the context;
- `floor`: the distance to the story grammar's exact entropy, in choices and in what is forced;
- `grammar`: the share of written text that leaves the grammar, where, and what kind of error it is.
"""

from minilm.evaluation.floor import StoryReport, StoryTokens, standard_error, story_report, story_tokens
from minilm.evaluation.grammar import (
    KINDS,
    Departure,
    GrammarReport,
    Written,
    departure,
    off_grammar_share,
    wilson_interval,
)
from minilm.evaluation.likelihood import (
    EvaluationError,
    TextReport,
    TextScore,
    bits_per_byte,
    evaluate_texts,
    log_likelihoods,
    perplexity,
    summarize,
    token_log_probs,
)
from minilm.evaluation.recorded import RECORDED, recorded_runs
from minilm.evaluation.scaling import PowerLaw, fit_power_law

__all__ = [
    "KINDS",
    "RECORDED",
    "Departure",
    "EvaluationError",
    "GrammarReport",
    "PowerLaw",
    "StoryReport",
    "StoryTokens",
    "TextReport",
    "TextScore",
    "Written",
    "bits_per_byte",
    "departure",
    "evaluate_texts",
    "fit_power_law",
    "log_likelihoods",
    "off_grammar_share",
    "perplexity",
    "recorded_runs",
    "standard_error",
    "story_report",
    "story_tokens",
    "summarize",
    "token_log_probs",
    "wilson_interval",
]
