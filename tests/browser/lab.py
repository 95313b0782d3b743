"""A real JupyterLab, started by `minilm lab` on a copy of the course, and a Chromium that uses it as a person would."""

import contextlib
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from playwright.sync_api import Locator, Page, sync_playwright

ROOT = Path(__file__).parent.parent.parent
SCREENSHOTS = ROOT / "build" / "screenshots"
TOKEN = "browser-test"
# Chromium as a quiet test browser that works as root and asks nobody outside for anything.
CHROMIUM_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def chromium() -> str | None:
    """The installed Chromium or Chrome, or None."""
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
    return os.environ.get("MINILM_CHROMIUM") or next(filter(None, map(shutil.which, names)), None)


def copy_of_the_course(folder: Path) -> Path:
    """A copy of everything that `minilm lab` shows, so that running notebooks changes nothing in the checkout."""
    course = folder / "course"
    for name in ("notebooks", "exercises", "solutions"):
        shutil.copytree(ROOT / name, course / name, ignore=shutil.ignore_patterns(".ipynb_checkpoints"))
    return course


@contextlib.contextmanager
def running_lab(course: Path, state: Path) -> Iterator[str]:
    """`minilm lab` on the copy, with state of its own; gives its address and stops it at the end."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {
        name: value for name, value in os.environ.items() if name not in ("MINILM_WORK", "NBGRADER_EXECUTION")
    }
    environment |= {"MINILM_HOME": str(state / "home"), "JUPYTER_CONFIG_DIR": str(state / "jupyter")}
    log = (state / "jupyterlab.log").open("w")
    arguments = ["--no-browser", "--allow-root", "--port", str(port), f"--IdentityProvider.token={TOKEN}"]
    command = [sys.executable, "-c", "from minilm.cli import main; main()", "lab", *arguments]
    server = subprocess.Popen(command, cwd=course, env=environment, stdout=log, stderr=log, start_new_session=True)
    try:
        wait_for_server(f"http://127.0.0.1:{port}/api?token={TOKEN}", server, Path(log.name))
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(server.pid, 15)
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.wait(timeout=20)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, 9)
        log.close()


def wait_for_server(address: str, server: "subprocess.Popen[bytes]", log: Path, seconds: float = 90) -> None:
    """Return once the server answers; raise with its log if it stops or stays silent."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and server.poll() is None:
        with contextlib.suppress(urllib.error.URLError, ConnectionError), urllib.request.urlopen(address, timeout=2):
            return
        time.sleep(0.3)
    raise RuntimeError(f"JupyterLab didn't answer at {address}:\n{log.read_text()[-3000:]}")


