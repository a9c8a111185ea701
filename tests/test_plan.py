"""The plan under simulated faults, and its single transitions."""

from __future__ import annotations

import random

import pytest

from rayopt.plan import (
    MAX_ATTEMPTS,
    MAX_TOGETHER,
    Done,
    Failed,
    Finish,
    Grown,
    Instruction,
    Interrupted,
    Lost,
    Node,
    OutOfBudget,
    Plan,
    Record,
    Run,
)

SCHEDULES = 100_000


def runs(out: list[Instruction]) -> list[tuple[str, ...]]:
    return [one.ids for one in out if isinstance(one, Run)]


def records(out: list[Instruction]) -> list[tuple[str, str]]:
    return [(one.id, one.status) for one in out if isinstance(one, Record)]


def test_a_child_runs_once_its_parent_is_done() -> None:
    plan = Plan([Node("a"), Node("b", "a")])
    assert runs(plan.start()) == [("a",)]
    out = plan.handle(Done("a"))
    assert records(out) == [("a", "done")]
    assert runs(out) == [("b",)]
    assert plan.handle(Done("b"))[-1] == Finish()


def test_exclusive_nodes_run_together_when_nothing_else_does() -> None:
    plan = Plan([Node("a"), Node("b"), Node("ta", "a", exclusive=True), Node("tb", "b", exclusive=True)])
    plan.start()
    assert runs(plan.handle(Done("a"))) == []
    assert runs(plan.handle(Done("b"))) == [("ta", "tb")]
    assert runs(plan.handle(Grown((Node("c"),)))) == []
    plan.handle(Done("ta"))
    assert runs(plan.handle(Done("tb"))) == [("c",)]


def test_a_lost_batch_is_run_one_by_one() -> None:
    plan = Plan([Node("a", exclusive=True), Node("b", exclusive=True)])
    plan.start()
    plan.handle(Lost("a", "killed"))
    assert runs(plan.handle(Lost("b", "killed"))) == [("a",)]
    out = plan.handle(Lost("a", "killed", attempt=2))
    assert records(out) == [("a", "failed")]
    assert runs(out) == [("b",)]


def test_a_lost_step_is_tried_once_more_and_a_failed_one_is_not() -> None:
    plan = Plan([Node("a"), Node("b"), Node("c", "a")])
    plan.start()
    assert plan.handle(Lost("a", "killed")) == [Run(("a",), 2, exclusive=False)]
    out = plan.handle(Lost("a", "killed", attempt=2))
    assert records(out) == [("a", "failed"), ("c", "skipped")]
    assert all(one.because_of == "a" for one in out if isinstance(one, Record))
    out = plan.handle(Failed("b", "no"))
    assert records(out) == [("b", "failed")]
    assert out[-1] == Finish()


def test_a_result_that_comes_late_counts_once() -> None:
    plan = Plan([Node("a")])
    plan.start()
    plan.handle(Lost("a", "killed"))
    assert records(plan.handle(Done("a"))) == [("a", "done")]
    assert plan.handle(Failed("a", "no", attempt=2)) == [Finish()]


def test_an_attempt_that_was_given_up_still_holds_the_machine() -> None:
    plan = Plan([Node("a"), Node("ta", "a", exclusive=True)])
    plan.start()
    plan.handle(Lost("a", "killed"))
    assert runs(plan.handle(Done("a"))) == []
    assert runs(plan.handle(Lost("a", "killed", attempt=2))) == [("ta",)]


def test_out_of_budget_times_what_is_done_and_starts_nothing_else() -> None:
    plan = Plan([Node("a"), Node("b", "a"), Node("ta", "a", exclusive=True)])
    plan.start()
    plan.handle(OutOfBudget())
    out = plan.handle(Done("a"))
    assert ("b", "skipped") in records(out)
    assert runs(out) == [("ta",)]


def test_what_is_to_run_always_runs_without_a_budget_too() -> None:
    plan = Plan([Node("a"), Node("b", "a", always=True), Node("c"), Node("d", "c", always=True)], room=1)
    assert runs(plan.start()) == [("a",)]
    assert records(plan.handle(OutOfBudget())) == [("c", "skipped"), ("d", "skipped")]
    assert runs(plan.handle(Done("a"))) == [("b",)]
    assert runs(plan.handle(Lost("b", "killed"))) == [("b",)]
    out = plan.handle(Done("b", attempt=2))
    assert records(out) == [("b", "done")]
    assert out[-1] == Finish()
    assert runs(plan.handle(Grown((Node("e", always=True), Node("f"))))) == [("e",)]


def test_no_more_is_started_than_there_is_room_for_and_the_deepest_first() -> None:
    plan = Plan([Node("a"), Node("b"), Node("c"), Node("d", "a"), Node("e", "d")], room=2)
    assert runs(plan.start()) == [("a",), ("b",)]
    assert runs(plan.handle(Done("a"))) == [("d",)]
    assert runs(plan.handle(Done("b"))) == [("c",)]
    assert runs(plan.handle(Done("d"))) == [("e",)]
    assert plan.resize(0) == []
    assert runs(plan.handle(Grown((Node("f"), Node("g"), Node("h"))))) == []
    plan.handle(Done("e"))
    assert runs(plan.handle(Done("c"))) == [("f",)]  # one call shows when there is a machine again
    assert runs(plan.resize(3)) == [("g",), ("h",)]
    assert plan.resize(3) == []
    plan.handle(Interrupted())
    assert plan.resize(9) == []


