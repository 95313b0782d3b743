"""What commands take for MODEL: a folder that training made, or a name of the zoo."""

from pathlib import Path
from typing import TYPE_CHECKING

from minilm.cli import fail

if TYPE_CHECKING:
    from minilm.model import LanguageModel
    from minilm.tokenizer import BPETokenizer


def load_model(name: str) -> "tuple[LanguageModel, BPETokenizer]":
    """The model in float32, ready to use, and its tokenizer; ends the program with a sentence if there is none."""
    from minilm import zoo
    from minilm.model import LanguageModel
    from minilm.model.files import TOKENIZER
    from minilm.tokenizer import BPETokenizer

    folder = Path(name)
    try:
        if folder.is_dir() or _interrupted(folder):
            model = LanguageModel.load(folder).float().eval()
            if not (folder / TOKENIZER).is_file():
                fail(
                    f"{name} has no {TOKENIZER}: save a model with model.save({name!r}, tokenizer), or copy the file there."
                )
            return model, BPETokenizer.load(folder / TOKENIZER)
        short = name.removeprefix("zoo:")
        if short in zoo.names():
            return zoo.load(short)
        if folder.exists():
            fail(f"MODEL {name!r} is a file. A model is a folder, with config.json, model.safetensors and {TOKENIZER}.")
        known = ", ".join(zoo.shipped()) or "none yet"
        fail(f"MODEL {name!r} is neither a folder with a model nor a model of the zoo (which has {known}).")
    except (OSError, ValueError) as error:
        fail(f"MODEL {name!r} can't be loaded: {error}")


def _interrupted(folder: Path) -> bool:
    """Whether a process killed while it replaced the folder left the previous one, which `LanguageModel.load` finds."""
    return folder.with_name(f".{folder.name}.previous").is_dir() if folder.name else False
