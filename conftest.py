"""What every test run needs: state folders of its own, one thread each, and a table of what the notebooks cost."""

import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

# Set before torch or matplotlib are imported, and inherited by the kernels that nbval starts.
_STATE = tempfile.TemporaryDirectory(prefix="minilm-tests-")
os.environ["MINILM_HOME"] = f"{_STATE.name}/home"
os.environ["MINILM_WORK"] = f"{_STATE.name}/work"
os.environ.setdefault("OMP_NUM_THREADS", "1")

COSTS_FILE = Path(__file__).parent / "build" / "notebooks.json"


def pytest_configure(config: pytest.Config) -> None:
    """Keep the table where the summary is printed: on the controller, not on pytest-xdist's workers."""
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(NotebookCosts())


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Give each notebook fresh state before its kernel starts, as `tools/notebooks.py run` does: `progress()` shows its own checks only."""
    if item.path.suffix == ".ipynb":
        state = Path(_STATE.name, item.path.parent.name, item.path.stem)
        os.environ |= {"MINILM_HOME": str(state / "home"), "MINILM_WORK": str(state / "work")}


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> Iterator[None]:
    """Before a notebook's kernel stops, note the most memory that it ever held."""
    kernel = getattr(item.parent, "kernel", None)
    if kernel is not None and (nextitem is None or nextitem.parent is not item.parent):
        item.user_properties.append(("peak_megabytes", peak_megabytes(kernel.km.provisioner.pid)))
    return (yield)


def peak_megabytes(pid: int) -> float:
    """The peak resident memory of a process in MB (what it holds now, where the system doesn't record the peak)."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) / 1000 for line in lines if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        return psutil.Process(pid).memory_info().rss / 1e6


class NotebookCosts:
    """Adds up seconds and peak memory of every notebook, prints the table and stores it."""

    def __init__(self) -> None:
        self.costs: dict[str, dict[str, float]] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Add one cell's set-up, call or teardown."""
        notebook = report.nodeid.split("::")[0]
        if notebook.endswith(".ipynb"):
            cost = self.costs.setdefault(notebook, {"seconds": 0.0, "peak_megabytes": 0.0})
            cost["seconds"] += report.duration
            cost["peak_megabytes"] = max(
                cost["peak_megabytes"], dict(report.user_properties).get("peak_megabytes", 0.0)
            )

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Print the table and store it in build/notebooks.json; the seconds are recorded, never asserted."""
        if not self.costs:
            return
        terminalreporter.section("what the notebooks cost")
        terminalreporter.write_line(f"{'notebook':<58}{'seconds':>9}{'peak MB':>9}")
        for notebook, cost in sorted(self.costs.items()):
            terminalreporter.write_line(f"{notebook:<58}{cost['seconds']:>9.1f}{cost['peak_megabytes']:>9.0f}")
        COSTS_FILE.parent.mkdir(exist_ok=True)
        COSTS_FILE.write_text(json.dumps(self.costs, indent=2, sort_keys=True) + "\n")
