"""The language model evaluation harness (lm-eval, EleutherAI) on our models: its tasks, its scores, its command line.

    python -m minilm.evaluation.harness --model minilm --model_args path=story --tasks arc_easy

`path` is a saved model's folder or a name of the zoo; everything else is lm-eval's own. From Python:

    lm_eval.simple_evaluate(model=MiniLM(model, tokenizer), tasks=["arc_easy"])

It needs the extra `eval`: pip install "minilm[eval]".
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from tqdm.auto import tqdm

from minilm.evaluation.endings import context_and_ending, score_endings
from minilm.evaluation.likelihood import EvaluationError, as_sequence, token_log_probs
from minilm.generation import Sampling, Writer
from minilm.model import LanguageModel
from minilm.model.files import TOKENIZER
from minilm.tokenizer import BPETokenizer, Tokenizer

try:
    from lm_eval.api.model import LM
    from lm_eval.api.registry import register_model
except ImportError as error:
    raise ImportError("the evaluation harness isn't installed: pip install 'minilm[eval]' (or lm-eval)") from error

PIECES = 64  # requests that are scored together


@register_model("minilm")
class MiniLM(LM):  # type: ignore[misc]
    """One of our models as lm-eval wants it.

    Every text has the end token before it, as in training, where the tokenizer has one. Contexts longer than the model's lose their
    beginning. Texts of `loglikelihood_rolling` are read in disjoint windows, lm-eval's way; `stride` makes the windows overlap,
    which is kinder to the model.
    """

    def __init__(
        self,
        model: LanguageModel | None = None,
        tokenizer: Tokenizer | None = None,
        *,
        path: str | None = None,
        stride: int | None = None,
        max_gen_toks: int = 256,
        seed: int = 0,
        batch_size: int | str | None = None,
        max_batch_size: int | None = None,
        device: str | None = None,
    ) -> None:
        """A model with its tokenizer, or the `path` of both. Batch sizes are chosen by themselves; lm-eval passes its own to everyone."""
        super().__init__()
        if (model is None) == (path is None) or (model is None) != (tokenizer is None):
            raise EvaluationError("give a model and its tokenizer, or path=FOLDER_OR_ZOO_NAME")
        if model is None or tokenizer is None:
            model, tokenizer = _load(str(path))
        if device and device.startswith("cuda") and not torch.cuda.is_available():
            device = None  # what lm-eval's command line asks for unless told otherwise
        self.model = model.to(device) if device else model
        self.writer = Writer(model, tokenizer)
        self.stride = int(stride) if stride is not None else model.config.context_length
        self.max_gen_toks, self.seed = int(max_gen_toks), int(seed)

    def loglikelihood(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """ln p(continuation | context) of each request, and whether greedy decoding would write it."""
        found: list[tuple[float, bool]] = []
        bar = tqdm(total=len(requests), desc="log-likelihoods", disable=disable_tqdm)
        for start in range(0, len(requests), PIECES):
            piece = requests[start : start + PIECES]
            pairs = [context_and_ending(self.writer, *request.args) for request in piece]
            scored = score_endings(self.model, pairs, pad_token=self.writer.pad_id)
            for request, ending in zip(piece, scored, strict=True):
                found.append((ending.log_prob, ending.greedy))
                self.cache_hook.add_partial("loglikelihood", request.args, found[-1])
            bar.update(len(piece))
        bar.close()
        return found

    def loglikelihood_rolling(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[float]:
        """ln p of each whole text; its end is not predicted, as lm-eval has it."""
        found = []
        for request in tqdm(requests, desc="texts", disable=disable_tqdm):
            ids = as_sequence(self.model, self.writer.tokenizer, request.args[0])
            ids = ids if self.writer.end_id is None else ids[:-1]
            total = 0.0
            if len(ids) > 1:
                pad = self.writer.pad_id
                total = float(token_log_probs(self.model, [ids], stride=self.stride, pad_token=pad)[0].sum())
            found.append(total)
            self.cache_hook.add_partial("loglikelihood_rolling", request.args, total)
        return found

    def generate_until(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[str]:
        """What the model writes after each context, up to one of the request's stop strings or `max_gen_toks`."""
        found = []
        for request in tqdm(requests, desc="texts written", disable=disable_tqdm):
            context, settings = request.args
            stops = settings.get("until") or []
            stops = [stops] if isinstance(stops, str) else [stop for stop in stops if stop]
            room = int(settings.get("max_gen_toks", self.max_gen_toks))
            written = self.writer.write(context, room, _sampling(settings), stop_strings=stops, seed=self.seed)
            found.append(written.text or "")
            self.cache_hook.add_partial("generate_until", request.args, found[-1])
        return found

    @property
    def tokenizer_name(self) -> str:
        """For the harness's records."""
        return repr(self.writer.tokenizer)


def _sampling(settings: dict[str, Any]) -> Sampling:
    """What a task says about sampling: greedy unless it asks for chance."""
    temperature = float(settings.get("temperature", 1.0 if settings.get("do_sample") else 0.0))
    if settings.get("do_sample") is False:
        temperature = 0.0
    top_k, top_p = settings.get("top_k"), settings.get("top_p")
    return Sampling(temperature=temperature, top_k=int(top_k) if top_k else None, top_p=float(top_p) if top_p else None)


def _load(path: str) -> tuple[LanguageModel, Tokenizer]:
    folder = Path(path)
    if folder.is_dir():
        return LanguageModel.load(folder).float().eval(), BPETokenizer.load(folder / TOKENIZER)
    from minilm import zoo

    return zoo.load(path.removeprefix("zoo:"))


def main() -> None:
    """lm-eval's command line, in which `--model minilm` is known."""
    from lm_eval.__main__ import cli_evaluate

    cli_evaluate()


if __name__ == "__main__":
    main()
