import numpy as np
import pandas as pd
import pytest

from drig.evaluation.summary import EDITS, Interval, changes, gains, interval, summarise

ROWS = pd.DataFrame(
    [
        {"subject": subject, "method": "base", "edit": edit, "psnr": value}
        for subject, edit, value in (
            ("a", "light", 10.0),
            ("a", "light", 12.0),
            ("a", "pose", 13.0),
            ("b", "light", 15.0),
            ("b", "reconstruction", np.inf),
            ("a", "reconstruction", 30.0),
        )
    ]
)


def test_a_person_counts_once_however_many_trials_they_have() -> None:
    found = summarise(ROWS)["base"]
    assert found["light"]["psnr"].mean == pytest.approx((11 + 15) / 2)
    assert found[EDITS]["psnr"].mean == pytest.approx((35 / 3 + 15) / 2)
    assert found["reconstruction"]["psnr"] == Interval(30, 30, 30)  # a perfect one has no number


def test_gains_are_of_the_same_people() -> None:
    better = ROWS.assign(method="personalised", psnr=ROWS["psnr"] + 2)
    better.loc[better["subject"] == "b", "psnr"] += 1
    found = gains(pd.concat([ROWS, better]), "personalised")
    assert found == {"base": {"psnr": interval(np.array([2.0, 3.0]))}}
    assert gains(ROWS, "personalised") == {}


def test_the_interval_holds_the_mean_of_everybody_19_times_of_20() -> None:
    numbers = np.random.default_rng(0)
    found = [interval(numbers.normal(5, 2, 6)) for _ in range(2000)]
    assert np.mean([i.low <= 5 <= i.high for i in found]) == pytest.approx(0.95, abs=0.015)


def test_what_left_its_interval_is_told_with_its_direction() -> None:
    before = {"base": {"light": {"psnr": Interval(20, 19, 21), "pose": Interval(3, 2, 4), "ssim": Interval(0.5, 0, 1)}}}
    now = {"base": {"light": {"psnr": Interval(18, 17, 19), "pose": Interval(1, 0, 2), "features": Interval(1, 1, 1)}}}
    assert [(change.measure, change.worse) for change in changes(now, before)] == [("psnr", True), ("pose", False)]
    assert list(changes(before, before)) == []
