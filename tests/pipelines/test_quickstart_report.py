import numpy as np
import pytest

from drig.faces.portraits import Portrait
from pipelines.edit_sheet import EditSheet, OneEdit
from pipelines.quickstart_report import edits_section

BLACK = np.zeros((32, 32, 3), np.uint8)
SQUARE = np.array([[-0.5, -0.5], [0.5, -0.5], [0.5, 0.5], [-0.5, 0.5]], np.float32)


def one_edit(before: int, after: int, *, known: bool = True) -> OneEdit:
    """Of grey pictures, whose truth is black."""
    truth = Portrait(BLACK, SQUARE, 1) if known else None
    return OneEdit("a.png", "b.png", "light", BLACK + np.uint8(before), BLACK + np.uint8(after), truth)


@pytest.mark.parametrize("known", [False, True])
def test_edits_whose_truth_is_known_are_in_a_table_that_ends_with_their_means(known: bool) -> None:
    sheet = EditSheet("ann", BLACK, (one_edit(51, 17, known=known), one_edit(85, 51, known=known)))
    table = edits_section([sheet]).table
    if not known:
        assert not table
        return
    assert table[1:] == [
        ["ann", "light", "13.98 dB", "23.52 dB"],
        ["ann", "light", "9.54 dB", "13.98 dB"],
        ["all", "mean", "11.76 dB", "18.75 dB"],
    ]
