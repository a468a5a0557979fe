"""The studio in a real browser: every request that it makes is real."""

import base64
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from playwright.sync_api import Browser, expect

from deployments.access.keys import Scope, add_key
from drig.data.photos import read_photo
from drig.faces.lighting import directional_light
from tests.deployments.browser import Visit, visit
from tests.deployments.rehearsal import Rehearsal, mp4_of, rehearsing
from tests.deployments.test_app import photo_of_a_head


@pytest.fixture
def tab(browser: Browser, server: Rehearsal) -> Iterator[Visit]:
    with rehearsing(server) as url, visit(browser, url) as tab:
        yield tab


@pytest.fixture
def opened(tab: Visit, photo: bytes) -> Visit:
    """The studio with a photo in it."""
    tab.upload(photo)
    return tab


def last_edit(server: Rehearsal) -> dict[str, Any]:
    body: dict[str, Any] = server.bodies("/v1/edits:stream")[-1]
    return body


def test_a_photo_is_found_and_its_buffers_shown(opened: Visit, server: Rehearsal) -> None:
    page = opened.page
    expect(page.locator("#guide-marks .mark-crop")).to_have_count(1)
    page.get_by_role("radio", name="Points").check()
    expect(page.locator("#guide-marks circle")).to_have_count(68)
    for layer in ("Mesh", "Render", "Normals", "Albedo"):
        before = page.locator("#guide-picture").get_attribute("src")
        page.get_by_role("radio", name=layer).check()
        expect(page.locator("#guide-picture")).not_to_have_attribute("src", before or "")
    layers = [body["layer"] for body in server.bodies("/v1/previews")]
    assert layers == ["mesh", "rendered", "normal", "albedo"]
    assert server.bodies("/v1/edits:stream") == []  # nothing is edited that nobody has changed


def test_a_photo_is_dropped_and_pasted(tab: Visit, photo: bytes) -> None:
    page = tab.page
    script = """([base64, event]) => {
        const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
        const data = new DataTransfer();
        data.items.add(new File([bytes], `${event}.png`, {type: "image/png"}));
        const init = {bubbles: true, cancelable: true, dataTransfer: data, clipboardData: data};
        const made = event === "drop" ? new DragEvent("drop", init) : new ClipboardEvent("paste", init);
        document.getElementById("welcome-title").dispatchEvent(made);
    }"""
    page.locator("html[data-ready]").wait_for()
    page.evaluate(script, [base64.b64encode(photo).decode(), "drop"])
    expect(page.locator("#desk")).to_be_visible()
    first = page.locator("#before").get_attribute("src")
    page.evaluate(script, [base64.b64encode(photo).decode(), "paste"])
    expect(page.locator("#before")).not_to_have_attribute("src", first or "")


def test_the_guide_follows_a_light_that_is_dragged(opened: Visit, server: Rehearsal) -> None:
    opened.drag(".ball", (0.75, 0.3), steps=40)
    opened.wait_until_edited()
    x, y, z = last_edit(server)["controls"]["light_direction"]
    assert x > 0.4
    assert y > 0.3
    assert z > 0
    asked = server.bodies("/v1/previews")
    assert asked[-1]["controls"] == last_edit(server)["controls"]  # the newest wins
    assert len(asked) > 1
    assert server.previews == [0, 1]  # and waits until the one before is there
    assert len(server.bodies("/v1/edits:stream")) < 10  # of 40 steps: only where the hand rests
    shown = opened.page.locator("#strip li").count()
    opened.page.get_by_role("slider", name="Intensity").fill("1.5")
    opened.page.get_by_role("radio", name="Candle").check(force=True)
    expect(opened.page.locator("#strip li")).to_have_count(shown + 1)
    opened.wait_until_edited()
    controls = last_edit(server)["controls"]
    assert controls["light_intensity"] == 1.5
    assert controls["light_colour"] == [1, 0.68, 0.36]


