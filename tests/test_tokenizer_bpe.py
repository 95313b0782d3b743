"""The byte-pair tokenizer: the same merges and ids as Hugging Face tokenizers and GPT-2, round trips, specials, files, bad input."""

import json
import random
import warnings
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minilm.tokenizer import (
    BYTE_ORDER,
    CHATML,
    DLIB_SPECIAL_TOKENS,
    BPETokenizer,
    merge_pair,
    pre_tokenize,
    pretokenize,
    split_on_specials,
    train_by_recounting,
)
from minilm.tokenizer.bpe import LONG_WORD
from minilm.tokenizer.huggingface import to_unicode
from minilm.tokenizer.training import learn_merges
from tests.real_text import real_text

tokenizers = pytest.importorskip("tokenizers")

SPECIALS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
# Other libraries know the letters of another edition of Unicode: characters without a category are left out where we compare.
assigned = st.text(st.characters(exclude_categories=["Cs", "Cn"]))
any_text = st.text(st.characters(exclude_categories=["Cs"]))
# Runs of the same character, accents, emoji, special tokens: where byte-pair encoding is easily wrong.
tricky = st.text(st.sampled_from("aab-- \n'é😀<|>"), max_size=80)


def french() -> str:
    words = [
        "l'été",
        "où",
        "à",
        "Noël",
        "ça",
        "cœur",
        "garçon",
        "naïve",
        "œuvre",
        "aujourd'hui",
        "qu'elle",
        "«",
        "déjà",
        "»",
        "mère",
        "2024",
        "n'est-ce",
        "pas",
        "😀",
        "👩\u200d🚀",
        "🇫🇷",
        "été",
        "€5",
        "—",
        "ﬁn",
    ]
    syllables = [
        "dé",
        "fê",
        "cœ",
        "ça",
        "ré",
        "mon",
        "tra",
        "vail",
        "ou",
        "eau",
        "aî",
        "ô",
        "pré",
        "gn",
        "ille",
        "ment",
        "ù",
        "tion",
        "çon",
        "eur",
        "ée",
    ]
    rng = random.Random(0)
    words += ["".join(rng.choices(syllables, k=rng.randint(1, 4))) for _ in range(1500)]
    return " ".join(rng.choice(words) + rng.choice(["", "", ",", ".\n", " !", "…"]) for _ in range(20_000))


def corpus(name: str) -> list[str]:
    if name == "shakespeare":
        return [real_text("tinyshakespeare.txt").read_text(encoding="utf-8")]
    if name == "python docs":
        topics = pytest.importorskip("pydoc_data.topics").topics
        return [topics[key] for key in sorted(topics)]
    if name == "stories":
        from minilm.data import stories

        return stories.generate(size="easy", n=2000, seed=0)
    if name == "french":
        return [french()]
    import argparse
    import decimal
    import typing

    return [
        Path(module.__file__).read_text(encoding="utf-8")
        for module in (argparse, typing, decimal, json, random, pretokenize)
    ]


def theirs(texts, vocab_size, specials=(), pre_tokenizer="gpt2"):
    """A tokenizer that Hugging Face's library has trained."""
    model = tokenizers.Tokenizer(tokenizers.models.BPE())
    byte_level = tokenizers.pre_tokenizers.ByteLevel
    if pre_tokenizer in ("gpt4", "whitespace"):
        split = tokenizers.pre_tokenizers.Split(tokenizers.Regex(pretokenize.PATTERNS[pre_tokenizer]), "isolated")
        model.pre_tokenizer = tokenizers.pre_tokenizers.Sequence(
            [split, byte_level(add_prefix_space=False, use_regex=False)]
        )
    else:
        model.pre_tokenizer = byte_level(add_prefix_space=False, use_regex=pre_tokenizer == "gpt2")
    model.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(specials),
        initial_alphabet=byte_level.alphabet(),
        show_progress=False,
    )
    model.train_from_iterator(texts, trainer)
    return model


def assert_same(ours, theirs, texts):
    saved = json.loads(theirs.to_str())
    assert [(to_unicode(left), to_unicode(right)) for left, right in ours.merges] == [
        tuple(pair) for pair in saved["model"]["merges"]
    ]
    vocab = {to_unicode(token): i for token, i in ours.vocab.items()}
    assert {**vocab, **ours.special_tokens} == theirs.get_vocab()
    theirs.encode_special_tokens = True
    for text in texts:
        assert ours.encode(text) == theirs.encode(text).ids
    theirs.encode_special_tokens = False
    for text in texts:
        assert ours.encode(text, "all") == theirs.encode(text).ids


