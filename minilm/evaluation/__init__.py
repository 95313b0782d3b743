"""Lesson 08: evaluation. How good is it, and how do we know?

Read in this order:

- `likelihood`: log-probabilities of texts, perplexity, bits per byte, windows for texts longer than the context;
- `floor`: the distance to the story grammar's exact entropy, in choices and in what is forced;
- `calibration`: is the model as sure as it is right, and does its 0.3 equal the grammar's;
- `endings`, `choices`: multiple choice by likelihood, and questions made from stories;
- `grammar`: the share of written text that leaves the grammar, where, and what kind of error it is;
- `similarity`, `verification`: how alike two texts are, and whether a model knows one by heart;
- `scaling`, `recorded`: power laws fitted to runs, and the runs;
- `harness` (imported by itself, needs the extra `eval`): lm-eval's tasks on our models.
"""

from minilm.evaluation.calibration import (
    Bin,
    Calibration,
    TruthReport,
    calibrate,
    next_token_probabilities,
    next_words,
    token_calibration,
    true_next_tokens,
    truth_report,
)
from minilm.evaluation.choices import ChoiceReport, Question, multiple_choice, story_questions
from minilm.evaluation.endings import Ending, score_endings
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
    TokenScores,
    bits_per_byte,
    evaluate_texts,
    log_likelihoods,
    perplexity,
    summarize,
    token_log_probs,
    token_scores,
    windows_of,
)
from minilm.evaluation.recorded import RECORDED, recorded_runs
from minilm.evaluation.scaling import PowerLaw, compute_frontier, fit_power_law
from minilm.evaluation.similarity import (
    Overlap,
    Similarity,
    compare_texts,
    edit_distance,
    edit_similarity,
    ngram_similarity,
    overlap,
)
from minilm.evaluation.verification import Verification, verify

__all__ = [
    "KINDS",
    "RECORDED",
    "Bin",
    "Calibration",
    "ChoiceReport",
    "Departure",
    "Ending",
    "EvaluationError",
    "GrammarReport",
    "Overlap",
    "PowerLaw",
    "Question",
    "Similarity",
    "StoryReport",
    "StoryTokens",
    "TextReport",
    "TextScore",
    "TokenScores",
    "TruthReport",
    "Verification",
    "Written",
    "bits_per_byte",
    "calibrate",
    "compare_texts",
    "compute_frontier",
    "departure",
    "edit_distance",
    "edit_similarity",
    "evaluate_texts",
    "fit_power_law",
    "log_likelihoods",
    "multiple_choice",
    "next_token_probabilities",
    "next_words",
    "ngram_similarity",
    "off_grammar_share",
    "overlap",
    "perplexity",
    "recorded_runs",
    "score_endings",
    "standard_error",
    "story_questions",
    "story_report",
    "story_tokens",
    "summarize",
    "token_calibration",
    "token_log_probs",
    "token_scores",
    "true_next_tokens",
    "truth_report",
    "verify",
    "wilson_interval",
    "windows_of",
]
