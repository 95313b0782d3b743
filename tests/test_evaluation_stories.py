"""Evaluation against the grammar's truth, with models whose answer is known: an oracle, a noisy one, one that cheats."""

import itertools
import math

import pytest
import torch

from minilm.data import stories
from minilm.data.stories.template import compile_grammar
from minilm.evaluation import (
    EvaluationError,
    Question,
    bits_per_byte,
    calibrate,
    departure,
    multiple_choice,
    next_words,
    off_grammar_share,
    story_questions,
    story_report,
    story_tokens,
    token_calibration,
    true_next_tokens,
    truth_report,
    wilson_interval,
)
from minilm.tokenizer import BPETokenizer, ByteTokenizer, pre_tokenize
from tests.oracles import BYTES, Oracle, random_model

HELD = stories.generate("easy", 12, split="validation")


@pytest.fixture(scope="module")
def words():
    """A tokenizer with nearly every word of the easy stories."""
    return BPETokenizer.train(stories.generate("easy", 300), vocab_size=420, special_tokens=["<end>"])


# ---------------------------------------------------------------------------------------------------------------- floor


def test_the_oracle_is_exactly_at_the_floor():
    report = story_report(Oracle(), BYTES, HELD, "easy")
    grammar = stories.grammar("easy")
    assert report.floor_bits == pytest.approx(sum(map(grammar.bits, HELD)) / len(HELD))
    assert report.excess == pytest.approx(0, abs=1e-9)
    assert report.forced_excess == pytest.approx(0, abs=1e-9)
    assert report.verdict == "at the floor"
    assert bits_per_byte(Oracle(), BYTES, HELD) == pytest.approx(report.floor_bits_per_byte)
    assert "at the floor" in str(report)


def test_noise_costs_what_it_must_in_choices_and_in_what_is_forced():
    report = story_report(Oracle(noise=0.2), BYTES, HELD, "easy")
    forced = report.tokens - report.choice_tokens
    assert report.forced_excess == pytest.approx(-math.log(0.8 + 0.2 / 257) * forced / report.stories)
    assert report.choice_excess > 0
    assert report.excess == pytest.approx(report.choice_excess + report.forced_excess)
    assert report.verdict == "above the floor"


def test_a_model_that_sees_the_next_token_is_found_out():
    report = story_report(Oracle(sees_next=True), BYTES, HELD, "easy")
    assert report.leak
    assert report.verdict == "below the floor: a leak"


def test_the_true_nats_do_not_depend_on_the_tokens(words):
    by_words = story_tokens(random_model(vocab_size=words.vocab_size), words, HELD, "easy")
    by_bytes = story_tokens(random_model(), BYTES, HELD, "easy")
    grammar = stories.grammar("easy")
    for text, a, b in zip(HELD, by_words, by_bytes, strict=True):
        assert "".join(a.tokens[:-1]) == "".join(b.tokens[:-1]) == text
        assert float(a.true.sum()) == pytest.approx(grammar.bits(text) * math.log(2))
        assert float(b.true.sum()) == pytest.approx(grammar.bits(text) * math.log(2))
        assert float(a.true[~torch.tensor(a.choice)].sum()) == pytest.approx(0)
        assert sum(a.choice) <= sum(b.choice)


def test_tokens_within_a_character_are_counted_where_it_begins():
    texts = stories.generate("french", 3, split="validation")
    assert any(not text.isascii() for text in texts)
    for text, scored in zip(texts, story_tokens(random_model(), BYTES, texts, "french"), strict=True):
        assert "".join(scored.tokens[:-1]) == text
        assert len(scored.tokens) == len(text.encode()) + 1
        accent = next((i for i, character in enumerate(text) if not character.isascii()), 0)
        assert scored.tokens[accent] == text[accent]
        assert scored.tokens[accent + 1] == (text[accent + 1] if text[accent].isascii() else "")
        assert float(scored.true.sum()) == pytest.approx(stories.grammar("french").bits(text) * math.log(2))


def test_stories_past_the_context_are_counted():
    report = story_report(random_model(context_length=64), BYTES, HELD, "easy")
    assert report.longer_than_context == len(HELD)
    assert "forgetting" in str(report)


