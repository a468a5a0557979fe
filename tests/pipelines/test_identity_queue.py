from pipelines.identity_queue import IdentityQueue


def test_every_identity_goes_to_one_worker() -> None:
    queue = IdentityQueue(["ann", "bob", "cem"], attempts=2)
    assert (queue.take(0), queue.take(1)) == ("ann", "bob")
    queue.finish(1, b"bob's")
    assert queue.take(1) == "cem"
    queue.finish(0, b"ann's")
    assert queue.take(0) is None
    assert queue.results() == {"bob": b"bob's", "ann": b"ann's"}


def test_a_restarted_worker_gets_its_own_identity_back() -> None:
    queue = IdentityQueue(["ann", "bob", "cem"], attempts=2)
    assert (queue.take(0), queue.take(1)) == ("ann", "bob")
    assert (queue.take(1), queue.take(0)) == ("bob", "ann")  # the group was restarted, in another order


def test_an_identity_that_kills_its_workers_is_given_up_and_the_one_beside_it_is_not() -> None:
    queue = IdentityQueue(["ann", "bob", "cem"], attempts=2)
    for _ in range(2):
        assert (queue.take(0), queue.take(1)) == ("ann", "bob")
        queue.died(0)
    assert (queue.take(0), queue.take(1)) == ("cem", "bob")
    queue.finish(0, b"")
    queue.finish(1, b"")
    assert set(queue.results()) == {"bob", "cem"}


def test_a_worker_that_dies_before_its_first_identity_blames_none() -> None:
    queue = IdentityQueue(["ann"], attempts=1)
    queue.died(0)
    assert queue.take(0) == "ann"
