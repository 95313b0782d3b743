"""Writes README.md from the stored results: the page is never edited by hand."""

from pathlib import Path

from benchmarks._report import RESULTS, describe, load
from benchmarks._targets import targets

HERE = Path(__file__).parent
ORDER = (
    "training",
    "generation",
    "tokenizer",
    "moe",
    "data",
    "growth",
    "course",
    "trainer",
    "dynamic_mask",
    "product_key",
)


def readme() -> str:
    """The page from `_readme.md`, the targets and every result that is stored."""
    parts = [(HERE / "_readme.md").read_text(encoding="utf-8").rstrip()]
    stored = [name for name in ORDER if (RESULTS / f"{name}.json").exists()]
    aims = targets()
    if aims:
        parts.append("## What we aimed at\n\nRatios within one run, from the tables below.\n\n" + aims)
    for name in stored:
        found = load(name)
        assert found is not None
        question, about, tables = found
        body = "\n\n".join(table.markdown() for table in tables)
        parts.append(f"## {question}\n\n`python -m benchmarks {name}`. {describe(about)}\n\n{body}")
    return "\n\n".join(parts) + "\n"


def write_readme() -> Path:
    """Write it down."""
    path = HERE / "README.md"
    path.write_text(readme(), encoding="utf-8")
    return path


if __name__ == "__main__":
    print(write_readme())
