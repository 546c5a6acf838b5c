"""What the benchmark makes of its figures: the summary, the tables, the page."""

from __future__ import annotations

import importlib
from pathlib import Path

import numpy as np
import onnx
import pytest
from models import build, op, value_info

import onnx_lrp

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def benchmark(monkeypatch):
    """Imports a module of the benchmarks by its name."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module


@pytest.fixture
def results(benchmark):
    """Two rows of VGG16 and one of another network: batch 8 reaches every aim, batch 32 none, the other one only zennit's lead."""
    data = benchmark("results")

    def row(model, batch, floor, seconds, peaks, reason=""):
        found = {name: data.Result([time, time], peak, 100.0) for (name, time), peak in zip(seconds.items(), peaks, strict=True)}
        found["captum"] = data.Result(reason=reason or "no Flat rule")
        shares = {"pools": 0.6, "layout": 0.4}
        return data.Row(model, "epsilon_plus_flat", batch, "key", "2026-01-02", found, floor, floor, shares)

    rows = [
        row("vgg16", 32, 2.0, {"forward": 4.0, "onnx_lrp": 12.0, "zennit": 24.0}, (1, 300, 200)),
        row("vgg16", 8, 2.0, {"forward": 1.0, "onnx_lrp": 2.0, "zennit": 16.0}, (1, 100, 200)),
        row("squeezenet", 1, 3.0, {"forward": 1.0, "onnx_lrp": 9.0, "zennit": 36.0}, (1, 100, 200), "ended: a | b"),
    ]
    return data.Results({"threads": "2"}, rows, {"start-up": data.Fact("key", {"ours": [3.0, 1.0], "plain": [1.0, 2.0]})})


def test_every_missed_aim_is_listed(benchmark, results) -> None:
    summary = benchmark("summary")
    found = [(miss.row.model, miss.row.batch, miss.what, miss.value) for miss in summary.misses(results.rows)]
    assert found == [
        ("vgg16", 32, "x floor", 1.5),
        ("vgg16", 32, "zennit / ours", 2.0),
        ("vgg16", 32, "memory / zennit's", 1.5),
        ("vgg16", 32, "time per image / that of batch 8", 1.5),
        ("squeezenet", 1, "x floor", 3.0),
    ]
    text = summary.text(results)
    assert "zennit takes 4.00 times our time in the geometric mean of 3 rows" in text
    assert "the smallest lead is 2.00: VGG16, epsilon_plus_flat, batch 32" in text
    assert "exactly at the floor, zennit would take 6.60 times our time, and 0 rows could not reach 3, 1 rows could not reach 6" in text
    assert "1 of 3 rows reach every aim" in text
    assert text.splitlines()[-5:] == [
        "| VGG16, epsilon_plus_flat, batch 32 | x floor | 1.50 | at most 1.3 | pools 60 %, layout 40 % |",
        "| VGG16, epsilon_plus_flat, batch 32 | zennit / ours | 2.00 | over 3 | at the floor: 3.00 |",
        "| VGG16, epsilon_plus_flat, batch 32 | memory / zennit's | 1.50 | at most 1 | in the run; 100 MiB before it |",
        "| VGG16, epsilon_plus_flat, batch 32 | time per image / that of batch 8 | 1.50 | at most 1 | pools 60 %, layout 40 % |",
        "| SqueezeNet 1.1, epsilon_plus_flat, batch 1 | x floor | 3.00 | at most 2.5 | pools 60 %, layout 40 % |",
    ]


def test_memory_may_be_at_its_peak_before_the_first_run(benchmark, results) -> None:
    results.rows[0].results["onnx_lrp"].prepared_mib = 299.0
    found = [miss.why for miss in benchmark("summary").misses(results.rows) if miss.what == "memory / zennit's"]
    assert found == ["while the session is made"]


def test_where_the_time_goes(benchmark, tmp_path) -> None:
    """Shares of the time in nodes, by kinds of operators."""
    constants = {"w": np.ones((8, 3, 3, 3)), "v": np.ones((8, 5))}
    nodes = [op("Conv", "x w", "c"), op("Relu", "c", "r"), op("GlobalMaxPool", "r", "g"), op("Flatten", "g", "f"), op("Gemm", "f v", "y")]
    path = tmp_path / "model.onnx"
    outputs = [value_info("y", ["N", 5])]
    onnx.save(build(nodes, {"x": ["N", 3, 16, 16]}, outputs, constants=constants), path)
    case = benchmark("contender").Case("net", str(path), "epsilon", 1, (3, 16, 16))
    found = benchmark("shares").shares(onnx_lrp.Explainer(path, "epsilon", providers="cpu").to_onnx(), case, 2)
    assert sum(found.values()) == pytest.approx(1.0)
    assert list(found.values()) == sorted(found.values(), reverse=True)
    assert {"convolutions and products", "elementwise", "layout"} <= set(found)


def test_tables_say_why_cells_are_empty(benchmark, results) -> None:
    text = benchmark("tables").speed(results)
    assert [line for line in text.splitlines() if line.startswith("#")] == ["### VGG16", "### SqueezeNet 1.1"]
    assert "| epsilon_plus_flat | 8 | 1000.0 | 2000.0 |".replace("00.0", "00") in text
    assert "- captum: no Flat rule\n" in text
    assert "- captum: ended: a | b" in text
    assert text.index("| epsilon_plus_flat | 8 |") < text.index("| epsilon_plus_flat | 32 |")


def test_results_are_read_back(benchmark, results, tmp_path) -> None:
    data = benchmark("results")
    assert data.Results.read(tmp_path / "none.json") == data.Results()
    results.write(tmp_path / "speed.json")
    again = data.Results.read(tmp_path / "speed.json")
    assert again == results
    assert again.find("vgg16", "epsilon_plus_flat", 8, "key") is not None
    assert again.find("vgg16", "epsilon_plus_flat", 8, "another key") is None
    again.put(again.rows[0])
    assert len(again.rows) == 3


def test_only_generated_parts_of_the_page_change(benchmark, results, tmp_path) -> None:
    page = benchmark("page")
    before = (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    path = tmp_path / "benchmarks.md"
    path.write_text(before, encoding="utf-8")
    page.rewrite(path, results)
    after = path.read_text(encoding="utf-8")
    assert "### SqueezeNet 1.1" in after
    assert (tmp_path / page.PICTURE).stat().st_size > 5000
    assert written_by_hand(before) == written_by_hand(after)
    page.rewrite(path, results)
    assert path.read_text(encoding="utf-8") == after


def test_a_page_without_markers_stays_as_it_is(benchmark, results, tmp_path) -> None:
    path = tmp_path / "page.md"
    path.write_text("# Nothing to fill\n", encoding="utf-8")
    with pytest.raises(ValueError, match="generated: environment"):
        benchmark("page").rewrite(path, results)
    assert [file.name for file in tmp_path.iterdir()] == ["page.md"]


def written_by_hand(text: str) -> list[str]:
    parts = text.split("<!-- generated: ")
    return [parts[0], *(part.split("<!-- end of generated -->")[1] for part in parts[1:])]


def test_facts_stand_beside_their_aims(benchmark, results) -> None:
    line = benchmark("tables").facts(results).splitlines()[-1]
    assert line == "| start-up | ours | 1000 / 2000 | plain | 1000 / 1500 | 1.00 / 1.33 | under 1.5 |"
