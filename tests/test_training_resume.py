"""A run that is killed anywhere goes on as if it had not been, and what cannot be written or read is said clearly."""

import errno
import json
import multiprocessing
import os
import random
import shutil
import signal
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from minilm.model import LanguageModel
from minilm.training import (
    AdamW,
    CheckpointError,
    DocumentBatches,
    DropoutConfig,
    OptimizerConfig,
    ScheduleConfig,
    Trainer,
    TrainingConfig,
    TrainingError,
    checkpoints,
    decay_branch,
    parameter_groups,
)
from minilm.training.randomness import random_state, restore_random_state
from tests.training_samples import VOCAB, curve, tiny_batches, tiny_config, tiny_model, tiny_trainer

posix = pytest.mark.skipif(os.name != "posix", reason="forks processes, and kills them")

CONFIGS = {
    "everything": {},
    "adam": {"optimizer": OptimizerConfig("adam")},
    "sgd": {"optimizer": OptimizerConfig("sgd"), "ema": None},
    "plateau": {"schedule": ScheduleConfig("plateau", warmup=0, patience=4, final=0.001)},
    "dropout schedule": {"dropout": DropoutConfig("triangle", 0.0, 0.5)},
    "bfloat16": {"precision": "bfloat16"},
    "bfloat16 weights": {"precision": "bfloat16-weights", "loss_chunk": 8},
}


def names(out: Path) -> list[str]:
    return [path.name for path in checkpoints.list_checkpoints(out / "checkpoints")]


# ------------------------------------------------------------------------------------------------- going on to the last bit