def test_the_photos_own_light_is_turned_and_shown_again(opened: Visit, server: Rehearsal) -> None:
    page = opened.page
    page.get_by_role("slider", name="turn the photo").fill("40")
    opened.wait_until_edited()
    assert last_edit(server)["controls"] == {"light_turn": 40}
    page.get_by_role("button", name="Rim").click()  # one replaces the other
    expect(page.locator("#strip [aria-current]")).to_contain_text("Rim")
    opened.wait_until_edited()
    assert last_edit(server)["controls"]["light_direction"][2] < 0
    expect(page.locator("#light-hint")).to_contain_text("from behind")
    page.get_by_role("button", name="Reset: Light").click()
    expect(page.locator("#strip [aria-current]")).to_contain_text("Own light")
    opened.wait_until_edited()
    assert last_edit(server)["controls"] == {}


def test_the_ball_is_lit_as_the_server_lights(opened: Visit) -> None:
    direction, colour = [0.5, 0.3, -0.8], [1.0, 0.8, 0.6]
    script = """async ([direction, colour]) => {
        const {lampLight, mainDirection} = await import("/studio/shading.js");
        const light = lampLight(direction, colour, 0.8, 0.35);
        return [light, mainDirection(light)];
    }"""
    light, main = opened.page.evaluate(script, [direction, colour])
    expected = directional_light(torch.tensor(direction), 0.8 * torch.tensor(colour), 0.35)
    torch.testing.assert_close(torch.tensor(light), expected)
    torch.testing.assert_close(torch.tensor(main), torch.nn.functional.normalize(torch.tensor(direction), dim=0))


def test_the_button_edits_at_once_and_what_nobody_has_changed(opened: Visit, server: Rehearsal) -> None:
    opened.page.get_by_role("button", name="Edit", exact=True).click()
    opened.wait_until_edited()
    assert last_edit(server)["controls"] == {}
    expect(opened.page.locator("#strip li")).to_have_count(1)


def test_light_and_head_by_keyboard(opened: Visit, server: Rehearsal) -> None:
    page = opened.page
    page.locator(".ball").focus()
    for key in ("ArrowRight", "Shift+ArrowRight", "ArrowUp"):
        page.keyboard.press(key)
    page.locator("#guide").focus()
    before = page.locator("#guide-hint").inner_text()
    for _ in range(5):
        page.keyboard.press("Shift+ArrowRight")
    page.keyboard.press("ArrowUp")
    opened.wait_until_edited()
    expect(page.locator("#guide-hint")).not_to_have_text(before)
    controls = last_edit(server)["controls"]
    assert controls["light_direction"][0] > 0
    assert 30 < controls["yaw"] <= 60
    page.locator("#tab-light").focus()
    page.keyboard.press("End")
    expect(page.locator("#panel-finish")).to_be_visible()
    expect(page.locator("#tab-finish")).to_be_focused()


def test_the_head_is_dragged(opened: Visit, server: Rehearsal) -> None:
    page = opened.page
    page.get_by_role("radio", name="Render").check()
    expect(page.locator("#guide-hint")).to_contain_text("Yaw")
    yaw = re.search(r"Yaw (−?)(\d+)°", page.locator("#guide-hint").inner_text())
    assert yaw is not None
    opened.drag("#guide", (0.75, 0.5))
    opened.wait_until_edited()
    before = int(yaw[2]) * (-1 if yaw[1] else 1)
    assert last_edit(server)["controls"]["yaw"] == pytest.approx(before + 27.5, abs=1.5)
    page.locator("#tab-head").click()
    page.get_by_role("button", name="Face the camera").click()
    expect(page.locator("#guide-hint")).to_contain_text("Yaw 0°, pitch 0°, roll 0°")


def test_moods_and_facial_actions(opened: Visit, server: Rehearsal) -> None:
    page = opened.page
    page.locator("#tab-expression").click()
    page.get_by_role("radio", name="Smile").check(force=True)
    page.get_by_role("searchbox").fill("jaw open")
    expect(page.locator("#panel-expression .slider")).to_have_count(1)
    page.get_by_role("slider", name="Jaw open").fill("0.6")
    page.get_by_role("searchbox").fill("smile")
    expect(page.get_by_role("slider", name="Smile")).to_have_attribute("aria-valuetext", "75 %")  # the mood's
    page.get_by_role("checkbox", name="Left and right apart").check()
    page.get_by_role("slider", name="Smile, left").fill("0.2")
    expect(page.locator("#strip [aria-current]")).to_contain_text("Expression")
    opened.wait_until_edited()
    expected = {"mood": "smile", "expression": {"jawOpen": 0.6, "mouthSmileLeft": 0.2}}
    assert last_edit(server)["controls"] == expected
    page.get_by_role("searchbox").fill("ears")
    expect(page.locator("#panel-expression .empty")).to_be_visible()


