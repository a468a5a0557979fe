from pipelines.identity_queue import IdentityQueue

THREE = {"ann": 0.0, "bob": 0.0, "cem": 0.0}


def test_every_identity_is_given_out_once_in_order() -> None:
    queue = IdentityQueue(THREE, attempts=2)
    assert len(queue) == 3
    assert [queue.take() for _ in range(4)] == ["ann", "bob", "cem", None]
    assert len(queue) == 0


def test_higher_priorities_go_first() -> None:
    queue = IdentityQueue({"ann": 0, "bob": 2.5, "cem": -1, "dan": 2.5}, attempts=1)
    assert [queue.take() for _ in range(4)] == ["bob", "dan", "ann", "cem"]


def test_who_lost_a_worker_is_next_and_after_so_many_given_up() -> None:
    queue = IdentityQueue(THREE, attempts=2)
    assert queue.take() == "ann"
    assert queue.died("ann")
    assert queue.take() == "ann"
    assert not queue.died("ann")
    assert [queue.take(), queue.take(), queue.take()] == ["bob", "cem", None]


def test_a_death_that_is_nobodys_fault_is_not_counted() -> None:
    queue = IdentityQueue({"ann": 0}, attempts=1)
    for _ in range(3):
        assert queue.take() == "ann"
        assert queue.died("ann", blame=False)
