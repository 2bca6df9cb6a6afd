"""The report: what it gathers, what it draws where, that it needs no other file, and that its tables sort in
a browser."""

import json
import re
import shutil
import subprocess
from html import unescape
from html.parser import HTMLParser
from itertools import pairwise

import pytest
from commands import run

from utils import report
from utils.errors import RunError
from utils.report.charts import Series, chart
from utils.report.page import Html, Score, table
from utils.styles import RUNTIMES, STAGES, short_number

TABLE = [{"sparsity": 80, "metric": 0.75, "t": 0.91}, {"sparsity": 85, "metric": 0.74, "t": 0.93}]


def write(folder, results=None, rows=(), *, end="\n"):
    folder.mkdir(parents=True)
    if results is not None:
        (folder / "results.json").write_text(results if isinstance(results, str) else json.dumps(results))
    if rows:
        (folder / "metrics.jsonl").write_text(
            "".join(json.dumps(row) + "\n" for row in rows) + end.removeprefix("\n")
        )
    return folder


def scores(step, value, **more):
    return {"stage": "train", "step": step, "dev/acc": value, "dev/f1": value / 2, "score": value, **more}


@pytest.fixture
def runs(tmp_path):
    """A folder with runs of several stages."""
    parent = tmp_path / "runs"
    train = [
        {
            "stage": "train",
            "step": step,
            "loss": 1 / step,
            "task": 0.7 / step,
            "hidden": 0.3 / step,
            "lr": 1e-5,
        }
        for step in (1, 2)
    ]
    model = {"macs": 1_358_954_496, "parameters": 22_713_986, "sparsity": 0.0, "layers": 6}
    tuned = {
        "stage": "finetuning",
        "task": "mrpc",
        "metrics": {"dev": {"acc": 0.81, "f1": 0.87}},
        "model": model,
    }
    write(parent / "teacher", {**tuned, "best_step": 2, "seconds": 12.5}, [*train, scores(2, 0.81)])
    curve = [{"sparsity": 0, "f1": 0.86, "macs": 1e9}, {"sparsity": 90, "f1": 0.5, "macs": 1e8}]
    write(parent / "nested", {**tuned, "stage": "sparsification", "curve": curve})
    write(
        parent / "a" / "minidisc<90>",
        {
            "stage": "minidisc",
            "task": "mrpc",
            "metrics": {"train_part": {"f1": 0.99}, "dev": {"acc": 0.75, "f1": 0.84}},
            "model": {**model, "macs": 134_676_480, "sparsity": 90.0},
            "hops": [
                {"iteration": 1, "pick": 85, "t": 0.93, "table": TABLE},
                {"iteration": 2, "pick": 90, "t": 0.84, "table": TABLE[:1]},
            ],
        },
    )
    distilled = {
        "stage": "minimoe",
        "metrics": {"heldout": {"qq": 0.1, "loss": 0.3}},
        "model": {"experts": "1,2"},
    }
    shares = [
        {"stage": "train", "step": step, "loss": 0.5, "experts/ffn/0": [0.25, 0.75]} for step in (1, 2, 3)
    ]
    write(parent / "experts", distilled, shares)
    speed = {"1x128": {"median_ms": 5.0}, "32x128": {"median_ms": 150.0}}
    write(
        parent / "table",
        {
            "stage": "evaluation",
            "task": "mrpc",
            "metrics": {},
            "hardware": "a <fast> machine",
            "rows": [
                {
                    "name": "teacher",
                    "runtime": "torch",
                    "teacher": True,
                    "dev/f1": 0.87,
                    "macs": 1e9,
                    "speed": speed,
                },
                {
                    "name": "student",
                    "runtime": "onnx",
                    "teacher": False,
                    "dev/f1": 0.84,
                    "macs": 1e8,
                    "speed": speed,
                    "compared_with": "teacher",
                    "difference": {"dev/f1": {"difference": -0.03, "low": -0.05, "high": -0.01}},
                },
            ],
        },
    )
    write(parent / "unfinished", None, train, end='\n{"stage": "tra')
    write(parent / "damaged", '{"stage": "finetuning", ')
    write(parent / "benchmark", {"seconds": 3})
    return parent