@pytest.fixture(scope="module")
def trained():
    return BPETokenizer.train([french()], 1000, special_tokens=SPECIALS)


# Equality


@pytest.mark.parametrize("specials", [(), SPECIALS], ids=["plain", "specials"])
@pytest.mark.parametrize("vocab_size", [300, 1000, 3500])
@pytest.mark.parametrize("name", ["shakespeare", "python docs", "stories", "french", "source code"])
def test_merges_and_ids_are_hugging_faces(name, vocab_size, specials):
    texts = corpus(name)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "the corpus has no pairs left")  # the stories have few words
        ours = BPETokenizer.train(texts, vocab_size, special_tokens=specials)
    others = ["Où est <|endoftext|>l'été?  <|im_start|><|im_end|", "def f(x):\n\treturn x  # 😀\n\n\n", "-" * 999]
    assert_same(ours, theirs(texts, vocab_size, specials), [*texts[:30], *others])


@pytest.mark.parametrize("pre_tokenizer", ["gpt4", "whitespace", None])
def test_the_other_pre_tokenizers_give_hugging_faces_ids_too(pre_tokenizer):
    texts = [*corpus("source code")[3:], french()[:30_000]]
    assert_same(
        BPETokenizer.train(texts, 800, SPECIALS, pre_tokenizer), theirs(texts, 800, SPECIALS, pre_tokenizer), texts
    )


@given(
    texts=st.lists(st.one_of(tricky, assigned), min_size=1),
    vocab_size=st.integers(256, 300),
    name=st.sampled_from(["gpt2", None]),
)
@settings(deadline=None, max_examples=200)
def test_any_small_corpus_gives_hugging_faces_merges(texts, vocab_size, name):
    texts.append("a")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ours = BPETokenizer.train(texts, vocab_size, pre_tokenizer=name)
    assert_same(ours, theirs(texts, vocab_size, pre_tokenizer=name), texts)


def test_specials_last_are_those_that_hugging_face_adds_afterwards():
    texts = [french()]
    ours = BPETokenizer.train(texts, 500, SPECIALS, special_position="last")
    reference = theirs(texts, 497)
    reference.add_special_tokens(SPECIALS)
    assert_same(ours, reference, [*texts, "a<|im_end|>b"])
    assert list(ours.special_tokens.values()) == [497, 498, 499]


def test_gpt2_itself():
    ours = BPETokenizer.from_gpt2_files(real_text("gpt2/encoder.json"), real_text("gpt2/vocab.bpe"))
    assert (ours.vocab_size, len(ours.merges), ours.special_tokens) == (50257, 50000, {"<|endoftext|>": 50256})
    assert ours.encode("Hello world") == [15496, 995]
    assert ours.encode("<|endoftext|>", "all") == [50256]
    assert ours.encode("<|endoftext|>") == [27, 91, 437, 1659, 5239, 91, 29]
    reference = tokenizers.Tokenizer(
        tokenizers.models.BPE.from_file(str(real_text("gpt2/encoder.json")), str(real_text("gpt2/vocab.bpe")))
    )
    reference.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    for text in [
        *corpus("source code"),
        *corpus("python docs"),
        french(),
        real_text("tinyshakespeare.txt").read_text(encoding="utf-8"),
    ]:
        assert ours.encode(text) == reference.encode(text).ids
    assert tuple(ours.vocab[bytes([byte])] for byte in BYTE_ORDER) == tuple(range(256))


@given(st.one_of(assigned, tricky))
@settings(deadline=None)
def test_the_rust_copy_encodes_any_text_like_ours(trained, text):
    copy = trained.to_huggingface()
    assert copy.encode(text).ids == trained.encode(text, "all")
    assert copy.decode(trained.encode(text), skip_special_tokens=False) == text


# The fast trainer and the readable one


