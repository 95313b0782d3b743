"""`minilm pretrain | finetune | train` as a new user types them, mistakes included."""

import errno
import os
import re
import signal
import subprocess
import sys
import tomllib

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from minilm import cli, zoo
from minilm.cli import held_out, options, run_file, runs, training
from minilm.cli.corpus import END, SPECIAL_TOKENS, learn_tokenizer, open_corpus, split_documents, write_corpus
from minilm.cli.run_file import DataConfig, TokenizerConfig
from minilm.data import stories
from minilm.finetuning import LoRAConfig, PreferenceConfig
from minilm.model import LanguageModel
from minilm.moe import moe_report
from minilm.tokenizer import BPETokenizer
from minilm.training import checkpoints, read_curve

SMALL = [
    "--dim",
    "16",
    "--layers",
    "1",
    "--heads",
    "2",
    "--context",
    "16",
    "--vocab-size",
    "300",
    "--batch-size",
    "8",
    "--threads",
    "1",
    "--device",
    "cpu",
]
ENOUGH = "".join(f"Line {number} of a small text about cats and dogs.\n" for number in range(120))


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A function that types `minilm ...` in a folder with a small text, and gives exit status and output."""
    monkeypatch.setenv("MINILM_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.txt").write_text(ENOUGH)
    threads = torch.get_num_threads()

    def run(*arguments):
        result = CliRunner().invoke(cli.app, [str(each) for each in arguments])
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return result.exit_code, result.output

    yield run
    torch.set_num_threads(threads)


def pretrain(run, *arguments):
    status, said = run("pretrain", *arguments, *SMALL)
    assert status == 0, said
    return said


# --- what a run leaves ---


def test_pretrain_leaves_a_model_that_loads_with_its_tokenizer(run, tmp_path):
    said = pretrain(run, "text.txt", 2, "out", "--prompt", "Line")
    model, tokenizer = LanguageModel.load(tmp_path / "out"), BPETokenizer.load(tmp_path / "out/tokenizer.json")
    assert model.config.vocab_size == tokenizer.vocab_size == 300
    assert (model.config.dim, model.config.num_layers, model.config.context_length) == (16, 1, 16)
    assert model.config.feed_forward.hidden == 64  # as wide for 16 as slim's for 256
    assert tokenizer.decode(tokenizer.encode("cats")) == "cats"
    assert "it writes: Line" in said
    assert 'minilm generate out "Line 0 of" 100' in said
    assert {path.name for path in (tmp_path / "out").iterdir()} <= runs.OURS - {"data"}


def test_the_curve_has_the_loss_and_what_was_held_out(run, tmp_path):
    pretrain(run, "text.txt", 2, "out", "--log-every", 1)
    rows = read_curve(tmp_path / "out/curve.csv")
    assert [row["step"] for row in rows] == list(range(1, len(rows) + 1))
    last = rows[-1]
    assert last["loss"] < rows[0]["loss"]
    tokenizer = BPETokenizer.load(tmp_path / "out/tokenizer.json")
    # The same loss in two units: nats a token, and bits a byte.
    bytes_a_token = last["held_out_loss"] / np.log(2) / last["bits_per_byte"]
    assert bytes_a_token == pytest.approx(len(ENOUGH) / len(tokenizer.encode(ENOUGH)), rel=0.15)


def test_a_run_file_repeats_the_run_to_the_last_bit(run, tmp_path):
    pretrain(run, "text.txt", 1, "first", "--seed", 5, "--clip", 0, "--ema", 0.9, "--checkpoint-minutes", 2)
    status, said = run("pretrain", "--config", "first/run.toml", "second")
    assert status == 0, said
    files = ("model.safetensors", "tokenizer.json", "run.toml", "training.json")
    assert all((tmp_path / "first" / name).read_bytes() == (tmp_path / "second" / name).read_bytes() for name in files)
    written = (tmp_path / "first/run.toml").read_text()
    assert 'clip = "none"' in written
    assert "checkpoint_seconds = 120.0" in written


def test_what_a_class_says_is_documents_and_measured_on_sums(run, tmp_path):
    sizes = ("--vocab-size", 259, "--context", 16, "--dim", 16, "--layers", 1, "--heads", 2)
    status, said = run("pretrain", "class:2:600:70", "out", "--steps", 5, "--special-tokens", "think", *sizes)
    assert status == 0, said
    assert "in 600 documents" in said
    assert "5 steps of 16 answers" in said
    assert "gibberish" not in said
    last = read_curve(tmp_path / "out/curve.csv")[-1]
    assert 0 <= last["right"] <= 1
    assert 0 <= last["forgetful"] <= 1
    tokenizer = BPETokenizer.load(tmp_path / "out/tokenizer.json")
    assert list(tokenizer.special_tokens) == ["<end>", "<think>", "</think>"]


def test_of_what_a_class_says_the_answers_are_learned(tmp_path):
    tokenizer = BPETokenizer.train(["0"], 257, ["<end>"], progress=False)
    config = run_file.build({"command": "pretrain", "data": {"text": "class:2:60:70"}, "training": {"steps": 1}})
    corpus = write_corpus(tmp_path / "data", config.data, tokenizer, print, lambda size: None)
    model = LanguageModel.from_preset("slim", vocab_size=257, dim=16, num_layers=1, attention={"num_heads": 2})
    batch = next(runs.make_batches(config, corpus, model, tokenizer))
    for ids, targets in zip(batch.ids.tolist(), batch.targets.tolist(), strict=True):
        asked = ids.index(tokenizer.encode("=")[0])
        assert set(targets[:asked]) == {-100}
        answer = targets[asked : targets.index(0) + 1]
        assert re.fullmatch(r"[0-9]{1,3}", tokenizer.decode(answer[:-1]))
        assert set(targets[asked + len(answer) :]) <= {-100}


def test_stories_are_documents_and_measured_against_their_floor(run, tmp_path):
    said = pretrain(run, "stories:easy:100", "out", "--steps", 5)
    assert "in 100 documents" in said
    assert "gibberish" not in said
    last = read_curve(tmp_path / "out/curve.csv")[-1]
    assert 0 < last["bits_above_floor"] < last["bits_per_story"]


def test_finetune_goes_on_with_the_vocabulary_it_finds(run, tmp_path):
    pretrain(run, "stories:easy:100", "base", "--steps", 5)
    status, said = run("finetune", "base", "text.txt", 2, "tuned", "--learning-rate", 0.01, "--context", 12)
    assert status == 0, said
    base, tuned = LanguageModel.load(tmp_path / "base"), LanguageModel.load(tmp_path / "tuned")
    assert tuned.config == base.config.replace(context_length=12)
    assert (tmp_path / "base/tokenizer.json").read_bytes() == (tmp_path / "tuned/tokenizer.json").read_bytes()
    rows = read_curve(tmp_path / "tuned/curve.csv")
    assert rows[-1]["held_out_loss"] < 5  # ln 300 = 5.7 is knowing nothing
    assert "is BASE" in run("finetune", "tuned", "text.txt", 1, "tuned", "--force")[1]


def test_train_is_the_quick_way_and_warns_of_gibberish(run, tmp_path):
    status, said = run("train", "text.txt", "quick", "--steps", 2, "--context", 16, "--layers", 1)
    assert status == 0, said
    assert "likely gibberish" in said
    assert "tokens only, not 1,024" in said.replace("\n", " ")
    assert LanguageModel.load(tmp_path / "quick").config.dim == 128


@pytest.mark.parametrize("preset", ["dlib-char", "dlib-bpe"])
def test_flat_heads_learn_the_token_after_each_window(run, tmp_path, preset):
    sizes = [
        "--dim",
        "12",
        "--layers",
        "1",
        "--heads",
        "2",
        "--context",
        "8",
        "--vocab-size",
        "284",
        "--special-tokens",
        "dlib",
        "--log-every",
        "1",
    ]
    status, said = run("pretrain", "text.txt", 1, "out", 400, "--preset", preset, *sizes)
    assert status == 0, said
    rows = read_curve(tmp_path / "out/curve.csv")
    tokens = int(re.search(r"([\d,]+) tokens", said)[1].replace(",", ""))
    learned = tokens - int(tokens * 0.05)
    assert rows[-1]["tokens"] == learned - 8  # an epoch is every window, and each has one target
    assert rows[-1]["held_out_loss"] > 0


def test_stories_under_a_flat_head_are_running_text(run, tmp_path):
    sizes = ["--dim", "12", "--layers", "1", "--heads", "2", "--context", "8", "--vocab-size", "284"]
    status, said = run("pretrain", "stories:easy:20", "out", "--steps", 2, "--preset", "dlib-bpe", *sizes)
    assert status == 0, said
    assert read_curve(tmp_path / "out/curve.csv")[-1]["bits_per_byte"] > 0


MIXTURE = """
command = "pretrain"
data = { text = "stories:easy+french:40" }
tokenizer = { vocab_size = 300 }
machine = { threads = 1, device = "cpu" }
training = { steps = 4, evaluate_every = 2 }
[model]
dim = 16
num_layers = 2
attention = { num_heads = 2 }
feed_forward = { hidden = 8, moe = { num_experts = 4, top_k = 2, balance = "switch" } }
"""


def test_a_mixture_logs_how_evenly_its_experts_are_used_on_held_out_text(run, tmp_path):
    (tmp_path / "mixture.toml").write_text(MIXTURE)
    status, said = run("pretrain", "--config", "mixture.toml", "out")
    assert status == 0, said
    rows = read_curve(tmp_path / "out/curve.csv")
    assert [row["step"] for row in rows if row["expert_cv"] is not None] == [2, 4]
    for row in rows:
        assert 0 <= row["expert_cv"] <= 3**0.5
        assert row["bits_above_floor"] > 0
        assert 0.02 <= row["auxiliary"] < 0.04  # 0.01 in each of two layers where even, at most four times as much
    # The same from the saved model: its experts' loads on the same held-out stories, one by one.
    model, tokenizer = LanguageModel.load(tmp_path / "out").eval(), BPETokenizer.load(tmp_path / "out/tokenizer.json")
    texts = stories.generate("easy+french", 100, seed=1, split="validation")
    report = moe_report(model, [torch.tensor([tokenizer.encode(text)]) for text in texts])
    assert report.cv == pytest.approx(rows[-1]["expert_cv"], abs=1e-6)


def test_none_is_a_value_where_a_config_knows_it_and_nothing_elsewhere():
    moe = {"balance": "none", "capacity_factor": "none"}
    table = {
        "command": "pretrain",
        "data": {"text": "stories:easy:20"},
        "model": {"preset": "dlib-moe", "positions": {"kind": "none"}, "feed_forward": {"moe": moe}},
        "training": {"steps": 3, "clip": "none"},
    }
    run = run_file.build(table)
    config = run.model_config(300)
    assert (config.feed_forward.moe.balance, config.feed_forward.moe.capacity_factor) == ("none", None)
    assert config.positions.kind == "none"
    assert run.training_config(3).clip is None
    assert run_file.build(tomllib.loads(run_file.to_toml(run))).model_config(300) == config
    moe["balance"] = "even"
    with pytest.raises(
        ValueError, match=r"model\.feed_forward\.moe\.balance = 'even': expected one of 'none', 'switch'"
    ):
        run_file.build(table)


@pytest.mark.parametrize("route", ["token", "sample"])
def test_a_mixture_on_running_text_is_watched_too(run, tmp_path, route):
    flat = 'head = { kind = "flat", tied = false }' if route == "sample" else ""
    mixture = MIXTURE.replace("stories:easy+french:40", "text.txt").replace(
        "top_k = 2", f'top_k = 2, route = "{route}"'
    )
    (tmp_path / "mixture.toml").write_text(f"{mixture}context_length = 8\n{flat}\n")
    status, said = run("pretrain", "--config", "mixture.toml", "out")
    assert status == 0, said
    assert 0 <= read_curve(tmp_path / "out/curve.csv")[-1]["expert_cv"] <= 3**0.5


def test_a_preset_of_ones_own_choice_keeps_its_own_sizes(run):
    table = training.asked_for("train", None, {"data.text": "x", "training.epochs": 1, "model.preset": "mnemos"})
    assert run_file.build(table).model_config(500).context_length == 64
    assert run_file.build(table).model_config(500).dim == 256


# --- text ---


def test_damage_is_counted_and_documents_are_found(tmp_path):
    path = tmp_path / "tales.txt"
    path.write_bytes(("<|endoftext|>\n".join(["Once upon a time. " * 9] * 5)).encode() + b" caf\xe9 au lait")
    notes, read = [], []
    tokenizer = learn_tokenizer(TokenizerConfig(vocab_size=300), DataConfig(str(path)), notes.append)
    corpus = write_corpus(tmp_path / "data", DataConfig(str(path)), tokenizer, notes.append, read.append)
    assert "1 sequences of bytes that are not UTF-8 were replaced" in notes[-1]
    assert corpus.facts.documents == 5
    texts = [tokenizer.decode(ids) for ids in corpus.documents()]
    assert texts[0] == ("Once upon a time. " * 9).strip()
    assert texts[4].endswith("caf\ufffd au lait")
    assert read[-1] == corpus.facts.bytes
    assert open_corpus(tmp_path / "data", tokenizer).facts == corpus.facts
    (tmp_path / "data/tokens.bin").write_bytes(b"\0\0")
    with pytest.raises(ValueError, match="not whole"):
        open_corpus(tmp_path / "data", tokenizer)


def test_a_separator_that_two_pieces_share_is_found():
    assert list(split_documents(["one\n<|end", "oftext|>\ntwo", " more<|endoftext|>  "], "<|endoftext|>")) == [
        "one",
        "two more",
    ]


def test_running_text_keeps_every_token_between_two_ends(tmp_path):
    path = tmp_path / "long.txt"
    path.write_text(ENOUGH * 40)  # more than one piece of tokens
    tokenizer = BPETokenizer.train([ENOUGH], 280, special_tokens=[END], progress=False)
    corpus = write_corpus(tmp_path / "data", DataConfig(str(path)), tokenizer, print, lambda size: None)
    assert corpus.tokens.tolist() == [0, *tokenizer.encode(ENOUGH * 40), 0]
    tail = held_out.split_tail(corpus, 0.1, 16)
    assert [*tail[0].tolist(), *tail[1].tolist()] == corpus.tokens.tolist()
    assert len(tail[1]) == int(len(corpus.tokens) * 0.1)
    assert len(held_out.split_tail(corpus, 0.1, len(corpus.tokens))[1]) == 0


def test_every_other_window_begins_like_a_prompt():
    batches = runs.PromptedWindows(np.arange(1, 500), 3, 8)
    batches.end_id = 0
    first, second = next(batches), next(batches)
    assert (first.ids[:, 0] == 0).tolist() == [True, False, True]
    assert (second.ids[:, 0] == 0).tolist() == [False, True, False]
    assert torch.equal(first.targets, first.ids[:, 1:2] + torch.arange(8))  # they are what they were


@pytest.mark.parametrize("kind", SPECIAL_TOKENS)
def test_every_kind_of_vocabulary_has_an_end(tmp_path, kind):
    config = TokenizerConfig(vocab_size=300, special_tokens=kind)
    assert END in learn_tokenizer(config, DataConfig("stories:easy:20"), print).special_tokens


# --- run files ---


def test_every_option_sets_a_value_that_runs_have():
    known = run_file.build(training.asked_for("pretrain", None, {"data.text": "x", "training.epochs": 1}))
    whole = {"model": known.model_config(300).to_dict(), "training": known.training_config(10).to_dict()}
    whole |= {"chat": run_file.ChatConfig().to_dict(), "lora": LoRAConfig().to_dict()}
    whole |= {"preference": PreferenceConfig().to_dict()}
    places = run_file.flatten(known.to_dict() | whole) | {"model.preset": "", "training.steps": 0}
    assert [option.flag for option in options.OPTIONS if option.place not in places] == []


def test_toml_brings_back_what_it_was_given():
    changes = {
        "data.text": 'C:\\new "texts"\u007f\n',
        "training.epochs": 0.5,
        "training.clip": None,
        "machine.prompt": "é",
    }
    first = run_file.build(training.asked_for("train", None, changes))
    import tomllib

    assert run_file.build(tomllib.loads(run_file.to_toml(first))) == first


@pytest.mark.parametrize("name", zoo.names())
def test_every_recipe_of_the_zoo_is_a_run_file(name):
    table = run_file.read_table(zoo.recipe(name))
    changes = {} if "data" in table else {"data.text": "stories:easy:10"}
    run = run_file.build(training.asked_for(table.get("command", "pretrain"), str(zoo.recipe(name)), changes))
    import tomllib

    assert run_file.build(tomllib.loads(run_file.to_toml(run))) == run  # what a run writes down repeats it


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("dta = 1", "did you mean 'data'?"),
        ("[model]\ndmi = 3", "[model] has no 'dmi': did you mean 'dim'?"),
        ("[training]\nlerning_rate = 1.0", "did you mean 'learning_rate'?"),
        ("[training]\nlearning_rate = -1.0", "training.learning_rate = -1.0: it must be above 0"),
        ("[training]\nschedule = {kind = 'cos'}", "training.schedule.kind = 'cos': expected one of"),
        ("[model]\nvocab_size = 5", "set vocab_size in [tokenizer]"),
        ("model = 3", "'model' is a section"),
        ("command = 'finetune'", "is for `minilm finetune`, not for `minilm pretrain`"),
        ("[data\n", "is not TOML"),
        ("[training]\nepochs = 1\nsteps = 2", "one of two"),
    ],
)
def test_mistakes_in_a_run_file_are_named(run, tmp_path, text, said):
    (tmp_path / "mine.toml").write_text(text)
    status, output = run(
        "pretrain", "text.txt", *(["out"] if "epochs" in text else ["1", "out"]), "--config", "mine.toml"
    )
    assert status == 1
    assert said in output.replace("\n", " ")
    assert not (tmp_path / "out").exists()


def test_an_option_changes_what_the_file_says(run, tmp_path):
    (tmp_path / "mine.toml").write_text("[training]\nsteps = 50\nlearning_rate = 0.5\n[data]\ntext = 'text.txt'\n")
    said = run("pretrain", "--config", "mine.toml", "out", "--steps", 2, "--learning-rate", "0.001", *SMALL)[1]
    assert "step 2/2" in said
    assert "learning_rate = 0.001\n" in (tmp_path / "out/run.toml").read_text()


# --- mistakes ---


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("text.txt", "EPOCHS and OUT missing: minilm pretrain FILE EPOCHS OUT."),
        ("text.txt 3", "OUT missing"),
        ("3 text.txt out", "did you mean: minilm pretrain text.txt 3 out"),
        ("text.txt out 3", "did you mean: minilm pretrain text.txt 3 out"),
        ("text.txt ten out", "EPOCHS is 'ten', which is no number"),
        ("text.txt 0 out", "EPOCHS is 0: it must be above 0."),
        ("text.txt -1 out", "EPOCHS is -1: it must be above 0."),
        ("text.txt nan out", "it must be above 0"),
        ("text.txt 1 out many", "MAX_BYTES is 'many'"),
        ("text.txt 1 out -5", "MAX_BYTES is '-5'"),
        ("text.txt 1 out --steps 5", "Give EPOCHS or --steps, not both"),
        ("txt.txt 1 out", "Did you mean 'text.txt'?"),
        ("empty.txt 1 out", "is empty."),
        ("tiny.txt 1 out", "has only 4 bytes"),
        ("noise.bin 1 out", "is binary"),
        ("paper.pdf 1 out", "is a PDF"),
        ("nothing 1 out", "has nothing to read"),
        ("tinystories 1 out", "minilm data get tinystories"),
        ("stories:esy:10 1 out", "Did you mean 'easy'?"),
        ("text.txt 1 text.txt", "is a file: name a folder"),
        ("text.txt 1 nothing/../..", "holds other things"),
        ("text.txt 1 out --preset slmi", "no preset 'slmi'"),
        ("text.txt 1 out --dim 30 --heads 4", "not divisible by num_heads = 4"),
        ("text.txt 1 out --context 5000 --vocab-size 300", "a shorter --context"),
        ("text.txt 1 out --vocab-size 100", "--vocab-size = 100: from 257"),
        ("text.txt 1 out --schedule cos", "--schedule = 'cos': expected one of"),
        ("text.txt 1 out --learning-rate 0", "--learning-rate = 0"),
        ("text.txt out --steps 5 --warmup 10", "does not fit into 5"),
        ("text.txt 1 out --held-out 0.9", "--held-out = 0.9"),
        ("text.txt 1 out --batch-size 0", "--batch-size = 0: it must be at least 1"),
        ("text.txt 1 out --device gpu", "choose auto, cpu, cuda or mps"),
        ("text.txt 1 out --device cpu:x", "no device 'cpu:x'"),
        ("--resume out", "there is no run to go on with in 'out'"),
        ("--config nothere.toml out", "can't be read as a run file"),
        ("--config zoo:nothere out", "the zoo has no 'nothere'"),
        ("--config mine.toml", "give OUT alone"),
        ("--config mine.toml out", "what to read is missing"),
    ],
)
def test_mistakes_are_answered_in_a_sentence(run, tmp_path, arguments, said):
    (tmp_path / "empty.txt").write_text("")
    (tmp_path / "tiny.txt").write_text("tiny")
    (tmp_path / "noise.bin").write_bytes(bytes(range(256)))
    (tmp_path / "paper.pdf").write_text("%PDF-1.4" + "x" * 100)
    (tmp_path / "nothing").mkdir()
    (tmp_path / "mine.toml").write_text("[training]\nepochs = 1\n")
    before = sorted(tmp_path.rglob("*"))
    status, output = run("pretrain", *arguments.split())
    assert status == 1, output
    assert said in output.replace("\n", " ")
    assert "Traceback" not in output
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_gpu_that_is_not_there_is_refused(run):
    assert "No cuda device is found here: use --device cpu" in run("train", "text.txt", 1, "out", "--device", "cuda")[1]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [("nobody text.txt 1 out", "neither a folder with a model"), ("folder text.txt 1 out", "BASE can't be loaded")],
)
def test_finetune_needs_a_model(run, tmp_path, arguments, said):
    (tmp_path / "folder").mkdir()
    status, output = run("finetune", *arguments.split())
    assert (status, said in output.replace("\n", " ")) == (1, True)


@pytest.mark.parametrize(
    ("typed", "meant"),
    [("1000000", 10**6), ("1_000", 1000), ("500kB", 500_000), ("1.5MB", 1_500_000), ("2g", 2 * 10**9)],
)
def test_bytes_as_people_write_them(typed, meant):
    assert training.size(typed) == meant


# --- folders that exist, and runs that stop ---


def test_a_run_is_never_overwritten_unless_told_to(run, tmp_path):
    pretrain(run, "text.txt", 1, "out")
    weights = (tmp_path / "out/model.safetensors").read_bytes()
    status, said = run("pretrain", "text.txt", 1, "out", *SMALL)
    assert status == 1
    assert "--resume" in said
    assert "--force" in said
    status, said = run("pretrain", "text.txt", 1, "out", "--force", "--context", 9000)  # fails late, and puts all back
    assert (status, (tmp_path / "out/model.safetensors").read_bytes()) == (1, weights)
    pretrain(run, "text.txt", 1, "out", "--force", "--seed", 1)
    assert (tmp_path / "out/model.safetensors").read_bytes() != weights
    (tmp_path / "out/mine.txt").write_text("my own")
    assert "holds other things" in run("pretrain", "text.txt", 1, "out", "--force")[1]
    assert not [path.name for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_a_full_disk_leaves_nothing_or_the_last_checkpoint(run, tmp_path, monkeypatch):
    def full(*arguments, **options):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "tokens.bin")

    with monkeypatch.context() as patch:
        patch.setattr("minilm.cli.corpus.write_tokens", full)
        status, said = run("pretrain", "text.txt", 1, "out", *SMALL)
        assert (status, "No space left on device" in said, (tmp_path / "out").exists()) == (1, True, False)
    write = checkpoints.write_checkpoint
    for room, left in ((0, False), (1, True)):  # for how many checkpoints
        answers = iter([write] * room)
        monkeypatch.setattr(checkpoints, "write_checkpoint", lambda *given, a=answers: next(a, full)(*given))
        status, said = run("pretrain", "text.txt", "out", "--steps", 4, "--checkpoint-every", 2, *SMALL)
        assert (status, "No space left" in said, (tmp_path / "out").exists()) == (1, True, left)
    monkeypatch.setattr(checkpoints, "write_checkpoint", write)
    assert run("pretrain", "--resume", "out")[0] == 0


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT for another process")
def test_ctrl_c_saves_and_the_resumed_run_is_the_uninterrupted_one(run, tmp_path):
    arguments = [
        "pretrain",
        "stories:easy:100",
        "out",
        "--steps",
        "300",
        "--log-every",
        "1",
        "--evaluate-every",
        "200",
        *SMALL,
    ]
    command = [sys.executable, "-c", "from minilm.cli import main; main()", *arguments]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)
    said = ""
    while "step " not in said and (line := process.stdout.readline()):
        said += line
    process.send_signal(signal.SIGINT)
    said += process.communicate()[0]
    assert process.returncode == 130, said
    assert "Go on with: minilm pretrain --resume out" in said
    assert "Traceback" not in said
    assert len(read_curve(tmp_path / "out/curve.csv")) < 300

    refused = run("pretrain", "--resume", "out", "--seed", 1)
    assert (refused[0], "--seed is 0 there, not 1" in refused[1].replace("\n", " ")) == (1, True)
    refused = run("train", "--resume", "out")
    assert "goes on by: minilm pretrain --resume out" in refused[1]
    status, said = run(*arguments, "--resume", "--keep", 1)  # the same words again are no change
    assert status == 0, said
    assert "Going on with out after step" in said
    assert run("pretrain", "stories:easy:100", "whole", *arguments[3:])[0] == 0
    assert (tmp_path / "out/model.safetensors").read_bytes() == (tmp_path / "whole/model.safetensors").read_bytes()
    assert [row["loss"] for row in read_curve(tmp_path / "out/curve.csv")] == [
        row["loss"] for row in read_curve(tmp_path / "whole/curve.csv")
    ]
    assert "made its last step already" in run("pretrain", "--resume", "out")[1]


def test_an_interrupt_before_the_first_step_leaves_nothing(run, tmp_path, monkeypatch):
    def interrupted(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("minilm.cli.corpus.write_tokens", interrupted)
    status, said = run("pretrain", "text.txt", 1, "out", *SMALL)
    assert (status, "before there was anything to keep" in said, (tmp_path / "out").exists()) == (1, True, False)


def test_a_loss_that_is_not_finite_is_told_with_its_place(run, tmp_path):
    status, said = run("pretrain", "text.txt", "out", "--steps", 20, "--learning-rate", "1e30", "--clip", 0, *SMALL)
    assert status == 1
    assert "lower learning rate" in said.replace("\n", " ")
    assert not (tmp_path / "out").exists()


# --- help ---


@pytest.mark.parametrize("command", ["pretrain", "finetune", "train"])
def test_every_option_is_explained_under_a_heading(run, command):
    status, said = run(command, "--help")
    assert status == 0
    assert all(option.panel in said for option in options.OPTIONS if command in option.commands)
    usage = " ".join(options.usage_word(each) for each in options.POSITIONALS[command])
    assert usage in said.replace("\n", " ")


def test_help_does_not_wait_for_torch():
    code = "import sys, minilm.cli; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
