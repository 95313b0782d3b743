"""Writing: the same with a cache and without, alone and in a batch, streamed and at once; and nothing of the model or the user changes."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from minilm import presets
from minilm.generation import (
    GREEDY,
    ConfidenceStop,
    Context,
    Generation,
    Reader,
    Sampling,
    Writer,
    arrange_for_writing,
    confidence,
    generate,
    stream,
    token_probabilities,
)
from minilm.model import LanguageModel
from minilm.tokenizer import BPETokenizer, ByteTokenizer, CharTokenizer
from tests.test_model import CONFIGS, UNCACHED, make

# Each preset with its own parts and way of wiring, made small.
SMALL: dict[str, Any] = {"vocab_size": 23, "num_layers": 2, "context_length": 16}
LARGER = ("60m", "100m", "160m", "180m", "260m", "320m", "600m", "1.6b")  # differ from the smallest Doge in size alone
CACHEABLE = [name for name in presets.PRESETS if not name.startswith("dlib") and not any(s in name for s in LARGER)]


def small_preset(name: str) -> LanguageModel:
    torch.manual_seed(0)
    config = presets.config(name)
    heads = config.attention.num_heads
    small = {**SMALL, "dim": 4 * heads, "feed_forward": {"hidden": 6 * heads}, "attention": {"head_dim": None}}
    if config.attention.dynamic_mask is not None:
        small["attention"]["dynamic_mask"] = {"keep_window": 5}
    model = LanguageModel.from_preset(name, **small, initialization={"kind": "normal", "std": 0.4}, dtype=torch.float64)
    return model.eval()


def prompts(*lengths: int, vocab: int = 17) -> list[list[int]]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randint(vocab, (length,), generator=generator).tolist() for length in lengths]


def assert_same(ours: Generation, theirs: Generation) -> None:
    assert ours.ids == theirs.ids
    assert (ours.text, ours.stop_reason, ours.stopped_by) == (theirs.text, theirs.stop_reason, theirs.stopped_by)
    assert ours.log_probs == pytest.approx(theirs.log_probs, abs=1e-9)
    assert ours.confidences == pytest.approx(theirs.confidences, abs=1e-9)


class TestCache:
    """Every step's logits, far past the context, in float64."""

    @pytest.mark.parametrize("name", CACHEABLE)
    def test_presets(self, name: str) -> None:
        self.compare(small_preset(name))

    @pytest.mark.parametrize("name", [name for name in CONFIGS if name not in UNCACHED])
    def test_every_kind_of_model(self, name: str) -> None:
        self.compare(make(name))

    @staticmethod
    def compare(model: LanguageModel) -> None:
        for length in (1, 3, 11, 40):  # shorter than a prefix, and longer than the context
            cached, uncached = (Reader(model, prompts(length), use_cache) for use_cache in (True, False))
            for token in prompts(40)[0]:
                with torch.inference_mode():
                    torch.testing.assert_close(cached.logits(), uncached.logits(), rtol=1e-9, atol=1e-9)
                cached.append([token])
                uncached.append([token])

    @pytest.mark.parametrize("name", [name for name in presets.PRESETS if name.startswith("dlib")])
    def test_presets_that_refuse_a_cache_run_without(self, name: str) -> None:
        model = LanguageModel.from_preset(name, num_layers=1, dim=12, attention={"num_heads": 2}, context_length=8)
        assert len(generate(model, prompts(10), 5)[0].ids) == 5
        with pytest.raises(ValueError, match="use_cache=True: this model cannot use a cache: the 'flat"):
            generate(model, prompts(10), 5, use_cache=True)

    @pytest.mark.parametrize("name", sorted(UNCACHED))
    def test_models_that_refuse_a_cache_read_the_last_context_length_tokens(self, name: str) -> None:
        model, [prompt] = make(name), prompts(20)
        written = generate(model, [prompt], 6, GREEDY)[0]
        for i, token in enumerate(written.ids):
            seen = (prompt + written.ids[:i])[-model.config.context_length :]
            with torch.no_grad():
                assert model(torch.tensor([seen]))[0, -1].argmax() == token

    def test_the_cache_is_used(self) -> None:
        """One new token a step: counted, since nobody would see it in the text."""
        model, lengths = make("llama-like"), []
        model.embedder.register_forward_pre_hook(lambda _, arguments: lengths.append(arguments[0].shape[1]))
        generate(model, prompts(4), 6, GREEDY)
        assert lengths == [4, 1, 1, 1, 1, 1]
        lengths.clear()
        generate(model, prompts(4), 6, GREEDY, use_cache=False)
        assert lengths == [4, 5, 6, 7, 8, 9]

    def test_a_prefix_longer_than_the_prompt(self) -> None:
        assert len(generate(make("prefix"), prompts(1), 20)[0].ids) == 20