def recount(texts, num_merges, pre_tokenizer, key):
    """The plainest trainer: `key(pair, tokens)` says which of the most frequent pairs is the greatest."""
    tokens = {rank: bytes([byte]) for rank, byte in enumerate(BYTE_ORDER)}
    rank_of = {token[0]: rank for rank, token in tokens.items()}
    words = Counter(
        tuple(rank_of[byte] for byte in word.encode()) for text in texts for word in pre_tokenize(text, pre_tokenizer)
    )
    merges = []
    for new_id in range(256, 256 + num_merges):
        counts = Counter()
        for word, times in words.items():
            for pair in pairwise(word):
                counts[pair] += times
        if not counts:
            break
        best = max(counts, key=lambda pair: (counts[pair], key(pair, tokens)))
        tokens[new_id] = tokens[best[0]] + tokens[best[1]]
        merges.append((tokens[best[0]], tokens[best[1]]))
        merged = Counter()
        for word, times in words.items():
            merged[tuple(merge_pair(word, best, new_id))] += times
        words = merged
    return merges


TIES = {
    "lowest_id": lambda pair, tokens: (-pair[0], -pair[1]),
    "lexicographic": lambda pair, tokens: (tokens[pair[0]], tokens[pair[1]]),
}


@pytest.mark.parametrize("tie_break", ["lowest_id", "lexicographic"])
@given(
    texts=st.lists(st.one_of(tricky, any_text), min_size=1, max_size=5),
    name=st.sampled_from(["gpt2", "gpt4", "whitespace", None]),
)
@settings(deadline=None, max_examples=150)
def test_fast_training_equals_recounting(tie_break, texts, name):
    texts.append("x")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fast = BPETokenizer.train(texts, 280, pre_tokenizer=name, tie_break=tie_break)
    assert fast.merges == recount(texts, 24, name, TIES[tie_break])


def test_lexicographic_takes_the_greatest_pair_of_byte_strings():
    # "ab", "bc" and "zy" are equally frequent.
    assert BPETokenizer.train(["abc zy abc zy"], 257, pre_tokenizer="whitespace", tie_break="lexicographic").merges == [
        (b"z", b"y")
    ]
    assert BPETokenizer.train(["abc zy abc zy"], 257, pre_tokenizer="whitespace").merges == [(b"a", b"b")]


def test_readable_trainer_learns_the_same_tokens():
    text = french()[:3000]
    readable = train_by_recounting(text, 40, "gpt2")
    tokens = {byte: bytes([byte]) for byte in range(256)}
    for (left, right), new_id in readable.items():
        tokens[new_id] = tokens[left] + tokens[right]
    # The ids of bytes differ, so equally frequent pairs may come in another order.
    assert len({tokens[i] for i in range(256, 296)} & set(BPETokenizer.train([text], 296).vocab)) >= 36


def test_ids_beyond_the_first_plane_and_among_the_surrogates():
    tokens = [b""] * 55_200 + [bytes([byte]) for byte in BYTE_ORDER]
    spelled = {
        "".join(chr(55_200 + BYTE_ORDER.index(byte)) for byte in word.encode()): 1
        for word in corpus("source code")[0].split()
    }
    learned = learn_merges(spelled, tokens, len(tokens) + 500)
    assert len(learned) == 500
    vocab = {token: i for i, token in enumerate(tokens) if token}
    tokenizer = BPETokenizer(
        vocab, [(tokens[ord(pair[0])], tokens[ord(pair[1])]) for pair in learned], {}, "whitespace"
    )
    low = BPETokenizer.from_vocab(
        {token: i - 55_200 for token, i in vocab.items()}, tokenizer.merges, pre_tokenizer="whitespace"
    )
    text = corpus("source code")[0]
    assert [i - 55_200 for i in tokenizer.encode(text)] == low.encode(text)
    assert tokenizer.decode(tokenizer.encode(text)) == text


# Round trips


@given(st.one_of(any_text, tricky))
def test_any_unicode_round_trips(trained, text):
    for allowed in ((), "all"):
        assert trained.decode(trained.encode(text, allowed)) == text


@given(st.binary())
def test_any_bytes_round_trip(trained, data):
    ids = [trained.vocab[bytes([byte])] for byte in data]
    assert b"".join(map(trained.token_bytes, ids)) == data
    assert trained.decode(ids) == data.decode("utf-8", errors="replace")


@given(st.lists(st.integers(0, 999)))
def test_any_ids_can_be_decoded(trained, ids):
    assert isinstance(trained.decode(ids), str)