class Page(HTMLParser):
    """Tags that are open at the end, what refers to other files, and the rows of all tables."""

    VOID = {"meta", "input", "br", "wbr"}

    def __init__(self, text):
        super().__init__()
        self.open, self.references, self.tables = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.references += [
            value
            for name, value in attributes
            if name in ("src", "href", "data") and not value.startswith("#")
        ]
        if tag == "table":
            self.tables.append([])
        if tag == "tr":
            self.tables[-1].append([])
        if tag in ("td", "th"):
            self.tables[-1][-1].append("")
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        pass

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if {"td", "th"} & {*self.open}:
            self.tables[-1][-1][-1] += data


def test_page(runs):
    """Well-formed, without references to anything else; every run is in it, and the things that are drawn of
    it."""
    path = report.write(runs)
    text = path.read_text(encoding="utf-8")
    page = Page(text)
    assert path == runs / "report.html" and not page.open and not page.references
    assert not re.search(r"https?:|url\(|@import", text) and "<90>" not in text and "<fast>" not in text
    head, *rows = page.tables[0]
    found = {row[0]: dict(zip(head, row)) for row in rows}
    assert list(found) == ["a/minidisc<90>", "damaged", "experts", "nested", "teacher", "unfinished"]
    assert (
        found["a/minidisc<90>"]
        | {"which is": "dev F1", "score": "0.8400", "sparsity": "90", "MACs": "134.7M"}
        == found["a/minidisc<90>"]
    )
    assert found["experts"]["which is"] == "heldout loss" and found["unfinished"]["stage"] == "unfinished"
    assert found["teacher"]["seconds"] == "12.5"
    assert [["metric", "value"], ["dev accuracy", "0.8100"], ["dev F1", "0.8700"]] in page.tables
    assert "damaged: results.json: " in text
    for caption in (
        "mrpc: dev F1",
        "train: loss terms",
        "train: dev",
        "train: experts/ffn/0, tokens of each expert (%)",
        "dev F1, cut at each sparsity",
        "trade-off: t = metric + lambda x sparsity / 100",
    ):
        assert f"<figcaption>{caption}</figcaption>" in text, caption
    assert "Hop 1: the assistant at 85% is chosen, t = 0.9300" in text and "Hop 2" not in text
    evaluation = next(rows for rows in page.tables if rows[0][0] == "model")
    student = dict(zip(evaluation[0], evaluation[2]))
    assert student["dev/f1 - teacher"] == "-0.0300 (-0.0500, -0.0100)"
    assert student["MACs"] == "100M" and student["ms: 1 x 128 tokens"] == "5"


def test_terms_shares_and_crops_are_drawn_as_they_are(runs):
    """Each loss term is a line of its own through its values; an expert's share stands in percent."""
    text = report.write(runs).read_text(encoding="utf-8")
    details = re.search(r'<details id="teacher".*?</details>', text, re.S).group()
    assert {
        name: re.findall(rf"<title>{name}: (\S+), (\S+)</title>", details)
        for name in ("loss", "task", "hidden")
    } == {
        "loss": [("1", "1"), ("2", "0.5")],
        "task": [("1", "0.7"), ("2", "0.35")],
        "hidden": [("1", "0.3"), ("2", "0.15")],
    }
    assert "lr: " not in details
    details = re.search(r'<details id="experts".*?</details>', text, re.S).group()
    assert re.findall(r"<title>expert (\d): (\d), (\d+)</title>", details)[:2] == [
        ("0", "1", "25"),
        ("0", "2", "25"),
    ]


