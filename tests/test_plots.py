"""Pictures: what is drawn where, that no text runs into another, and what importing costs."""

import subprocess
import sys
from pathlib import Path

import pytest
from matplotlib.transforms import Bbox

from utils import plots

ROOT = Path(__file__).parents[1]
TITLE = "MRPC: choice of an assistant for a 90 % sparse student, $seed_776$"
METRIC = "dev mean of accuracy and F1 (fraction)"
ROWS = [  # out of order
    {"sparsity": 80, "metric": 0.75, "t": 0.91},
    {"sparsity": 50, "metric": 0.80, "t": 0.90},
    {"sparsity": 70, "metric": 0.78, "t": 0.92},
    {"sparsity": 90, "metric": 0.60, "t": 0.78},
]


def points(line):
    return list(zip(line.get_xdata(), line.get_ydata()))


def drawn_with(axes, marker):
    """The points of the line that has this marker."""
    (line,) = [line for line in axes.lines if line.get_marker() == marker]
    return points(line)


def texts(figure):
    """What can be read in the picture: (text, box in pixels)."""
    found = [figure._suptitle]
    for axes in figure.axes:
        found += [axes.xaxis.label, axes.yaxis.label]
        sides = [axes.yaxis, axes.xaxis] if axes is figure.axes[-1] else [axes.yaxis]
        for side in sides:
            low, high = side.get_view_interval()
            found += [tick.label1 for tick in side.get_major_ticks() if low <= tick.get_loc() <= high]
        found += axes.get_legend().get_texts() if axes.get_legend() else []
    return [(text.get_text(), text.get_window_extent()) for text in found if text.get_text()]


def assert_readable(figure):
    """No text overlaps another or leaves the picture, no legend stands among the lines; nothing is smaller
    than 9 points."""
    boxes = texts(figure)
    assert len(boxes) > 8
    for index, (text, box) in enumerate(boxes):
        assert figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1, text
        assert figure.bbox.y0 <= box.y0 and box.y1 <= figure.bbox.y1, text
        for other, other_box in boxes[index + 1 :]:
            assert not box.overlaps(other_box), (text, other)
    for axes in figure.axes:
        assert axes.get_legend() is None or axes.get_legend().get_window_extent().y0 >= axes.bbox.y1
        assert all(label.get_fontsize() >= 9 for label in [*axes.get_xticklabels(), *axes.get_yticklabels()])


def test_tradeoff(tmp_path):
    path = tmp_path / "tradeoff.png"
    figure = plots.tradeoff(path, ROWS, chosen=70, metric=METRIC, title=TITLE, lam=0.2, teacher=0.9)
    upper, lower = figure.axes
    assert drawn_with(upper, "o") == [(50, 0.80), (70, 0.78), (80, 0.75), (90, 0.60)]
    assert drawn_with(lower, "s") == [(50, 0.90), (70, 0.92), (80, 0.91), (90, 0.78)]
    assert drawn_with(upper, "*") == [(70, 0.78)] and drawn_with(lower, "*") == [(70, 0.92)]
    assert set(upper.lines[-1].get_ydata()) == {0.9}
    assert upper.get_ylabel().replace("\n", " ") == METRIC and lower.get_ylabel() == "t"
    legends = [[text.get_text() for text in axes.get_legend().get_texts()] for axes in figure.axes]
    assert legends == [
        [METRIC, "chosen: 70 %, 0.7800", "teacher: 0.9000"],
        ["t = metric + 0.2 x sparsity / 100", "chosen: 70 %, 0.9200"],
    ]
    assert_readable(figure)
    assert path.with_suffix(".svg").read_text().startswith("<?xml")
    content = path.read_bytes()
    assert content.startswith(b"\x89PNG") and int.from_bytes(content[16:20]) == 1024  # pixels across


def test_tradeoff_of_one_candidate(tmp_path):
    figure = plots.tradeoff(
        tmp_path / "t.png", ROWS[:1], chosen=80, metric=METRIC, title=TITLE, lam=0.2, teacher=0.9
    )
    assert drawn_with(figure.axes[0], "o") == [(80, 0.75)] and drawn_with(figure.axes[1], "*") == [(80, 0.91)]
    assert_readable(figure)


def test_curve(tmp_path):
    figure = plots.over_sparsity(tmp_path / "curve.png", ROWS, metric="dev F1 (fraction)", title=TITLE)
    (axes,) = figure.axes
    assert drawn_with(axes, "o") == [(50, 0.80), (70, 0.78), (80, 0.75), (90, 0.60)]
    assert axes.get_legend() is None  # one line, named by its axis
    assert_readable(figure)


