"""Interactive viewers that need no kernel: pictures drawn beforehand, switched in the browser.

A ``Viewer`` is some controls over a grid of pictures; one control may play. In a notebook it is ``Image`` widgets in
nested ``Stack``s, linked by ``jslink``; ``save_html`` writes the same viewer as one page that needs no kernel and no
network, ``save_gif`` what plays as one file. A static figure of the same content always stands before it, since stored
notebooks and nbval keep no widgets.

Shapes: H/W size, N frames.
"""

from __future__ import annotations

import base64
import html
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from PIL import Image, ImageDraw, ImageFont

from . import files, plots
from .errors import KitError, nearest

PLAY_MS = 250  # a frame of what plays, milliseconds


def png(picture: np.ndarray | Figure, width: int = 480) -> bytes:
    """A figure, or an RGB uint8 picture (H, W, 3) enlarged to about ``width`` pixels without smoothing, as PNG."""
    buffer = io.BytesIO()
    if isinstance(picture, Figure):
        import matplotlib.pyplot as plt

        picture.savefig(buffer, format="png", dpi=90)
        plt.close(picture)
    else:
        factor = max(1, round(width / picture.shape[1]))
        size = (picture.shape[1] * factor, picture.shape[0] * factor)
        Image.fromarray(picture).resize(size, Image.Resampling.NEAREST).save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def save_png(figure: Figure, path: Path) -> Path:
    """Write a figure and close it. Returns its path."""
    with files.replacing(path) as temporary:
        temporary.write_bytes(png(figure))
    return path


def small(figure: Figure, scale: float = 1.0) -> Image.Image:
    """A figure, its sides times ``scale``, in 256 colours: a picture of a third of the bytes, for a notebook."""
    figure.set_size_inches(figure.get_size_inches() * scale)
    return _in_256_colours(Image.open(io.BytesIO(png(figure))).convert("RGB"))


def small_png(picture: Figure | Image.Image) -> bytes:
    """``small`` as PNG, of a figure or of a sheet of pictures."""
    buffer = io.BytesIO()
    drawn = small(picture) if isinstance(picture, Figure) else _in_256_colours(picture)
    drawn.save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def _in_256_colours(picture: Image.Image) -> Image.Image:
    """The colours of a picture that lie furthest apart: text and lines keep theirs."""
    return picture.quantize(256, Image.Quantize.MAXCOVERAGE)


