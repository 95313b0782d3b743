"""The runs of `minilm sft` and `minilm dpo`: a model that takes turns, records as batches, adapters or all weights.

What they share with other runs (folder, device, settings, going on) is in `minilm.cli.runs`, their data in `minilm.cli.tuning_data`.
"""

import dataclasses
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from minilm.cli import runs, say, tuning_data
from minilm.cli.run_file import RUN_FILE, ChatConfig, RunConfig, to_toml
from minilm.cli.runs import ADAPTER, CHECKPOINTS, DATA, RunError, note
from minilm.data.conversations import Messages
from minilm.evaluation.likelihood import reads_whole_window
from minilm.finetuning import (
    ChatBatches,
    PackedChatBatches,
    PreferenceBatches,
    PreferenceConfig,
    PreferenceTrainer,
    adapters,
    add_lora,
    knows_turns,
    merged_weights,
    save_adapter,
    trainable,
    why_not_packed,
    with_chat_tokens,
)
from minilm.model import LanguageModel
from minilm.model.files import TOKENIZER
from minilm.tokenizer import BPETokenizer
from minilm.training import Trainer, TrainingConfig
from minilm.training.checkpoints import list_checkpoints

REFERENCE = "reference.safetensors"
METRICS = ("preference_accuracy", "reward_margin", "chosen_change", "rejected_change")


def begin(run: RunConfig, out: Path, force: bool) -> tuple[Trainer, str]:
    """Read the records, prepare model and batches in the folder `out`; the trainer, and nothing to say about prompts.

    If that fails, the folder is removed again, and what it held before is put back.
    """
    device = runs.choose_device(run.machine.device)
    runs.make_loggers(run, out)  # complains now if it can't
    assert run.base is not None
    base, folder = runs.load_base(run.base), runs.base_folder(run.base)
    if folder.resolve() == out.resolve():
        raise RunError("OUT is BASE: name another folder, so that the model you began with stays.")
    with runs.new_folder(out, force):
        run, model, tokenizer = prepare(run, base, BPETokenizer.load(folder / TOKENIZER))
        tokenizer.save(out / TOKENIZER)
        (out / DATA).mkdir()
        source = tuning_data.keep_records(run.data.text, out / DATA)
        trainer = make_trainer(run, out, model.to(device), tokenizer, source)
        settled = run.with_training(trainer.config)
        (out / RUN_FILE).write_text(to_toml(settled), encoding="utf-8")
        return trainer, ""


def go_on(run: RunConfig, out: Path) -> tuple[Trainer, str]:
    """The trainer of a stopped run, standing where it stopped."""
    device = runs.choose_device(run.machine.device)
    tokenizer = BPETokenizer.load(out / TOKENIZER)
    assert run.base is not None
    if list_checkpoints(out / CHECKPOINTS):  # then BASE may be gone
        model = LanguageModel.load(out).float()
    else:
        folder = runs.base_folder(run.base)
        _, model, _ = prepare(run, runs.load_base(run.base), BPETokenizer.load(folder / TOKENIZER), quiet=True)
    kept = out / DATA / tuning_data.RECORDS
    source = str(kept) if kept.is_file() else run.data.text
    trainer = make_trainer(run, out, model.to(device), tokenizer, source, quiet=True)
    runs.take_up(trainer, out)
    return trainer, ""


def train(trainer: Trainer, out: Path) -> bool:
    """Train to the end, or until Ctrl-C; whether the end was reached. Adapters are kept by themselves, too."""
    whole = runs.train(trainer, out)
    if whole and any(True for _ in adapters(trainer.model)):
        save_adapter(trainer.model, out / ADAPTER)
        say(f"{out / ADAPTER} holds the adapters by themselves, {out} the model with them folded in.")
    return whole


def farewell(out: Path, prompt: str) -> str:
    """What can be done with the model now."""
    return f"Talk with it: minilm chat {out}"


# ------------------------------------------------------------------------------------------------------------- the parts


def prepare(
    run: RunConfig, base: LanguageModel, tokenizer: BPETokenizer, quiet: bool = False
) -> tuple[RunConfig, LanguageModel, BPETokenizer]:
    """BASE with what may change about it, for sft with the tokens of turns, and the run with what follows from that.

    RunError for a model that can't learn to answer.
    """
    if reads_whole_window(base):
        raise RunError(
            "BASE reads its window as a whole (a flat head, a norm over the whole sample, or a prefix), so an answer has no place "
            "of its own in it: choose a causal model with a head at every position."
        )
    turns = knows_turns(tokenizer)
    if run.command == "dpo" and not turns:
        raise RunError(
            f"BASE {run.base!r} has not learned to take turns, so there are no answers of its own to prefer: "
            f"first teach it to answer, minilm sft {run.base} DATA EPOCHS OUT."
        )
    model = runs.continued_model(run, base)
    if not turns:
        model, tokenizer = with_chat_tokens(model, tokenizer)
        if not quiet:
            note("BASE has no tokens for turns: <|im_start|> and <|im_end|> are added to its vocabulary.")
        if run.lora is not None and not run.lora.also:  # their rows mean nothing yet, and adapters don't reach them
            tables = "embedder" if model.config.head.tied else "embedder,head"
            run = dataclasses.replace(run, lora=run.lora.replace(also=tables))
    if (run.chat or ChatConfig()).packed and (problem := why_not_packed(model.config)):
        raise RunError(f"{problem}: leave --packed out.")
    return run, model, tokenizer


