"""Interactive viewers that need no kernel: pictures drawn beforehand, switched in the browser.

A ``Viewer`` is one or two controls over a grid of pictures. In a notebook it is ``Image`` widgets in a ``Stack``,
linked by ``jslink``; ``save_html`` writes the same viewer as one page that needs no kernel and no network. A static
figure of the same content always stands before it, since stored notebooks and nbval keep no widgets.

Shapes: H/W size.
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
from PIL import Image

from . import files, plots
from .errors import KitError


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


class Viewer:
    """Pictures under one or two controls.

    Args:
        controls: name of a control -> its choices, in order; one or two of them.
        frames: one PNG for every combination, the last control running fastest.
        title: a line above.

    Raises:
        KitError: when the number of frames is not the number of combinations.
    """

    def __init__(self, controls: Mapping[str, Sequence[str]], frames: Sequence[bytes], title: str = ""):
        expected = int(np.prod([len(choices) for choices in controls.values()]))
        if not 1 <= len(controls) <= 2 or len(frames) != expected:
            raise KitError(f"a viewer has one or two controls and a frame for each of their {expected} combinations, "
                           f"found {len(controls)} controls and {len(frames)} frames")  # fmt: skip
        self.controls = {name: [str(choice) for choice in choices] for name, choices in controls.items()}
        self.frames, self.title = list(frames), title

    def widget(self):
        """The viewer as linked ipywidgets."""
        import ipywidgets as widgets

        menus = [widgets.Dropdown(options=c, index=0, description=name) for name, c in self.controls.items()]
        images = [widgets.Image(value=frame, format="png") for frame in self.frames]
        inner = len(self.controls[list(self.controls)[-1]])
        stacks = [widgets.Stack(images[i : i + inner], selected_index=0) for i in range(0, len(images), inner)]
        for stack in stacks:  # the last control turns every inner stack, the first chooses among them
            widgets.jslink((menus[-1], "index"), (stack, "selected_index"))
        picture = stacks[0]
        if len(menus) == 2:
            picture = widgets.Stack(stacks, selected_index=0)
            widgets.jslink((menus[0], "index"), (picture, "selected_index"))
        return widgets.VBox([widgets.HTML(f"<b>{html.escape(self.title)}</b>"), widgets.HBox(menus), picture])

    def _ipython_display_(self) -> None:
        from IPython.display import display

        display(self.widget())

    def save_html(self, path: str | Path) -> Path:
        """Write the viewer as one self-contained page. Returns its path."""
        menus = "".join(
            f"<label>{html.escape(name)} <select>"
            + "".join(f"<option>{html.escape(choice)}</option>" for choice in choices)
            + "</select></label> "
            for name, choices in self.controls.items()
        )
        frames = [base64.b64encode(frame).decode() for frame in self.frames]
        page = _PAGE.replace("{title}", html.escape(self.title or "mtlkit viewer")).replace("{menus}", menus)
        page = page.replace("{sizes}", json.dumps([len(choices) for choices in self.controls.values()]))
        files.write_text(Path(path), page.replace("{frames}", json.dumps(frames)))
        return Path(path)


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<style>body { font: 15px system-ui, sans-serif; margin: 2rem; } label { margin-right: 1rem; } img { margin-top: 1rem;
max-width: 100%; } </style></head><body><h1>{title}</h1><div>{menus}</div><img alt="{title}">
<script>
const frames = {frames}, sizes = {sizes}, menus = [...document.querySelectorAll("select")], image =
document.querySelector("img"); function show() {
  const index = menus.reduce((sum, menu, i) => sum * sizes[i] + menu.selectedIndex, 0);
  image.src = "data:image/png;base64," + frames[index];
  image.alt = menus.map(menu => menu.value).join(", ");
}
menus.forEach(menu => menu.addEventListener("change", show));
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