class TestContext:
    def test_nothing_is_dropped_up_to_context_length(self) -> None:
        context = Context(CONFIGS["llama-like"], cacheable=True)
        assert [context.dropped(n) for n in range(1, 20)] == [0] * 12 + [3, 3, 3, 6, 6, 6, 9]

    def test_what_is_seen_stays_between_three_quarters_and_the_whole_context(self) -> None:
        context = Context(CONFIGS["llama-like"].replace(context_length=100), cacheable=True)
        sizes = [len(context.visible(range(n))) for n in range(101, 500)]
        assert min(sizes) == 76
        assert max(sizes) == 100
        assert context.visible(range(250))[-1] == 249

    def test_sinks_and_prefix_stay_in_front(self) -> None:
        for name, front in (("window and sinks", 2), ("prefix", 4)):
            seen = Context(CONFIGS[name], cacheable=True).visible(range(30))
            assert seen[:front] == list(range(front))
            assert seen[front:] == list(range(seen[front], 30))
            assert seen[front] > front

    def test_a_window_forgets_by_itself(self) -> None:
        """Rotary positions tell only distances, and none is longer than the window: no reading anew, no limit."""
        assert Context(CONFIGS["window"], cacheable=True).dropped(10_000) == 0
        lengths: list[int] = []
        model = make("window")
        model.embedder.register_forward_pre_hook(lambda _, arguments: lengths.append(arguments[0].shape[1]))
        generate(model, prompts(3), 50)
        assert lengths == [3] + [1] * 49

    @pytest.mark.parametrize(
        "changes", [{"positions": {"kind": "learned"}}, {"attention": {"window": 13}}, {"attention": {"sinks": 1}}]
    )
    def test_but_not_if_positions_end_or_distances_exceed_training(self, changes: dict[str, Any]) -> None:
        assert Context(CONFIGS["window"].replace(**changes), cacheable=True).dropped(13) > 0

    def test_a_model_without_a_cache_drops_one_at_a_time(self) -> None:
        assert [Context(CONFIGS["flat"], cacheable=False).dropped(n) for n in (12, 13, 14)] == [0, 1, 2]

    def test_a_front_as_long_as_the_context_still_sees_the_newest(self) -> None:
        context = Context(CONFIGS["prefix"].replace(attention={"prefix": 12}), cacheable=True)
        assert context.visible(range(40))[-1] == 39


