"""`minilm eval | verify | info` as a new user types them, mistakes included."""

import json
import random

import pytest
import torch
from typer.testing import CliRunner

from minilm import cli, zoo
from minilm.config import MoEConfig
from minilm.data import stories
from minilm.model import LanguageModel
from minilm.tokenizer import BPETokenizer
from tests.oracles import small_config


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model that knows nothing, with a tokenizer of its own."""
    path = tmp_path_factory.mktemp("models") / "small"
    tokenizer = BPETokenizer.train(stories.generate("easy", 50), vocab_size=300, special_tokens=["<end>"])
    LanguageModel(small_config(tokenizer.vocab_size, context_length=128)).save(path, tokenizer)
    return path


@pytest.fixture
def run():
    """A function that types `minilm ...` and gives exit status and output."""

    def run(*arguments):
        result = CliRunner().invoke(cli.app, list(map(str, arguments)))
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return result.exit_code, result.output

    return run


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "text.txt"
    words = random.Random(0).choices("the a cat dog saw sat and on mat hat".split(), k=200)  # noqa: SIM905
    path.write_text(" ".join(words))
    return path


def test_eval_on_stories_reports_the_floor_and_what_is_asked_for(run, folder):
    status, output = run("eval", folder, "stories:easy:6", "--generate", 3, "--questions", 4)
    assert status == 0
    assert "Held-out stories" in output
    assert "verdict: above the floor" in output
    assert "4 questions, by guessing 25.0%" in output
    assert "off the grammar: 3 of 3 = 100.0%" in output


def test_eval_gives_json(run, folder):
    status, output = run("eval", folder, "stories:easy:6:test", "--generate", 2, "--json")
    found = json.loads(output)
    assert status == 0
    assert found["on"] == "stories:easy:6:test"
    assert found["stories"]["stories"] == 6
    assert found["stories"]["floor_bits"] < found["stories"]["bits"]
    assert found["written"]["share"] == 1


def test_eval_on_a_text(run, folder, text):
    status, output = run("eval", folder, text)
    assert status == 0
    assert "bits per byte" in output
    assert run("eval", folder, text, "--max-bytes", 80)[1].count("81 ") == 1  # and the end
    texts = json.loads(run("eval", folder, text, "--json")[1])["text"]
    assert texts["texts"] == 1
    text.write_text("One story of a cat.<|endoftext|>Another one, of a dog, that is long enough.\n")
    assert json.loads(run("eval", folder, text, "--json")[1])["text"]["texts"] == 2


def test_a_model_that_was_trained_on_stories_is_measured_on_held_out_ones(run, folder):
    (folder / "run.toml").write_text('[data]\ntext = "stories:easy:100"\n')
    try:
        status, output = run("eval", folder, "--json")
        assert status == 0
        assert json.loads(output)["on"] == "stories:easy:200"
        assert "trained on: stories:easy:100" in run("info", folder)[1]
    finally:
        (folder / "run.toml").unlink()


def test_eval_says_when_a_text_was_trained_on(run, folder, text):
    (folder / "run.toml").write_text(f'[data]\ntext = "{text}"\n')
    try:
        assert "The model was trained on this text" in run("eval", folder, text)[1]
    finally:
        (folder / "run.toml").unlink()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("nothing-here", "stories:easy:5"), "neither a folder with a model nor a model of the zoo"),
        (("{folder}",), "What should"),
        (("{folder}", "stories:easyy:5"), "Did you mean 'easy'"),
        (("{folder}", "stories:easy:five"), "stories:SIZE:NUMBER"),
        (("{folder}", "stories:easy:1"), "at least 2 stories"),
        (("{folder}", "stories:easy:5", "--max-bytes", "20"), "cut a story in two"),
        (("{folder}", "stories:easy:5", "--stride", "500"), "windows of 128 tokens"),
        (("{folder}", "stories:easy:5", "--temperature", "-1"), "temperature = -1"),
        (("{folder}", "{text}", "--generate", "5"), "need a grammar"),
        (("{folder}", "no-such-file.txt"), "neither a file"),
        (("{folder}", "{text}", "--max-bytes", "0"), "--max-bytes"),
    ],
)
def test_mistakes_end_in_a_sentence(run, folder, text, arguments, said):
    status, output = run("eval", *(part.format(folder=folder, text=text) for part in arguments))
    assert status != 0
    assert said in " ".join(output.split())
    assert "Traceback" not in output


def test_verify_says_where_it_departs(run, folder, text):
    status, output = run("verify", folder, text, "--prompt-tokens", 20)
    assert status == 1
    assert "departs at byte" in output
    status, output = run("verify", folder, text, "--prompt-tokens", 20, "--max-bytes", 100, "--whole")
    assert status == 1
    assert "edit similarity" in output
    found = json.loads(run("verify", folder, text, "--prompt-tokens", 20, "--json")[1])
    assert found["exact"] is False
    assert found["right_bytes"] == found["place"] - found["prompt_bytes"]


def test_verify_refuses_a_text_that_is_all_prompt(run, folder, text):
    status, output = run("verify", folder, text, "--max-bytes", 20)
    assert status == 1
    assert "nothing is left to write" in output


def test_info_tells_shape_parameters_memory_and_training(run, folder):
    status, output = run("info", folder)
    assert status == 0
    model = LanguageModel.load(folder)
    assert f"{model.num_parameters():,} parameters" in output
    for part in ("1 layers", "width 16", "context 128", "300 tokens, special: <end>", "KV cache"):
        assert part in output
    facts = json.loads(run("info", folder, "--json")[1])
    assert facts["parameters"] == model.num_parameters() == sum(facts["parts"].values())
    assert facts["config"]["dim"] == 16


def test_info_tells_of_experts(run, tmp_path):
    tokenizer = BPETokenizer.train(stories.generate("easy", 20), vocab_size=300, special_tokens=["<end>"])
    moe = {"num_experts": 8, "top_k": 2, "balance": "switch"}
    config = small_config(tokenizer.vocab_size).replace(feed_forward={"moe": MoEConfig(**moe)})
    model = LanguageModel(config)
    model.core.layers[0].feed_forward.usage.copy_(torch.eye(8)[0])
    model.save(tmp_path / "model", tokenizer)
    status, output = run("info", tmp_path / "model")
    assert status == 0
    words = " ".join(output.split())
    assert "8 experts, 2 for each token, route token, balance switch; usage in training, CV by layer: 2.65" in words
    assert "active for a token" in words
    facts = json.loads(run("info", tmp_path / "model", "--json")[1])
    assert facts["active_parameters"] == model.num_parameters(active=True) < facts["parameters"]


def test_info_shows_a_recorded_model_of_the_zoo_by_its_card(run, monkeypatch):
    monkeypatch.setattr(zoo, "names", lambda: ("dlib-char",))
    monkeypatch.setattr(zoo, "shipped", lambda: ())
    monkeypatch.setattr(zoo, "card", lambda name: f"# {name}: measured")
    status, output = run("info", "dlib-char")
    assert status == 0
    assert "# dlib-char: measured" in output
