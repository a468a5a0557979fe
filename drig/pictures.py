"""Contact sheets: pictures in labelled rows and columns, for people who would rather look than read."""

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

Picture = np.ndarray
"""(H, W, 3) uint8 RGB."""

SHEET_COLUMNS = ("source", "target", "rendered", "normal", "albedo", "edit")
"""Headings of the sheet of one edit."""
MARGIN = 4
LABEL_HEIGHT = 22
ROW_LABEL_WIDTH = 130
INK, PAPER = (32, 32, 32), (255, 255, 255)


def contact_sheet(
    rows: Sequence[Sequence[Picture | None]],
    *,
    cell: int = 160,
    columns: Sequence[str] = (),
    labels: Sequence[str] = (),
) -> Picture:
    """Pictures resized to cell x cell in a grid; None leaves a cell empty.

    columns: a heading for each column. labels: a text at the left of each row.
    """
    left = ROW_LABEL_WIDTH if labels else 0
    top = LABEL_HEIGHT if columns else 0
    step = cell + MARGIN
    width = max(len(row) for row in rows)
    sheet = Image.new("RGB", (left + width * step + MARGIN, top + len(rows) * step + MARGIN), PAPER)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(13)
    for column, text in enumerate(columns):
        draw.text((left + MARGIN + column * step + cell / 2, top / 2), text, INK, font, anchor="mm")
    for row, text in enumerate(labels):
        draw.multiline_text((MARGIN, top + MARGIN + row * step + cell / 2), text, INK, font, anchor="lm")
    for row, pictures in enumerate(rows):
        for column, picture in enumerate(pictures):
            if picture is not None:
                # Nearest neighbour shows small portraits as they are instead of hiding their pixels.
                enlarge = picture.shape[0] < cell
                resampling = Image.Resampling.NEAREST if enlarge else Image.Resampling.LANCZOS
                tile = Image.fromarray(picture).resize((cell, cell), resampling)
                sheet.paste(tile, (left + MARGIN + column * step, top + MARGIN + row * step))
    return np.asarray(sheet)


def buffer_pictures(buffers: Tensor) -> list[Picture]:
    """Buffers (9, S, S) -> the rendered, normal and albedo pictures: normals from [-1, 1], the others from [0, 1]."""
    rendered, normal, albedo = buffers.cpu().unflatten(0, (3, 3))
    return [to_picture(rendered), to_picture(normal / 2 + 0.5), to_picture(albedo)]


def to_picture(image: Tensor) -> Picture:
    """(3, S, S) floats in [0, 1], clipped -> picture."""
    return (image.permute(1, 2, 0).clamp(0, 1) * 255).round().to(torch.uint8).numpy()