class TestBatch:
    @pytest.mark.parametrize("name", CONFIGS)
    def test_equal_to_one_by_one(self, name: str) -> None:
        """Prompts of different lengths, drawn and stopped at different times, past the context."""
        model, batch = make(name), prompts(1, 9, 4, 14, 4)
        options: dict[str, Any] = {"stop_tokens": [3, 5, 8], "pad_token": 0}
        sampling = Sampling(temperature=0.8, top_p=0.95, repetition_penalty=1.1)
        together = generate(model, batch, 20, sampling, seed=5, **options)
        assert len({len(each.ids) for each in together}) > 1
        for i, (prompt, ours) in enumerate(zip(batch, together, strict=True)):
            assert_same(ours, generate(model, [prompt], 20, sampling, seed=5 + i, **options)[0])

    def test_presets_equal_to_one_by_one(self) -> None:
        for name in CACHEABLE:
            model, batch = small_preset(name), prompts(2, 7)
            for i, ours in enumerate(generate(model, batch, 20, seed=1)):
                assert_same(ours, generate(model, [batch[i]], 20, seed=1 + i)[0])

    def test_no_prompts_and_no_tokens(self) -> None:
        assert generate(make("llama-like"), [], 5) == []
        [nothing] = generate(make("llama-like"), prompts(3), 0, tokenizer=ByteTokenizer())
        assert (nothing.ids, nothing.text, nothing.stop_reason) == ([], "", "length")

    def test_a_finished_text_costs_nothing_more(self) -> None:
        sizes: list[int] = []
        model = make("llama-like")
        model.embedder.register_forward_pre_hook(lambda _, arguments: sizes.append(len(arguments[0])))
        written = generate(model, prompts(5, 3, 4), 30, stop_tokens=[1, 2], seed=0)
        assert sizes[-1] < 3
        assert sum(sizes) == sum(len(each.ids) + (each.stop_reason == "eos") for each in written)


def says(text: str, tokenizer: ByteTokenizer | BPETokenizer, then: int = 0) -> LanguageModel:
    """A tiny model whose greedy continuation of one token is `text`: token n follows token n - 1 by a table of positions."""
    ids = [*tokenizer.encode(text), then]
    model = LanguageModel.from_preset(
        "mnemos", vocab_size=tokenizer.vocab_size, num_layers=1, dim=64, attention={"num_heads": 1}, context_length=64
    )
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        model.core.norm.weight.fill_(1)  # type: ignore[union-attr, operator]
        model.embedder.positions.weight.copy_(torch.eye(64))  # type: ignore[union-attr]
        for place, token in enumerate(ids):
            model.head.weight[token, place] = 20.0  # type: ignore[index]
    return model.eval()


