"""Turns the figures that a notebook's outputs carry into parts of the built page.

A frame becomes a real image node, so that Sphinx copies the file beside the page and writes the
right relative address on every page, from `file://` too.
"""

from __future__ import annotations

import hashlib
import html
import os
import re
import struct
from base64 import b64decode
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from docutils import nodes

from mechbook.explore import SWITCHBOARD_MIME, switchboard_html
from mechbook.plotting import FIGURE_MIME

if TYPE_CHECKING:
    from myst_nb.core.render import MimeData, NbElementRenderer
    from sphinx.application import Sphinx
    from sphinx.config import Config
    from sphinx.environment import BuildEnvironment

MIME_TYPES = (FIGURE_MIME, SWITCHBOARD_MIME)
ASSETS = Path(__file__).with_name("assets")

Write = Callable[[str, bytes], str]  # file name and content -> the address Sphinx knows it by


class mb_frame(nodes.image):
    """One picture of a figure (named like a tag, as docutils wants); elsewhere a plain image."""


class FigureRenderer:
    """The myst-nb plugin for the bundles of `mechbook.plotting` and `mechbook.explore`."""

    mime_priority_overrides: ClassVar[Sequence[tuple[str, str, int | None]]] = [
        ("*", FIGURE_MIME, 1),
        ("*", SWITCHBOARD_MIME, 1),
    ]

    @staticmethod
    def handle_mime(
        renderer: NbElementRenderer, data: MimeData, inline: bool
    ) -> list[nodes.Element] | None:
        """The nodes for one of our bundles; None for everything else.

        Args:
            renderer: myst-nb's renderer, which writes files and knows the document.
            data: The output: its mime type and content.
            inline: Whether it stands inside a line, which a figure cannot.
        """
        if inline or data.mime_type not in MIME_TYPES:
            return None
        content: Any = data.content

        def write(file: str, picture: bytes) -> str:
            return renderer.write_file([file], picture, overwrite=True)

        try:
            figure = _figure(data.mime_type, content, write)
        except (KeyError, TypeError, ValueError, IndexError, struct.error) as error:
            renderer.logger.warning(
                f"a figure's bundle cannot be read ({type(error).__name__}: {error}); "
                "execute the notebook again",
                subtype="mechbook_figure",
                line=data.line,
            )
            return []
        figure["names"] = [content["name"]]  # so that the prose can refer to it
        renderer.renderer.document.note_explicit_target(figure, figure)
        return [figure]


def bundle_nodes(mime: str, bundle: Mapping[str, Any], env: BuildEnvironment) -> list[nodes.Node]:
    """A chapter's figure for another page; links by its name still lead to the chapter.

    Args:
        mime: One of `MIME_TYPES`.
        bundle: What the executed notebook holds under that type.
        env: Sphinx's environment, which knows the folder for written files.
    """
    folder = Path(env.mystnb_config.output_folder)  # type: ignore[attr-defined]

    def write(file: str, picture: bytes) -> str:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / file).write_bytes(picture)
        return "/" + Path(os.path.relpath(folder / file, env.srcdir)).as_posix()

    return [_figure(mime, bundle, write)]


def figure_id(name: str) -> str:
    """The address of a figure on its page, such as `fig-residual-stream-lens`."""
    return "fig-" + nodes.make_id(name)


def _figure(mime: str, content: Mapping[str, Any], write: Write) -> nodes.figure:
    inside: nodes.Node
    if mime == SWITCHBOARD_MIME:
        kind, frames, start = "mb-switchboard", [content], 0
        inside = nodes.raw("", switchboard_html(content), format="html")
    else:
        kind, frames, start = "mb-figure", content["frames"], content["start"]
        inside = _stage(content, write)
    figure = nodes.figure("", inside, classes=[kind], ids=[figure_id(content["name"])])
    caption = _captions(frames, start)
    if caption is not None:
        figure += caption
    return figure


