"""The adapter for lm-eval: its interface with a stand-in for lm-eval, and the real harness where it is installed."""

import importlib
import json
import os
import subprocess
import sys
import types

import pytest

from minilm.evaluation import Question, evaluate_texts, multiple_choice, token_log_probs
from minilm.generation import Writer
from minilm.tokenizer import BPETokenizer
from tests.oracles import random_model

TEXTS = ["the cat and the dog", "a dog and a cat sat"]
NAME = "minilm.evaluation.harness"


class StandInLM:
    """What the adapter uses of lm_eval.api.model.LM."""

    def __init__(self):
        self.noted = []
        self.cache_hook = types.SimpleNamespace(add_partial=lambda *what: self.noted.append(what))


@pytest.fixture
def harness(monkeypatch):
    """The adapter's module, imported on a stand-in for lm-eval."""
    registered = {}

    def register_model(name):
        return lambda model: registered.setdefault(name, model)

    modules = {
        "lm_eval": types.ModuleType("lm_eval"),
        "lm_eval.api": types.ModuleType("lm_eval.api"),
        "lm_eval.api.model": types.SimpleNamespace(LM=StandInLM),
        "lm_eval.api.registry": types.SimpleNamespace(register_model=register_model),
    }
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.delitem(sys.modules, NAME, raising=False)
    module = importlib.import_module(NAME)
    assert registered == {"minilm": module.MiniLM}
    yield module
    sys.modules.pop(NAME, None)


@pytest.fixture(scope="module")
def pair():
    tokenizer = BPETokenizer.train(TEXTS, vocab_size=264, special_tokens=["<end>"])
    return random_model(vocab_size=264, context_length=32).float(), tokenizer


def request(*arguments):
    return types.SimpleNamespace(args=arguments)


def test_log_likelihoods_are_those_of_the_continuation_alone(harness, pair):
    model, tokenizer = pair
    lm = harness.MiniLM(model, tokenizer)
    requests = [request("the cat", " and"), request("the cat ", "and"), request("", "a dog")]
    found = lm.loglikelihood(requests, disable_tqdm=True)
    writer = Writer(model, tokenizer)
    context, whole = writer.encode("the cat"), writer.encode("the cat and")
    assert whole[: len(context)] == context
    expected = float(token_log_probs(model, [whole])[0][len(context) - 1 :].sum())
    assert found[0][0] == pytest.approx(expected)
    assert found[1] == pytest.approx(found[0])  # the space goes with the word that it begins
    alone = float(token_log_probs(model, [writer.encode("a dog")])[0].sum())
    assert found[2][0] == pytest.approx(alone)
    assert len(lm.noted) == 3
    report = multiple_choice(model, tokenizer, [Question("the cat", (" and", " sat"), 0)])
    assert report.scores[0][0] == pytest.approx(found[0][0])


def test_greedy_continuations_are_known_as_such(harness, pair):
    model, tokenizer = pair
    lm = harness.MiniLM(model, tokenizer)
    written = lm.generate_until([request("the", {"until": [], "max_gen_toks": 3})], disable_tqdm=True)[0]
    whole = lm.writer.encode("the" + written)
    if whole[:2] == lm.writer.encode("the")[:2] and "�" not in written:
        assert lm.loglikelihood([request("the", written)], disable_tqdm=True)[0][1]
    assert not lm.loglikelihood([request("the", " zebra")], disable_tqdm=True)[0][1]


def test_rolling_texts_leave_the_end_out(harness, pair):
    model, tokenizer = pair
    lm = harness.MiniLM(model, tokenizer)
    ids = lm.writer.encode(TEXTS[0])
    expected = float(token_log_probs(model, [ids], stride=32)[0].sum())
    assert lm.loglikelihood_rolling([request(TEXTS[0])], disable_tqdm=True) == [pytest.approx(expected)]
    with_end = -evaluate_texts(model, tokenizer, [TEXTS[0]]).log_likelihood
    assert with_end > -expected


def test_writing_stops_where_the_task_says(harness, pair):
    model, tokenizer = pair
    lm = harness.MiniLM(model, tokenizer, max_gen_toks=12)
    free = lm.generate_until([request("the cat", {})], disable_tqdm=True)[0]
    stop = free[2]
    stopped = lm.generate_until([request("the cat", {"until": stop})], disable_tqdm=True)[0]
    assert stopped == free[: free.index(stop)]
    drawn = [
        harness.MiniLM(model, tokenizer, seed=seed).generate_until(
            [request("the cat", {"do_sample": True, "temperature": 1.0, "max_gen_toks": 12})], disable_tqdm=True
        )[0]
        for seed in (1, 1, 2)
    ]
    assert drawn[0] == drawn[1] != drawn[2]


def test_a_model_comes_as_objects_or_as_a_path(harness, pair, tmp_path):
    model, tokenizer = pair
    model.save(tmp_path / "model", tokenizer)
    lm = harness.MiniLM(path=str(tmp_path / "model"), batch_size="auto", device="cpu")
    assert lm.loglikelihood([request("the", " cat")], disable_tqdm=True)[0][0] == pytest.approx(
        harness.MiniLM(model, tokenizer).loglikelihood([request("the", " cat")], disable_tqdm=True)[0][0]
    )
    for arguments in ((), (model,)):
        with pytest.raises(ValueError, match="a model and its tokenizer, or path"):
            harness.MiniLM(*arguments)


def test_without_lm_eval_the_import_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    monkeypatch.setitem(sys.modules, "lm_eval.api.model", None)
    monkeypatch.delitem(sys.modules, NAME, raising=False)
    with pytest.raises(ImportError, match=r"pip install 'minilm\[eval\]'"):
        importlib.import_module(NAME)


@pytest.mark.slow
def test_the_real_harness_gives_our_figures(pair, tmp_path):
    pytest.importorskip("lm_eval", reason="needs lm-eval: pip install minilm[eval]")
    model, tokenizer = pair
    model.save(tmp_path / "model", tokenizer)
    questions = [Question("the cat", (" and", " sat"), 0), Question("a dog and", (" a", " the", " dog"), 1)]
    lines = [
        json.dumps({"context": q.context, "choices": [c.strip() for c in q.choices], "answer": q.answer})
        for q in questions
    ]
    (tmp_path / "questions.jsonl").write_text("\n".join(lines) + "\n")
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks/choice.yaml").write_text(
        f"""
task: our_choice
dataset_path: json
dataset_kwargs: {{data_files: {{test: {tmp_path}/questions.jsonl}}}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{context}}}}"
doc_to_choice: choices
doc_to_target: answer
target_delimiter: " "
metric_list: [{{metric: acc}}, {{metric: acc_norm}}]
"""
    )
    subprocess.run(
        [
            *(sys.executable, "-m", NAME, "--model", "minilm", "--model_args", f"path={tmp_path}/model"),
            *(
                "--tasks",
                "our_choice",
                "--include_path",
                str(tmp_path / "tasks"),
                "--output_path",
                str(tmp_path / "out"),
            ),
        ],
        check=True,
        capture_output=True,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HF_HOME": str(tmp_path)},
    )
    results = json.loads(next((tmp_path / "out").rglob("*.json")).read_text())["results"]["our_choice"]
    report = multiple_choice(model, tokenizer, questions)
    assert results["acc,none"] == report.accuracy
    assert results["acc_norm,none"] == report.accuracy_norm