def test_what_chose_is_what_is_shown(tmp_path):
    """The metric of --selection_metric, in every place; a curve is of the rows that choose, and stands in no
    chart of dev."""
    model, macs = {"macs": 1e9, "parameters": 10, "sparsity": 0.0, "layers": 2}, [1e9, 1e8]
    metrics = {split: {"acc": 0.8, "macro_f1": value} for split, value in (("hold_out", 0.25), ("dev", 0.3))}
    curve = [{"sparsity": s, "acc": 0.8, "macro_f1": 0.25, "macs": m} for s, m in zip((0, 90), macs)]
    results = {"stage": "sparsification", "task": "mine", "metrics": metrics, "model": model, "curve": curve}
    results["data"] = {"train": 90, "hold_out": 10, "dev": 40}
    row = {"name": "a", "runtime": "torch", "dev/acc": 0.8, "dev/macro_f1": 0.3, "macs": 1e9}
    compared = {"stage": "evaluation", "task": "mine", "metrics": {}, "rows": [row], "data": {"dev": 30}}
    for name, found in (("nested", results), ("table", compared)):
        write(tmp_path / name, found)
        settings = {"settings": {"selection_metric": "macro_f1"}}
        (tmp_path / name / "args.json").write_text(json.dumps(settings))
    text = report.write(tmp_path).read_text(encoding="utf-8")
    head, row = Page(text).tables[0]
    expected = {"score": "0.3000", "which is": "dev F1 (mean over classes)", "rows": "40"}
    assert "dev: 30 rows" in text
    assert dict(zip(head, row)) | expected == dict(zip(head, row))
    assert "<figcaption>hold-out F1 (mean over classes), cut at each sparsity</figcaption>" in text
    assert (
        "<figcaption>mine: dev F1 (mean over classes)</figcaption>" in text and "nested, cut at" not in text
    )
    assert (
        "<figcaption>dev F1 (mean over classes)</figcaption>" in text
        and "dev accuracy</figcaption>" not in text
    )


def test_a_record_that_is_damaged(tmp_path):
    """What chose is then not known; the page is made all the same."""
    for name, metric in (("a", ["f1"]), ("b", {"f1": 1})):
        write(tmp_path / name, {"stage": "finetuning", "task": "mine", "metrics": {"dev": {"acc": 0.75}}})
        settings = {"settings": {"selection_metric": metric}}
        (tmp_path / name / "args.json").write_text(json.dumps(settings))
    text = report.write(tmp_path).read_text(encoding="utf-8")
    assert text.count("dev accuracy 0.7500") == 2 and "damaged (" not in text


def test_charts():
    """Places grow with values, also on logarithmic axes; what cannot be drawn is left out; long series are
    thinned."""
    text = chart(
        [Series("a", [(1, 10), (10, 20), (100, 40), (0, 5), (5, float("nan"))])], x="x", y="y", log_x=True
    )
    (path,) = re.findall(r'polyline points="([^"]+)"', text)
    places = [tuple(map(float, point.split(","))) for point in path.split()]
    assert len(places) == 3 and places[1][0] - places[0][0] == pytest.approx(
        places[2][0] - places[1][0], abs=0.2
    )
    # Upwards, linear
    assert places[1][1] - places[2][1] == pytest.approx(2 * (places[0][1] - places[1][1]), abs=0.2)
    assert chart([Series("a", []), Series("b", [(-1, 1)])], x="x", y="y", log_x=True) == ""
    assert "<polyline" not in chart([Series("a", [(1, 1)])], x="x", y="y")
    text = chart([Series("a", [(i, i) for i in range(10_001)])], x="x", y="y")
    assert len(re.search(r'points="([^"]+)"', text)[1].split()) <= 301
    values = [(7, 1), (7, 1)]
    assert "nan" not in chart([Series("same", values)], x="x", y="y", log_y=True)
    text = chart([Series("m", [(1, 1), (2, 2)], marked=(2,))], x="x", y="y")
    svg = text.partition("</svg>")[0]
    assert svg.count("<polygon") == 1 and svg.count("<circle") == 1