class LabPage:
    """One browser page on JupyterLab, with the handful of things that a learner does there."""

    def __init__(self, page: Page, address: str, name: str) -> None:
        self.page, self.address, self.name = page, address, name
        self.outside_requests: list[str] = []
        page.on("request", self._note_outside_request)

    def _note_outside_request(self, request: object) -> None:
        url = str(getattr(request, "url", ""))
        if re.match(r"(https?|wss?):", url) and "//127.0.0.1:" not in url:
            self.outside_requests.append(url)

    def open(self, path: str = "") -> None:
        """Open JupyterLab, on a notebook if `path` names one."""
        tree = f"/tree/{path}" if path else ""
        self.page.goto(f"{self.address}/lab{tree}?token={TOKEN}&reset")
        self.page.wait_for_selector("#jp-main-dock-panel", timeout=60_000)
        if path:
            self.wait_for_kernel()

    def open_from_file_browser(self, path: str) -> None:
        """Double-click through the file browser, from the root folder to the notebook."""
        self.page.locator(".jp-BreadCrumbs-home").first.click()
        for name in path.split("/"):
            item = self.page.locator(".jp-DirListing-item", has=self.page.get_by_text(name, exact=True))
            item.wait_for(timeout=20_000)
            item.dblclick()
        self.page.locator(".lm-TabBar-tab.lm-mod-current", has_text=path.split("/")[-1]).first.wait_for(timeout=30_000)
        self.wait_for_kernel()

    def wait_for_kernel(self) -> None:
        """Wait until the status bar says that the notebook's kernel is there and idle."""
        self.page.get_by_text(re.compile(r"Python 3 \(ipykernel\) \| Idle")).first.wait_for(timeout=60_000)

    @property
    def notebook(self) -> Locator:
        """The notebook in front."""
        return self.page.locator(".jp-NotebookPanel:not(.lm-mod-hidden)")

    def run_all(self, seconds: float = 240) -> None:
        """Menu Run > Run All Cells, then wait until nothing runs or waits any more."""
        self.page.get_by_role("menuitem", name="Run", exact=True).click()
        self.page.locator(".lm-Menu-item[data-command='runmenu:run-all']").click()
        self.page.wait_for_timeout(1500)
        self.wait_until_done(seconds)

    def wait_until_done(self, seconds: float = 120) -> None:
        """Wait until no cell shows [*] and the kernel is idle."""
        self.page.wait_for_function(
            """() => ![...document.querySelectorAll('.jp-NotebookPanel:not(.lm-mod-hidden) .jp-InputPrompt')]
                      .some(prompt => prompt.textContent.includes('*'))""",
            timeout=seconds * 1000,
        )
        self.wait_for_kernel()
        self.page.wait_for_timeout(500)

    def cell(self, text: str) -> Locator:
        """The first code cell whose source contains `text`."""
        return self.notebook.locator(".jp-CodeCell", has=self.page.locator(".jp-InputArea-editor", has_text=text)).first

    def replace_cell(self, cell: Locator, source: str) -> None:
        """Click into the cell, select everything, type the new source, and run it with Ctrl+Enter."""
        cell.scroll_into_view_if_needed()
        cell.locator(".cm-content").click()
        self.page.keyboard.press("Control+a")
        self.page.keyboard.press("Delete")
        self.page.keyboard.insert_text(source)
        self.run_cell(cell)

    def run_cell(self, cell: Locator) -> None:
        """Run one cell and wait for it."""
        cell.scroll_into_view_if_needed()
        cell.locator(".cm-content").click()
        self.page.keyboard.press("Control+Enter")
        self.page.wait_for_timeout(700)
        self.wait_until_done()

    def output(self, cell: Locator) -> str:
        """The text that the cell shows below its source."""
        return cell.locator(".jp-Cell-outputWrapper").inner_text()

    def errors(self) -> list[str]:
        """The text of every traceback in the notebook in front."""
        return self.notebook.locator("[data-mime-type='application/vnd.jupyter.stderr']").all_inner_texts()

    def screenshot(self, label: str) -> Path:
        """Keep a picture of the whole window in build/screenshots."""
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        path = SCREENSHOTS / f"{self.name}-{label}.png"
        self.page.screenshot(path=path)
        return path

    def screenshot_every_part(self) -> list[Path]:
        """Scroll the notebook in front from top to bottom and keep a picture of each screenful."""
        scroller = self.notebook.locator(".jp-WindowedPanel-outer").first
        height, visible = scroller.evaluate("element => [element.scrollHeight, element.clientHeight]")
        pictures = []
        for part, top in enumerate(range(0, height, max(visible - 60, 200))):
            scroller.evaluate("(element, top) => element.scrollTo(0, top)", top)
            self.page.wait_for_timeout(250)
            pictures.append(self.screenshot(f"part-{part:02d}"))
        return pictures


@contextlib.contextmanager
def lab_page(folder: Path, name: str, width: int = 1280, height: int = 1000) -> Iterator[LabPage]:
    """A browser window on a fresh `minilm lab`; its screenshots start with `name`."""
    course = copy_of_the_course(folder)
    with running_lab(course, folder) as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=CHROMIUM_FLAGS)
        page = browser.new_page(viewport={"width": width, "height": height})
        try:
            yield LabPage(page, address, name)
        finally:
            browser.close()
