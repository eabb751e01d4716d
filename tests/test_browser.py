"""Every explorer in a real browser: JupyterLab opened, run, moved by keyboard and mouse, console read."""

import shutil

import browser
import nbformat
import pytest
from families import few
from widget_toys import MADE

from tlutils import lessons

sync_api = pytest.importorskip(
    "playwright.sync_api", reason="playwright is not installed: pip install -e .[test]"
)
pytestmark = pytest.mark.timeout(600)
SETUP = """
import sys
sys.path.insert(0, {tests!r})
from widget_toys import MADE

panels = {{}}


def show(name):
    panels[name] = MADE[name]()
    return panels[name]
"""


STILL = ("explore_occlusion", "explore_freezing")


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder with the lessons, and a notebook of explorers: two are pictures until it is run."""
    folder = tmp_path_factory.mktemp("lab")
    (folder / "notebooks").mkdir()
    cells = [nbformat.v4.new_code_cell(SETUP.format(tests=str(browser.TESTS)).strip())]
    for name, make in MADE.items():
        outputs = [browser.as_output(make())] if name in STILL else []
        cells.append(nbformat.v4.new_code_cell(f"show({name!r})", outputs=outputs))
    shown = lessons.clean(nbformat.v4.new_notebook(cells=cells))
    nbformat.write(shown, folder / "notebooks" / "explorers.ipynb")
    for path in browser.LESSONS:
        (folder / "notebooks" / path.name).write_bytes(path.read_bytes())
    return folder


@pytest.fixture(scope="module")
def lab(home):
    path = shutil.which("chromium") or shutil.which(
        "chromium-browser"
    )  # now: it may have just been installed
    if path is None:
        pytest.skip("no Chromium here: apt-get install chromium")
    with browser.served(home / "notebooks", home) as address, sync_api.sync_playwright() as play:
        chromium = play.chromium.launch(executable_path=path, args=browser.ARGUMENTS)
        page = chromium.new_page(viewport={"width": 1100, "height": 1000})
        yield browser.Lab(page, address)
        chromium.close()


@pytest.fixture(scope="module")
def opened(lab):
    lab.open("explorers.ipynb")
    return lab


def test_a_notebook_that_was_not_run_here_shows_the_pictures(opened):
    images = opened.page.locator(".jp-OutputArea-output img")
    opened.until(lambda: images.count() == len(STILL), "two still pictures")
    assert all(image.evaluate("image => image.naturalWidth") > 300 for image in images.all())
    shown = opened.page.locator(".jp-OutputArea-output")
    assert shown.filter(has_text="Error displaying widget").count() == 0
    opened.screenshot("still")
    assert opened.errors() == []


@pytest.fixture(scope="module")
def explorers(opened):
    opened.run_all()
    opened.until(
        lambda: opened.page.locator(".tlutils-screen img").count() == len(MADE), "all explorers shown"
    )
    return opened


# For each explorer: which of its controls, which keys, and what the words say afterwards.
MOVES = {
    "explore_channels": [
        ("at", ["ArrowLeft"], "stem, channel 0"),
        ("channel", ["ArrowRight", "ArrowRight"], "stem, channel 2"),
        ("picture", ["ArrowDown"], "picture 1"),
    ],
    "explore_occlusion": [
        ("row", ["ArrowRight"], "row 17, column 16"),
        ("column", ["Home"], "row 17, column 0"),
        ("window", ["PageUp"], "13×13 pixels"),
    ],
    "explore_attributions": [
        ("left", ["ArrowDown"], "SmoothGrad is strongest"),
        ("right", ["ArrowUp"], "CAM is strongest"),
    ],
    "explore_freezing": [
        ("train from", ["ArrowLeft"], "Trained from stage2"),
        ("train from", ["Home"], "nothing is"),
    ],
    "explore_decision_matrix": [
        ("distance", ["Home"], "Distance 0.00, 3 images: little (below 200), similar."),
        ("images", ["End"], "2000 images: lots (200 or more), similar."),
    ],
    "explore_learning_rates": [
        ("rate", ["ArrowRight"], "Rate 0.1"),
        ("show", ["ArrowDown"], "loss in training"),
    ],
}


# The last two move by sliders and lists of the same kinds.
@pytest.mark.parametrize("name", few(MOVES, *list(MOVES)[:4]))
def test_a_keyboard_moves_every_control_and_picture_and_words_follow(explorers, name):
    panel = explorers.panel(list(MADE).index(name))
    for label, keys, words in MOVES[name]:
        before = panel.picture()
        panel.press(label, *keys)
        explorers.until(lambda words=words: words in panel.message(), f"{label}: {words!r}", panel.message)
        explorers.until(lambda before=before: panel.picture() != before, f"another picture after {label}")
    explorers.screenshot(name)
    assert explorers.errors() == []


def test_every_control_is_reached_by_tab_and_has_a_name(explorers):
    panel = explorers.panel(0)
    panel.control("at").focus()
    reached = [explorers.focused()]
    for _ in range(4):
        explorers.page.keyboard.press("Tab")
        reached.append(explorers.focused())
    assert reached == ["at", "at, typed", "channel", "channel, typed", "picture"]


def test_the_words_are_a_live_region_that_describes_the_picture(explorers):
    for index in range(len(MADE)):
        screen = explorers.panel(index).screen
        words = screen.locator("p[role=status]")
        assert words.inner_text()
        assert screen.locator("img").get_attribute("aria-describedby") == words.get_attribute("id")
        assert screen.locator("img").get_attribute("alt")


def test_a_mouse_drags_the_occluder(explorers):
    panel = explorers.panel(list(MADE).index("explore_occlusion"))
    panel.press("column", "Home")
    panel.press("row", "Home")
    box = panel.screen.locator("img").bounding_box()
    mouse = explorers.page.mouse

    def point(right):
        mouse.move(box["x"] + right * box["width"], box["y"] + 0.5 * box["height"])

    def column():
        return int(panel.message().split("column ")[1].split()[0])

    point(0.15)
    mouse.down()
    explorers.until(lambda: column() > 5, "the square is where the mouse was pressed", panel.message)
    pressed = column()
    point(0.25)
    explorers.until(lambda: column() > pressed, "the square follows the mouse", panel.message)
    mouse.up()
    dragged = column()
    point(0.15)
    explorers.page.wait_for_timeout(500)
    assert column() == dragged


@pytest.mark.full
def test_a_dream_starts_and_stops_by_keyboard_and_the_kernel_stays_free(explorers):
    index = list(MADE).index("explore_deepdream")
    explorers.run("panels['explore_deepdream'].settings['steps'] = 100_000")
    panel = explorers.panel(index)
    before = panel.picture()
    panel.press("Start", "Space")
    explorers.until(lambda: panel.message().startswith("Dreaming"), "the dream runs", panel.message)
    explorers.until(lambda: panel.picture() != before, "the picture changes while it runs")
    other = explorers.panel(list(MADE).index("explore_freezing"))
    other.press("train from", "End")
    explorers.until(lambda: "from head" in other.message(), "another explorer moves", other.message)
    assert panel.message().startswith("Dreaming")
    panel.press("Stop", "Space")
    explorers.until(lambda: panel.message().startswith("Stopped after"), "the dream stops", panel.message)
    panel.press("Start", "Space")
    explorers.until(lambda: panel.message().startswith("Dreaming"), "it starts again", panel.message)
    explorers.run("1 + 1")
    explorers.until(lambda: panel.message().startswith("Stopped after"), "a cell stops it", panel.message)
    assert explorers.errors() == []


@pytest.mark.full
@pytest.mark.parametrize("path", browser.LESSONS, ids=lambda path: path.stem)
def test_a_lesson_opens_with_its_still_explorers(lab, path):
    lab.open(path.name)
    shows = [i for i, cell in enumerate(browser.code_cells(path)) if "widgets." in cell.source]
    for index in shows:
        image = lab.page.locator(".jp-CodeCell").nth(index).locator(".jp-OutputArea-output img")
        lab.until(lambda image=image: image.count() == 1, "its still picture")
    assert lab.errors() == []


@pytest.mark.full
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("path", browser.LESSONS, ids=lambda path: path.stem)
def test_a_lesson_runs_in_the_browser_and_its_explorers_move(lab, path):
    lab.open(path.name)
    count = sum("widgets." in cell.source for cell in browser.code_cells(path))
    lab.run_all()
    lab.until(lambda: lab.page.locator(".tlutils-screen img").count() == count, "all explorers", held=1200)
    lab.until(lambda: lab.idle(), "the kernel is idle", held=1200)
    for index in range(count):
        panel = lab.panel(index)
        before = panel.picture()
        control = panel.root.locator("[role=slider], select").first
        control.focus()
        first = control.evaluate("e => e.ariaValueNow === e.ariaValueMin || e.selectedIndex === 0")
        is_list = control.evaluate("e => e.matches('select')")
        keys = ["ArrowUp", "ArrowDown"] if is_list else ["ArrowLeft", "ArrowRight"]
        lab.page.keyboard.press(keys[first])
        if panel.root.get_by_role("button", name="Start").count():
            panel.press("Start", "Space")
        lab.until(lambda before=before, panel=panel: panel.picture() != before, "another picture", held=300)
        if panel.root.get_by_role("button", name="Stop").count():
            panel.press("Stop", "Space")
        lab.screenshot(f"{path.stem}-{index}")
    assert lab.errors() == []
