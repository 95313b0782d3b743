"""The readable functions, cutting into words, streaming, and the byte and character tokenizers."""

import doctest
from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from minilm.tokenizer import (
    BYTE_ORDER,
    ByteTokenizer,
    CharTokenizer,
    basics,
    count_pairs,
    encode_by_rank,
    huggingface,
    merge_pair,
    pre_tokenize,
    pretokenize,
    split_on_specials,
    train_by_recounting,
)
from minilm.tokenizer.pretokenize import stream_words

text = st.text(st.characters(exclude_categories=["Cs"]))
# Much white space, quotes and line ends: where words are hard to cut.
tricky = st.text(st.sampled_from("ab'rtsve 19\n\r\t  é字😀!-<|>\x1c\x85"), max_size=60)
names = st.sampled_from(["gpt2", "gpt4", "whitespace"])


@pytest.mark.parametrize("module", [basics, pretokenize, huggingface])
def test_examples_in_docstrings(module):
    result = doctest.testmod(module)
    assert result.attempted > 0
    assert result.failed == 0


def test_count_pairs_counts_overlapping_pairs():
    assert count_pairs([1, 1, 1]) == Counter({(1, 1): 2})
    assert count_pairs([5]) == count_pairs([]) == Counter()


def test_merge_pair_goes_from_left_to_right():
    assert merge_pair([1, 1, 1, 1, 1], (1, 1), 7) == [7, 7, 1]
    assert merge_pair((1, 2, 3, 1, 2), (1, 2), 7) == [7, 3, 7]
    assert merge_pair([1, 2], (2, 1), 7) == [1, 2]
    assert merge_pair([], (1, 2), 7) == []


def test_encode_by_rank_takes_the_pair_learned_first_wherever_it_stands():
    merges = {(2, 3): 10, (1, 2): 11, (11, 10): 12}
    assert encode_by_rank([1, 2, 3], merges) == [1, 10]
    assert encode_by_rank([1, 2, 2, 3], merges) == [12]
    assert encode_by_rank([], merges) == []
    assert encode_by_rank([9], merges) == [9]


def test_recounting_breaks_ties_by_the_lowest_ids_and_stops_when_no_pair_is_left():
    assert train_by_recounting("ba ab", 1) == {(32, 97): 256}
    assert list(train_by_recounting("abc", 10).values()) == [256, 257]
    assert train_by_recounting("", 3) == {}
    assert (97, 32) not in train_by_recounting("a a a a", 5, "whitespace")


@given(st.text(st.sampled_from("abc "), max_size=40), st.integers(0, 8))
def test_encoding_repeats_what_training_did(corpus, num_merges):
    merges = train_by_recounting(corpus, num_merges)
    ids = list(corpus.encode())
    for pair, new_id in merges.items():
        ids = merge_pair(ids, pair, new_id)
    assert encode_by_rank(list(corpus.encode()), merges) == ids


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("gpt2", ["I", "'ll", " pay", " 12345", "€,", " DON", "'", "T", " go", "  \n\n", " x"]),
        ("gpt4", ["I", "'ll", " pay", " ", "123", "45", "€,", " DON", "'T", " go", "  \n\n", " x"]),
        ("whitespace", ["I'll", " ", "pay", " ", "12345€,", " ", "DON'T", " ", "go", " ", " ", "\n", "\n", " ", "x"]),
        (None, ["I'll pay 12345€, DON'T go  \n\n x"]),
    ],
)
def test_pre_tokenizers_on_one_line(name, words):
    assert pre_tokenize("I'll pay 12345€, DON'T go  \n\n x", name) == words


@given(st.one_of(text, tricky), st.sampled_from(["gpt2", "gpt4", "whitespace", None]))
def test_words_joined_are_the_text(text, name):
    assert "".join(pre_tokenize(text, name)) == text


@given(st.text(st.characters(max_codepoint=127)), names)
def test_the_engine_for_ascii_cuts_like_the_other(text, name):
    import regex

    assert pre_tokenize(text, name) == regex.findall(pretokenize.PATTERNS[name], text)


def test_unknown_pre_tokenizer():
    with pytest.raises(ValueError, match=r"pre_tokenizer is 'gpt3'; it must be 'gpt2', 'gpt4', 'whitespace' or None"):
        pre_tokenize("a", "gpt3")


def test_specials_leftmost_and_longest_first():
    specials = ["<a>", "<a><b>", "b><", "$^"]
    assert split_on_specials("x<a><b><a>y$^", specials) == ["x", "<a><b>", "<a>", "y", "$^"]
    assert split_on_specials("<a>", specials) == ["<a>"]
    assert split_on_specials("b><a>", specials) == ["b><", "a>"]
    assert split_on_specials("", specials) == []
    assert split_on_specials("no", []) == ["no"]


def joined(stream):
    pieces = []
    for words, special in stream:
        pieces += words
        if special is not None:
            pieces.append(special)
    return pieces


def whole(text, name, specials=()):
    return [
        word
        for piece in split_on_specials(text, specials)
        for word in ([piece] if piece in specials else pre_tokenize(piece, name))
    ]


SPECIALS = ["<|a|>", "<|a|>b", "!-", "<|a b's|>-<|a|>"]


@given(
    text=st.one_of(tricky, st.lists(st.sampled_from([*SPECIALS, "<|", " ", "a", "'re"])).map("".join)),
    cuts=st.lists(st.integers(0, 60)),
    name=names,
    chunk=st.sampled_from([1, 2, 5, 20]),
)
@settings(max_examples=400, deadline=None)
@example(text="a\n    \nb", cuts=[], name="gpt4", chunk=5)
@example(text="it're", cuts=[], name="gpt2", chunk=4)
def test_streams_are_cut_like_the_whole_text(text, cuts, name, chunk):
    edges = [0, *sorted(cut for cut in cuts if cut < len(text)), len(text)]
    chunks = [text[start:end] for start, end in pairwise(edges)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pretokenize, "CHUNK", chunk)
        assert joined(stream_words(chunks, name)) == whole(text, name)
        assert joined(stream_words(chunks, name, SPECIALS)) == whole(text, name, SPECIALS)