def test_very_many_exclusive_nodes_run_in_several_calls() -> None:
    nodes = [Node(f"n{number}", exclusive=True) for number in range(MAX_TOGETHER + 3)]
    plan = Plan(nodes)
    ((*first,),) = runs(plan.start())
    assert first == [node.id for node in nodes[:MAX_TOGETHER]]
    out = [one for id in first for one in plan.handle(Done(id))]
    assert runs(out) == [tuple(node.id for node in nodes[MAX_TOGETHER:])]


def test_after_an_interrupt_nothing_starts_and_what_is_done_is_recorded() -> None:
    plan = Plan([Node("a"), Node("b", "a")])
    plan.start()
    assert plan.handle(Interrupted()) == [Finish(interrupted=True)]
    out = plan.handle(Done("a"))
    assert records(out) == [("a", "done")]
    assert runs(out) == []


@pytest.mark.parametrize("nodes", [[Node("a"), Node("a")], [Node("a", "nobody")]])
def test_a_plan_that_makes_no_sense_is_refused(nodes: list[Node]) -> None:
    with pytest.raises(ValueError, match=r"plan already|unknown parent"):
        Plan(nodes)


def test_simulated_faults() -> None:
    """Random trees under random faults in random order: the laws hold in each of 100,000 schedules."""
    for seed in range(SCHEDULES):
        simulate(random.Random(seed))


def simulate(chance: random.Random) -> None:
    """One schedule: workers die, calls run past their limit, results come late, twice or out of order, the plan grows,
    the room changes, the budget ends.
    """
    nodes = random_nodes(chance, chance.randint(1, 7), [])
    plan = Plan(nodes, room=chance.choice([None, 1, 2, 4]))
    known = {node.id: node for node in nodes}
    in_flight: list[Run] = []
    recorded: dict[str, str] = {}
    finished: set[str] = set()  # what a worker reported as done before it was recorded as anything else
    attempts: dict[str, int] = {}
    interrupted = spent = False
    grown = 0

    def follow(out: list[Instruction]) -> bool:
        ended = False
        for one in out:
            if isinstance(one, Record):
                assert one.id not in recorded, "recorded twice"
                recorded[one.id] = one.status
            elif isinstance(one, Run):
                assert not interrupted
                assert one.exclusive or plan.room is None or len(in_flight) < plan.room, "more than there is room for"
                assert not spent or one.exclusive or known[one.ids[0]].always, "started without a budget"
                for id in one.ids:
                    attempts[id] = attempts.get(id, 0) + 1
                    assert attempts[id] <= MAX_ATTEMPTS
                    parent = known[id].parent
                    assert parent is None or recorded.get(parent) == "done"
                    assert known[id].exclusive == one.exclusive
                assert not (one.exclusive and in_flight), "an exclusive call shares the machine"
                assert not any(other.exclusive for other in in_flight), "something runs beside an exclusive call"
                in_flight.append(one)
            else:
                ended = True
        return ended

    ended = follow(plan.start())
    for _ in range(200):
        if ended and grown < 1 and not interrupted and chance.random() < 0.3:
            grown += 1
            more = random_nodes(chance, chance.randint(1, 3), list(known))
            known.update({node.id: node for node in more})
            ended = follow(plan.handle(Grown(tuple(more))))
            continue
        if ended or not in_flight:
            break
        if chance.random() < 0.01:
            interrupted = True
            ended = follow(plan.handle(Interrupted()))
        elif chance.random() < 0.02:
            spent = True
            follow(plan.handle(OutOfBudget()))
            ended = all(id in recorded for id in known)
        else:
            if plan.room is not None and chance.random() < 0.1:
                follow(plan.resize(chance.choice([1, 2, 4])))
            run = in_flight.pop(chance.randrange(len(in_flight)))
            fate = chance.random()
            for id in chance.sample(run.ids, len(run.ids)):
                for event in random_end(chance, fate, id, run.attempt):
                    if isinstance(event, Done) and id not in recorded:
                        finished.add(id)
                    ended = follow(plan.handle(event))
    if interrupted:
        for run in in_flight:  # what was still running reports after the stop
            for id in run.ids:
                if id not in recorded:
                    finished.add(id)
                follow(plan.handle(Done(id, run.attempt)))
    else:
        assert ended, "the run did not end"
        assert set(recorded) == set(known), "a node was forgotten"
    assert all(recorded.get(id) == "done" for id in finished), "something finished was lost"


def random_nodes(chance: random.Random, count: int, before: list[str]) -> list[Node]:
    known = list(before)
    nodes = []
    for _ in range(count):
        parent = chance.choice(known) if known and chance.random() < 0.7 else None
        node = Node(f"n{len(known)}", parent, chance.random() < 0.25, chance.random() < 0.2)
        nodes.append(node)
        known.append(node.id)
    return nodes


def random_end(chance: random.Random, fate: float, id: str, attempt: int) -> list[Done | Failed | Lost]:
    """How one attempt ends; a lost one, or one that was ended at its limit, may turn out to have finished after all."""
    if fate < 0.6:
        return [Done(id, attempt)] * chance.choice([1, 1, 1, 2])
    if fate < 0.7:
        return [Failed(id, "no", attempt)]
    if fate < 0.75:
        return [Failed(id, "did not end within 5 s", attempt), *[Done(id, attempt)] * chance.choice([0, 1])]
    if fate < 0.95:
        return [Lost(id, "killed", attempt)]
    return [Lost(id, "killed", attempt), Done(id, attempt)]