def _stage(content: Mapping[str, Any], write: Write) -> nodes.container:
    """The frames below their slider; one picture alone has none."""
    frames, start = content["frames"], content["start"]
    stage = nodes.container(classes=["mb-stage"])
    if len(frames) > 1:
        stage += nodes.raw("", _control(content), format="html")
    for index, frame in enumerate(frames):
        picture = b64decode(frame["png"])
        digest = hashlib.sha256(picture).hexdigest()[:10]  # a changed picture gets a new address
        file = f"{content['name'].replace('.', '-')}-{index:02d}-{digest}.png"
        image = mb_frame(alt=frame["alt"], uri=write(file, picture))
        image["size"] = struct.unpack(">II", picture[16:24])  # the PNG header: width, height
        image["label"] = frame["label"]
        image["off"] = index != start
        stage += image
    return stage


def _captions(frames: Sequence[Mapping[str, Any]], start: int) -> nodes.caption | None:
    """All frames' captions, those not shown first switched off; one if they are all the same."""
    texts = [frame["caption"] for frame in frames]
    if not any(texts):
        return None
    if len(set(texts)) == 1:
        texts, start = texts[:1], 0
    lines = []
    for index, text in enumerate(texts):
        classes = ["mb-caption"] if index == start else ["mb-caption", "mb-off"]
        lines.append(nodes.inline("", "", *_with_math(text), classes=classes))
    return nodes.caption("", "", *lines)


def _with_math(text: str) -> list[nodes.Node]:
    """Plain text in which `$...$` is mathematics."""
    pieces = re.split(r"\$([^$]+)\$", text)
    made: list[nodes.Node] = []
    for index, piece in enumerate(pieces):
        if piece:
            made.append(nodes.math(piece, piece) if index % 2 else nodes.Text(piece))
    return made


def _control(content: Mapping[str, Any]) -> str:
    """The slider and its buttons, asleep until the script wakes them."""
    frames, start = content["frames"], content["start"]
    label, now = html.escape(content["control"]["label"]), html.escape(frames[start]["label"])
    return (
        '<div class="mb-control" hidden>'
        f'<label><span class="mb-what">{label}</span> <input type="range" min="0" '
        f'max="{len(frames) - 1}" step="1" value="{start}" aria-valuetext="{now}" '
        f'autocomplete="off"></label> <output aria-live="off">{now}</output>'
        '<span class="mb-buttons"><button type="button" class="mb-previous">Previous</button>'
        '<button type="button" class="mb-play">Play</button>'
        '<button type="button" class="mb-next">Next</button></span></div>'
        f"<noscript><p>One of {len(frames)} pictures ({label}: {now}); "
        "the slider needs JavaScript.</p></noscript>"
    )


def visit_frame(self: Any, node: mb_frame) -> None:
    """Write a frame as an `<img>` with its size, hidden and lazy unless it is shown first."""
    uri = node["uri"]
    if uri in self.builder.images:
        uri = f"{self.builder.imgpath}/{self.builder.images[uri]}"
    width, height = node["size"]
    attributes = {
        "src": uri,
        "alt": node["alt"],
        "width": width,
        "height": height,
        "decoding": "async",
        "data-label": node["label"],
    }
    written = " ".join(f'{key}="{html.escape(str(value))}"' for key, value in attributes.items())
    # dark-light: the theme's dark mode leaves the picture as it is
    off = ' loading="lazy" hidden' if node["off"] else ""
    self.body.append(f'<img class="mb-frame dark-light" {written}{off}>\n')
    raise nodes.SkipNode


def _add_assets(app: Sphinx, config: Config) -> None:
    if str(ASSETS) not in config.html_static_path:
        config.html_static_path.append(str(ASSETS))


def setup(app: Sphinx) -> dict[str, Any]:
    """Sphinx's hook: the frame node, the script and the style sheet."""
    app.add_node(mb_frame, html=(visit_frame, None))
    app.connect("config-inited", _add_assets)
    app.add_js_file("explore.js", loading_method="defer")
    app.add_css_file("explore.css")
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