def test_curve_with_series_and_reference(tmp_path):
    rows = [row | {"series": "scored on train"} for row in ROWS]
    rows += [
        {"sparsity": row["sparsity"], "metric": row["metric"] - 0.1, "series": "scored on dev"}
        for row in ROWS
    ]
    figure = plots.over_sparsity(
        tmp_path / "curve.png", rows, metric="dev F1", title=TITLE, reference=("teacher", 0.876)
    )
    (axes,) = figure.axes
    assert drawn_with(axes, "o")[0] == (50, 0.80) and drawn_with(axes, "s")[0] == (50, pytest.approx(0.70))
    assert [text.get_text() for text in axes.get_legend().get_texts()] == [
        "scored on train",
        "scored on dev",
        "teacher: 0.8760",
    ]
    assert set(axes.lines[-1].get_ydata()) == {0.876}
    assert_readable(figure)
    long = "student of the dense teacher"
    figure = plots.over_sparsity(
        tmp_path / "long.png", ROWS, metric="dev F1 (mean over classes)", title=TITLE, reference=(long, 0.876)
    )
    assert_readable(figure)


@pytest.mark.parametrize(
    "last, ticks",
    [(90, [0, 20, 40, 60, 80, 90]), (95, [0, 20, 40, 60, 80, 90, 95]), (92, [0, 20, 40, 60, 80, 92])],
)
def test_the_last_sparsity_and_the_best_have_marks(tmp_path, last, ticks):
    rows = [{"sparsity": s, "metric": 0.9 - s / 1000} for s in (0, 40, last)]
    figure = plots.over_sparsity(
        tmp_path / "curve.png", rows, metric="dev F1", title="t", best=("40S > 90S", 40, 0.86)
    )
    (axes,) = figure.axes
    assert {*ticks} <= {*axes.get_xticks()} and max(axes.get_xticks()) == last
    assert drawn_with(axes, "*") == [(40, 0.86)]
    assert "40S > 90S: 0.8600" in [text.get_text() for text in axes.get_legend().get_texts()]
    assert_readable(figure)


def test_names_beside_the_points_of_costs(tmp_path):
    """Every model is named in each panel, outside the points and the other names; two that are one point
    share a name."""
    models = [
        ("teacher", "teacher", 0.87, 1e9),
        ("90S", "torch", 0.81, 1e8),
        ("90S onnx", "onnx", 0.81, 1e8),
        ("a_student_whose_name_is_rather_long", "torch", 0.812, 1.05e8),
        ("95S", "torch", 0.78, 5e7),
    ]
    rows = [{"name": name, "kind": kind, "metric": m, "cost": cost} for name, kind, m, cost in models]
    figure = plots.costs(
        tmp_path / "costs.png", [("MACs", rows), ("ms", rows)], metric="dev F1", title="mrpc"
    )
    for axes in figure.axes:
        written = [text for text in axes.texts if text.get_text()]
        assert sorted(text.get_text().replace("\n", " ") for text in written) == sorted(
            ["teacher", "90S 90S onnx", "a_student_whose_name_is_rather _long", "95S"]
        ), [text.get_text() for text in written]
        boxes = [text.get_window_extent() for text in written]
        for index, box in enumerate(boxes):
            assert not any(box.overlaps(other) for other in boxes[index + 1 :])
            assert not any(box.contains(*axes.transData.transform((cost, m))) for *_, m, cost in models)


def test_a_runtime_looks_the_same_in_every_picture(tmp_path):
    """Whatever the order of the rows; and what lies under another marker can be seen beside it."""
    drawn = []
    for kinds in (["onnx", "torch", "onnx int8"], ["onnx int8", "teacher", "torch", "onnx"]):
        rows = [{"name": kind, "kind": kind, "metric": 0.8, "cost": 0.6} for kind in kinds]
        figure = plots.costs(tmp_path / "costs.png", [("ms", rows)], metric="dev F1", title="mrpc")
        lines = figure.axes[0].lines
        drawn.append({kind: (line.get_color(), line.get_marker()) for kind, line in zip(kinds, lines)})
        assert len({line.get_markersize() for line in lines}) == len(kinds)
        (legend,) = figure.legends
        shown = [text.get_text() for text in legend.get_texts()]
        marks = [(line.get_color(), line.get_marker()) for line in legend.get_lines()]
        assert dict(zip(shown, marks)) == drawn[-1]
    first, second = drawn
    assert all(second[kind] == style for kind, style in first.items())
    assert len({marker for _, marker in second.values()}) == 4


def test_numbers_below_one_stand_as_they_are(tmp_path):
    rows = [{"name": str(cost), "kind": "torch", "metric": cost, "cost": cost} for cost in (0.4, 3000)]
    figure = plots.costs(tmp_path / "costs.png", [("ms", rows)], metric="dev F1", title="mrpc")
    ticks = [tick.get_text() for tick in figure.axes[0].get_xticklabels()]
    assert {"0.5", "1", "500", "1k"} <= {*ticks} and not any("m" in tick for tick in ticks)


