"""Viewers: linked widgets without a kernel, a page that works in a real browser without a network."""

import base64
import json
import re
import shutil

import numpy as np
import pytest

from mtlkit import datasets, viewers
from mtlkit.errors import KitError

COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255), "white": (255, 255, 255)}


@pytest.fixture
def viewer():
    """Two controls of two choices each, four plain pictures."""
    frames = [viewers.png(np.full((4, 6, 3), colour, np.uint8)) for colour in COLOURS.values()]
    return viewers.Viewer({"sample": ["a", "b"], "field": ["image", "depth"]}, frames, "four <colours>")


def test_widgets_are_stacks_linked_in_the_browser(viewer):
    import ipywidgets

    box = viewer.widget()
    _, menus, stack = box.children
    assert [menu.options for menu in menus.children] == [("a", "b"), ("image", "depth")]
    assert isinstance(stack, ipywidgets.Stack) and [len(inner.children) for inner in stack.children] == [2, 2]
    assert all(isinstance(image, ipywidgets.Image) for inner in stack.children for image in inner.children)


def test_the_page_needs_no_network_and_escapes_its_title(viewer, tmp_path):
    page = viewer.save_html(tmp_path / "page.html").read_text()
    assert not re.search(r"(src|href)=[\"']?(https?:)?//", page) and "four &lt;colours&gt;" in page
    frames = json.loads(re.search(r"frames = (\[.*?\]),", page).group(1))
    assert [base64.b64decode(frame) for frame in frames] == viewer.frames


def test_a_page_in_a_real_browser(viewer, tmp_path):
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if not chromium:
        pytest.skip("no Chromium on this machine (Debian: apt-get install chromium)")
    from playwright.sync_api import sync_playwright

    path = viewer.save_html(tmp_path / "page.html")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_context(offline=True).new_page()
        page.goto(path.as_uri())
        seen = []
        for sample in ("a", "b"):
            for field in ("image", "depth"):
                page.locator("select").nth(0).select_option(sample)
                page.locator("select").nth(1).select_option(field)
                source = page.locator("img").get_attribute("src")
                seen.append(base64.b64decode(source.split(",", 1)[1]))
                assert page.locator("img").get_attribute("alt") == f"{sample}, {field}"
        assert page.evaluate("document.querySelector('img').naturalWidth") > 0
        browser.close()
    assert seen == viewer.frames


def test_fields_of_a_dataset():
    data = datasets.build("scenes", "test", height=32, width=64, train=24, test=8)
    made = viewers.fields(data, [0, 1], ["image", "depth", "normals"])
    assert made.controls == {"sample": ["rooms/test/00000", "rooms/test/00001"], "field": ["image", "depth", "normals"]}
    assert len(made.frames) == 6 and all(frame.startswith(b"\x89PNG") for frame in made.frames)


@pytest.mark.parametrize("controls", [{}, {"a": ["1", "2"]}, {"a": ["1"], "b": ["1"], "c": ["1"]}])
def test_a_frame_for_every_combination(controls):
    with pytest.raises(KitError, match="one or two controls and a frame for each"):
        viewers.Viewer(controls, [b""])