class TestStopping:
    tokenizer = ByteTokenizer(["<end>"])

    def test_stop_token(self) -> None:
        [written] = generate(
            says("A cat.", self.tokenizer, 256), [[1]], 50, GREEDY, stop_tokens=[256], tokenizer=self.tokenizer
        )
        assert (written.text, written.stop_reason, written.stopped_by) == ("A cat.", "eos", 256)
        assert len(written.ids) == len(written.log_probs) == len(written.confidences) == 6

    def test_length(self) -> None:
        [written] = generate(says("A cat.", self.tokenizer), [[1]], 4, GREEDY, tokenizer=self.tokenizer)
        assert (written.text, written.stop_reason, written.stopped_by) == ("A ca", "length", None)

    def test_length_in_the_middle_of_a_character(self) -> None:
        model = says("Où ?", self.tokenizer)
        [written] = generate(model, [[1]], 2, GREEDY, tokenizer=self.tokenizer)
        assert written.text == "O�" == self.tokenizer.decode(written.ids)
        pieces = stream(model, [1], 2, GREEDY, tokenizer=self.tokenizer)
        assert list(pieces) == ["O", "�"]

    @pytest.mark.parametrize("stop", ["cat", "at.", "t. Th", "."])
    def test_stop_string_across_tokens(self, stop: str) -> None:
        model = says("A cat. The end", self.tokenizer, 256)
        options: dict[str, Any] = {"stop_strings": ["zebra", stop], "tokenizer": self.tokenizer}
        [written] = generate(model, [[1]], 50, GREEDY, **options)
        assert written.text == "A cat. The end".partition(stop)[0]
        assert (written.stop_reason, written.stopped_by) == ("stop_string", stop)
        assert self.tokenizer.decode(written.ids).endswith(stop)
        pieces = stream(model, [1], 50, GREEDY, **options)
        assert "".join(pieces) == written.text
        assert pieces.generation == written

    def test_a_stop_string_in_the_prompt_stops_nothing(self) -> None:
        model = says("xA cat", self.tokenizer, 256)
        [written] = generate(model, [[1, ord("c")]], 5, GREEDY, stop_strings=["cA"], tokenizer=self.tokenizer)
        assert written.text == "A cat"

    def test_what_was_held_for_a_stop_string_comes_out_at_the_end(self) -> None:
        model = says("A cat", self.tokenizer, 256)
        pieces = stream(model, [1], 50, GREEDY, stop_strings=["cats"], stop_tokens=[256], tokenizer=self.tokenizer)
        assert list(pieces) == ["A", " ", "cat"]

    @pytest.mark.parametrize(("threshold", "tokens"), [(0.0, 30), (1.0, 6), (0.3, 6 + 4 - 1)])
    def test_confidence(self, threshold: float, tokens: int) -> None:
        """All logits alike: 0 never stops, 1 stops at min_new_tokens, between the patience counts too."""
        model = says("", self.tokenizer)
        with torch.no_grad():
            model.head.weight.zero_()  # type: ignore[union-attr, operator]
        rule = ConfidenceStop(threshold, patience=4, min_new_tokens=6)
        [written] = generate(model, [[1]], 30, confidence=rule)
        assert len(written.ids) == tokens
        assert written.stop_reason == ("length" if threshold == 0 else "low_confidence")
        assert written.confidences == pytest.approx([1 / 257] * tokens)

    def test_confidence_stops_where_the_model_stops_knowing(self) -> None:
        """Sure of six letters, then all is alike. Smoothed without memory and without patience: one token after the sixth."""
        model = says("A cat.", self.tokenizer)
        with torch.no_grad():
            model.head.weight[0].zero_()  # type: ignore[index]
        rule = ConfidenceStop(0.5, patience=1, smoothing=0.0, min_new_tokens=1)
        [written] = generate(model, [[1]], 30, confidence=rule)
        assert (len(written.ids), written.stop_reason) == (7, "low_confidence")

    def test_a_stop_token_counts_before_confidence(self) -> None:
        model = says("A", self.tokenizer, 256)
        [written] = generate(
            model, [[1]], 30, GREEDY, stop_tokens=[256], confidence=ConfidenceStop(1, min_new_tokens=2)
        )
        assert written.stop_reason == "eos"

    @pytest.mark.parametrize("measure", ["top1", "entropy"])
    def test_records(self, measure: Any) -> None:
        """Log-probabilities and confidences are the model's own: before temperature, penalty and refusals."""
        model, [prompt] = make("llama-like"), prompts(3)
        sampling = Sampling(temperature=0.3, top_k=3, repetition_penalty=1.5)
        rule = ConfidenceStop(0, measure=measure)
        [written] = generate(model, [prompt], 8, sampling, confidence=rule)
        with torch.no_grad():
            logits = model(torch.tensor([prompt + written.ids]))[0, len(prompt) - 1 : -1]
        expected = logits.log_softmax(-1).gather(-1, torch.tensor(written.ids)[:, None])[:, 0]
        assert written.log_probs == pytest.approx(expected.tolist())
        assert written.log_prob == pytest.approx(expected.sum().item())
        assert written.confidences == pytest.approx(confidence(logits, measure).tolist())


class TestSampling:
    def test_frequencies_of_the_first_token(self) -> None:
        """4,000 texts of one token: each frequency within 4 sigma of its probability (fixed seeds)."""
        model, [prompt] = make("llama-like"), prompts(3)
        sampling = Sampling(temperature=1.3, top_p=0.9)
        texts = generate(model, [prompt] * 4000, 1, sampling, seed=11)
        counts = torch.bincount(torch.tensor([each.ids[0] for each in texts]), minlength=17)
        with torch.no_grad():
            p = token_probabilities(model(torch.tensor([prompt]))[0, -1], sampling)
        sigma = (4000 * p * (1 - p)).sqrt()
        assert ((counts - 4000 * p).abs() <= 4 * sigma + 1e-6).all()

    def test_a_seed_is_a_text(self) -> None:
        model = make("llama-like")
        first, again, other = (generate(model, prompts(3), 20, seed=seed)[0].ids for seed in (1, 1, 2))
        assert first == again != other

    def test_ids_that_the_tokenizer_does_not_know_are_never_chosen(self) -> None:
        model = make("llama-like")
        tokenizer = ByteTokenizer()
        assert tokenizer.vocab_size > 17
        big = LanguageModel.from_preset("slim", vocab_size=300, num_layers=1).eval()
        with torch.no_grad():
            big.embedder.tokens.weight[260:] = 5.0
        assert max(generate(big, [[1]], 50, tokenizer=tokenizer)[0].ids) < 256
        assert len(generate(model, [[1]], 3, tokenizer=tokenizer)[0].ids) == 3