def make_trainer(
    run: RunConfig, out: Path, model: LanguageModel, tokenizer: BPETokenizer, source: str, quiet: bool = False
) -> Trainer:
    """The trainer of a run, at its beginning; `model` is BASE, or what has become of it."""
    build = _answers if run.command == "sft" else _pairs
    return build(run, out, model, tokenizer, source, quiet)


def _answers(
    run: RunConfig, out: Path, model: LanguageModel, tokenizer: BPETokenizer, source: str, quiet: bool
) -> Trainer:
    room = model.config.context_length
    data = tuning_data.chats(run, source, tokenizer, room, _notice(quiet))
    seed, size = int(run.training.get("seed", 0)), run.data.batch_size
    batches: ChatBatches | PackedChatBatches
    if (run.chat or ChatConfig()).packed:
        batches = PackedChatBatches(data.training, size, room, seed)
    else:
        batches = ChatBatches(data.training, size, seed, bucket=run.data.bucket)
    config = runs.settle(run, len(batches))
    options = _options(run, out, model, tokenizer, data.prompt, config)
    evaluate = tuning_data.measure_answers(data.held_out) if data.held_out else None
    if not quiet:
        learned = sum(sum(example.learned) for example in data.training)
        tokens = sum(len(example.ids) for example in data.training)
        say(
            f"Data: {len(data.training):,} conversations, {tokens:,} tokens, {learned:,} of them learned; {len(data.held_out):,} held out."
        )
        _describe(run, model, config, "rows" if (run.chat or ChatConfig()).packed else "conversations")
    return Trainer(model, batches, config, evaluate=evaluate, **options)


def _pairs(
    run: RunConfig, out: Path, model: LanguageModel, tokenizer: BPETokenizer, source: str, quiet: bool
) -> Trainer:
    preference = run.preference or PreferenceConfig()
    data = tuning_data.pairs(run, source, tokenizer, model.config.context_length, _notice(quiet))
    seed, size = int(run.training.get("seed", 0)), run.data.batch_size
    known = out / DATA / REFERENCE  # BASE's log-probabilities: a run that goes on no longer has BASE
    reference: dict[str, Any] = load_file(known) if known.is_file() else {}

    def batches(name: str, pairs: Any) -> PreferenceBatches:
        kto = preference.loss == "kto"
        kind = {"average": preference.average, "mismatched": kto}
        return PreferenceBatches(pairs, size, reference.get(name, model), seed, **kind)

    training = batches("training", data.training)
    held_out = batches("held_out", data.held_out) if data.held_out else None
    found = {"training": training.reference} | ({"held_out": held_out.reference} if held_out else {})
    save_file({name: tensor.contiguous() for name, tensor in found.items()}, known)
    config = runs.settle(run, len(training))
    options = _options(run, out, model, tokenizer, data.prompt, config)
    evaluate = tuning_data.measure_pairs(held_out, preference) if held_out else None
    if not quiet:
        best = tuning_data.best_accuracy(run.data.text)
        limit = f", of which no judge can get more than {best:.1%} right" if best else ""
        say(f"Data: {len(data.training):,} pairs, {len(data.held_out):,} held out{limit}.")
        _describe(run, model, config, "pairs")
    return PreferenceTrainer(model, training, config, preference, evaluate=evaluate, **options)


def _options(
    run: RunConfig,
    out: Path,
    model: LanguageModel,
    tokenizer: BPETokenizer,
    prompt: Messages,
    config: TrainingConfig,
) -> dict[str, Any]:
    """What every trainer here gets; the model gets its adapters."""
    if run.machine.prompt:
        prompt = [{"role": "user", "content": run.machine.prompt}]
        if len(tokenizer.apply_chat_template(prompt, add_generation_prompt=True)) >= model.config.context_length:
            raise RunError(
                "--prompt fills the model's context, so there is no room for an answer: ask something shorter."
            )
    options: dict[str, Any] = {
        "out": out,
        "sample": tuning_data.sampler(tokenizer, prompt, config.seed),
        "loggers": runs.make_loggers(run, out, METRICS if run.command == "dpo" else ()),
    }
    if run.lora is not None:
        add_lora(model, run.lora, config.seed)
        options["publish"] = lambda weights: merged_weights(model)
    return options


def _describe(run: RunConfig, model: LanguageModel, config: TrainingConfig, pieces: str) -> None:
    trained, total = trainable(model)
    share = f", {trained:,} of them trained" if trained < total else ""
    device = next(model.parameters()).device
    threads = f" with {torch.get_num_threads()} threads" if device.type == "cpu" else ""
    say(f"Model: {total:,} parameters{share}; on {device.type}{threads}, {config.precision}.")
    say(f"Training: {config.steps:,} steps of {run.data.batch_size * config.accumulate} {pieces}.")


def _notice(quiet: bool) -> tuning_data.Notice:
    return (lambda message: None) if quiet else note
