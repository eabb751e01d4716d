"""A real browser for the tests: JupyterLab on loopback, a Chromium that is installed, and what it shows."""

import base64
import contextlib
import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nbformat
from ipywidgets import Widget

TESTS = Path(__file__).parent
SCREENSHOTS = TESTS.parent / "screenshots"  # git ignores it; for people to look at
ARGUMENTS = [
    "--no-sandbox",  # the tests may run as root, in a container
    *("--disable-gpu", "--disable-quic", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--no-first-run"),
]
SETTINGS = {
    # Nothing asks for news on the internet.
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
    # Every cell is in the page, also those that one would have to scroll to.
    "notebook-extension/tracker": {"windowingMode": "none"},
}
HELD = 90  # seconds that a loaded machine may take for what takes one


def code_cells(path: Path) -> list[Any]:
    return [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]


LESSONS = [
    path
    for path in sorted((TESTS.parent / "notebooks").glob("*.ipynb"))
    if any("widgets." in cell.source for cell in code_cells(path))
]


def as_output(widget: Widget) -> Any:
    """A widget as the output of a cell, as a kernel would send it."""
    data, metadata = widget._repr_mimebundle_()
    data = {k: base64.b64encode(v).decode() if isinstance(v, bytes) else v for k, v in data.items()}
    return nbformat.v4.new_output("display_data", data, metadata=metadata)


@contextlib.contextmanager
def served(folder: Path, home: Path) -> Iterator[str]:
    """Run JupyterLab for the notebooks in `folder`; yields its address. What it keeps lies in `home`."""
    for name, values in SETTINGS.items():
        path = home / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(values))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    kept = {name: str(home / name.lower()) for name in ("CONFIG", "DATA", "RUNTIME")}
    own = {f"JUPYTER_{name}_DIR": place for name, place in kept.items()}
    own |= {f"JUPYTERLAB_{name.upper()}_DIR": str(home / name) for name in ("settings", "workspaces")}
    own |= {"IPYTHONDIR": str(home / "ipython"), "TLUTILS_CACHE": str(home / "cache")}
    own["PYTHONPATH"] = os.pathsep.join([str(TESTS), *filter(None, [os.environ.get("PYTHONPATH")])])
    command = [sys.executable, "-c", "import quick_start; from jupyterlab.labapp import main; main()"]
    command += ["--no-browser", "--allow-root", "--ip=127.0.0.1"]
    command += [f"--port={port}", f"--notebook-dir={folder}", "--IdentityProvider.token="]
    command += ["--expose-app-in-browser"]
    with (home / "lab.log").open("w") as log:
        server = subprocess.Popen(command, env={**os.environ, **own}, stdout=log, stderr=log)
    address = f"http://127.0.0.1:{port}"
    try:
        begin = time.monotonic()
        while True:
            with contextlib.suppress(OSError), urllib.request.urlopen(f"{address}/api", timeout=5):
                break
            if server.poll() is not None or time.monotonic() - begin > HELD:
                raise RuntimeError((home / "lab.log").read_text()[-3000:])
            time.sleep(0.3)
        yield address
    finally:
        server.terminate()
        server.wait(60)


class Panel:
    """One explorer on the page."""

    def __init__(self, page: Any, index: int) -> None:
        self.page, self.root = page, page.locator(".tlutils-panel").nth(index)
        self.screen = self.root.locator(".tlutils-screen")

    def message(self) -> str:
        return self.screen.locator("p").inner_text()

    def picture(self) -> str:
        """The bytes of the picture that is shown, whatever its address is."""
        return self.screen.locator("img").evaluate(
            """async (image) => {
                const bytes = new Uint8Array(await (await fetch(image.src)).arrayBuffer());
                return bytes.reduce((text, byte) => text + String.fromCharCode(byte), "");
            }"""
        )

    def control(self, name: str) -> Any:
        """The slider, list or button that a screen reader would call by this name."""
        found = [self.root.get_by_role(role, name=name, exact=True) for role in ("slider", "combobox")]
        found.append(self.root.get_by_role("button", name=name))
        return next(locator for locator in found if locator.count())

    def press(self, name: str, *keys: str) -> None:
        """Focus a control and press keys."""
        self.control(name).focus()
        for key in keys:
            self.page.keyboard.press(key)


class Lab:
    """One page of JupyterLab, and what its console said."""

    def __init__(self, page: Any, address: str) -> None:
        self.page, self.address = page, address
        self.said: list[tuple[str, str]] = []
        page.on("console", lambda message: self.said.append((message.type, message.text)))
        page.on("pageerror", lambda error: self.said.append(("error", str(error))))

    def open(self, notebook: str) -> None:
        """Open a notebook in an empty workspace and wait for its cells."""
        self.page.goto(f"{self.address}/lab/tree/{notebook}?reset")
        self.page.wait_for_selector(".jp-Notebook .jp-Cell", timeout=1000 * HELD)

    def run_all(self) -> None:
        """Run all cells when the kernel is there; returns at once."""
        self.until(self.idle, "the kernel is idle")
        self.page.evaluate("() => { window.jupyterapp.commands.execute('notebook:run-all-cells'); }")

    def idle(self) -> bool:
        return self.page.evaluate(
            "() => window.jupyterapp.shell.currentWidget?.sessionContext?.session?.kernel?.status === 'idle'"
        )

    def run(self, source: str) -> None:
        """Run a line in the notebook's kernel, as a cell would, and wait for its end."""
        self.page.evaluate(
            """async (code) => {
                const kernel = window.jupyterapp.shell.currentWidget.sessionContext.session.kernel;
                await kernel.requestExecute({ code }).done;
            }""",
            source,
        )

    def panel(self, index: int) -> Panel:
        return Panel(self.page, index)

    def focused(self) -> str:
        """The name of what has the focus, as a screen reader would say it."""
        return self.page.evaluate(
            "() => document.activeElement.ariaLabel ?? document.activeElement.labels[0].innerText"
        )

    def until(
        self, true: Callable[[], bool], what: str, seen: Callable[[], str] = str, *, held: float = HELD
    ) -> None:
        """Wait until `true()`; fails with `what` was waited for and what was seen instead."""
        end = time.monotonic() + held
        while not true():
            assert time.monotonic() < end, f"waited {held:.0f} s for: {what}. Seen: {seen()} {self.said[-5:]}"
            self.page.wait_for_timeout(50)  # and not sleep: the page's events arrive meanwhile

    def screenshot(self, name: str) -> None:
        SCREENSHOTS.mkdir(exist_ok=True)
        self.page.screenshot(path=SCREENSHOTS / f"{name}.png")

    def errors(self) -> list[str]:
        """What the console said of errors since the page was opened."""
        return [text for kind, text in self.said if kind == "error"]
