"""Viewers: linked widgets without a kernel, a page that works in a real browser without a network."""

import base64
import io
import json
import re
import shutil

import numpy as np
import pytest
from PIL import Image

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


def numbered(count):
    """Plain pictures that all differ."""
    return [viewers.png(np.full((4, 6, 3), 9 * i, np.uint8)) for i in range(count)]


@pytest.fixture
def playing():
    """Three controls, the middle one plays; a choice tries to end the script."""
    return viewers.Viewer({"a": ["0", "</script>"], "epoch": [0, 5, 10], "c": ["x", "y"]}, numbered(12), play="epoch")


def test_every_stack_is_linked_to_its_control(playing):
    from ipywidgets import Widget, embed

    Widget.close_all()  # the links of other viewers would be among them
    state = embed.embed_data(views=[playing.widget()])["manager_state"]["state"]
    links = [entry["state"] for entry in state.values() if entry["model_name"] == "LinkModel"]
    ends = [(state[id.removeprefix("IPY_MODEL_")]["model_name"], trait)
            for link in links for id, trait in (link["source"], link["target"])]  # fmt: skip
    assert ends.count(("StackModel", "selected_index")) == 1 + 2 + 6
    assert ends.count(("PlayModel", "value")) == 1 and ends.count(("SelectionSliderModel", "index")) == 1 + 2


def test_any_number_of_controls_is_stacks_in_stacks(playing):
    _, bar, outer = playing.widget().children
    play, slider = bar.children[1:3]
    assert [type(child).__name__ for child in bar.children] == ["Dropdown", "Play", "SelectionSlider", "Dropdown"]
    assert slider.options == ("0", "5", "10") and (play.min, play.max) == (0, 2)
    seen = [image.value for middle in outer.children for inner in middle.children for image in inner.children]
    assert seen == playing.frames


def test_a_gif_shows_the_frames_of_what_plays(playing, tmp_path):
    path = playing.save_gif(tmp_path / "played.gif", {"a": "</script>"})
    wanted = [playing.frames[i] for i in (6, 8, 10)]
    with Image.open(path) as gif:
        assert gif.n_frames == 3 and gif.info["loop"] == 0 and gif.info["duration"] == viewers.PLAY_MS
        for place, frame in enumerate(wanted):
            gif.seek(place)
            assert np.array_equal(gif.convert("RGB"), Image.open(io.BytesIO(frame)).convert("RGB"))


def test_bad_words_are_named(viewer, playing, tmp_path):
    with pytest.raises(KitError, match="nothing plays in this viewer; name one of"):
        viewer.save_gif(tmp_path / "no.gif")
    with pytest.raises(KitError, match="control 'c' has no choice 'z': valid: x, y"):
        playing.save_gif(tmp_path / "no.gif", {"c": "z"})
    with pytest.raises(KitError, match="no control is called 'epochs': did you mean 'epoch'"):
        viewers.Viewer({"epoch": ["1"]}, numbered(1), play="epochs")
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def browser():
    """A real one, without a network."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if not chromium:
        pytest.skip("no Chromium on this machine (Debian: apt-get install chromium)")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield started.new_context(offline=True)
        started.close()


def shown(page):
    """The picture that a page shows, as PNG."""
    assert page.evaluate("document.querySelector('img').decode().then(() => true)")
    return base64.b64decode(page.locator("img").get_attribute("src").split(",", 1)[1])


def test_a_page_in_a_real_browser(viewer, browser, tmp_path):
    page = browser.new_page()
    page.goto(viewer.save_html(tmp_path / "page.html").as_uri())
    seen = []
    for sample in ("a", "b"):
        for field in ("image", "depth"):
            page.locator("select").nth(0).select_option(sample)
            page.locator("select").nth(1).select_option(field)
            seen.append(shown(page))
            assert page.locator("img").get_attribute("alt") == f"{sample}, {field}"
    assert seen == viewer.frames


def test_a_page_that_plays_in_a_real_browser(playing, browser, tmp_path):
    page = browser.new_page()
    requests = []
    page.on("request", lambda request: requests.append(request.url))
    page.goto(playing.save_html(tmp_path / "page.html").as_uri())
    page.locator("select").nth(0).select_option("</script>")
    page.locator("select").nth(1).select_option("y")
    page.locator("input").fill("2")
    assert shown(page) == playing.frames[11] and page.locator("output").text_content() == "10"
    page.locator("button").click()  # on from the last to the first
    page.wait_for_function("document.querySelector('output').textContent == '0'")
    page.wait_for_function("document.querySelector('output').textContent == '5'")
    page.locator("button", has_text="pause").click()
    stopped = page.locator("output").text_content()
    page.wait_for_timeout(3 * viewers.PLAY_MS)
    assert page.locator("output").text_content() == stopped, "it stands still"
    assert page.locator("button").text_content() == "play"
    assert all(url.startswith(("file:", "data:")) for url in requests)


def test_a_strip_keeps_the_colours_of_its_names():
    picture = np.random.default_rng(0).integers(0, 256, (10, 20, 3), dtype=np.uint8)
    frame = viewers.strip(
        [picture, picture], ["depth", "normals"], ["#D55E00", "#009E73"], "epoch 3", (0.25, 0.75), 240
    )
    with Image.open(io.BytesIO(frame)) as sheet:
        assert sheet.mode == "P" and sheet.size == (2 * (240 + 8) + 8 + 64, 120 + 40 + 8)
        names = np.asarray(sheet.convert("RGB"))[20:40].reshape(-1, 3).astype(int)
    for colour in ((0xD5, 0x5E, 0x00), (0x00, 0x9E, 0x73)):
        assert abs(names - colour).max(1).min() <= 16


def test_fields_of_a_dataset():
    data = datasets.build("scenes", "test", height=32, width=64, train=24, test=8)
    made = viewers.fields(data, [0, 1], ["image", "depth", "normals"])
    assert made.controls == {"sample": ["rooms/test/00000", "rooms/test/00001"], "field": ["image", "depth", "normals"]}
    assert len(made.frames) == 6 and all(frame.startswith(b"\x89PNG") for frame in made.frames)


@pytest.mark.parametrize("controls", [{}, {"a": ["1", "2"]}, {"a": ["1"], "b": ["1"], "c": ["1", "2"]}])
def test_a_frame_for_every_combination(controls):
    with pytest.raises(KitError, match="a viewer has controls and a frame for each"):
        viewers.Viewer(controls, [b""])