@given(texts=st.lists(st.one_of(any_text, tricky)), allowed=st.sampled_from([(), "all", ["<|im_end|>"]]))
def test_batches_and_streams_give_the_ids_of_encode(trained, texts, allowed):
    assert trained.encode_batch(texts, allowed) == [trained.encode(text, allowed) for text in texts]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pretokenize, "CHUNK", 8)
        assert list(trained.encode_iterable(texts, allowed)) == trained.encode("".join(texts), allowed)


def test_a_stream_takes_constant_memory(trained):
    import tracemalloc

    def peak(lines):
        tracemalloc.start()
        total = sum(1 for _ in trained.encode_iterable("Où est l'été, où est Noël ?\n" for _ in range(lines)))
        top = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert total > 5 * lines
        return top

    assert peak(40_000) < 1.3 * peak(10_000)


def test_a_stream_is_lazy(trained):
    stream = trained.encode_iterable(iter("été " for _ in iter(int, 1)))  # without end
    assert trained.decode([next(stream) for _ in range(3)])


def test_a_long_text_is_encoded_piece_by_piece_alike(trained, monkeypatch):
    text = french()[:5000]
    expected = trained.encode(text)
    monkeypatch.setattr("minilm.tokenizer.bpe.CHUNK", 100)
    monkeypatch.setattr(pretokenize, "CHUNK", 100)
    assert trained.encode(text) == expected


@given(st.text(st.sampled_from("été aab"), max_size=300))
@settings(deadline=None)
def test_both_ways_of_merging_a_word_agree(trained, word):
    spelled = word.encode().decode("latin-1").translate(trained._byte_table)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("minilm.tokenizer.bpe.LONG_WORD", 10**9)
        assert trained.encode_word(word) == trained._encode_long_word(spelled)


def test_a_long_word_is_quick_and_not_kept(trained):
    word = "aé" * 50_000
    ids = trained.encode(word)
    assert trained.decode(ids) == word
    assert not [key for key in trained._cache if len(key) > LONG_WORD]


def test_the_cache_is_bounded(trained):
    trained._cache.limit, limit = 10, trained._cache.limit
    try:
        assert trained.decode(trained.encode(french()[:2000])) == french()[:2000]
        assert len(trained._cache) <= 10
    finally:
        trained._cache.limit = limit


# Special tokens


def test_specials_come_only_where_they_are_allowed(trained):
    text = "a<|im_end|>b<|endoftext|>"
    special = set(trained.special_tokens.values())
    assert not special & set(trained.encode(text))
    assert special & set(trained.encode(text, ["<|im_end|>"])) == {trained.special_tokens["<|im_end|>"]}
    assert special & set(trained.encode(text, "all")) == {
        trained.special_tokens["<|im_end|>"],
        trained.special_tokens["<|endoftext|>"],
    }


@given(st.one_of(tricky, st.lists(st.sampled_from([*SPECIALS, "<|", "im_", "a", " "])).map("".join)))
def test_no_text_gives_a_special_by_itself(trained, text):
    assert not set(trained.special_tokens.values()) & set(trained.encode(text))
    assert not set(trained.special_tokens.values()) & set(trained.encode_iterable([text]))


@pytest.mark.parametrize("pre_tokenizer", ["gpt2", None])
def test_training_does_not_learn_a_special_token_from_the_text(pre_tokenizer):
    texts = ["the<|im_end|>then <|im_start|>the other<the>" * 50]
    specials = [*SPECIALS, "the"]
    ours = BPETokenizer.train(texts, 261, specials, pre_tokenizer)
    assert b"the" not in ours.vocab
    pieces = [piece for piece in split_on_specials(texts[0], specials) if piece not in specials]
    assert_same(ours, theirs(pieces, 261, specials, pre_tokenizer), [])


def test_overlapping_specials_are_cut_as_hugging_face_cuts_them():
    specials = ["<a>", "<a><b>", "><", "<a", "a><b"]
    ours = BPETokenizer.train(["hello"], 256 + 5 + 1, special_tokens=specials)
    copy = ours.to_huggingface()
    rng = random.Random(0)
    for _ in range(300):
        text = "".join(rng.choice(["<", "a", ">", "<b>", "x"]) for _ in range(12))
        assert ours.encode(text, "all") == copy.encode(text).ids