def test_a_text_that_is_no_story_is_refused_where_it_leaves():
    broken = HELD[0][:40] + "xyz" + HELD[0][40:]
    with pytest.raises(EvaluationError, match=r"text 1 is no easy story.*can't go on with 'xyz"):
        story_report(random_model(), BYTES, [HELD[0], broken], "easy")
    with pytest.raises(EvaluationError, match="its end"):
        story_report(random_model(), BYTES, [HELD[0], HELD[1][:-1]], "easy")
    with pytest.raises(EvaluationError, match="at least 2"):
        story_report(random_model(), BYTES, HELD[:1], "easy")
    with pytest.raises(EvaluationError, match="no end token"):
        story_report(random_model(vocab_size=256), ByteTokenizer(), HELD, "easy")


# -------------------------------------------------------------------------------------------------- leaving the grammar


def story_with(plot):
    return next(s for s in stories.sample("easy", 3, split=None) if s.facts["plot"] == plot)


def replaced(text, old, new, which=-1):
    """The text with one occurrence of a word replaced."""
    parts = text.split(old)
    which %= len(parts) - 1
    return old.join(parts[: which + 1]) + new + old.join(parts[which + 1 :])


def test_a_story_does_not_leave_its_grammar_and_each_kind_of_error_is_told():
    grammar = stories.grammar("easy")
    story = story_with("gift")
    text, facts = story.text, story.facts
    assert departure(grammar, text) is None
    other = "kite" if facts["toy"] != "kite" else "ball"

    wrong_toy = departure(grammar, replaced(text, facts["toy"], other))
    assert (wrong_toy.kind, wrong_toy.fact, wrong_toy.expected) == ("recall", "toy", facts["toy"])
    assert wrong_toy.written == other

    unknown = departure(grammar, replaced(text, facts["toy"], "tractor", 0))
    assert unknown.kind == "word"

    her, his = ("for her", "for his") if "for her" in text else ("for his", "for her")
    assert departure(grammar, replaced(text, her, his)).kind == "pronoun"
    assert departure(grammar, replaced(text, "took it", "gave it")).kind == "wording"
    assert departure(grammar, text + " The end.").kind == "wording"
    early = departure(grammar, text[: text.index("took")])
    assert early.kind == "ending"
    assert departure(grammar, text[: text.index("took")], ended=False) is None


def test_a_wrong_sum_is_told():
    grammar = stories.grammar("easy")
    story = next(s for s in stories.sample("easy", 3, split=None) if any("-" in m.name for m in s.mentions))
    total = next(m for m in story.mentions if "-" in m.name)
    word = story.text[total.start : total.end]
    wrong = "nine" if word != "nine" else "seven"
    found = departure(grammar, story.text[: total.start] + wrong + story.text[total.end :])
    assert (found.kind, found.expected, found.written) == ("sum", word, wrong)
    assert found.start == total.start


@pytest.mark.parametrize(("weights", "kind"), [((9, 1), "recall"), ((1, 9), "wording")])
def test_the_kind_is_that_of_what_most_probably_stood_there(weights, kind):
    story = "[hero=Ann|Bob] ran. [{{hero}} slept:{}|Everyone slept:{}].".format(*weights)
    grammar = compile_grammar("tiny", story, {}, {}, [])
    assert departure(grammar, "Ann ran. Ann slept.") is None
    assert departure(grammar, "Ann ran. Zoe slept.").kind == kind


def test_the_oracle_writes_stories_and_noise_leaves_the_grammar():
    report = off_grammar_share(Oracle(), BYTES, "easy", 6, seed=5)
    assert report.off == 0
    assert report.unfinished == 0
    assert all(each.ended and departure(stories.grammar("easy"), each.text) is None for each in report.written)
    assert report.interval[0] == 0
    assert report.interval[1] > 0.3

    wild = off_grammar_share(Oracle(noise=0.2), BYTES, "easy", 6, max_new_tokens=60)
    assert wild.share == 1
    assert wild.characters_per_departure < 40
    assert sum(wild.kinds.values()) == 6
    assert "off the grammar: 6 of 6" in str(wild)

    cut = off_grammar_share(Oracle(), BYTES, "easy", 2, max_new_tokens=20)
    assert (cut.off, cut.unfinished) == (0, 2)


