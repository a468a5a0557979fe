from pipelines.identity_queue import IdentityQueue, Outcome


def test_every_identity_goes_to_one_worker() -> None:
    queue = IdentityQueue(["ann", "bob", "cem"], attempts=2)
    assert (queue.take(0), queue.take(1)) == ("ann", "bob")
    queue.finish(1, Outcome("bob"))
    assert queue.take(1) == "cem"
    queue.finish(0, Outcome("ann"))
    assert queue.take(0) is None
    assert [outcome.name for outcome in queue.outcomes()] == ["bob", "ann"]


def test_a_restarted_worker_gets_its_own_identity_back() -> None:
    queue = IdentityQueue(["ann", "bob", "cem"], attempts=2)
    queue.take(0), queue.take(1)
    assert (queue.take(1), queue.take(0)) == ("bob", "ann")  # the group was restarted, in another order


def test_an_identity_that_kills_its_workers_is_given_up() -> None:
    queue = IdentityQueue(["ann", "bob"], attempts=2)
    assert [queue.take(0) for _ in range(3)] == ["ann", "ann", "bob"]
    assert queue.outcomes() == [Outcome("ann", error="its worker died 2 times")]


def test_restarts_that_another_worker_caused_count_too() -> None:
    """A group restart cannot tell whose fault it was: two innocent restarts are as many as two of its own."""
    queue = IdentityQueue(["ann"], attempts=3)
    assert [queue.take(0) for _ in range(4)] == ["ann"] * 3 + [None]