def test_undo_and_redo_cost_no_request(opened: Visit, server: Rehearsal) -> None:
    page = opened.page
    for setup in ("Front", "Split"):
        page.get_by_role("button", name=setup).click()
        expect(page.locator("#strip [aria-current]")).to_contain_text(setup)
        opened.wait_until_edited()
    edits = len(server.bodies("/v1/edits:stream"))
    split = page.locator("#after").get_attribute("src")
    page.keyboard.press("Control+z")
    expect(page.locator("#strip [aria-current]")).to_contain_text("Front")
    expect(page.locator("#after")).not_to_have_attribute("src", split or "")
    page.keyboard.press("Control+z")
    expect(page.locator("#after")).to_be_hidden()
    expect(page.locator("#undo")).to_be_disabled()
    page.keyboard.press("Control+Shift+z")
    page.locator("#redo").click()
    expect(page.locator("#strip [aria-current]")).to_contain_text("Split")
    expect(page.locator("#after")).to_have_attribute("src", split or "")
    assert len(server.bodies("/v1/edits:stream")) == edits
    page.locator("#strip button").first.click()
    page.get_by_role("button", name="Rim").click()  # what was undone makes way
    expect(page.locator("#strip li")).to_have_count(2)


def test_a_change_stops_the_edit_that_runs(opened: Visit, server: Rehearsal) -> None:
    server.step_seconds = 0.2
    opened.page.get_by_role("button", name="Front").click()
    expect(opened.page.locator("#refining")).not_to_have_attribute("value", "0")
    opened.page.get_by_role("button", name="Split").click()
    expect(opened.page.locator("#strip [aria-current]")).to_contain_text("Split")
    server.step_seconds = 0
    opened.wait_until_edited()
    assert server.open_streams == 0
    assert len(server.pictures) == 1  # the first was never finished


def test_a_busy_server_is_asked_again(opened: Visit, server: Rehearsal) -> None:
    server.busy = 3
    opened.page.get_by_role("button", name="Loop").click()
    expect(opened.page.locator("#edit-status")).to_contain_text("busy")
    opened.wait_until_edited()
    assert server.busy == 0
    expect(opened.page.locator(".problem")).to_have_count(0)


def test_a_lost_connection_comes_back(opened: Visit, server: Rehearsal) -> None:
    page = opened.page
    page.route("**/*", lambda route: route.abort())
    page.get_by_role("button", name="Loop").click()
    expect(page.locator("#banner")).to_contain_text("No connection")
    page.get_by_role("button", name="Split").click()  # nothing blocks meanwhile
    page.wait_for_timeout(1000)
    page.unroute("**/*")
    expect(page.locator("#banner")).to_contain_text("Connected again")
    expect(page.locator("#strip [aria-current]")).to_contain_text("Split")
    opened.wait_until_edited()
    assert server.bodies("/v1/previews")[-1]["controls"] == last_edit(server)["controls"]
    expect(page.locator("#banner")).to_be_hidden()


def test_a_photo_that_the_server_forgot_is_sent_again(opened: Visit, server: Rehearsal) -> None:
    server.forget_sources()
    opened.page.get_by_role("button", name="Loop").click()
    opened.wait_until_edited()
    assert [path for path, _ in server.requests].count("/v1/sources") == 2
    assert server.bodies("/v1/previews")[0]["source_token"] != last_edit(server)["source_token"]


def test_what_is_taken_from_another_photo(opened: Visit, server: Rehearsal) -> None:
    page = opened.page
    page.get_by_role("button", name="Front").click()
    opened.wait_until_edited()
    page.locator("#tab-match").click()
    with page.expect_file_chooser() as chooser:
        page.locator("#panel-match").get_by_role("button", name="Choose a photo").click()
    chooser.value.set_files({"name": "you.png", "mimeType": "image/png", "buffer": photo_of_a_head(1)})
    page.get_by_role("checkbox", name="Head pose").check()
    expect(page.locator("#strip [aria-current]")).to_contain_text("Match")
    opened.wait_until_edited()
    body = last_edit(server)
    assert body["modes"] == ["light", "pose"]
    assert body["target_token"] != body["source_token"]
    assert body["controls"] == {}  # the light that was set by hand would hide the photo's
    page.get_by_role("button", name="Remove").click()
    expect(page.locator("#strip [aria-current]")).to_contain_text("No match")
    opened.wait_until_edited()
    assert "target_token" not in last_edit(server)


