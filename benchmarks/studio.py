"""How soon the studio is there, in headless Chromium on this machine.

    python benchmarks/studio.py [--loads 10] [--url http://127.0.0.1:8000]

Without --url it serves the shipped base rig with Ray Serve and stops it afterwards. A cold load has an empty cache, a
warm one asks again with ETags. Milliseconds from the start of the navigation: the first paint that shows the page's
text and its button, and when everything can be used. Then what a hand feels: from a move of the light to the new guide
on the screen. Needs `chromium` and the Python package `playwright`.
"""

import argparse
import shutil
import statistics
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, sync_playwright

TIMEOUT_MS = 120_000
PAINT = """() => {
    const paint = performance.getEntriesByName("first-contentful-paint")[0].startTime;
    const sent = performance.getEntriesByType("resource");
    return [paint, sent.length + 1, sent.reduce((sum, one) => sum + one.transferSize, 0)];
}"""
READY = """() => new Promise((resolve) => {
    const root = document.documentElement;
    const look = () => (root.dataset.ready ? resolve(performance.now()) : requestAnimationFrame(look));
    look();
})"""
FOLLOW = """() => new Promise((resolve) => {
    const picture = document.getElementById("guide-picture");
    const start = performance.now();
    new MutationObserver((_, watch) => {
        watch.disconnect();
        resolve(performance.now() - start);
    }).observe(picture, {attributeFilter: ["src"]});
    document.querySelector(".ball").dispatchEvent(new KeyboardEvent("keydown", {key: "ArrowRight", bubbles: true}));
})"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--loads", type=int, default=10)
    parser.add_argument("--url", help="of a server that runs already")
    options = parser.parse_args()
    chromium = shutil.which("chromium")
    if chromium is None:
        sys.exit("there is no chromium on this machine (apt-get install chromium)")
    with _served(options.url) as url, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        _row("", "first paint", "usable", "requests", "KiB")
        for name, loads in (("cold", _cold(browser, url, options.loads)), ("warm", _warm(browser, url, options.loads))):
            _report(name, loads)
        milliseconds = _follow(browser, url, options.loads)
        print(f"\nguide after a move of the light, median of {options.loads}: {milliseconds:.0f} ms")
        browser.close()


def _cold(browser: Browser, url: str, loads: int) -> list[list[float]]:
    measured = []
    for _ in range(loads):
        page = browser.new_page()
        measured.append(_load(page, url))
        page.close()
    return measured


def _warm(browser: Browser, url: str, loads: int) -> list[list[float]]:
    page = browser.new_page()
    _load(page, url)
    measured = [_load(page, url) for _ in range(loads)]
    page.close()
    return measured


def _load(page: Page, url: str) -> list[float]:
    """First paint and usable in ms, requests, bytes."""
    page.goto(url, timeout=TIMEOUT_MS)
    usable = page.evaluate(READY)
    paint, requests, sent = page.evaluate(PAINT)
    return [paint, usable, requests, sent]


def _follow(browser: Browser, url: str, moves: int) -> float:
    """Median ms until the guide has followed a move."""
    page = browser.new_page()
    _load(page, url)
    with page.expect_file_chooser() as chooser:
        page.locator("#choose").click()
    photo: Any = {"name": "somebody.png", "mimeType": "image/png", "buffer": _photo()}
    chooser.value.set_files(photo)
    page.locator("#desk").wait_for(timeout=TIMEOUT_MS)
    page.evaluate(FOLLOW)  # from the photo to the guide
    times = [page.evaluate(FOLLOW) for _ in range(moves)]
    page.close()
    return statistics.median(times)


def _photo() -> bytes:
    """A synthetic person, 256 px."""
    from drig.data.synthetic import write_people

    with tempfile.TemporaryDirectory() as folder:
        list(write_people(Path(folder), people=range(1), photos=1, size=256, seed=0))
        return next(Path(folder).rglob("*.png")).read_bytes()


@contextmanager
def _served(url: str | None) -> Iterator[str]:
    """The address of a server; of one for this benchmark alone where none is given."""
    if url is not None:
        yield url
        return
    from deployments.serve import serving
    from deployments.settings import ServeConfig
    from drig.identities import Identities
    from pipelines.cluster import ClusterConfig, ray_cluster

    with tempfile.TemporaryDirectory() as folder:
        identities = Identities(f"sqlite:///{folder}/mlflow.db")
        identities.ensure_base()
        config = ServeConfig(tracking_uri=identities.tracking_uri, work=f"{folder}/jobs")
        with ray_cluster(ClusterConfig(cpus=4)), serving(config, port=0) as address:
            yield address


def _report(name: str, loads: Sequence[Sequence[float]]) -> None:
    paint, usable, requests, sent = (statistics.median(column) for column in zip(*loads, strict=True))
    worst = max(load[0] for load in loads)
    _row(name, f"{paint:.0f} (worst {worst:.0f}) ms", f"{usable:.0f} ms", f"{requests:.0f}", f"{sent / 1024:.0f}")


def _row(*cells: str) -> None:
    print("{:<6}{:>24}{:>12}{:>10}{:>8}".format(*cells))


if __name__ == "__main__":
    main()