def test_streaming_reads_only_as_far_as_it_must(monkeypatch):
    monkeypatch.setattr(pretokenize, "CHUNK", 100)
    read = []

    def endless():
        while True:
            read.append(1)
            yield "some words, "

    stream = stream_words(endless(), "gpt2")
    next(stream)
    assert len(read) * len("some words, ") < 300


def test_a_very_long_word_takes_time_in_proportion(monkeypatch):
    monkeypatch.setattr(pretokenize, "CHUNK", 100)
    looked_at = []
    split = pretokenize.splitter("gpt2")
    monkeypatch.setattr(pretokenize, "splitter", lambda name: lambda text: looked_at.append(len(text)) or split(text))
    assert joined(stream_words(["x" * 100_000], "gpt2")) == ["x" * 100_000]
    assert sum(looked_at) < 5 * 100_000


def test_without_pre_tokenizer_nothing_is_streamed():
    with pytest.raises(ValueError, match="one word, which can't be streamed"):
        stream_words(["a"], None)


def test_byte_order_is_gpt2s():
    assert sorted(BYTE_ORDER) == list(range(256))
    assert (BYTE_ORDER[0], BYTE_ORDER[93], BYTE_ORDER[94], BYTE_ORDER[188], BYTE_ORDER[220], BYTE_ORDER[255]) == (
        33,
        126,
        161,
        0,
        32,
        173,
    )


@given(text)
def test_bytes_round_trip(text):
    tokenizer = ByteTokenizer(["<eos>"])
    ids = tokenizer.encode(text)
    assert ids == list(text.encode())
    assert tokenizer.decode(ids) == text
    assert list(tokenizer.encode_iterable(list(text))) == ids


def test_byte_tokenizer_and_its_specials():
    tokenizer = ByteTokenizer(["<pad>", "<eos>"])
    assert tokenizer.vocab_size == 258
    assert tokenizer.encode("a<eos>", allowed_special=["<eos>"]) == [97, 257]
    assert tokenizer.encode("a<eos>", "all") == [97, 257]
    assert tokenizer.encode("<eos>") == list(b"<eos>")
    assert list(tokenizer.encode_iterable(["a<e", "os>b"], ["<eos>"])) == [97, 257, 98]
    assert tokenizer.decode([97, 257, 0xC3]) == "a<eos>�"
    assert tokenizer.token_bytes(256) == b"<pad>"


@given(st.text(st.characters(max_codepoint=255)))
def test_latin_text_round_trips_through_characters(text):
    tokenizer = CharTokenizer()
    ids = tokenizer.encode(text)
    assert ids == [ord(character) for character in text]
    assert tokenizer.decode(ids) == text


@given(text)
def test_characters_never_get_an_id_out_of_range(text):
    ids = CharTokenizer(errors="replace").encode(text)
    assert len(ids) == len(text)
    assert all(0 <= i <= 255 for i in ids)


def test_char_tokenizer_has_257_ids_and_refuses_what_it_does_not_know():
    tokenizer = CharTokenizer()
    assert tokenizer.vocab_size == 257
    assert tokenizer.special_tokens == {"<pad>": 256}
    assert tokenizer.decode([72, 105, 256]) == "Hi<pad>"
    with pytest.raises(ValueError, match=r"character 3 is '€' \(U\+20AC\), and this tokenizer knows only Latin-1"):
        tokenizer.encode("10 €")
    assert CharTokenizer(errors="replace").encode("1€") == [ord("1"), ord("?")]
    with pytest.raises(ValueError, match="errors is 'ignore'; it must be 'refuse' or 'replace'"):
        CharTokenizer(errors="ignore")


@pytest.mark.parametrize("bad", [-1, 257, 10**6])
def test_unknown_ids_are_named(bad):
    with pytest.raises(ValueError, match=f"no token has id {bad}: ids go from 0 to 256"):
        CharTokenizer().decode([72, bad])
    with pytest.raises(ValueError, match=f"no token has id {bad}: ids go from 0 to 256"):
        ByteTokenizer(["<eos>"]).decode([bad])


@pytest.mark.parametrize(
    ("specials", "message"),
    [
        (["<a>", "<b>", "<a>"], "holds '<a>' twice"),
        (["<a>", ""], "holds ''"),
        ("<a>", "put it in a list"),
        (["\ud800"], "lone surrogate"),
    ],
)
def test_bad_special_tokens(specials, message):
    with pytest.raises(ValueError, match=message):
        ByteTokenizer(specials)


def test_allowed_special_must_be_known():
    with pytest.raises(
        ValueError, match="allowed_special names '<x>', which is no special token of this tokenizer: '<eos>'"
    ):
        ByteTokenizer(["<eos>"]).encode("a", allowed_special=["<x>"])
    with pytest.raises(ValueError, match="put it in a list"):
        ByteTokenizer(["<eos>"]).encode("a", allowed_special="<eos>")


def test_lone_surrogates_are_named():
    with pytest.raises(ValueError, match=r"character 2 is a lone surrogate \(U\+D83D\)"):
        ByteTokenizer().encode("ab\ud83d")


def test_a_tokenizer_says_what_it_is_without_an_address():
    assert repr(ByteTokenizer(["<end>"])) == "ByteTokenizer(257 ids, 1 of them special)"