def test_names_stand_beside_points(tmp_path):
    """Each where it covers no other name and no point; where there is no room, it is told only when pointed
    at."""
    points = [(1, 1, "told", "one/name"), (1, 1.02, "told", "another/name"), (2, 1, "told", "third")]
    text = chart([Series("m", points, line=False)], x="x", y="y")
    places = re.findall(r'class="name" x="(\S+)" y="(\S+)" text-anchor="(\w+)">([^<]+)<', text)
    assert {name for *_, name in places} == {"one/name", "another/name", "third"}
    assert len({(y, anchor) for x, y, anchor, _ in places}) == 3
    crowded = [(1, 1, "told", f"model {number}") for number in range(40)]
    text = chart([Series("m", crowded, line=False)], x="x", y="y")
    assert 0 < text.count('class="name"') <= 12 and text.count("<title>told</title>") == 40


def test_names_of_a_crowded_chart():
    """Letters are taken to be as wide as the widest of common fonts: no name lies on another, on a point, on a
    curve or beyond the frame; whoever's name has no room has a number there and stands in the legend."""
    models = [
        (10 + number % 7 / 2, 0.6 + number / 90, "told", f"stage/mrpc_{number}S") for number in range(24)
    ]
    curve = [(10, 0.6), (11, 0.9), (12, 0.7), (13, 0.85)]
    text = chart([Series("m", models, line=False), Series("cut", curve)], x="x", y="y")
    written = re.findall(r'class="name" x="(\S+)" y="(\S+)" text-anchor="(\w+)">([^<]+)<', text)
    shift = {"start": 0, "middle": 0.5, "end": 1}
    boxes = []
    for x, y, anchor, name in written:
        left = float(x) - shift[anchor] * 6.6 * len(name)
        boxes.append((left, float(y) - 8, left + 6.6 * len(name), float(y) + 1))
    (line,) = re.findall(r'polyline points="([^"]+)"', text)
    marks = [tuple(map(float, place)) for place in re.findall(r'<circle cx="(\S+)" cy="(\S+)"', text)]
    ends = [tuple(map(float, place.split(","))) for place in line.split()]
    crossed = []
    for (x, y), (to_x, to_y) in pairwise(ends):
        crossed += [(x + (to_x - x) * share / 50, y + (to_y - y) * share / 50) for share in range(51)]
    for index, (left, top, right, bottom) in enumerate(boxes):
        assert 58 <= left and right <= 520 and 10 <= top and bottom <= 210
        assert not any(left < x < right and top < y < bottom for x, y in crossed)
        assert not any(left - 4 < x < right + 4 and top - 4 < y < bottom + 4 for x, y in marks)
        for other in boxes[index + 1 :]:
            assert other[2] < left or right < other[0] or other[3] < top or bottom < other[1]
    numbered = dict(re.findall(r"<span>(\d+): ([^<]+)</span>", text))
    named = {name for *_, name in written}
    assert numbered and {*numbered} <= named
    assert {*numbered.values()} | named >= {name for *_, name in models}


def test_a_stage_and_a_runtime_look_the_same_in_every_chart():
    """Whatever else is in it; together no two are the same, and no two of one kind have the same marker."""
    style = STAGES["distillation"]
    one = Series("distillation", [(1, 1)], line=False, style=style)
    other = Series("finetuning", [(2, 2)], line=False, style=STAGES["finetuning"])
    mark = f'<circle cx="11.0" cy="6.0" r="4.5" fill="{style.color}"'
    assert all(mark in chart(series, x="x", y="y") for series in ([one], [other, one]))
    for styles in (STAGES, RUNTIMES):
        assert len({style.marker for style in styles.values()}) == len(styles)
    assert len({*STAGES.values(), *RUNTIMES.values()}) == len(STAGES) + len(RUNTIMES)


def test_lines_of_one_stage_are_told_apart_by_dashes():
    lines = [Series(name, [(1, 1), (2, 2)], style=STAGES["sparsification"]) for name in "abc"]
    text = chart(lines, x="x", y="y").partition("</svg>")[0]
    assert len({*re.findall(r'stroke-dasharray="([^"]*)"', text)}) == 3


