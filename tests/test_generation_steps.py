"""A step of fixed shape gives the logits of the whole model at every position, and can be compiled."""

import pytest
import torch

from minilm.generation import GREEDY, Sampling, StaticStep, generate, to_int8
from minilm.model import LanguageModel

SMALL = {"vocab_size": 40, "dim": 32, "num_layers": 2, "context_length": 24}


def small(name: str = "slim", **changes: object) -> LanguageModel:
    torch.manual_seed(0)
    options = {**SMALL, "attention": {"num_heads": 4, "num_kv_heads": 2 if name == "slim" else None}, **changes}
    std = {"kind": "normal", "std": 0.3}
    return LanguageModel.from_preset(name, **options, initialization=std, dtype=torch.float64).eval()  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["slim", "gpt2", "mnemos", "llama-tiny", "mixtral-tiny"])
@pytest.mark.parametrize("batch", [1, 3])
def test_every_step_is_the_whole_model(name: str, batch: int) -> None:
    model, capacity = small(name), 20
    ids = torch.randint(40, (batch, capacity), generator=torch.Generator().manual_seed(1))
    step = StaticStep(model, batch, capacity)
    for _ in range(2):  # a second text in the same memory is not disturbed by the first
        with torch.no_grad():
            expected = model(ids)
        torch.testing.assert_close(step.read(ids[:, :6]), expected[:, 5])
        for place in range(6, capacity):
            torch.testing.assert_close(step(ids[:, place]), expected[:, place])
        with pytest.raises(ValueError, match="the 20 places are full"):
            step(ids[:, 0])
        ids = ids.flip(1)


def test_it_writes_what_generate_writes() -> None:
    model = small().float()
    for each in (model, to_int8(model)):
        step = StaticStep(each)
        logits, written = step.read(torch.tensor([[1, 2, 3]])), []
        for _ in range(12):
            written.append(int(logits.argmax()))
            logits = step(logits.argmax(dim=-1))
        assert written == generate(each, [[1, 2, 3]], 12, GREEDY)[0].ids


def test_generate_writes_the_same_with_it() -> None:
    """Past the context, with texts that end at different times, sampled and greedy."""
    model = small()
    prompts = torch.randint(40, (3, 5), generator=torch.Generator().manual_seed(2)).tolist()
    step = StaticStep(model, batch=3)
    for sampling in (GREEDY, Sampling(0.8, top_k=10)):
        usual = generate(model, prompts, 40, sampling)
        stops = [usual[0].ids[4], usual[2].ids[11]]
        for stop in ([], stops):
            expected = generate(model, prompts, 40, sampling, stop_tokens=stop)
            found = generate(model, prompts, 40, sampling, stop_tokens=stop, step=step)
            assert [text.ids for text in found] == [text.ids for text in expected]
            for one, other in zip(found, expected, strict=True):
                assert one.log_probs == pytest.approx(other.log_probs, abs=1e-9)
        assert len({len(text.ids) for text in expected}) > 1


@pytest.mark.parametrize(
    ("prompts", "options", "message"),
    [
        ([[1, 2]], {}, "made for 2 texts of equal length, and there are 1"),
        ([[1, 2], [1]], {}, r"there are 2, of \[1, 2\] tokens"),
        ([[1, 2], [1, 3]], {"use_cache": False}, "use_cache=False rules it out"),
        ([[1, 2], [1, 3]], {"max_new_tokens": 9}, "11 tokens will be read, .* capacity=11"),
    ],
)
def test_what_a_step_was_not_made_for_is_refused(
    prompts: list[list[int]], options: dict[str, int], message: str
) -> None:
    model = small()
    with pytest.raises(ValueError, match=message):
        generate(model, prompts, **({"max_new_tokens": 3} | options), step=StaticStep(model, 2, capacity=8))  # type: ignore[arg-type]


def test_another_models_step_is_refused() -> None:
    with pytest.raises(ValueError, match="another model"):
        generate(small(), [[1]], 2, step=StaticStep(small()))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"attention": {"num_heads": 4, "window": 5}}, r"window=5\): use generate"),
        ({"positions": {"kind": "alibi"}}, "ALiBi"),
        ({"positions": {"kind": "relative"}}, "relative positions"),
        ({"attention": {"num_heads": 4, "causal": False}}, "causal=False"),
        ({"positions": {"kind": "learned"}}, "capacity = 30 is more than the 24 positions"),
    ],
)
def test_models_that_cannot_work_so_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        StaticStep(small(**changes), capacity=30)


def test_prompts_of_another_shape_are_refused() -> None:
    step = StaticStep(small(), batch=2, capacity=8)
    for prompts in (torch.zeros(1, 3, dtype=torch.long), torch.zeros(2, 9, dtype=torch.long)):
        with pytest.raises(ValueError, match="made for 2 texts of up to 8 tokens"):
            step.read(prompts)


def test_without_a_compiler_the_way_out_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(RuntimeError, match=r"apt install g\+\+"):
        StaticStep(small(), compile=True)


@pytest.mark.slow  # half a minute of compiling
def test_compiled_it_is_the_same_and_is_compiled_once() -> None:
    model = small()
    ids = torch.randint(40, (1, 12), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = model(ids)
    torch._dynamo.reset()
    compiled = StaticStep(model, capacity=16, compile=True)
    compiled.read(ids[:, :4])
    for place in range(4, 12):
        torch.testing.assert_close(compiled(ids[:, place]), expected[:, place])
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1
