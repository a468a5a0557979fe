"""The studio for everybody: axe finds nothing in any state, it fits a small phone, motion is optional."""

from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, expect

from deployments.access.keys import Scope, add_key
from drig.data.photos import read_photo
from tests.deployments.browser import DESK, PHONE, Visit, visit
from tests.deployments.rehearsal import Rehearsal, mp4_of, rehearsing


def check(tab: Visit, state: str) -> None:
    """No violation of axe's rules, and nothing that sticks out to the right."""
    results = Axe().run(tab.page)
    assert results.violations_count == 0, f"{state}: {results.generate_report()}"
    size = tab.page.viewport_size
    assert size is not None
    assert tab.page.evaluate("document.documentElement.scrollWidth") <= size["width"], f"{state} is too wide"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [DESK, PHONE], ids=["desk", "phone"])
def test_axe_finds_nothing(
    browser: Browser, server: Rehearsal, photo: bytes, size: dict[str, int], scheme: str
) -> None:
    file: Any = {"name": "me.png", "mimeType": "image/png", "buffer": photo}
    with rehearsing(server) as url, visit(browser, url, size, scheme) as tab:
        page = tab.page
        page.locator("html[data-ready]").wait_for()
        check(tab, "welcome")
        with page.expect_file_chooser() as chooser:
            page.locator("#choose").click()
        chooser.value.set_files(file | {"buffer": b"a letter"})
        expect(page.locator("#source-problems .problem")).to_be_visible()
        check(tab, "a refused photo")
        tab.upload(photo)
        check(tab, "found")
        page.get_by_role("button", name="Loop").dispatch_event("click")
        tab.wait_until_edited()
        page.locator("#compare").click()
        check(tab, "compared")
        for panel in ("head", "expression", "match", "finish"):
            page.locator(f"#tab-{panel}").click()
            check(tab, panel)
        page.locator("#identity-open").click()
        expect(page.locator("#identity-body .person")).to_have_count(1)
        check(tab, "people")
        page.get_by_role("button", name="Add a person").click()
        page.get_by_label("Photos of the album").set_input_files([file, file])
        check(tab, "a new person")
        form = page.locator("#create-dialog")
        form.get_by_label("Name", exact=True).fill("ada")
        form.get_by_label("Your name").fill("Ada Byron")
        form.get_by_role("checkbox", name="agrees to it").check()
        form.get_by_role("button", name="Make the model").click()
        expect(page.locator("#jobs-body .advice")).to_be_visible()
        page.keyboard.press("Escape")
        page.locator("#video-open").click()
        check(tab, "a new video")
        clip: Any = {"name": "clip.mp4", "mimeType": "video/mp4", "buffer": mp4_of(read_photo(photo))}
        page.get_by_label("Driving clip").locator("input").set_input_files(clip)
        page.get_by_role("button", name="Make the video").click()
        expect(page.locator("#jobs-body video")).to_be_visible()
        check(tab, "jobs")
        page.keyboard.press("Escape")
        page.locator("#identity-open").click()
        page.get_by_role("button", name="Delete ada").click()
        check(tab, "a deletion")
        page.get_by_label("Type ada to confirm").fill("ada")
        page.get_by_role("button", name="Delete for good").click()
        expect(page.locator("#delete-body .removed")).to_be_visible()
        check(tab, "deleted")


def test_the_key_and_a_lost_connection(browser: Browser, server: Rehearsal, tmp_path: Path) -> None:
    server.keys = str(tmp_path / "keys.json")
    _, secret = add_key(server.keys, "a friend", [Scope.EDIT])
    with rehearsing(server) as url, visit(browser, url) as tab:
        expect(tab.page.locator("#key-dialog")).to_be_visible()
        check(tab, "a key")
        tab.page.get_by_label("Key", exact=True).fill(secret)
        tab.page.keyboard.press("Enter")
        expect(tab.page.locator("#key-dialog")).to_be_hidden()
        tab.page.route("**/*", lambda route: route.abort())
        tab.page.locator("#identity-open").click()
        expect(tab.page.locator("#banner")).to_be_visible()
        tab.page.keyboard.press("Escape")
        check(tab, "no connection")


def test_a_small_phone_and_no_motion(browser: Browser, server: Rehearsal, photo: bytes) -> None:
    with rehearsing(server) as url, visit(browser, url, {"width": 360, "height": 640}) as tab:
        tab.page.emulate_media(reduced_motion="reduce")
        tab.upload(photo)
        check(tab, "360 pixels")
        touch = "(e) => Math.min(e.getBoundingClientRect().width, e.getBoundingClientRect().height)"
        for name in ("#undo", "#photo-new", "#edit-now", "#tab-light", "#theme"):
            assert tab.page.locator(name).evaluate(touch) >= 40, name
        assert tab.page.locator(".icon").first.evaluate("(e) => getComputedStyle(e).transitionDuration") == "0s"


def test_on_a_phone_the_guide_is_large_while_the_hand_moves(browser: Browser, server: Rehearsal, photo: bytes) -> None:
    server.step_seconds = 0.05
    with rehearsing(server) as url, visit(browser, url, PHONE) as tab:
        page = tab.page
        tab.upload(photo)
        frames = page.locator("#frames")
        expect(frames).to_have_attribute("data-main", "portrait")
        page.get_by_role("slider", name="Intensity").fill("1.5")
        expect(frames).to_have_attribute("data-main", "guide")
        expect(frames).to_have_attribute("data-main", "portrait")  # the hand rests: the edit is refined
        page.locator("#show-guide").click()
        expect(frames).to_have_attribute("data-main", "guide")
        expect(page.locator("#layers")).to_be_visible()
        expect(page.locator("#edit-now")).to_be_hidden()
        page.evaluate("scrollTo(0, 400)")
        page.locator("#tab-head").click()
        top, bottom = (
            page.locator(name).evaluate(f"(e) => e.getBoundingClientRect().{edge}")
            for name, edge in (("#panel-head", "top"), ("#frames", "bottom"))
        )
        assert top >= bottom - 8  # a panel begins under the pictures, not behind them


def test_the_theme_switch_stays(browser: Browser, server: Rehearsal) -> None:
    with rehearsing(server) as url, visit(browser, url) as tab:
        colour = "getComputedStyle(document.body).backgroundColor"
        light = tab.page.evaluate(colour)
        tab.page.locator("#theme").click()
        dark = tab.page.evaluate(colour)
        assert dark != light
        tab.page.reload()
        tab.page.locator("html[data-theme=dark]").wait_for()
        assert tab.page.evaluate(colour) == dark