def test_before_and_after_the_whole_photo_and_the_file(opened: Visit, server: Rehearsal) -> None:
    page = opened.page
    page.locator("#tab-finish").click()
    expect(page.locator("#panel-finish output").first).to_have_text("as the model needs")
    page.get_by_label("Sampler").select_option("unipc")
    opened.wait_until_edited()
    assert "steps" not in last_edit(server)
    page.get_by_role("slider", name="Steps").fill("4")
    page.get_by_label("Seed", exact=True).fill("7")
    page.get_by_label("Seed", exact=True).press("Tab")
    expect(page.locator("#edit-status")).to_contain_text("seed 7, 4 steps")
    opened.wait_until_edited()
    body = last_edit(server)
    assert (body["sampler"], body["steps"], body["seed"]) == ("unipc", 4, 7)
    page.keyboard.press("b")
    expect(page.locator("#split")).to_be_visible()
    page.get_by_role("slider", name="Before and after").fill("20")
    expect(page.locator("#after")).to_have_css("clip-path", "inset(0px 0px 0px 20%)")
    for view, name in (("Portrait", "me-base-7.png"), ("Whole photo", "me-base-7-whole.png")):
        page.get_by_role("radio", name=view).check()
        expect(page.locator("#save")).to_be_enabled()
        with page.expect_download() as saving:
            page.locator("#save").click()
        assert saving.value.suggested_filename == name
        # Byte for byte what the server sent: the mark in it stays.
        assert Path(saving.value.path()).read_bytes() == server.pictures[-1]
    assert server.bodies("/v1/edits")[-1]["paste_back"] is True


def test_a_person_is_made_and_deleted(tab: Visit, server: Rehearsal, photo: bytes) -> None:
    page = tab.page
    server.step_seconds = 0.01
    page.locator("html[data-ready]").wait_for()
    page.locator("#identity-open").click()
    page.get_by_role("button", name="Add a person").click()
    form = page.locator("#create-dialog")
    form.get_by_label("Name", exact=True).fill("base")
    form.get_by_label("Your name").fill("Ada Byron")
    form.get_by_role("checkbox", name="agrees to it").check()
    form.get_by_role("button", name="Make the model").click()
    expect(form.get_by_role("alert")).to_contain_text("no photos yet")
    files: Any = [{"name": f"{i}.png", "mimeType": "image/png", "buffer": photo} for i in range(3)]
    form.get_by_label("Photos of the album").set_input_files(files)
    form.get_by_role("button", name="Make the model").click()
    expect(form.get_by_role("alert")).to_contain_text("kept for the base rig")
    form.get_by_label("Name", exact=True).fill("ada")
    form.get_by_role("button", name="Make the model").click()
    job = page.locator("#jobs-body")
    expect(job).to_contain_text("ada")
    expect(job).to_contain_text("6.7 dB closer")
    expect(job).to_contain_text("add some taken elsewhere")
    expect(job).to_contain_text("beach.jpg could not be used: no face found")
    page.keyboard.press("Escape")
    page.locator("#identity-open").click()
    expect(page.locator("#identity-body")).to_contain_text("Consent: Ada Byron, Nov 27, 2026")
    page.locator("#identity-body").get_by_role("button", name="ada").first.click()
    expect(page.locator("#identity-name")).to_have_text("ada")
    page.locator("#identity-open").click()
    page.get_by_role("button", name="Delete ada").click()
    confirm = page.get_by_role("button", name="Delete for good")
    expect(confirm).to_be_disabled()
    page.get_by_label("Type ada to confirm").fill("ada")
    confirm.click()
    expect(page.locator("#delete-body")).to_contain_text("1 version in the registry")
    expect(page.locator("#delete-body")).to_contain_text("A search found nothing of ada")
    assert [info.name for info in server.company.identities.list()] == ["base"]
    expect(page.locator("#identity-name")).to_have_text("base")


