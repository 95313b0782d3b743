"""Text to tokens and back (lesson 01): bytes, characters, and byte-pair encoding from scratch."""

from minilm.tokenizer.base import DLIB_SPECIAL_TOKENS, ByteTokenizer, CharTokenizer, Tokenizer
from minilm.tokenizer.basics import count_pairs, encode_by_rank, merge_pair, train_by_recounting
from minilm.tokenizer.pretokenize import PATTERNS, pre_tokenize, split_on_specials

__all__ = [
    "DLIB_SPECIAL_TOKENS",
    "PATTERNS",
    "ByteTokenizer",
    "CharTokenizer",
    "Tokenizer",
    "count_pairs",
    "encode_by_rank",
    "merge_pair",
    "pre_tokenize",
    "split_on_specials",
    "train_by_recounting",
]
