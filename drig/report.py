"""One self-contained HTML page out of tables and pictures."""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from matplotlib.figure import Figure
from PIL import Image

from drig.pictures import Picture


@dataclass(frozen=True)
class Point:
    """A line of a list."""

    text: str
    tone: str = ""
    """good, bad, or neither."""


@dataclass(frozen=True)
class Card:
    """A small picture with a title and a few points; cards stand side by side."""

    title: str
    picture: Picture
    points: Sequence[Point] = ()


@dataclass(frozen=True)
class Section:
    """A heading and what stands under it, in this order: text, points, table (first row = headings), images, cards,
    code."""

    heading: str
    text: str = ""
    points: Sequence[Point] = ()
    table: Sequence[Sequence[str]] = ()
    images: Sequence[tuple[str, Picture]] = ()
    """(caption, picture) pairs."""
    cards: Sequence[Card] = ()
    code: str = ""


def write_report(path: Path, *, title: str, lead: str, sections: Sequence[Section], config: str) -> None:
    """Write the page, whole or not at all."""
    temporary = path.with_suffix(".tmp")
    temporary.write_text(render_report(title=title, lead=lead, sections=sections, config=config))
    temporary.replace(path)


def render_report(*, title: str, lead: str, sections: Sequence[Section], config: str) -> str:
    """The page's HTML."""
    templates = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    return templates.get_template("report.html.jinja").render(
        title=title,
        lead=lead,
        config=config,
        sections=[
            {
                **vars(section),
                "images": [{"caption": c, "data": _base64_png(p)} for c, p in section.images],
                "cards": [{**vars(card), "data": _base64_png(card.picture)} for card in section.cards],
            }
            for section in sections
        ],
    )


def plot_curves(curves: Mapping[str, Sequence[tuple[float, float]]], *, x: str, y: str) -> Picture:
    """Lines of (x, y) points, one per name, y on a logarithmic axis."""
    figure = Figure(figsize=(9, 3.2), dpi=110, layout="constrained")
    axes = figure.subplots()
    for name, points in curves.items():
        axes.plot(*np.transpose(points), label=name)
    axes.set(xlabel=x, ylabel=y, yscale="log")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    return render_figure(figure)


def render_figure(figure: Figure) -> Picture:
    """A plot as a picture."""
    buffer = io.BytesIO()
    figure.savefig(buffer)
    return np.asarray(Image.open(buffer).convert("RGB"))


def _base64_png(picture: Picture) -> str:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()