def test_a_video_and_its_job(opened: Visit, server: Rehearsal, photo: bytes) -> None:
    page = opened.page
    server.step_seconds = 0.1
    for cancelled in (True, False):
        page.locator("#video-open").click()
        clip: Any = {"name": "clip.mp4", "mimeType": "video/mp4", "buffer": mp4_of(read_photo(photo))}
        page.get_by_label("Driving clip").locator("input").set_input_files(clip)
        page.get_by_role("button", name="Make the video").click()
        if cancelled:
            page.locator("#jobs-body").get_by_role("button", name="Cancel").click()
            expect(page.locator("#jobs-body .job")).to_have_count(0)
            page.keyboard.press("Escape")
            assert server.jobs == {}
    video = page.locator("#jobs-body video")
    expect(video).to_be_visible()
    expect(page.locator("#jobs-text")).to_have_text("Video done")
    with page.expect_download() as saving:
        page.get_by_role("button", name="Save MP4").click()
    assert Path(saving.value.path()).read_bytes() in server.results.values()
    page.reload()
    page.locator("#jobs-open").click()  # the server still knows it
    expect(page.locator("#jobs-body video")).to_be_visible()


def test_the_key_is_asked_for(browser: Browser, server: Rehearsal, photo: bytes, tmp_path: Path) -> None:
    server.keys = str(tmp_path / "keys.json")
    _, secret = add_key(server.keys, "a friend", [Scope.EDIT])
    with rehearsing(server) as url, visit(browser, url) as tab:
        dialog = tab.page.locator("#key-dialog")
        for key in ("wrong", secret):
            expect(dialog).to_be_visible()
            tab.page.get_by_label("Key", exact=True).fill(key)
            tab.page.get_by_role("button", name="Use this key").click()
            if key == "wrong":
                expect(dialog.get_by_role("alert")).to_contain_text("key")
        expect(dialog).to_be_hidden()
        tab.upload(photo)
        assert tab.page.evaluate("localStorage.length") == 0  # kept for this tab only


def test_problems_are_told_where_they_belong(browser: Browser, server: Rehearsal, photo: bytes) -> None:
    server.upload_mib = 0.5
    with rehearsing(server) as url, visit(browser, url) as tab:
        look_at_problems(tab, server, photo)


def look_at_problems(tab: Visit, server: Rehearsal, photo: bytes) -> None:
    page = tab.page
    for content, words in ((b"a letter", "no photo that can be read"), (b"x" * 2**20, "1.0 MiB")):
        with page.expect_file_chooser() as chooser:
            page.locator("#choose").click()
        chooser.value.set_files({"name": "letter.png", "mimeType": "image/png", "buffer": content})
        expect(page.locator("#source-problems")).to_contain_text(words)
    tab.upload(photo)
    server.company.identities.register("gone", server.company.person, album_report={"photos": 3})
    server.catalogue.refresh()
    page.locator("#identity-open").click()
    page.locator("#identity-body").get_by_role("button", name="gone").first.click()
    tab.wait_until_edited()
    server.company.identities.delete("gone")
    server.catalogue.forget("gone")
    page.get_by_role("button", name="Loop").click()
    expect(page.locator("#edit-problems")).to_contain_text("No identity is called 'gone'")
    expect(page.locator("#guide-problems")).to_contain_text("No identity is called 'gone'")
    page.keyboard.press("Control+z")
    page.keyboard.press("Control+z")
    expect(page.locator(".problem")).to_have_count(0)


def test_a_key_is_good_for_a_hand_that_moves(browser: Browser, server: Rehearsal, photo: bytes, tmp_path: Path) -> None:
    server.keys = str(tmp_path / "keys.json")
    _, secret = add_key(server.keys, "a friend", [Scope.EDIT], per_minute=20)
    with rehearsing(server) as url, visit(browser, url) as tab:
        tab.page.get_by_label("Key", exact=True).fill(secret)
        tab.page.keyboard.press("Enter")
        tab.upload(photo)
        while len(server.bodies("/v1/previews")) < 30:
            tab.drag(".ball", (0.75, 0.3), steps=20)
        tab.wait_until_edited()
        expect(tab.page.locator(".problem")).to_have_count(0)