def strip(
    pictures: Sequence[np.ndarray],
    names: Sequence[str],
    colours: Sequence[str],
    heading: str,
    limits: tuple[float, float],
    width: int,
) -> bytes:
    """Pictures side by side with a line above, coloured names and the colour bar of ``plots.overlay``: a PNG.

    It has 256 colours: less than half the bytes.

    Args:
        pictures: RGB uint8 (H, W, 3), all of one size; enlarged to about ``width`` pixels each.
        names: one for each picture.
        colours: of the names.
        heading: the line above.
        limits: the values at both ends of the bar.
    """
    factor, gap, line = max(1, round(width / pictures[0].shape[1])), 8, 20
    tall, wide = (factor * side for side in pictures[0].shape[:2])
    sheet = Image.new("RGB", (len(pictures) * (wide + gap) + gap + 64, tall + 2 * line + gap), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(14)
    draw.text((gap, 3), heading, "black", font)
    for i, (picture, name, colour) in enumerate(zip(pictures, names, colours, strict=True)):
        left = gap + i * (wide + gap)
        draw.text((left, line), name, colour, font)
        sheet.paste(Image.fromarray(picture).resize((wide, tall), Image.Resampling.NEAREST), (left, 2 * line))
    left = gap + len(pictures) * (wide + gap)
    sheet.paste(Image.fromarray(plots.colour_bar(tall, 12)), (left, 2 * line))
    draw.text((left + 16, 2 * line), f"{limits[1]:.2f}", "black", font)
    draw.text((left + 16, 2 * line + tall - 16), f"{limits[0]:.2f}", "black", font)
    return small_png(sheet)


class Viewer:
    """Pictures under controls.

    Args:
        controls: name of a control -> its choices, in order.
        frames: one PNG for every combination, the last control running fastest.
        title: a line above.
        play: the control that gets a slider and a play button; "" is none.

    Raises:
        KitError: when the number of frames is not the number of combinations, or no control is called ``play``.
    """

    def __init__(self, controls: Mapping[str, Sequence[str]], frames: Sequence[bytes], title: str = "", play: str = ""):
        expected = int(np.prod([len(choices) for choices in controls.values()]))
        if not controls or len(frames) != expected:
            raise KitError(f"a viewer has controls and a frame for each of their {expected} combinations, "
                           f"found {len(controls)} controls and {len(frames)} frames")  # fmt: skip
        self.controls = {name: [str(choice) for choice in choices] for name, choices in controls.items()}
        if play and play not in self.controls:
            raise KitError(f"no control is called {play!r}: {nearest(play, self.controls)}")
        self.frames, self.title, self.play = list(frames), title, play

    def widget(self):
        """The viewer as linked ipywidgets."""
        import ipywidgets as widgets

        def stacked(frames: list[bytes], menus: list):
            """A stack turned by the first menu, of stacks turned by the others."""
            if not menus:
                return widgets.Image(value=frames[0], format="png")
            step = len(frames) // len(menus[0].options)
            inner = [stacked(frames[i : i + step], menus[1:]) for i in range(0, len(frames), step)]
            stack = widgets.Stack(inner, selected_index=0)
            widgets.jslink((menus[0], "index"), (stack, "selected_index"))
            return stack

        menus, bar = [], []
        for name, choices in self.controls.items():
            if name == self.play:
                button = widgets.Play(min=0, max=len(choices) - 1, interval=PLAY_MS)
                menus.append(widgets.SelectionSlider(options=choices, index=0, description=name))
                widgets.jslink((button, "value"), (menus[-1], "index"))
                bar.append(button)
            else:
                menus.append(widgets.Dropdown(options=choices, index=0, description=name))
            bar.append(menus[-1])
        title = widgets.HTML(f"<b>{html.escape(self.title)}</b>")
        return widgets.VBox([title, widgets.HBox(bar), stacked(self.frames, menus)])

    def _ipython_display_(self) -> None:
        from IPython.display import display

        display(self.widget())

    def save_html(self, path: str | Path) -> Path:
        """Write the viewer as one self-contained page. Returns its path."""
        frames = [base64.b64encode(frame).decode() for frame in self.frames]
        page = _PAGE.replace("{title}", html.escape(self.title or "mtlkit viewer"))
        page = page.replace("{menus}", "".join(map(self._menu, self.controls))).replace("{ms}", str(PLAY_MS))
        choices = json.dumps(list(self.controls.values())).replace("<", "\\u003c")  # no </script> in a script
        files.write_text(Path(path), page.replace("{choices}", choices).replace("{frames}", json.dumps(frames)))
        return Path(path)

    def _menu(self, name: str) -> str:
        choices = self.controls[name]
        if name != self.play:
            options = "".join(f"<option>{html.escape(choice)}</option>" for choice in choices)
            return f"<label>{html.escape(name)} <select>{options}</select></label> "
        slider = f'<input type="range" min="0" max="{len(choices) - 1}" value="0">'
        return f"<button>play</button> <label>{html.escape(name)} {slider}</label><output></output> "

    def save_gif(self, path: str | Path, at: Mapping[str, str] | None = None) -> Path:
        """Write the frames of the control that plays as a GIF that loops. Returns its path.

        Args:
            path: of the file.
            at: control -> choice of the others; the first one where it says nothing.

        Raises:
            KitError: a viewer where nothing plays, or an unknown choice.
        """
        if not self.play:
            raise KitError(f"nothing plays in this viewer; name one of {list(self.controls)} when it is made: play=...")
        place: list[int | slice] = []
        for name, choices in self.controls.items():
            chosen = (at or {}).get(name, choices[0])
            if chosen not in choices:
                raise KitError(f"control {name!r} has no choice {chosen!r}: {nearest(chosen, choices)}")
            place.append(slice(None) if name == self.play else choices.index(chosen))
        numbers_N = np.arange(len(self.frames)).reshape([len(c) for c in self.controls.values()])[tuple(place)]
        first, *rest = [Image.open(io.BytesIO(self.frames[i])) for i in numbers_N]
        with files.replacing(Path(path)) as temporary:
            first.save(temporary, format="GIF", save_all=True, append_images=rest, duration=PLAY_MS, loop=0)
        return Path(path)


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<style>body { font: 15px system-ui, sans-serif; margin: 2rem; } label { margin-right: 1rem; } img { margin-top: 1rem;
max-width: 100%; } input { vertical-align: middle; } </style></head><body><h1>{title}</h1><div>{menus}</div>
<img alt="{title}">
<script>
const frames = {frames}, choices = {choices}, menus = [...document.querySelectorAll("select, input")];
const image = document.querySelector("img"), button = document.querySelector("button");
const slider = document.querySelector("input");
const at = menu => menu === slider ? Number(menu.value) : menu.selectedIndex;
function show() {
  image.src = "data:image/png;base64," + frames[menus.reduce((sum, menu, i) => sum * choices[i].length + at(menu), 0)];
  const words = menus.map((menu, i) => choices[i][at(menu)]);
  image.alt = words.join(", ");
  if (slider) document.querySelector("output").textContent = words[menus.indexOf(slider)];
}
function step() {
  slider.value = (at(slider) + 1) % (Number(slider.max) + 1);
  show();
}
menus.forEach(menu => menu.addEventListener("input", show));
let timer = null;
if (button) button.addEventListener("click", () => {
  clearInterval(timer);
  timer = timer === null ? setInterval(step, {ms}) : null;
  button.textContent = timer === null ? "play" : "pause";
});
show();
</script></body></html>
"""


def fields(dataset, indices: Sequence[int], names: Sequence[str], title: str = "") -> Viewer:
    """Every named field of some samples: one control for the sample, one for the field."""
    chosen = [dataset[index] for index in indices]
    frames = [png(plots.picture(name, sample[name])) for sample in chosen for name in names]
    return Viewer({"sample": [dataset.info(i).name for i in indices], "field": list(names)}, frames, title)


def figures(name: str, drawn: Mapping[str, Figure], title: str = "") -> Viewer:
    """One figure for every choice of a single control."""
    return Viewer({name: list(drawn)}, [png(figure) for figure in drawn.values()], title)
