"""The studio on the whole application: a browser, Ray Serve's proxy, the ingress, its replicas and the registry."""

import io

from PIL import Image
from playwright.sync_api import Browser, expect

from tests.deployments.browser import visit
from tests.deployments.test_app import Served, served

__all__ = ["served"]


def test_a_photo_is_lit_and_somebody_forgotten(served: Served, browser: Browser) -> None:
    with visit(browser, served.url) as tab:
        page = tab.page
        tab.upload(served.photos[0])
        page.get_by_role("radio", name="Mesh").check()
        expect(page.locator("#guide-hint")).to_contain_text("Yaw")
        tab.drag(".ball", (0.75, 0.3))
        tab.wait_until_edited()
        expect(page.locator("#edit-status")).to_contain_text("base model")
        page.locator("#identity-open").click()
        page.locator("#identity-body").get_by_role("button", name="ada").first.click()
        expect(page.locator("#strip [aria-current]")).to_contain_text("ada")
        tab.wait_until_edited()
        expect(page.locator("#edit-status")).to_contain_text("ada, version 1")
        page.keyboard.press("Control+z")
        expect(page.locator("#edit-status")).to_contain_text("base model")
        page.get_by_role("radio", name="Whole photo").check()
        expect(page.locator("#save")).to_be_enabled()
        with page.expect_download() as saving:
            page.locator("#save").click()
        content = saving.value.path().read_bytes()
        assert Image.open(io.BytesIO(content)).size == (256, 256)
        assert b"c2pa" in content  # the mark of provenance, which a picture drawn anew would not have
        page.locator("#identity-open").click()
        page.get_by_role("button", name="Delete ada").click()
        page.get_by_label("Type ada to confirm").fill("ada")
        page.get_by_role("button", name="Delete for good").click()
        expect(page.locator("#delete-body")).to_contain_text("A search found nothing of ada")
    assert [info.name for info in served.identities.list()] == ["base"]