@pytest.mark.parametrize("name", sorted(CONFIGS))
@pytest.mark.parametrize("stop", [4, 11])
def test_an_interrupted_run_is_the_uninterrupted_one_to_the_last_bit(name, stop, tmp_path):
    whole = tiny_trainer(tmp_path / "whole", **CONFIGS[name])
    whole.train()
    first = tiny_trainer(tmp_path / "run", **CONFIGS[name])
    for record in first.steps():
        if record.step == stop:
            break
    torch.rand(7), random.random(), np.random.rand()  # noqa: NPY002  a new process knows nothing of the old one's
    second = tiny_trainer(tmp_path / "run", seed=99, **CONFIGS[name])
    assert second.resume() == stop // 3 * 3
    second.train()
    assert curve(tmp_path / "run") == curve(tmp_path / "whole")
    assert len(curve(tmp_path / "run")) >= 21 if name != "plateau" else 12
    for ours, theirs in zip(second.model.parameters(), whole.model.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    same = [load_file(tmp_path / run / "model.safetensors") for run in ("run", "whole")]
    assert all(torch.equal(same[0][key], same[1][key]) for key in same[1])


def test_documents_and_a_torch_optimizer_resume_too(tmp_path):
    def make(out):
        model = tiny_model()
        documents = [[(i * j) % VOCAB for j in range(i % 9)] for i in range(40)]
        optimizer = torch.optim.AdamW(parameter_groups(model, 0.1), lr=1e-3)
        batches = DocumentBatches(documents, 4, end_id=0)
        return Trainer(model, batches, tiny_config(25), out=out, optimizer=optimizer)

    whole = [r.loss for r in make(tmp_path / "whole").train()]
    first = make(tmp_path / "run").steps()
    losses = [next(first).loss for _ in range(13)][:12]
    first.close()
    again = make(tmp_path / "run")
    assert again.resume() == 12
    assert losses + [r.loss for r in again.train()] == whole


def test_a_decay_branches_off_a_stable_phase(tmp_path):
    """A long run's plateau is brought down later, and is the shorter run that had been planned so from the start."""
    config = tiny_config(60, schedule=ScheduleConfig("wsd", warmup=3, decay=0), keep=None)
    long = Trainer(tiny_model(), tiny_batches(), config, out=tmp_path / "long")
    for record in long.steps():
        if record.step == 33:
            break
    branch = decay_branch(config, step=30, decay=10)
    planned = Trainer(tiny_model(), tiny_batches(), branch, out=tmp_path / "planned").train()
    trainer = Trainer(tiny_model(seed=3), tiny_batches(), branch, out=tmp_path / "branch")
    assert trainer.resume(tmp_path / "long" / "checkpoints" / "step-00000030") == 30
    assert [r.loss for r in trainer.train()] == [r.loss for r in planned[30:]]
    assert names(tmp_path / "long")[-1] == "step-00000033"  # and the long run can go on


def test_the_last_checkpoint_of_the_plateau_is_kept(tmp_path):
    tiny_trainer(tmp_path / "run").train()  # 20 steps, 5 of them down
    assert names(tmp_path / "run") == ["step-00000015", "step-00000018", "step-00000020"]


def test_a_named_checkpoint_of_the_run_itself_wants_another_folder(tmp_path):
    tiny_trainer(tmp_path / "run").train()
    trainer = tiny_trainer(tmp_path / "run")
    trainer.resume(tmp_path / "run" / "checkpoints" / "step-00000015")
    with pytest.raises(TrainingError, match="choose another folder"):
        trainer.train()


def test_an_average_can_begin_where_a_run_goes_on(tmp_path):
    tiny_trainer(tmp_path / "run", ema=None).train()
    trainer = Trainer(tiny_model(seed=1), tiny_batches(), tiny_config())
    assert trainer.resume(tmp_path / "run") == 20
    for name, parameter in trainer.model.named_parameters():
        assert torch.equal(trainer.average.averages[name], parameter)


def test_checkpoints_come_by_time_too(tmp_path):
    trainer = tiny_trainer(tmp_path / "run", checkpoint_every=None, checkpoint_seconds=1e-9, keep=None)
    trainer.train()
    assert len(names(tmp_path / "run")) == 20


def test_random_states_survive_a_file(tmp_path):
    random.gauss(0, 1), np.random.randn()  # noqa: NPY002  both keep half of a pair for later
    plain, tensors = random_state()
    expected = [random.gauss(0, 1), random.random(), np.random.randn(), float(torch.rand(()))]  # noqa: NPY002
    checkpoints.write_tensors(tmp_path / "random", tensors)
    restore_random_state(json.loads(json.dumps(plain)), load_file(tmp_path / "random"))
    assert [random.gauss(0, 1), random.random(), np.random.randn(), float(torch.rand(()))] == expected  # noqa: NPY002


# -------------------------------------------------------------------------------------------------------------- the folder


def test_the_folder_is_a_model_that_loads_and_so_is_every_checkpoint(tmp_path):
    trainer = tiny_trainer(tmp_path / "run")
    trainer.train()
    ids = torch.arange(12)[None]
    with trainer.best_weights():
        trainer.model.eval()
        expected = trainer.model(ids)
    for folder in (tmp_path / "run", tmp_path / "run" / "checkpoints" / "step-00000020"):
        model = LanguageModel.load(folder).eval()
        assert torch.equal(model(ids), expected)
    assert TrainingConfig.from_json((tmp_path / "run" / "training.json").read_text()) == trainer.config


def test_our_files_are_safetensors_of_every_kind(tmp_path):
    tensors = {
        "scalar": torch.tensor(1.5, dtype=torch.float64),
        "empty": torch.zeros(0, 3),
        "half": torch.randn(3, 5).bfloat16(),
        "turned": torch.arange(6).view(2, 3).T,
        "flags": torch.tensor([True, False, True]),
        "bytes": torch.arange(7, dtype=torch.uint8),
    }
    checkpoints.write_tensors(tmp_path / "file", tensors)
    loaded = load_file(tmp_path / "file")
    assert loaded.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert torch.equal(loaded[name], tensor)
        assert loaded[name].dtype == tensor.dtype


def test_a_run_is_not_begun_over_another_one_or_over_a_model(tmp_path):
    tiny_trainer(tmp_path / "run").train()
    with pytest.raises(TrainingError, match=r"holds a run already, up to step-00000020: .*trainer.resume\(\)"):
        tiny_trainer(tmp_path / "run").train()
    tiny_model().save(tmp_path / "model")
    with pytest.raises(TrainingError, match="holds a model already"):
        tiny_trainer(tmp_path / "model").train()
    with pytest.raises(FileExistsError, match="training run, whose checkpoints would go"):
        tiny_model().save(tmp_path / "run")


def test_another_model_or_optimizer_or_text_is_not_gone_on_with(tmp_path):
    tiny_trainer(tmp_path / "run").train()
    path = tmp_path / "run"
    wider = Trainer(tiny_model(dim=16), tiny_batches(), tiny_config())
    with pytest.raises(CheckpointError, match="another model"):
        wider.resume(path)
    other = Trainer(tiny_model(), tiny_batches(seed=1), tiny_config())
    with pytest.raises(CheckpointError, match="seed was 0 and is 1"):
        other.resume(path)
    model = tiny_model()
    one_group = Trainer(model, tiny_batches(), tiny_config(), optimizer=AdamW(model.parameters()))
    with pytest.raises(CheckpointError, match="optimizer does not fit"):
        one_group.resume(path)
    with pytest.raises(TrainingError, match="no folder"):
        Trainer(tiny_model(), tiny_batches(), tiny_config()).resume()


# ----------------------------------------------------------------------------------------------------------- when it fails


@pytest.fixture(scope="module")
def whole_curve(tmp_path_factory) -> list[str]:
    """The curve of a run that nothing happened to."""
    out = tmp_path_factory.mktemp("whole")
    tiny_trainer(out / "run").train()
    return curve(out / "run")


DAMAGE = {
    "cut short": lambda file: file.write_bytes(file.read_bytes()[:-5]),
    "one bit": lambda file: file.write_bytes(file.read_bytes()[:-9] + bytes([file.read_bytes()[-9] ^ 1]) + file.read_bytes()[-8:]),
    "empty": lambda file: file.write_bytes(b""),
    "gone": lambda file: file.unlink(),
}  # fmt: skip


@pytest.mark.parametrize("damage", sorted(DAMAGE))
@pytest.mark.parametrize("file", ["model.safetensors", "training.safetensors", "state.json", "checksums.json"])
def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(damage, file, tmp_path):
    first = tiny_trainer(tmp_path / "run", steps=11).steps()
    for _ in range(7):
        next(first)
    first.close()
    assert names(tmp_path / "run") == ["step-00000003", "step-00000006"]
    DAMAGE[damage](tmp_path / "run" / "checkpoints" / "step-00000006" / file)
    again = tiny_trainer(tmp_path / "run", steps=11, seed=4)
    with pytest.warns(UserWarning, match=r"step-00000006 is damaged.*Going on from step-00000003"):
        assert again.resume() == 3
    next(again.steps())  # and the damaged one does not stand in the way
    assert not (tmp_path / "run" / "checkpoints" / "step-00000006").exists()


def test_when_every_checkpoint_is_damaged_all_are_named(tmp_path):
    tiny_trainer(tmp_path / "run").train()
    for path in checkpoints.list_checkpoints(tmp_path / "run" / "checkpoints"):
        (path / "checksums.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"(?s)no checkpoint.*step-00000020.*step-00000018.*step-00000015"):
        tiny_trainer(tmp_path / "run").resume()


def test_a_state_that_json_cannot_hold_is_refused(tmp_path):
    trainer = tiny_trainer(tmp_path / "run")
    trainer.batches.state_dict = lambda: {"generator": torch.zeros(2)}
    with pytest.raises(CheckpointError, match="what JSON cannot"):
        trainer.train()


FAILURES = {
    "full disk while writing": ("minilm.training.checkpoints.os.fsync", errno.ENOSPC, "No space left on device"),
    "read-only from one moment on": ("pathlib.Path.mkdir", errno.EROFS, "Read-only file system"),
    "no right to rename": ("pathlib.Path.rename", errno.EACCES, "Permission denied"),
}


@pytest.mark.parametrize("failure", sorted(FAILURES))
def test_a_checkpoint_that_cannot_be_written_leaves_the_earlier_one(failure, whole_curve, tmp_path, monkeypatch):
    target, number, words = FAILURES[failure]
    records = tiny_trainer(tmp_path / "run").steps()
    for _ in range(8):
        next(records)

    def fail(*args, **options):
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(target, fail)
        with pytest.raises(CheckpointError, match=f"step 9 cannot be written .*{words}.* MB.*Step-00000006 is intact"):
            next(records)
    assert not list((tmp_path / "run" / "checkpoints").glob(".*"))
    again = tiny_trainer(tmp_path / "run")
    assert again.resume() == 6
    again.train()
    assert curve(tmp_path / "run") == whole_curve


def test_a_place_one_may_not_write_to_is_refused_before_the_first_step(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    places = [tmp_path / "file", tmp_path / "file" / "below"]
    if Path("/proc/self").exists():
        places.append(Path("/proc/minilm"))  # read-only even for the superuser
    for place in places:
        trainer = Trainer(tiny_model(), tiny_batches(), tiny_config(), out=place)
        with pytest.raises(TrainingError, match=r"cannot be written to .*: choose a folder you may write to"):
            next(trainer.steps())
        assert trainer.step_number == 0
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)
    if not os.access(locked, os.W_OK):
        with pytest.raises(TrainingError, match="Permission denied"):
            Trainer(tiny_model(), tiny_batches(), tiny_config(), out=locked / "run").train()


# ----------------------------------------------------------------------------------------------------------- killing it


def work(out: str, steps: int, kill_at: int | None = None, limit: int | None = None) -> None:
    """What a process does that may be killed: begin the run or go on with it, to the end."""
    torch.set_num_threads(1)
    if kill_at is not None:
        kill_at_operation(kill_at)
    trainer = tiny_trainer(Path(out), steps, seed=os.getpid() % 1000 if (Path(out) / "checkpoints").exists() else 0)
    trainer.resume()
    if trainer.step_number == 0:
        trainer = tiny_trainer(Path(out), steps)
    if limit is not None:
        import resource

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
        try:
            trainer.train()
        except CheckpointError as error:
            sys.exit(3 if "File too large" in str(error) and "intact" in str(error) else str(error))
    trainer.train()


def kill_at_operation(number: int) -> None:
    """Kill this process just before its `number`-th operation on files."""
    count = 0

    def counted(function):
        def operation(*args, **options):
            nonlocal count
            count += 1
            if count == number:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*args, **options)

        return operation

    for owner, name in [
        *((os, name) for name in ("fsync", "link")),
        *((Path, name) for name in ("mkdir", "rename", "replace", "open", "unlink")),
        (shutil, "rmtree"),
    ]:
        setattr(owner, name, counted(getattr(owner, name)))


@pytest.fixture(scope="module")
def process():
    """Starts processes that need not import torch again: a server does it once and forks."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.test_training_resume", "torch._dynamo"])  # the latter by torch.optim
    return lambda *arguments: context.Process(target=work, args=arguments)


def check_readable(out: Path) -> None:
    """Every checkpoint that has its name is whole, and what the folder offers is a model."""
    for path in checkpoints.list_checkpoints(out / "checkpoints"):
        checkpoints.read_checkpoint(path)
        LanguageModel.load(path)
    if (out / "model.safetensors").exists():
        LanguageModel.load(out)


@posix
def test_killed_before_some_operations_on_files_it_goes_on_to_the_same_curve(process, tmp_path):
    check_kills_at(process, tmp_path, list(range(4, 100, 17)))


@pytest.mark.slow
@posix
def test_killed_before_every_operation_on_files_it_goes_on_to_the_same_curve(process, tmp_path):
    check_kills_at(process, tmp_path, list(range(1, 120)))


def check_kills_at(process, tmp_path, numbers):
    whole = tiny_trainer(tmp_path / "whole", 12)
    whole.train()
    killed = 0
    for number in numbers:
        out = tmp_path / f"run-{number}"
        first = process(str(out), 12, number)
        first.start()
        first.join(60)
        killed += first.exitcode == -signal.SIGKILL
        check_readable(out)
        second = process(str(out), 12)
        second.start()
        second.join(60)
        assert second.exitcode == 0
        assert curve(out) == curve(tmp_path / "whole"), f"killed before operation {number}"
        same = [load_file(folder / "model.safetensors") for folder in (out, tmp_path / "whole")]
        assert all(torch.equal(same[0][key], same[1][key]) for key in same[1]), f"killed before operation {number}"
        shutil.rmtree(out)
    assert killed > 0.7 * len(numbers)


@pytest.mark.slow
@posix
def test_killed_at_thirty_random_moments_it_goes_on_to_the_same_curve(process, tmp_path):
    steps, rng, kills, midway = 4000, random.Random(0), 0, 0
    started = time.perf_counter()
    whole = tiny_trainer(tmp_path / "whole", steps)
    whole.train()
    pace = (time.perf_counter() - started) / steps
    out, reached = tmp_path / "run", []
    while kills < 30:
        child = process(str(out), steps)
        child.start()
        while child.is_alive() and not (out / "curve.csv").exists():
            time.sleep(0.005)
        time.sleep(rng.uniform(0, 60) * pace)  # within about sixty steps, of which each third one is saved
        assert child.is_alive() or child.exitcode == -signal.SIGKILL, "the run was over before its thirtieth kill"
        os.kill(child.pid, signal.SIGKILL)
        child.join(60)
        kills += 1
        midway += bool(list((out / "checkpoints").glob(".*"))) if out.exists() else 0
        check_readable(out)
        reached += names(out)[-1:]
    child = process(str(out), steps)
    child.start()
    child.join(300)
    assert child.exitcode == 0
    print(
        f"{kills} kills, {midway} of them while a checkpoint was written; {len(set(reached))} different last checkpoints"
    )
    assert len(set(reached)) >= 10
    assert curve(out) == curve(tmp_path / "whole")
    same = [load_file(folder / "model.safetensors") for folder in (out, tmp_path / "whole")]
    assert all(torch.equal(same[0][key], same[1][key]) for key in same[1])


@posix
def test_a_disk_that_is_really_full_is_an_error_like_any_other(process, tmp_path):
    """The system refuses files above a size, as it refuses any on a full disk."""
    first = process(str(tmp_path / "run"), 9)
    first.start()
    first.join(60)
    assert first.exitcode == 0
    before = names(tmp_path / "run")
    second = process(str(tmp_path / "run"), 12, None, 3000)
    second.start()
    second.join(60)
    assert second.exitcode == 3
    assert names(tmp_path / "run") == before
    check_readable(tmp_path / "run")
