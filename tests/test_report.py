"""The report page: one file that holds everything it shows."""

from pathlib import Path

import numpy as np

from drig.report import Card, Point, Section, plot_curves, write_report


def test_the_page_is_self_contained_and_escapes_what_it_is_given(tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    picture = np.zeros((4, 4, 3), np.uint8)
    section = Section("Faces", "a < b", table=[["photo", "error"], ["<1>.jpg", "2"]], images=[("me", picture)])
    write_report(page, title="Anna & Bob", lead="two", sections=[section], config="seed: 7")
    html = page.read_text()
    for text in ("Anna &amp; Bob", "a &lt; b", "<th>error</th>", "<td>&lt;1&gt;.jpg</td>", "seed: 7"):
        assert text in html
    assert 'src="data:image/png;base64,' in html
    assert "http" not in html
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def test_cards_show_a_picture_with_points(tmp_path: Path) -> None:
    card = Card("01.jpg", np.zeros((4, 4, 3), np.uint8), [Point("blurred", "bad"), Point("yaw 3")])
    sections = [Section("Photos", points=[Point("all well", "good")], cards=[card])]
    write_report(tmp_path / "report.html", title="x", lead="", sections=sections, config="")
    html = (tmp_path / "report.html").read_text()
    assert '<li class="good">all well</li>' in html
    assert '<img alt="01.jpg" src="data:image/png' in html
    assert '<span class="bad">blurred</span>' in html


def test_curves_become_a_picture() -> None:
    picture = plot_curves({"loss": [(1, 0.5), (2, 0.1)]}, x="samples", y="loss")
    assert picture.ndim == 3
    assert picture.std() > 0