def test_a_name_covers_no_star(tmp_path):
    """Markers of every size are kept free: here of a teacher's."""
    rows = [
        {"name": "teacher", "kind": kind, "metric": 0.8, "cost": cost}
        for kind, cost in (("teacher", 100), ("onnx", 120), ("onnx int8", 10))
    ]
    figure = plots.costs(tmp_path / "costs.png", [("MB", rows)], metric="dev F1", title="mrpc")
    (axes,) = figure.axes
    names = [text.get_window_extent() for text in axes.texts if text.get_text()]
    assert len(names) == 3
    for line in axes.lines:
        (x, y), half = axes.transData.transform(points(line)[0]), line.get_markersize() * figure.dpi / 144
        star = Bbox.from_extents(x - half, y - half, x + half, y + half)
        assert not any(box.overlaps(star) for box in names)


def test_small_losses_over_few_updates(tmp_path):
    """Updates are whole; no power of ten above an axis, where the legend is."""
    rows = [{"step": step, "qq": 9e-5 - step * 1e-6, "loss": 0.5} for step in range(5)]
    figure = plots.history(tmp_path / "heldout.png", rows, value="held-out loss (nats)", title=TITLE)
    assert all(axes.yaxis.get_offset_text().get_text() == "" for axes in figure.axes)
    assert all(float(tick).is_integer() for tick in figure.axes[-1].get_xticks())
    assert_readable(figure)


def test_many_updates_have_few_marks_and_each_expert_its_own(tmp_path):
    rows = [{"step": step, "ffn/0": [0.5, 0.5]} for step in range(100)]
    figure = plots.shares(tmp_path / "experts.png", rows, title=TITLE)
    _, *experts = figure.axes[0].lines
    first, second = (range(100)[line.get_markevery()[0] :: line.get_markevery()[1]] for line in experts)
    assert 8 <= len(first) <= 16 and not {*first} & {*second}
    assert experts[0].get_marker() != experts[1].get_marker()


def test_curve_with_error_bars(tmp_path):
    """Of the series that has them, from spread below to spread above."""
    rows = [{"sparsity": s, "metric": s / 100, "spread": 0.05, "series": "ours"} for s in (50, 80)]
    rows += [{"sparsity": s, "metric": 0.4, "series": "theirs"} for s in (50, 80)]
    figure = plots.over_sparsity(tmp_path / "bars.png", rows, metric=METRIC, title=TITLE)
    (bars,) = figure.axes[0].containers
    (lines,) = bars.lines[2]
    ends = [[tuple(point) for point in segment] for segment in lines.get_segments()]
    assert ends == [[(50, 0.45), (50, 0.55)], [(80, pytest.approx(0.75)), (80, pytest.approx(0.85))]]
    assert drawn_with(figure.axes[0], "s") == [(50, 0.4), (80, 0.4)]


def test_expert_shares_lie_within_their_panels(tmp_path):
    """Also those of a later panel that are larger than all of the first."""
    rows = [
        {"step": step, "ffn/0": [0.25] * 4, "ffn/1": [share, 0.9 - share, 0.1]}
        for step, share in ((0, 0.85), (10, 0.4))
    ]
    figure = plots.shares(tmp_path / "experts.png", rows, title=TITLE)
    first, second = figure.axes
    assert points(second.lines[1]) == [(0, 85), (10, 40)] and len(first.lines) == 5 and len(second.lines) == 4
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "equal shares",
        *(f"expert {number}" for number in range(4)),
    ]
    for axes in figure.axes:
        low, high = axes.get_ylim()
        assert low == 0 and high >= 85


def test_the_same_rows_give_the_same_bytes(tmp_path):
    for name in ("first.png", "second.png"):
        plots.tradeoff(tmp_path / name, ROWS, chosen=70, metric=METRIC, title=TITLE, lam=0.2, teacher=0.9)
    for kind in ("png", "svg"):
        assert (tmp_path / f"first.{kind}").read_bytes() == (tmp_path / f"second.{kind}").read_bytes()


def test_nothing_is_imported_early_and_nothing_left_behind(tmp_path):
    """matplotlib comes with the first picture, pyplot (windows, global state) never; settings are as
    before."""
    program = (
        "import sys\n"
        "from utils import plots\n"
        "assert 'matplotlib' not in sys.modules\n"
        "import matplotlib\n"
        "settings = lambda: [matplotlib.rcParams[key] for key in plots.SETTINGS]\n"
        "before = settings()\n"
        f"plots.over_sparsity({str(tmp_path / 'curve.png')!r}, {ROWS!r}, metric='m', title='t')\n"
        "assert settings() == before\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, cwd=ROOT)
