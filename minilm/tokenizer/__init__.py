"""Text to tokens and back (lesson 01): bytes, characters, and byte-pair encoding from scratch.

Read in this order: `basics` (the idea), `pretokenize` (words and special tokens), `base` (what a tokenizer is; bytes and characters), `counting` and `training` (fast), `bpe` (all together), `chat`, `huggingface`.
"""

from minilm.tokenizer.base import DLIB_SPECIAL_TOKENS, ByteTokenizer, CharTokenizer, Tokenizer
from minilm.tokenizer.basics import count_pairs, encode_by_rank, merge_pair, train_by_recounting
from minilm.tokenizer.bpe import BPETokenizer
from minilm.tokenizer.chat import CHATML, CHATML_SPECIAL_TOKENS
from minilm.tokenizer.huggingface import BYTE_ORDER
from minilm.tokenizer.pretokenize import PATTERNS, PreTokenizer, pre_tokenize, split_on_specials

__all__ = [
    "BYTE_ORDER",
    "CHATML",
    "CHATML_SPECIAL_TOKENS",
    "DLIB_SPECIAL_TOKENS",
    "PATTERNS",
    "BPETokenizer",
    "ByteTokenizer",
    "CharTokenizer",
    "PreTokenizer",
    "Tokenizer",
    "count_pairs",
    "encode_by_rank",
    "merge_pair",
    "pre_tokenize",
    "split_on_specials",
    "train_by_recounting",
]
