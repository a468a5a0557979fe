"""The studio's files as they are sent: types, headers, caching; and that nothing is missing or from elsewhere."""

import re

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from deployments.api import studio

PAGE = (studio.FOLDER / "index.html").read_text()
SCRIPTS = sorted(studio.FOLDER.glob("*.js"))


@pytest.fixture
def client() -> TestClient:
    app = FastAPI()
    app.include_router(studio.router())
    return TestClient(app)


@pytest.mark.parametrize(
    ("path", "media_type"),
    [
        ("/", "text/html; charset=utf-8"),
        ("/studio/theme.css", "text/css; charset=utf-8"),
        ("/studio/main.js", "text/javascript; charset=utf-8"),
        ("/studio/icon.svg", "image/svg+xml"),
    ],
)
def test_files_are_sent_with_their_type_and_a_strict_policy(client: TestClient, path: str, media_type: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == media_type
    assert answer.headers["x-content-type-options"] == "nosniff"
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy


def test_a_file_that_is_known_is_not_sent_again(client: TestClient) -> None:
    first = client.get("/studio/main.js")
    assert first.headers["cache-control"] == "no-cache"
    for known in (first.headers["etag"], f'"other", W/{first.headers["etag"]}'):
        again = client.get("/studio/main.js", headers={"If-None-Match": known})
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["etag"] == first.headers["etag"]
    assert client.get("/studio/main.js", headers={"If-None-Match": '"other"'}).status_code == 200


@pytest.mark.parametrize("name", ["nothing.js", "..%2Fapi%2Fstudio.py", "%2e%2e/serve.yaml"])
def test_nothing_else_is_sent(client: TestClient, name: str) -> None:
    assert client.get(f"/studio/{name}").status_code == 404


def test_the_page_loads_every_script_at_once() -> None:
    preloaded = set(re.findall(r'rel="modulepreload" href="studio/(.*?)"', PAGE))
    assert preloaded == {path.name for path in SCRIPTS} - {"main.js"}


def test_scripts_import_what_there_is() -> None:
    exported = {
        path.name: set(re.findall(r"^export (?:async )?(?:function\*? |const |class )([\w$]+)", path.read_text(), re.M))
        | set(re.findall(r"^export \{ (\w+) \}", path.read_text(), re.M))
        for path in SCRIPTS
    }
    for path in SCRIPTS:
        text = path.read_text()
        for names, module in re.findall(r'^import \{ (.*?) \} from "\./(.*?)";', text, re.M):
            for name in names.split(", "):
                assert name in exported[module], f"{path.name}: {module} has no {name}"
                uses = re.findall(rf"(?<![\w$]){re.escape(name)}(?![\w$])", text)
                assert len(uses) > 1, f"{path.name} imports {name} and does not use it"


def test_nothing_comes_from_elsewhere_and_nothing_is_inline() -> None:
    for path in studio.FOLDER.iterdir():
        addresses = re.findall(r"https?://[^\s\"')]+", path.read_text())
        assert set(addresses) <= {"http://www.w3.org/2000/svg"}, path.name
    assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?![^>]*\ssrc=)", PAGE)
    for path in SCRIPTS:
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(", path.read_text())


def test_every_element_that_a_script_asks_for_exists() -> None:
    ids = set(re.findall(r'\sid="([\w-]+)"', PAGE))
    made = {name for path in SCRIPTS for name in re.findall(r'id: "([\w-]+)"', path.read_text())}
    asked = {name for path in SCRIPTS for name in re.findall(r'\$\("([\w-]+)"\)', path.read_text())}
    assert asked <= ids | made
    symbols = {name for path in SCRIPTS for name in re.findall(r'icon\("(\w+)"\)', path.read_text())}
    assert {f"i-{name}" for name in symbols} <= ids