def test_dlibs_vocabulary():
    tokenizer = BPETokenizer.train(
        corpus("python docs"), 3500, DLIB_SPECIAL_TOKENS, "whitespace", special_position="last"
    )
    assert len(DLIB_SPECIAL_TOKENS) == 28
    assert len(tokenizer.merges) == 3216
    assert tokenizer.vocab_size == 3500
    assert (tokenizer.special_tokens["<text>"], tokenizer.special_tokens["<pad>"]) == (3472, 3499)
    assert not any(set(token) & set(b" \t\r\n") for token in tokenizer.vocab if len(token) > 1)


@pytest.mark.parametrize(("position", "ids"), [("first", [0, 1, 2]), ("last", [258, 259, 260])])
def test_when_pairs_run_out_the_vocabulary_ends_and_says_so(position, ids):
    with pytest.warns(UserWarning, match="no pairs left to merge: the vocabulary has 261 tokens instead of 1000"):
        tokenizer = BPETokenizer.train(["abc"], 1000, SPECIALS, special_position=position)
    assert tokenizer.vocab_size == 261
    assert list(tokenizer.special_tokens.values()) == ids
    assert sorted([*tokenizer.vocab.values(), *ids]) == list(range(261))
    assert tokenizer.encode("abc") == [tokenizer.vocab[b"abc"]]


# Corpora


def test_a_file_gives_the_merges_of_its_text(tmp_path, monkeypatch):
    text = french()[:30_000].replace("\n", "\r\n")
    path = tmp_path / "corpus.txt"
    path.write_bytes(text.encode())
    expected = BPETokenizer.train([text], 400)
    for chunk in (50, 1 << 16):
        monkeypatch.setattr(pretokenize, "CHUNK", chunk)
        monkeypatch.setattr("minilm.tokenizer.counting.CHUNK", chunk)
        assert BPETokenizer.train(path, 400).merges == BPETokenizer.train(str(path), 400).merges == expected.merges


def test_texts_may_come_from_a_generator():
    texts = french().split("\n")[:200]
    assert BPETokenizer.train((text for text in texts), 300).merges == BPETokenizer.train(texts, 300).merges


def test_training_the_same_twice_gives_the_same():
    texts = corpus("source code")[:1]
    assert BPETokenizer.train(texts, 600, SPECIALS)._to_json() == BPETokenizer.train(texts, 600, SPECIALS)._to_json()


# Files


def test_save_and_load(trained, tmp_path):
    text = french()[:3000] + "<|im_end|>"
    trained.save(tmp_path / "new" / "folder")
    trained.save(tmp_path / "alone.json")
    assert sorted(path.name for path in (tmp_path / "new" / "folder").iterdir()) == [
        "chat_template.jinja",
        "tokenizer.json",
    ]
    for path in (tmp_path / "new" / "folder", tmp_path / "alone.json", str(tmp_path / "alone.json")):
        loaded = BPETokenizer.load(path)
        assert (loaded.vocab, loaded.merges, loaded.special_tokens) == (
            trained.vocab,
            trained.merges,
            trained.special_tokens,
        )
        assert loaded.encode(text, "all") == trained.encode(text, "all")
    assert tokenizers.Tokenizer.from_file(str(tmp_path / "alone.json")).encode(text).ids == trained.encode(text, "all")


def test_the_chat_template_travels(trained, tmp_path):
    loaded = BPETokenizer.from_huggingface(trained.to_huggingface().to_str())
    assert loaded.chat_template == CHATML
    loaded.chat_template = "{{ messages[0].content }}\n"
    loaded.save(tmp_path)
    assert BPETokenizer.load(tmp_path).chat_template == "{{ messages[0].content }}\n"


@pytest.mark.parametrize("pre_tokenizer", ["gpt2", "gpt4", "whitespace", None])
@pytest.mark.parametrize("position", ["first", "last"])
def test_through_hugging_face_and_back(pre_tokenizer, position):
    ours = BPETokenizer.train([french()[:5000]], 300, SPECIALS, pre_tokenizer, special_position=position)
    back = BPETokenizer.from_huggingface(ours.to_huggingface().to_str())
    assert (back.vocab, back.merges, back.special_tokens, back.pre_tokenizer) == (
        ours.vocab,
        ours.merges,
        ours.special_tokens,
        pre_tokenizer,
    )


