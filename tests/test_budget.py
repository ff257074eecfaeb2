"""A time budget is kept whatever the machine does, and is used."""

import pytest

from neocog.training.budget import Budget, Pace


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def live(budget: Budget, clock: Clock, step: float, validation: float, slow_from: float = 2.0) -> float:
    """What the loop does with a budget, on a machine whose steps take `step` seconds, and twice as long after
    `slow_from` of the budget. Returns the seconds until the report is finished."""
    began = clock.now - budget.spent
    planned, done = budget.plan(0), 0
    while done < planned:
        budget.begin(done)
        for _ in range(budget.batches_per_epoch):
            budget.took(done)
            if budget.is_due():
                planned = budget.plan(done)
            clock.now += step * (2 if clock.now - began > slow_from * budget.seconds else 1)
            done += 1
            if done >= planned:
                break
        budget.took(done)
        clock.now += validation
        budget.validated(validation)
        if done < planned:
            planned = done if budget.is_over() else budget.plan(done)
    return clock.now + budget.evaluation * (step / budget.pace.later) + budget.report - began


@pytest.mark.parametrize("batches", [10, 10_000], ids=["many epochs", "less than one"])
@pytest.mark.parametrize("measured", [0.05, 0.1, 0.2])
@pytest.mark.parametrize("slow_from", [2.0, 0.5])
def test_it_ends_on_time_and_wastes_little(batches: int, measured: float, slow_from: float) -> None:
    """Steps take 0.1 s; what was measured beforehand is half of it, all of it, and twice."""
    clock = Clock()
    budget = Budget(100, 5, Pace(measured, measured), 1.0, 2.0, 3.0, batches, clock=clock)
    seconds = live(budget, clock, 0.1, 1.0, slow_from)
    assert 88 < seconds <= 100.5


def test_a_head_that_learns_first_has_its_own_pace() -> None:
    pace = Pace(first=1.0, later=10.0, head_batches=4)
    assert pace.seconds(0, 6) == 24
    assert pace.seconds(3, 5) == 11
    assert pace.batches(0, 24) == 6
    assert pace.batches(0, 2.5) == 2
    assert pace.batches(4, 25) == 2


def test_a_given_number_of_epochs_is_a_ceiling() -> None:
    assert Budget(1e6, 0, Pace(1, 1), 0, 0, 0, 10, most=30, clock=Clock()).plan(0) == 30


def test_without_time_there_is_one_step() -> None:
    budget = Budget(10, 9, Pace(5, 5), 1, 1, 1, 10, clock=Clock())
    assert budget.is_over()
    assert budget.plan(7) == 8