class TestNothingElseChanges:
    def test_model_gradient_and_random_numbers(self) -> None:
        torch.manual_seed(4)
        model = LanguageModel(CONFIGS["gpt-like"].replace(block={"dropout": 0.5}))
        model.train()
        model.core.layers[0].eval()  # a part that its user froze
        modes = [module.training for module in model.modules()]
        weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        state = torch.get_rng_state()
        first = generate(model, prompts(3), 10)[0]
        pieces = stream(model, prompts(3)[0], 10, tokenizer=ByteTokenizer())
        next(pieces)
        assert [module.training for module in model.modules()] == modes  # also between two pieces
        assert torch.is_grad_enabled()
        assert not torch.is_inference_mode_enabled()
        list(pieces)
        assert pieces.generation.ids == first.ids  # no dropout, or they would differ
        assert torch.equal(state, torch.get_rng_state())
        assert [module.training for module in model.modules()] == modes
        assert all(torch.equal(weights[name], tensor) for name, tensor in model.state_dict().items())
        assert all(p.requires_grad and p.grad is None for p in model.parameters())
        model(torch.tensor(prompts(5))).sum().backward()  # and it can still be trained

    def test_modes_come_back_after_an_error(self) -> None:
        model = make("llama-like").train()
        with pytest.raises(ValueError, match="token id 99"):
            generate(model, [[99]], 3)
        assert model.training
        assert torch.is_grad_enabled()

    def test_training_between_two_pieces(self) -> None:
        model = make("llama-like").train()
        pieces = stream(model, [1, 2], 4, tokenizer=ByteTokenizer())
        next(pieces)
        model(torch.tensor([[1, 2, 3]])).sum().backward()
        assert all(parameter.grad is not None for parameter in model.parameters())
        list(pieces)
        assert len(pieces.generation.ids) == 4
        assert model.training

    def test_half_precision(self) -> None:
        model = make("llama-like").to(torch.bfloat16)
        [written] = generate(model, prompts(3), 10, Sampling(top_p=0.9), seed=1)
        assert len(written.ids) == 10
        assert next(model.parameters()).dtype == torch.bfloat16


class TestArrangeForWriting:
    @pytest.mark.parametrize("name", ["llama-like", "gpt-like", "grouped, untied", "flat"])
    def test_the_same_model(self, name: str, tmp_path: Path) -> None:
        model, arranged = make(name), arrange_for_writing(make(name))
        assert any(not p.is_contiguous() for p in arranged.parameters())
        for (ours_name, ours), (theirs_name, theirs) in zip(
            arranged.state_dict().items(), model.state_dict().items(), strict=True
        ):
            assert ours_name == theirs_name
            assert torch.equal(ours, theirs)
        ours, theirs = (generate(each, prompts(14), 20, seed=1)[0] for each in (arranged, model))
        assert_same(ours, theirs)
        arranged.save(tmp_path / "saved")
        loaded = LanguageModel.load(tmp_path / "saved")
        assert all(torch.equal(a, b) for a, b in zip(loaded.parameters(), model.parameters(), strict=True))


