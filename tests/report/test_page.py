"""The report in a real browser: it loads nothing, can be used by hand, and reads well wherever it is opened."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from cascade_core import CalibrationError, ConfigurationError
from cascade_core.calibration import AnswerTable, RelativeQuality, calibrate_table
from cascade_core.calibration.replay import unseen
from cascade_core.cli.sample import sample_table
from cascade_core.report import figures, page, plot, write_page

FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
PATIENCE = 300_000  # milliseconds: a slow machine is no fault of the page
PHONE, DESK = {"width": 375, "height": 800}, {"width": 1200, "height": 900}
HOSTILE = '</script><img src=x onerror="document.title=1"> & <b>bold</b> {{title}}'


@pytest.fixture(scope="module")
def found():
    """Figures of a certified policy, one of whose prompts would break a careless page."""
    table = sample_table(400)
    calibration = calibrate_table(table, RelativeQuality(0.95, of="large"), scorer="numeric")
    rows = [
        {**row, "query": f"{HOSTILE} {row['query']}"} for row in unseen(calibration.policy, table).to_rows()
    ]
    return figures(calibration.policy, AnswerTable.from_rows(rows), title="Sums & <differences>")


@pytest.fixture(scope="module")
def file(found, tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "report.html"
    write_page(found, path)
    return path


@pytest.fixture(scope="module")
def browser():
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no Chromium is installed (apt-get install chromium)")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=list(FLAGS), timeout=PATIENCE)
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser, file):
    """Opens the report; fails on any error of its script and on anything it loads."""
    pages, wrong = [], []

    def opened(**settings):
        tab = browser.new_page(**settings)
        tab.set_default_timeout(PATIENCE)
        pages.append(tab)
        tab.on("pageerror", lambda error: wrong.append(str(error)))
        tab.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
        tab.on("request", lambda request: wrong.append(request.url) if request.url != file.as_uri() else None)
        tab.goto(file.as_uri())
        return tab

    yield opened
    for tab in pages:
        tab.close()
    assert wrong == []


def test_the_page_says_the_certificate_and_shows_every_part(open_page, found):
    tab = open_page(viewport=DESK)
    assert tab.title() == "Sums & <differences>"
    said = tab.locator("#promise").inner_text().replace("\u00a0", " ")
    assert said == found.data["certificate"]["sentence"]
    assert tab.locator("#frontier-chart svg path").count() >= 6
    assert tab.locator("#reliability svg").count() == 3
    assert tab.locator("#models-table tbody tr").count() == 3
    assert tab.locator("#models-table thead").inner_text().count("$ per 1,000") == 1
    failures = found.data["failures"]["clusters"]
    assert tab.locator("#clusters .cluster").count() == len(failures) > 0
    assert HOSTILE[:20] in tab.locator("#clusters").inner_text(), "with examples"
    assert tab.locator("#samples tbody tr").count() == 8
    assert tab.locator("#assumptions li").count() >= 4
    assert HOSTILE in tab.locator("#samples").inner_text()


def test_the_slider_moves_quality_cost_mix_and_decisions_together(open_page, found):
    tab = open_page(viewport=DESK)
    tab.locator("#slider").focus()
    tab.keyboard.press("Home")
    cheapest = tab.locator("#budget-tiles").inner_text()
    assert tab.locator("#slider").input_value() == "0"
    shown = tab.locator("#budget-value").inner_text()
    mix = tab.locator("#mix").get_attribute("aria-label")
    decisions = tab.locator("#samples").inner_text()
    tab.keyboard.press("End")
    assert tab.locator("#slider").input_value() == str(len(found.data["points"]) - 1)
    assert tab.locator("#budget-tiles").inner_text() != cheapest
    assert tab.locator("#budget-value").inner_text() != shown
    assert tab.locator("#mix").get_attribute("aria-label") != mix
    assert tab.locator("#samples").inner_text() != decisions
    assert "$" in tab.locator("#slider").get_attribute("aria-valuetext")
    marker = tab.locator("#frontier-chart circle").last
    assert marker.get_attribute("visibility") == "visible"


def test_the_mouse_moves_it_too(open_page):
    tab = open_page(viewport=DESK)
    before = tab.locator("#budget-value").inner_text()
    slider = tab.locator("#slider")
    slider.click(position={"x": 4, "y": 4})  # once it has scrolled into view and stands still
    assert tab.locator("#budget-value").inner_text() != before


def test_everything_can_be_reached_by_keyboard(open_page):
    tab = open_page(viewport=DESK)
    reached = []
    for _ in range(40):
        tab.keyboard.press("Tab")
        reached.append(tab.evaluate("document.activeElement.tagName + '#' + document.activeElement.id"))
    assert "INPUT#slider" in reached
    assert "SUMMARY#" in reached
    tab.locator("summary").focus()
    tab.keyboard.press("Enter")
    assert tab.locator("#frontier-table").is_visible()
    tab.locator(".skip").focus()
    tab.keyboard.press("Enter")
    tab.wait_for_function("document.activeElement.id == 'main'")  # the browser moves it with the next frame


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("viewport", [PHONE, DESK], ids=["phone", "desk"])
def test_axe_finds_nothing_and_nothing_overflows(open_page, viewport, scheme):
    axe = pytest.importorskip("axe_core_python.sync_playwright", reason="axe-core-python is not installed")
    tab = open_page(viewport=viewport, color_scheme=scheme)
    tab.locator("summary").click()
    source = (Path(axe.__file__).parent / "axe.min.js").read_text(encoding="utf-8")
    tab.evaluate(source)  # by the debugger's way in: the page's own policy lets no script be added
    violations = tab.evaluate(
        "async () => (await axe.run()).violations.map(v => [v.id, v.nodes.map(n => n.html)])"
    )
    assert violations == []
    assert tab.evaluate("document.documentElement.scrollWidth") <= viewport["width"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_screenshot_shows_a_page_in_the_right_colours(open_page, scheme, tmp_path):
    tab = open_page(viewport=DESK, color_scheme=scheme)
    picture = tab.screenshot(path=tmp_path / f"{scheme}.png", full_page=True)
    assert picture[:8] == b"\x89PNG\r\n\x1a\n"
    assert len(picture) > 50_000
    red = int(tab.evaluate("getComputedStyle(document.body).backgroundColor").split("(")[1].split(",")[0])
    assert (red > 200) == (scheme == "light")


def test_the_file_holds_everything_and_no_address(file):
    text = file.read_text(encoding="utf-8")
    addresses = [
        part for part in ("http://", "https://", "src=", "@import", "url(") if part in _without_data(text)
    ]
    assert [a for a in addresses if a != "http://"] == []
    assert _without_data(text).count("http://") == 1  # the name of SVG's namespace, which nothing loads
    assert len(text) < 500_000


def _without_data(text: str) -> str:
    before, _, rest = text.partition('<script id="data"')
    return before + rest.partition("</script>")[2]


def test_the_data_inside_is_plain_json(file, found):
    text = file.read_text(encoding="utf-8").partition('type="application/json">')[2].partition("</script>")[0]
    assert json.loads(text) == json.loads(json.dumps(found.data))


def test_a_policy_without_certificate_promises_nothing(browser, tmp_path):
    from dataclasses import replace

    table = sample_table(150)
    policy = replace(calibrate_table(table, RelativeQuality(0.9, of="large")).policy, certificate=None)
    path = tmp_path / "plain.html"
    path.write_text(page(figures(policy, table)), encoding="utf-8")
    tab = browser.new_page()
    tab.goto(path.as_uri())
    assert "nothing is promised" in tab.locator("#promise").inner_text()
    assert tab.locator("#sentence").inner_text() == "This policy has no certificate."
    assert not tab.locator("#assumptions").is_visible()
    tab.close()


@pytest.mark.parametrize(
    ("name", "begins"), [("plot.png", b"\x89PNG"), ("plot.svg", b"<?xml"), ("plot.pdf", b"%PDF")]
)
def test_static_pictures(found, tmp_path, name, begins):
    pytest.importorskip("matplotlib")
    plot(found, tmp_path / name)
    assert (tmp_path / name).read_bytes().startswith(begins)


def test_a_picture_of_another_kind_is_refused(found, tmp_path):
    with pytest.raises(ConfigurationError, match=r"ends in one of .*png"):
        plot(found, tmp_path / "plot.bmp")


def test_a_table_of_other_models_is_refused():
    table = sample_table(150)
    policy = calibrate_table(table, RelativeQuality(0.9, of="large")).policy
    with pytest.raises(CalibrationError, match="'large' is not in the table"):
        figures(policy, table.select(["small", "medium"]))