def test_prompts_are_gone_on_from_and_must_begin_a_story():
    prompt = HELD[0][:30]
    report = off_grammar_share(Oracle(), BYTES, "easy", prompts=[prompt, prompt])
    assert all(each.text.startswith(prompt) for each in report.written)
    assert report.off == 0
    with pytest.raises(EvaluationError, match="no easy story begins"):
        off_grammar_share(Oracle(), BYTES, "easy", prompts=["Once upon a time"])
    with pytest.raises(EvaluationError, match="n = 0"):
        off_grammar_share(Oracle(), BYTES, "easy", 0)


def test_wilsons_interval():
    low, high = wilson_interval(10, 20)  # figures of Wilson's formula worked by hand
    assert (round(low, 4), round(high, 4)) == (0.2993, 0.7007)
    assert wilson_interval(20, 20)[1] == 1
    # It covers the truth about as often as it says: exactly, over every outcome of 40 tries.
    p = 0.1
    covered = sum(
        math.comb(40, k) * p**k * (1 - p) ** (40 - k)
        for k in range(41)
        if wilson_interval(k, 40)[0] <= p <= wilson_interval(k, 40)[1]
    )
    assert 0.92 < covered < 0.98
    with pytest.raises(EvaluationError):
        wilson_interval(3, 2)


# ---------------------------------------------------------------------------------------------------------- calibration


def test_calibration_error_by_hand():
    said = torch.tensor([0.95, 0.85, 0.15, 0.05])
    true = torch.tensor([True, False, False, False])
    found = calibrate(said, true, bins=2)
    assert [(b.count, round(b.said, 3), b.true) for b in found.bins] == [(2, 0.1, 0.0), (2, 0.9, 0.5)]
    assert found.error == pytest.approx(0.5 * 0.1 + 0.5 * 0.4)
    assert found.bias == pytest.approx(0.25)
    timid_above = calibrate(said, torch.tensor([True, True, False, False]), bins=2)  # errors of both signs don't cancel
    assert timid_above.error == pytest.approx(0.1)
    assert timid_above.bias == pytest.approx(0, abs=1e-6)
    assert [b.count for b in calibrate(said, true, bins=3, equal_counts=True).bins] == [2, 1, 1]
    with pytest.raises(EvaluationError, match="no probability"):
        calibrate(said * 2, true)
    with pytest.raises(EvaluationError, match="4 predictions and 3"):
        calibrate(said, true[:3])


def test_predictions_drawn_from_what_they_say_are_calibrated_and_squared_ones_are_not():
    generator = torch.Generator().manual_seed(0)
    truth = torch.rand(20_000, generator=generator)
    came = torch.rand(20_000, generator=generator) < truth
    assert calibrate(truth, came).error < 0.015
    assert calibrate(truth.sqrt(), came).bias == pytest.approx(2 / 3 - 1 / 2, abs=0.01)


def test_the_oracle_is_calibrated_and_equals_the_truth():
    report = truth_report(Oracle(), BYTES, HELD, "easy", places=40)
    assert report.calibration.error == pytest.approx(0, abs=1e-6)
    assert report.divergence == pytest.approx(0, abs=1e-6)
    assert report.distance == pytest.approx(0, abs=1e-6)
    noisy = truth_report(Oracle(noise=0.2), BYTES, HELD, "easy", places=40)
    assert noisy.divergence > 0.2
    assert noisy.distance == pytest.approx(0.2, abs=0.02)
    assert noisy.mass_off == pytest.approx(0.2, abs=0.02)
    assert noisy.entropy == pytest.approx(report.entropy)
    found = token_calibration(Oracle(), BYTES, HELD)
    assert found.count == sum(len(text) + 1 for text in HELD)
    assert found.error < 0.02


def test_a_story_is_the_product_of_its_words(words):
    grammar = stories.grammar("easy")
    for text in HELD[:3]:
        nats = 0.0
        prefix = ""
        for word in [*pre_tokenize(text, words.pre_tokenizer), stories.END]:
            nats -= math.log(next_words(grammar, words, prefix)[word])
            prefix += word
        assert nats / math.log(2) == pytest.approx(grammar.bits(text))


