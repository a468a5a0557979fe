"""A real browser for the tests of the studio: Debian's Chromium, driven by Playwright."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, expect, sync_playwright

TIMEOUT_MS = 60_000
"""Two busy cores may take long for what is quick."""
DESK = {"width": 1280, "height": 860}
PHONE = {"width": 390, "height": 844}


@contextmanager
def chromium() -> Iterator[Browser]:
    """The browser; the test that wants it is skipped where there is none."""
    path = shutil.which("chromium")
    if path is None:
        pytest.skip("no chromium on this machine (apt-get install chromium)")
    expect.set_options(timeout=TIMEOUT_MS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@dataclass
class Visit:
    """One tab with the studio in it, and what its console said."""

    page: Page
    url: str
    errors: list[str] = field(default_factory=list)

    def upload(self, photo: bytes, name: str = "me.png") -> None:
        """Choose a photo, and wait until the studio shows it."""
        with self.page.expect_file_chooser() as chooser:
            self.page.locator("#choose").click()
        chooser.value.set_files({"name": name, "mimeType": "image/png", "buffer": photo})
        expect(self.page.locator("#desk")).to_be_visible()

    def wait_until_edited(self) -> None:
        """Until the edit of the settings as they are is shown."""
        expect(self.page.locator("#strip [aria-current] img")).to_have_count(1)
        expect(self.page.locator("#edit-status")).to_contain_text("Edited with")

    def drag(self, selector: str, to: tuple[float, float], *, steps: int = 12) -> None:
        """From the middle of an element to a place in it, both in shares of its size."""
        box = self.page.locator(selector).bounding_box()
        assert box is not None
        mouse = self.page.mouse
        mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        mouse.down()
        mouse.move(box["x"] + box["width"] * to[0], box["y"] + box["height"] * to[1], steps=steps)
        mouse.up()


@contextmanager
def visit(browser: Browser, url: str, size: dict[str, int] = DESK, scheme: Any = "light") -> Iterator[Visit]:
    """A new tab on the studio at `url`. An error in its console that `errors` does not forgive fails the test."""
    phone = size is PHONE
    context = browser.new_context(
        viewport={"width": size["width"], "height": size["height"]},
        color_scheme=scheme,
        has_touch=phone,
        is_mobile=phone,
    )
    page = context.new_page()
    page.set_default_timeout(TIMEOUT_MS)
    tab = Visit(page, url)

    def listen(message: ConsoleMessage) -> None:
        # The browser itself logs every answer that is an error; what the studio makes of those the tests look at.
        if message.type == "error" and not message.text.startswith("Failed to load resource"):
            tab.errors.append(message.text)

    page.on("console", listen)
    page.on("pageerror", lambda error: tab.errors.append(str(error)))
    page.goto(url)
    try:
        yield tab
        assert tab.errors == []
    finally:
        context.close()
