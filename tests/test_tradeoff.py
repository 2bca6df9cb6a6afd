"""The choice of the assistant, against the values of the paper's figure and the traps of earlier code."""

import pytest

from modules.tradeoff import candidates, choose, tradeoff, trained_together

GRID = [0, 10, 20, 30, 40, 50, 60, 70, 80, 85, 90, 95]


def test_the_papers_qqp_figure():
    """F1 of the assistants at scales .7 to .2 and the trade-offs printed there, to the figure's three or four
    decimals."""
    metrics = {30: 0.8874, 40: 0.8858, 50: 0.8827, 60: 0.8812, 70: 0.8771, 80: 0.8695}
    chosen, rows = choose(metrics, lam=0.2)
    assert chosen == 80
    assert [row["t"] for row in rows] == pytest.approx(
        [0.9474, 0.9658, 0.9827, 1.0012, 1.0171, 1.0295], abs=1e-9
    )


def test_the_students_own_scale_wins_where_it_may():
    """MRPC: t(.1) = .8667 + .18 = 1.0467 beats every assistant, which means none; so it is no candidate by
    default."""
    metrics = {30: 0.9151, 40: 0.9132, 50: 0.9127, 60: 0.8993, 70: 0.8889, 80: 0.8707}
    assert tradeoff(0.8667, 90, lam=0.2) == pytest.approx(1.0467)
    assert choose({**metrics, 90: 0.8667}, lam=0.2)[0] == 90
    assert candidates(GRID, own=0, target=90, smallest=50) == [50, 60, 70, 80]
    assert candidates(GRID, own=0, target=90, smallest=50, include_target=True) == [50, 60, 70, 80, 90]


def test_candidates_lie_strictly_between():
    """Tens by default, the published set with 85 on request, or those that are listed; never the teacher's
    scale or beyond."""
    assert candidates(GRID, own=0, target=90, smallest=50, wanted="grid") == [50, 60, 70, 80, 85]
    assert candidates(GRID, own=0, target=90, smallest=50, wanted=[30, 85, 90]) == [30, 85]
    assert candidates(GRID, own=80, target=90, wanted="grid") == [85]
    assert candidates(GRID, own=80, target=90) == candidates(GRID, own=85, target=90, wanted="grid") == []
    # As strings "5" > "90" and "100" < "90"
    assert candidates([5, 90, 100], own=0, target=100, wanted="grid") == [5, 90]


def test_the_target_and_what_lies_beyond_is_trained_too():
    """All grid points from the smaller of --trunc_sparsity and the smallest candidate on, but none larger
    than the teacher."""
    trained = trained_together(GRID, [50, 60, 70, 80], own=0, smallest=50)
    assert trained == [50, 60, 70, 80, 85, 90, 95]
    assert (
        sum(100 - s for s in trained if s != 85) / 100 == pytest.approx(1.55)
        and sum(100 - s for s in trained) == 170
    )
    assert trained_together(GRID, [70, 80], own=0, smallest=70) == [70, 80, 85, 90, 95]
    assert trained_together(GRID, [90], own=80, smallest=50) == [80, 85, 90, 95]  # --final_hop grid
    assert trained_together(GRID, [30], own=0, smallest=50)[0] == 30
    assert trained_together(GRID, [80], own=70, smallest=50)[0] == 70
    assert trained_together(GRID, [0, 50], own=0, smallest=0) == GRID


def test_ties_go_to_the_larger_model():
    assert choose({80: 0.5, 50: 0.5}, lam=0)[0] == 50


def test_negative_scores_can_be_chosen():
    """A correlation or a Matthews coefficient may be negative; lambda decides then as ever."""
    assert choose({50: -0.2, 80: -0.3}, lam=0)[0] == 50 and choose({50: -0.2, 80: -0.21}, lam=0.2)[0] == 80