def test_ticks_of_an_axis_have_as_many_decimals():
    text = chart([Series("a", [(1, 0.26), (2, 0.31)])], x="x", y="y")
    ticks = re.findall(r'text-anchor="end">([^<]+)<', text)
    assert {"0.30", "0.31"} <= {*ticks} and {len(tick) for tick in ticks} == {4}


@pytest.mark.parametrize(
    "value, text",
    [
        (0, "0"),
        (0.85, "0.85"),
        (1358954496, "1.359G"),
        (22713986, "22.71M"),
        (1500, "1.5k"),
        (3e-5, "3e-05"),
        (-0.5, "-0.5"),
    ],
)
def test_numbers(value, text):
    assert short_number(value) == text


def test_scores_have_four_decimals_also_whole_ones():
    text = table([{"score": Score(1), "sparsity": 90.0}, {"score": Score(0.7826), "sparsity": 95.0}])
    assert '<td data-value="1.0">1.0000</td><td data-value="90.0">90</td>' in text


def test_tables_know_their_numbers():
    text = table(
        [{"a": 2, "b": None, "c": "<x>"}, {"a": 10.0, "b": None, "c": Html("<b>y</b>")}],
        runs=["r", "s"],
        chosen=1,
    )
    assert 'data-value="2"' in text and 'data-value="10.0"' in text and ">b<" not in text
    assert (
        "&lt;x&gt;" in text
        and "<b>y</b>" in text
        and text.count('class="chosen"') == 1
        and text.count("data-run") == 2
    )


def test_a_folder_whose_name_is_not_utf8(tmp_path):
    write(tmp_path / "caf\udce9", {"stage": "ted", "task": "mine", "metrics": {"dev": {"acc": 0.75}}})
    text = report.write(tmp_path).read_text(encoding="utf-8")
    assert "caf\\udce9" in text and "0.7500" in text


def test_the_script(tuned_demo, tmp_path):
    done = run("run_evaluation.py", "--report", tuned_demo.parent, "--output_dir", tmp_path)
    assert (
        done.stdout.strip() == str(tmp_path / "report.html")
        and "finetuning" in (tmp_path / "report.html").read_text()
    )
    done = run("run_evaluation.py", "--report", tmp_path / "none", code=2)
    assert "--report: found no folder" in done.stderr
    (tmp_path / "empty").mkdir()
    with pytest.raises(RunError, match="no run below it"):
        report.write(tmp_path / "empty")


def browser():
    return shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.mark.skipif(browser() is None, reason="needs chromium")
def test_sorting_filter_and_links_in_a_browser(runs):
    """Clicks on a column: up, then down, numbers as numbers, empty cells last; the filter hides; a link opens
    a run."""
    path = report.write(runs)
    text = path.read_text(encoding="utf-8")
    probe = """
    <script>
      const out = [], table = document.querySelector("table");
      const first = () => [...table.tBodies[0].rows].filter(row => !row.hidden).map(row => row.cells[0].textContent);
      const head = [...table.querySelectorAll("th button")].find(button => button.textContent === "MACs");
      head.click(); out.push(first()); head.click(); out.push(first());
      const box = document.getElementById("filter");
      box.value = "TEACH"; box.dispatchEvent(new Event("input")); out.push(first());
      location.hash = "#teacher";
      setTimeout(() => {
        out.push(document.getElementById("teacher").open);
        document.body.textContent = JSON.stringify(out);
      }, 200);
    </script>"""
    path.write_text(text.replace("</body>", probe + "</body>"), encoding="utf-8")
    done = subprocess.run(
        [
            browser(),
            *"--headless --no-sandbox --disable-gpu --virtual-time-budget=2000".split(),
            "--dump-dom",
            path.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=60,
    )
    told = unescape(re.search(r"<body>(\[.*\])</body>", done.stdout, re.S)[1])
    up, down, filtered, opened = json.loads(told)
    assert up == ["a/minidisc<90>", "nested", "teacher", "damaged", "experts", "unfinished"]
    assert down[:3] == ["nested", "teacher", "a/minidisc<90>"] and down[3:] == up[3:]
    assert filtered == ["teacher"] and opened is True