class TestErrors:
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (([1, 2], 5), "prompts is one list of ids.*pass \\[prompt\\]"),
            ((["text"], 5), "a prompt is a list of ids, got the text 'text'"),
            (([[]], 5), "a prompt is empty.*<end>"),
            (([[1]], -1), "max_new_tokens = -1"),
        ],
    )
    def test_arguments(self, arguments: Any, message: str) -> None:
        with pytest.raises((TypeError, ValueError), match=message):
            generate(make("llama-like"), *arguments)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"stop_strings": ["a"]}, "pass the tokenizer too"),
            ({"stop_strings": "ab", "tokenizer": ByteTokenizer()}, "put it in a list"),
            ({"stop_strings": ["", "a"], "tokenizer": ByteTokenizer()}, "an empty text"),
            ({"stop_tokens": ["<end>"]}, "stop_tokens holds '<end>': give the id"),
        ],
    )
    def test_options(self, options: Any, message: str) -> None:
        with pytest.raises((TypeError, ValueError), match=message):
            generate(make("llama-like"), [[1]], 5, **options)

    def test_a_flat_head_needs_a_whole_window_or_a_pad(self) -> None:
        with pytest.raises(ValueError, match=r"windows of exactly 12 tokens and a prompt has 3.*pad_token"):
            generate(make("flat"), prompts(3), 5)
        model, [prompt] = make("flat"), prompts(3)
        [written] = generate(model, [prompt], 1, GREEDY, pad_token=7)
        with torch.no_grad():
            assert model(torch.tensor([[7] * 9 + prompt]))[0, -1].argmax() == written.ids[0]

    def test_a_model_that_gives_nan_is_named(self) -> None:
        model = make("llama-like")
        nn.init.constant_(model.embedder.tokens.weight, math.nan)
        with pytest.raises(ValueError, match=r"no token can be drawn.*NaN"):
            generate(model, [[1]], 5)


class TestWriter:
    def test_texts_begin_and_stop_with_end(self) -> None:
        tokenizer = ByteTokenizer(["<end>"])
        model = says("xxA cat.", tokenizer, 256)
        writer = Writer(model, tokenizer)
        assert writer.encode("xx") == [256, 120, 120]
        written = writer.write("xx", 30, GREEDY)
        assert (written.text, written.stop_reason) == ("A cat.", "eos")
        assert "".join(writer.stream("xx", 30, GREEDY)) == "A cat."
        assert [each.text for each in writer.write_batch(["xx", "x"], 4, GREEDY)] == ["A ca", "xA c"]

    def test_names_of_special_tokens_in_a_prompt_are_text(self) -> None:
        tokenizer = ByteTokenizer(["<end>"])
        assert Writer(says("a", tokenizer), tokenizer).encode("<end>") == [256, *b"<end>"]

    def test_other_ends(self) -> None:
        tokenizer = ByteTokenizer(["<a>", "<b>"])
        model = says("a", tokenizer)
        assert Writer(model, tokenizer).end_id is None
        assert Writer(model, tokenizer, end="<b>").encode("") == [257]
        with pytest.raises(ValueError, match=r"end = '<c>' is no special token.*'<a>', '<b>'"):
            Writer(model, tokenizer, end="<c>")
        with pytest.raises(ValueError, match="a prompt is empty"):
            Writer(model, tokenizer).write("", 3)

    def test_flat_heads_read_bare_text_padded(self) -> None:
        model = LanguageModel.from_preset("dlib-char", num_layers=1)
        writer = Writer(model, CharTokenizer())
        assert writer.encode("ab") == [97, 98]
        assert len(writer.write("ab", 5).ids) == 5

    def test_a_tokenizer_of_another_model(self) -> None:
        with pytest.raises(ValueError, match="knows 256 ids and the model only 17"):
            Writer(make("llama-like"), ByteTokenizer())

    def test_one_text_where_several_are_wanted(self) -> None:
        tokenizer = ByteTokenizer()
        with pytest.raises(TypeError, match="use write, or put it in a list"):
            Writer(says("a", tokenizer), tokenizer).write_batch("ab", 3)
