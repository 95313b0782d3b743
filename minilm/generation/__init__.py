"""Lesson 07: generation. A model gives scores for one token; here they become text.

- `sampling`: small pure functions on logits (temperature, top-k, top-p, min-p, repetition penalty) and the choice of a token;
- `stopping`: stop strings and tokens, and stopping where the model becomes unsure;
- `reading`: what the model sees of a text that grows, with a cache or without;
- `int8`: a copy of a model with weights of one byte, which writes faster;
- `steps`: a step of fixed shape, which can be compiled;
- `decoding`: `generate` for batches, `stream` for text that appears as it is written;
- `beam`: the likeliest text rather than the likeliest token, as far as one cares to look;
- `writer`: a model and its tokenizer as one thing that writes;
- `chat`: a conversation that stays within what the model sees.
"""

from minilm.generation.beam import Beam, beam_search
from minilm.generation.chat import Conversation, TooLong
from minilm.generation.decoding import Generation, Stream, generate, stream
from minilm.generation.int8 import Int8Linear, quantize_rows, to_int8
from minilm.generation.reading import Context, Reader, arrange_for_writing
from minilm.generation.sampling import (
    GREEDY,
    Sampling,
    apply_repetition_penalty,
    apply_temperature,
    keep_min_p,
    keep_top_k,
    keep_top_p,
    process_logits,
    sample_token,
    token_probabilities,
)
from minilm.generation.steps import StaticStep
from minilm.generation.stopping import ConfidenceStop, ConfidenceWatch, StopReason, TextOut, confidence
from minilm.generation.writer import Writer

__all__ = [
    "GREEDY",
    "Beam",
    "ConfidenceStop",
    "ConfidenceWatch",
    "Context",
    "Conversation",
    "Generation",
    "Int8Linear",
    "Reader",
    "Sampling",
    "StaticStep",
    "StopReason",
    "Stream",
    "TextOut",
    "TooLong",
    "Writer",
    "apply_repetition_penalty",
    "apply_temperature",
    "arrange_for_writing",
    "beam_search",
    "confidence",
    "generate",
    "keep_min_p",
    "keep_top_k",
    "keep_top_p",
    "process_logits",
    "quantize_rows",
    "sample_token",
    "stream",
    "to_int8",
    "token_probabilities",
]
