"""The page in a real browser: Debian's Chromium, controlled by Playwright."""

import csv
import io
import os
import shutil
import threading
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench.plan import Request
from bench.report import HOST, Layout, tables
from bench.report.latex import latex
from bench.report.live_server import Live, server
from bench.report.page import make_page
from bench.results import folded, load
from bench.runner import Options, carry_out
from tests.bench.test_grid_reports import GRID, LAMS, cells_of, run_of
from tests.conftest import ran

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium"),
]
STRATEGIES = ("finetune", "er", "ewc", "er[buffer=20]", "der++")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of five strategies and seven seeds, and cells that were skipped."""
    run = tmp_path_factory.mktemp("page") / "run"
    plain = Request("toy", STRATEGIES, ("class",), tuple(range(7)), {"epochs": "1"})
    skipped = replace(plain, strategies=("er-ace",), scenarios=("domain",), seeds=(0,))
    command = "lethe run toy -s <script>alert(1)</script>"
    carry_out([plain, skipped], run, Options(jobs=1, quiet=True), command)
    return run


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield running
        running.close()


@pytest.fixture
def page(browser: Any, folder: Path, tmp_path: Path) -> Iterator[Any]:
    """The page, opened from a file; console errors and requests other than the file fail the test."""
    (tmp_path / "index.html").write_text("".join(make_page(load(folder))))
    context = browser.new_context(viewport={"width": 1280, "height": 900}, accept_downloads=True)
    opened = context.new_page()
    messages: list[str] = []
    opened.on("console", lambda message: messages.append(message.text))
    opened.on("pageerror", lambda error: messages.append(str(error)))
    opened.on("request", lambda request: messages.append(request.url))
    opened.goto((tmp_path / "index.html").as_uri())
    yield opened
    context.close()
    ours = ("blob:", "data:", (tmp_path / "index.html").as_uri())
    assert [t for t in messages if not t.startswith(ours)] == []


def names(page: Any) -> list[str]:
    rows = page.locator("#t0 table.scores tbody tr:visible th")
    return [text.strip() for text in rows.all_inner_texts()]


def column(page: Any, key: str) -> list[float]:
    cells = page.locator(f"#t0 table.scores tbody tr:visible td[data-key='{key}']")
    return [float(v) for v in cells.evaluate_all("nodes => nodes.map(n => n.dataset.value)")]


def test_a_click_on_a_header_sorts_best_first_and_then_reverses(page: Any) -> None:
    assert column(page, "acc") == sorted(column(page, "acc"), reverse=True)
    head = page.locator("#t0 th[data-key='forgetting']")
    for way in ("ascending", "descending"):  # less forgetting is better
        head.locator("button").click()
        assert head.get_attribute("aria-sort") == way
        values = column(page, "forgetting")
        assert values == sorted(values, reverse=way == "descending")
    page.locator("#t0 th[data-key='strategy'] button").click()
    assert (names(page), head.get_attribute("aria-sort")) == (sorted(STRATEGIES), "none")


def test_the_filter_selects_by_name_and_family(page: Any) -> None:
    of_word = {"ewc": {"ewc"}, "replay": {"der++", "er", "er[buffer=20]"}, "": {*STRATEGIES}}
    for word, expected in of_word.items():
        page.locator("#t0 .filter").fill(word)
        assert set(names(page)) == expected


def test_columns_can_be_shown_and_hidden(page: Any) -> None:
    page.locator("#t0 .columns summary").click()
    assert page.locator("#t0 th[data-key='acc']").is_visible()
    page.locator("#t0 .columns input[value='acc']").uncheck()
    assert page.locator("#t0 th[data-key='acc']").is_hidden()
    assert page.locator("#t0 td[data-key='acc']").first.is_hidden()
    page.locator("#t0 .columns input[value='bwt_all_pairs']").check()
    assert page.locator("#t0 td[data-key='bwt_all_pairs']").first.is_visible()


def test_details_of_a_strategy_open_with_the_keyboard_and_close(page: Any) -> None:
    button = page.locator("#t0 .open", has_text="ewc")
    button.focus()
    page.keyboard.press("Enter")
    detail = page.locator("#t0 .detail")
    assert detail.locator("h3").inner_text() == "ewc"
    assert detail.locator(".matrix tbody tr").count() == 3  # two tasks and row 0
    assert detail.locator("svg polyline").count() == 1
    assert detail.locator("table").last.locator("tbody tr").count() == 7
    detail.get_by_role("button", name="close").click()
    assert detail.is_hidden()


def test_two_strategies_can_be_compared(page: Any) -> None:
    page.locator("#t0 .compare summary").click()
    form, answer = page.locator("#t0 .compare form"), page.locator("#t0 .compare .answer")
    differences = []
    for pair in (("er", "finetune"), ("finetune", "er")):
        for place, name in zip("ab", pair, strict=True):
            form.locator(f"[name={place}]").select_option(label=name)
        words = answer.locator("p").first.inner_text()
        assert words.startswith("acc of {} minus {}: ".format(*pair))
        assert "paired over 7 common seeds" in words
        assert "after Holm over 10 comparisons" in words
        differences.append(float(words.split(": ")[1].split(" points")[0]))
    assert differences[0] == pytest.approx(-differences[1])
    form.locator("[name=b]").select_option(label="finetune")
    assert "two different strategies" in answer.inner_text()


def test_tables_are_copied_as_the_numbers_shown_and_as_the_file_in_latex(page: Any, folder: Path) -> None:
    def copied(form: str) -> str:
        page.locator("#t0 .status").evaluate("node => { node.textContent = '' }")
        page.locator(f"#t0 [data-copy={form}]").click()
        page.locator("#t0 .status", has_text="copied").wait_for()
        return page.evaluate("navigator.clipboard.readText()")

    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.locator("#t0 .filter").fill("er")
    rows = list(csv.reader(io.StringIO(copied("csv"))))
    frames = load(folder)
    made = tables(frames, None, Layout(marks=True, origin=True))
    numbers = made.numbers.set_index(["identity", "column"])
    assert rows[0][:7] == ["strategy", "family", "n", "acc_mean", "acc_sd", "acc_n", "acc_mark"]
    assert {row[0] for row in rows[1:]} == set(names(page))
    for row in (dict(zip(rows[0], row, strict=True)) for row in rows[1:]):
        for column in ("acc", "bwt", "samples_per_second"):
            expected = numbers.loc[(row["strategy"], column)]
            for part in ("mean", "sd", "n"):
                assert float(row[f"{column}_{part}"]) == pytest.approx(expected[part], rel=1e-6)
            assert row[f"{column}_mark"] == expected["mark"]
    first = replace(made, shown=made.shown[:1])  # no cell of the other scenario is done
    assert copied("latex") == latex(first)
    assert latex(made).startswith(latex(first))


def test_a_name_like_a_formula_is_copied_as_text(page: Any) -> None:
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.locator("#t0 tbody th").first.evaluate("node => { node.textContent = '=1+1' }")
    page.locator("#t0 [data-copy=csv]").click()
    page.locator("#t0 .status", has_text="copied").wait_for()
    assert "'=1+1," in page.evaluate("navigator.clipboard.readText()")


def test_filters_and_sorting_do_not_change_marks(page: Any) -> None:
    def best() -> list[str]:
        cells = page.locator("#t0 table.scores td.best")
        return cells.evaluate_all("nodes => nodes.map(n => `${n.parentNode.dataset.row} ${n.dataset.key}`)")

    before = best()
    assert before
    page.locator("#t0 .filter").fill("ewc")
    page.locator("#t0 th[data-key='forgetting'] button").click()
    assert sorted(best()) == sorted(before)


def test_figures_answer_to_the_pointer_and_to_the_arrow_keys(page: Any) -> None:
    """A point shows its strategy and the number that the table has; the others fade."""
    drawing = page.locator("#t0 .drawing").first
    tip, lit = drawing.locator(".tip"), drawing.locator(".series.lit use")
    drawing.scroll_into_view_if_needed()
    drawing.focus()
    page.keyboard.press("ArrowRight")
    first = tip.inner_text()
    name, text = first.split("\n")
    row = page.locator(f"#t0 tr:has(.open:text-is('{name}'))")
    assert text == f"after 2 tasks: {row.locator('td[data-key=acc]').inner_text()}".removesuffix(" †")
    box = lit.nth(1).bounding_box()
    page.keyboard.press("Escape")
    assert tip.is_hidden()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    assert tip.inner_text().split("\n")[0] in STRATEGIES
    faded = drawing.locator(".series:not(.lit)").first.element_handle()
    page.wait_for_function(
        "n => getComputedStyle(n).opacity < 1", arg=faded
    )  # it fades in a tenth of a second
    page.mouse.move(1, 1)
    assert tip.is_hidden()


def test_every_described_point_of_a_figure_is_there(page: Any) -> None:
    counts = page.locator("#t0 figure").evaluate_all(
        """figures => figures.flatMap((figure, k) => {
            const { tips } = JSON.parse(document.querySelector("#t0 script.data").textContent).figures[k];
            const lines = Object.entries(tips).filter(([, [, texts]]) => texts.length > 1);
            return lines.map(([name, [, texts]]) => {
                const group = figure.querySelector(`[id="${figure.dataset.file}-${name}"]`);
                const shown = [group.querySelectorAll("use").length, group.querySelectorAll("path").length];
                return [texts.length, ...shown];
            });
        })"""
    )
    lines = [(texts, uses) for texts, uses, _ in counts if uses]
    assert len(lines) >= 2 * len(STRATEGIES)
    assert all(texts == uses for texts, uses in lines)
    assert all(texts in (paths, uses) or paths <= 2 for texts, uses, paths in counts)


def test_figures_are_wide_and_their_text_can_be_read(browser: Any, page: Any, tmp_path: Path) -> None:
    for width in (390, 1280, 1920):
        page.set_viewport_size({"width": width, "height": 900})
        boxes = [d.bounding_box() for d in page.locator("#t0 .drawing").all()]
        ends = max(b["x"] + b["width"] for b in boxes), min(b["x"] for b in boxes)
        assert ends[0] - ends[1] > 0.85 * min(width, 1792) - 64
        sizes = page.locator("#t0 .drawing svg text").evaluate_all(
            "nodes => nodes.map(n => { const { a, b } = n.getScreenCTM();"
            " return Math.hypot(a, b) * parseFloat(getComputedStyle(n).fontSize); })"
        )
        assert min(sizes) > 8, width
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_figures_have_labels_and_their_data_can_be_downloaded(page: Any) -> None:
    figures = page.locator("#t0 figure")
    assert figures.count() >= 3
    labels = "nodes => nodes.map(n => n.getAttribute('aria-label'))"
    assert all(len(text) > 20 for text in figures.locator("[role=img]").evaluate_all(labels))
    with page.expect_download() as download:
        figures.first.locator("[data-download=csv]").click()
    rows = list(csv.reader(io.StringIO(Path(download.value.path()).read_text())))
    assert len(rows) > 1
    assert download.value.suggested_filename.endswith(".csv")
    with page.expect_download() as download:
        figures.first.locator("[data-download=svg]").click()
    assert download.value.suggested_filename == "toy-class-stream.svg"
    assert ET.parse(download.value.path()).getroot().tag.endswith("svg")


def test_names_are_shown_as_text_and_skipped_cells_with_reasons(page: Any) -> None:
    assert "<script>alert(1)</script>" in page.locator("#run .command").first.inner_text()
    unfinished = page.locator("#unfinished").inner_text()
    assert "er-ace has no domain-incremental form" in unfinished


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_fits_a_phone_in_light_and_dark(
    browser: Any, folder: Path, tmp_path: Path, scheme: str
) -> None:
    (tmp_path / "index.html").write_text("".join(make_page(load(folder))))
    context = browser.new_context(viewport={"width": 390, "height": 800}, color_scheme=scheme)
    page = context.new_page()
    page.goto((tmp_path / "index.html").as_uri())
    page.locator("#t0 .open").first.click()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert ground == ("rgb(255, 255, 255)" if scheme == "light" else "rgb(20, 24, 29)")
    context.close()


def test_the_live_page_updates_and_is_served_on_loopback_only(
    browser: Any, folder: Path, tmp_path: Path
) -> None:
    run, first = tmp_path / "run", Request("toy", ("finetune",), ("class",), (0, 1), {"epochs": "1"})
    ran(run, first)
    live = Live([run], lambda: "".join(make_page(load(run), live=True)))
    serving = server(live)
    assert serving.server_address[0] == HOST == "127.0.0.1"
    threading.Thread(target=serving.serve_forever, daemon=True).start()
    context = browser.new_context()
    page = context.new_page()
    page.goto(f"http://{HOST}:{serving.server_address[1]}/")
    assert page.locator("#t0 tbody tr").count() == 1
    page.wait_for_timeout(2500)  # the page has polled once
    ran(run, replace(first, strategies=("er",)))
    page.locator("#t0 .open", has_text="er").wait_for(timeout=20_000)
    assert page.request.get(f"http://{HOST}:{serving.server_address[1]}/nothing").status == 404
    context.close()
    serving.shutdown()
    serving.server_close()


def test_a_grid_is_a_row_with_all_its_settings_below_and_breaks_nothing(browser: Any, tmp_path: Path) -> None:
    chosen = folded(run_of(tmp_path / "a", {GRID: LAMS}, cells_of("er", {(): (60, 70)})))
    none = folded(run_of(tmp_path / "b", {GRID: {setting: (0, test) for setting, (_, test) in LAMS.items()}}))
    messages: list[str] = []
    cases = (chosen, 2, "lam=10 has the highest mean"), (none, 0, "of which none is chosen")
    for frames, rows, words in cases:
        (tmp_path / "index.html").write_text("".join(make_page(frames)))
        opened = browser.new_page()
        opened.on("console", lambda message: messages.append(message.text))
        opened.on("pageerror", lambda error: messages.append(str(error)))
        opened.goto((tmp_path / "index.html").as_uri())
        assert opened.locator("table.scores tbody tr").count() == rows
        settings = opened.locator("details.settings")
        if rows:
            settings.locator("summary").click()
            opened.locator("details.compare summary").click()
            assert "points" in opened.locator(".compare .answer").inner_text()
            opened.locator("button.open").last.click()
            assert GRID in opened.locator(".detail").inner_text()
        assert settings.locator("tbody tr:visible").count() == 3
        assert words in settings.inner_text()
        opened.locator("th[data-key=strategy] button").click()
        assert messages == []
        opened.close()