def test_a_tokenizer_trained_by_hugging_face_is_read(tmp_path):
    reference = theirs([french()], 500, SPECIALS)
    reference.save(str(tmp_path / "tokenizer.json"))
    for source in (tmp_path, tmp_path / "tokenizer.json", reference.to_str()):
        assert_same(BPETokenizer.from_huggingface(source), reference, [french()[:1000]])


def test_from_vocab_places_specials():
    vocab = {bytes([byte]): byte for byte in range(256)} | {b"ab": 256, b"<s>": 300}
    tokenizer = BPETokenizer.from_vocab(vocab, [(b"a", b"b")], ["<s>", "<t>"])
    assert tokenizer.special_tokens == {"<s>": 300, "<t>": 301}
    assert tokenizer.encode("ab<t><s>", "all") == [256, 301, 300]
    assert tokenizer.vocab_size == 302
    assert tokenizer.token_bytes(256) == b"ab"
    with pytest.raises(ValueError, match="no token has id 299"):
        tokenizer.token_bytes(299)


def test_saving_over_a_file_leaves_it_whole_when_the_disk_fails(trained, tmp_path, monkeypatch):
    path = tmp_path / "tokenizer.json"
    trained.save(path)
    before = path.read_bytes()

    def fail(self, target):
        raise OSError("no space left")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match="no space"):
        trained.save(path)
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir() if entry.is_file()] == ["tokenizer.json"]


# Bad input: one sentence each


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"texts_or_path": []}, "the corpus is empty"),
        ({"texts_or_path": ["", ""]}, "the corpus is empty"),
        ({"texts_or_path": ["<|im_end|>"], "special_tokens": SPECIALS}, "the corpus is empty"),
        ({"vocab_size": 255}, "vocab_size is 255; it must be at least 256, for 256 bytes and 0 special tokens"),
        ({"vocab_size": 258, "special_tokens": SPECIALS}, "vocab_size is 258; it must be at least 259"),
        ({"special_tokens": ["<a>", "<a>"]}, "special_tokens holds '<a>' twice"),
        ({"special_tokens": [""]}, "special_tokens holds ''"),
        ({"special_tokens": ["e"]}, "the special token 'e' is an ordinary token too"),
        ({"pre_tokenizer": "words"}, "pre_tokenizer is 'words'"),
        ({"tie_break": "random"}, "tie_break is 'random'; it must be 'lowest_id' or 'lexicographic'"),
        ({"special_position": "middle"}, "special_position is 'middle'"),
        ({"texts_or_path": ["ab\ud800"]}, "lone surrogate"),
        (
            {"texts_or_path": "First Citizen:\nBefore we proceed"},
            r"looks like a text \(32 characters\): .*put it in a list",
        ),
    ],
)
def test_bad_training(arguments, message):
    with pytest.raises(ValueError, match=message):
        BPETokenizer.train(**{"texts_or_path": ["hello hello"], "vocab_size": 260, **arguments})


