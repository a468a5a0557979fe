"""`drig edit --server`: the same edit on a running server."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from drig import storage
from drig.client import Client, Edited, Found, Progress
from drig.client.calls import EditOptions
from drig.errors import DrigError

if TYPE_CHECKING:
    from drig.commands.editing import EditConfig


def edit_on_server(config: "EditConfig", server: str) -> None:
    """Edit there and write the picture here, byte for byte as it came, so that its mark of provenance stays."""
    with Client(server) as client:
        kept: list[Found] = []
        try:
            for photo in (config.photo, *((config.like,) if config.like else ())):
                kept.append(client.upload(photo, aligned=config.aligned))
            options = _options(config, kept)
            edited = _watch(client, config, kept[0], options)
            storage.write_bytes(config.out, edited.image)
            for warning in edited.warnings:
                print(f"note: {warning}")
            print(f"edited {'photo' if config.paste_back else 'portrait'}: {config.out}")
            if config.sheet is not None:
                options["paste_back"] = False
                portrait = client.edit(kept[0], **options) if config.paste_back else edited
                shown = [client.picture(found, "portrait") for found in kept]
                _write_sheet(config.sheet, shown, portrait)
        finally:
            for found in kept:
                client.forget(found)


def _options(config: "EditConfig", kept: Sequence[Found]) -> EditOptions:
    options: EditOptions = {
        "identity": config.identity,
        "modes": config.modes_taken,
        "controls": config.controls.given(),
        "sampler": config.sampler,
        "seed": config.seed,
        "paste_back": config.paste_back,
    }
    if config.steps is not None:
        options["steps"] = config.steps
    if config.like is not None:
        options["target"] = kept[1]
    return options


def _watch(client: Client, config: "EditConfig", source: Found, options: EditOptions) -> Edited:
    with tqdm(unit="step", desc="edit", leave=False) as bar:
        for news in client.stream(source, **options):
            if not isinstance(news, Progress):
                return news
            bar.total = news.steps
            bar.update(news.step - bar.n)
    raise DrigError(f"{config.server} ended without a picture; try again")


def _write_sheet(path: Path, shown: Sequence[bytes], edited: Edited) -> None:
    from drig.data.photos import read_photo, save_png
    from drig.pictures import SHEET_COLUMNS, contact_sheet

    source, target = (*shown, None)[:2]
    pictures = [source, target, *edited.buffers.values(), edited.image]
    decoded = [None if picture is None else read_photo(picture) for picture in pictures]
    save_png(path, contact_sheet([decoded], columns=SHEET_COLUMNS))
    print(f"sheet: {path}")