def test_a_story_is_the_product_of_its_tokens_whatever_they_are(words):
    """The oracle's next tokens, one after the other: that of the words just read, also where a word is cut into pieces."""
    grammar = stories.grammar("easy")
    few = BPETokenizer.train(stories.generate("easy", 300), vocab_size=300, special_tokens=["<end>"])
    for tokenizer, text in itertools.product((words, few, BYTES), HELD[:2]):
        nats = 0.0
        place = 0
        for token in [*tokenizer.encode(text), tokenizer.special_tokens["<end>"]]:
            nats -= math.log(true_next_tokens(grammar, tokenizer, text[:place])[token])
            place += len(tokenizer.decode([token]))
        assert nats / math.log(2) == pytest.approx(grammar.bits(text))


def test_the_next_tokens_after_the_last_word_are_those_of_the_tokens_seen(words):
    grammar = stories.grammar("easy")
    names = true_next_tokens(grammar, words, "There was a girl named")
    assert sum(names.values()) == pytest.approx(1)
    assert {words.decode([token])[0] for token in names} == {" "}
    texts = stories.generate("easy", 300)
    for more, cut in (([], True), (["an an an an"] * 200, False)):  # " an" is two tokens, then one of its own
        tokenizer = BPETokenizer.train([*texts, *more], vocab_size=420, special_tokens=["<end>"])
        after = true_next_tokens(grammar, tokenizer, "There was a girl named Mia. Mia made a")
        assert (tokenizer.encode(" an")[0] == tokenizer.encode(" a")[0]) == cut
        assert (tokenizer.encode("n")[0] in after) == cut
    assert true_next_tokens(grammar, words, HELD[0]) == {words.special_tokens["<end>"]: 1.0}
    with pytest.raises(EvaluationError, match="no easy story"):
        true_next_tokens(grammar, words, "A cat")
    with pytest.raises(EvaluationError, match="no end token"):
        true_next_tokens(grammar, ByteTokenizer(), "There")


# ------------------------------------------------------------------------------------------------------ multiple choice


def test_only_one_choice_of_a_story_question_is_possible_and_the_oracle_knows_it():
    questions = story_questions("easy", 12, seed=1)
    grammar = stories.grammar("easy")
    for question in questions:
        ends = [departure(grammar, question.context + choice, ended=False) for choice in question.choices]
        assert [end is None for end in ends] == [i == question.answer for i in range(4)]
    report = multiple_choice(Oracle(), BYTES, questions)
    assert report.accuracy == report.accuracy_norm == 1
    assert report.confidence == pytest.approx(1)
    assert {question.answer for question in questions} != {0}
    assert story_questions("easy", 12, seed=1) == questions


def test_medium_questions_have_several_topics_and_one_answer():
    questions = story_questions("medium", 6)
    assert len({question.topic for question in questions}) > 1
    for question in questions:
        ends = [departure(stories.grammar("medium"), question.context + c, ended=False) for c in question.choices]
        assert [end is None for end in ends] == [i == question.answer for i in range(4)]


def test_the_context_is_not_scored_and_length_is_normalised_by_bytes():
    model = random_model()
    for parameter in model.parameters():
        parameter.data.zero_()  # every byte costs ln 257, so the shorter choice is likelier and a byte of it is not
    report = multiple_choice(model, BYTES, [Question("It was", (" a dog", " an elephant"), 1)])
    assert report.scores[0] == pytest.approx([-6 * math.log(257), -12 * math.log(257)])
    assert report.accuracy == 0
    # A byte of either costs the same but for the space, which counts as cost and not as a byte: so the longer choice wins.
    assert report.accuracy_norm == 1
    longer = multiple_choice(model, BYTES, [Question("In the beginning it was", (" a dog", " an elephant"), 1)])
    assert longer.scores[0] == pytest.approx(report.scores[0])


def test_questions_that_make_no_sense_are_refused():
    for choices, answer in itertools.product((("a",), ("a", "")), (0, 1)):
        with pytest.raises(EvaluationError):
            Question("x", choices, answer)
    with pytest.raises(EvaluationError, match="counts the choices"):
        Question("x", ("a", "b"), 2)
    with pytest.raises(EvaluationError, match="no question"):
        multiple_choice(random_model(), BYTES, [])