def test_bad_paths(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no file 'nowhere\.txt': check the path"):
        BPETokenizer.train("nowhere.txt", 300)
    with pytest.raises(FileNotFoundError, match=r"there is no file 'nowhere\.json'"):
        BPETokenizer.load("nowhere.json")
    with pytest.raises(FileNotFoundError, match=r"there is no file .*tokenizer\.json"):
        BPETokenizer.load(tmp_path)
    with pytest.raises(OSError, match="is a folder"):
        BPETokenizer.train(tmp_path, 300)
    (tmp_path / "latin.txt").write_bytes("déjà vu".encode("latin-1"))
    with pytest.raises(ValueError, match="is not UTF-8 text"):
        BPETokenizer.train(tmp_path / "latin.txt", 300)
    (tmp_path / "empty.txt").touch()
    with pytest.raises(ValueError, match="the corpus is empty"):
        BPETokenizer.train(tmp_path / "empty.txt", 300)
    with pytest.raises(ValueError, match="one word, which can't be streamed"):
        BPETokenizer.train(tmp_path / "latin.txt", 300, pre_tokenizer=None)


def test_unknown_ids_and_streams_without_words(trained):
    with pytest.raises(ValueError, match="no token has id 1000: ids go from 0 to 999"):
        trained.decode([5, 1000])
    with pytest.raises(ValueError, match="no token has id -1"):
        trained.decode([-1])
    with pytest.raises(ValueError, match="one word, which can't be streamed"):
        BPETokenizer.train(["hello"], 257, pre_tokenizer=None).encode_iterable(["a"])


def damaged(change):
    document = json.loads(BPETokenizer.train(["hello hello"], 258)._to_json())
    change(document)
    return json.dumps(document)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"version": "1.0", "mod', "is damaged or no tokenizer.json .*JSONDecodeError"),
        ("{}", "is damaged or no tokenizer.json .*'model'"),
        (damaged(lambda d: d["model"].pop("vocab")), "is damaged .*'vocab'"),
        (
            damaged(lambda d: d["model"]["merges"].append(["h", "z"])),
            "the merge of b'h' and b'z' needs the token b'hz'",
        ),
        (damaged(lambda d: d["model"]["merges"].append(["h"])), "is damaged"),
        (damaged(lambda d: d["model"]["vocab"].pop("a")), "lacks 1 of the 256 single bytes, the first is b'a'"),
        (damaged(lambda d: d["model"]["vocab"].update(a=5)), "2 tokens have the id 5"),
        (damaged(lambda d: d["model"]["vocab"].update(a=-5)), "ids go from -5"),
        (damaged(lambda d: d["model"]["vocab"].update({"▁a": 258})), "stands for no byte"),
        (damaged(lambda d: d["model"].update(type="Unigram")), "holds a Unigram model, which BPETokenizer does not do"),
        (damaged(lambda d: d["model"].update(byte_fallback=True)), "sets byte_fallback to True"),
        (damaged(lambda d: d.update(normalizer={"type": "NFC"})), "normalizes text"),
        (damaged(lambda d: d.update(post_processor={"type": "TemplateProcessing"})), "adds tokens after encoding"),
        (damaged(lambda d: d.update(pre_tokenizer={"type": "Metaspace"})), "is not byte-level"),
        (damaged(lambda d: d.update(pre_tokenizer=None)), "is not byte-level"),
        (damaged(lambda d: d["pre_tokenizer"].update(add_prefix_space=True)), "adds a space before"),
    ],
)
def test_damaged_or_foreign_files(text, message, tmp_path):
    (tmp_path / "tokenizer.json").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        BPETokenizer.load(tmp_path)
    with pytest.raises(ValueError, match=message):
        BPETokenizer.from_huggingface(text)


def test_swapped_gpt2_files(tmp_path):
    (tmp_path / "vocab").write_text("#version: 0.2\na b c\n", encoding="utf-8")
    with pytest.raises(ValueError, match="are not GPT-2's pair of files"):
        BPETokenizer.from_gpt2_files(tmp_path / "vocab", tmp_path / "vocab")


def test_ids_may_be_a_tensor_or_an_array_and_must_be_whole_numbers() -> None:
    import numpy as np
    import torch

    tokenizer = BPETokenizer.train(["hello hello"], 259, progress=False)
    ids = tokenizer.encode("hello")
    assert tokenizer.decode(torch.tensor(ids)) == tokenizer.decode(np.array(ids)) == "hello"
    for wrong in (torch.tensor([ids]), [1.0], ["a"], [None]):
        with pytest.raises(TypeError, match="whole number"):
            tokenizer.decode(wrong)  # type: ignore[arg-type]


def test_what_is_no_text_is_refused_in_a_sentence(tmp_path: Path) -> None:
    tokenizer = BPETokenizer.train(["aab"], 257, progress=False)
    for wrong in (None, b"abc", ["a"]):
        with pytest.raises(TypeError, match="encode wants one text"):
            tokenizer.encode(wrong)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="several texts"):
        tokenizer.encode_batch("abc")
    for corpus in ([b"abc"], b"abc", [1]):
        for rule in ("gpt2", None):
            with pytest.raises(TypeError, match="which is no text"):
                BPETokenizer.train(corpus, 300, pre_tokenizer=rule)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="whole number"):
        BPETokenizer.train(["aab"], "300")  # type: ignore[arg-type]
    (tmp_path / "tokenizer.json").write_text("[" * 100_000)
    with pytest.raises(ValueError, match="damaged"):
        BPETokenizer.load(tmp_path)
