# Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
"""The HTML report: opened, searched and clicked through in headless Chromium."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from html.parser import HTMLParser

import pytest

import records
from mpt import metrics, report
from mpt.decisions import DecisionsError, parse
from mpt.metrics import Metrics, Point, ProductPoint, Summary, Tensor, TensorPoint

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
EXPONENTS = {-12: 1, -9: 40, -3: 800, 0: 159}


def profile_of(record, exponents=EXPONENTS) -> Metrics:
    """A profile with the same histogram for every operand of a record's products."""
    point = TensorPoint(Summary(1.5, 0.0, 1.5, 1.5), 2.0**-12, 0.0, 0.2, 3.0, exponents, 0.25, 0, [], [])
    products, tensors = [], []
    for product in record.products:
        own = [Tensor(f"{product.name}/{side}", [point, point]) for side in ("lhs", "rhs")]
        points = [ProductPoint(step, 2, 0.0, None, []) for step in (0, 100)]
        size = (product.m, product.n, product.k, product.batch)
        products.append(metrics.Product(product.name, product.role, *size, *own, None, [], points, 1))
        tensors += own
    points = [Point(step, 2, Summary(), None, None) for step in (0, 100)]
    return Metrics(record.graph_hash, "blas", {}, True, 2, points, tensors, products)


@pytest.fixture(scope="module")
def browser() -> Iterator[object]:
    sync_api = pytest.importorskip("playwright.sync_api")
    if CHROMIUM is None:
        pytest.skip("chromium is not installed (tools/dev/setup installs it)")
    with sync_api.sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield running
        running.close()


@pytest.fixture
def page(browser, tmp_path):
    """An open report; at the end there must have been no error and no request but for the file."""
    record = records.record()
    path = tmp_path / "report.html"
    report.write(record, profile_of(record), path, "A <title>")
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    said, asked = [], []
    page.set_default_timeout(5000)
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(path.as_uri())
    yield page
    page.close()
    assert said == [] and set(asked) <= {path.as_uri(), "data:,"}


def visible_rows(page):
    return page.locator("#products > tbody > tr:not(.detail):visible").count()


def test_search_and_filters(page):
    assert page.title() == "A <title>" and visible_rows(page) == 19
    page.get_by_label("Search", exact=True).fill("layer.1.output")
    assert visible_rows(page) == 3
    assert page.locator("#count").inner_text() == "3 of 19 products"
    assert page.locator(".heat button:not(.off)").count() == 3
    page.get_by_label("Search", exact=True).fill("layer.*query/wgrad")
    assert visible_rows(page) == 3
    page.get_by_role("button", name="Clear").click()
    page.wait_for_function("document.getElementById('count').value === '19 of 19 products'")
    assert visible_rows(page) == 19
    page.get_by_label("Role", exact=True).select_option("dgrad")
    page.get_by_label("Formats", exact=True).select_option("BF16 x BF16")
    assert visible_rows(page) == 2
    page.get_by_label("Layer", exact=True).select_option("1")
    assert visible_rows(page) == 0
    page.get_by_role("button", name="Clear").click()
    page.wait_for_function("document.getElementById('count').value === '19 of 19 products'")
    page.get_by_label("Layer", exact=True).select_option("outside layers")
    assert visible_rows(page) == 1


def test_a_cell_of_the_heat_map_opens_its_product(page):
    page.get_by_label("Search", exact=True).fill("decoder")
    cell = page.get_by_role("button", name="encoder.layer.0.output.dense/dgrad: BF16 x BF16, error / bound 1.7")
    cell.click()
    assert visible_rows(page) == 19  # the filter hid it
    section = page.get_by_role("region", name="encoder.layer.0.output.dense/dgrad")
    assert section.is_visible()
    assert "be_median 1.00e-02 is above its bound 6.00e-03" in section.inner_text()
    chart = section.get_by_role("img", name="Error over bound of 2 candidates")
    assert chart.locator("rect").count() == 2 and chart.locator("rect.s0").count() == 1
    # Bars are in order of their errors: 1e-4 and 1e-2 of 6e-3.
    widths = [float(bar.get_attribute("width")) for bar in chart.locator("rect").all()]
    assert widths[0] < widths[1]
    name = "Binary exponents of encoder.layer.0.output.dense/dgrad/lhs, 2^-12 to 2^0"
    histogram = section.get_by_role("img", name=name)
    assert histogram.locator("rect.hist").count() == len(EXPONENTS)
    assert "step 100: largest 1.5, smallest 2.44e-4, 25 % zeros" in section.inner_text()
    page.keyboard.press("Escape")
    assert section.count() == 0
    assert page.evaluate("document.activeElement.textContent") == "encoder.layer.0.output.dense/dgrad"


def test_the_keyboard_alone_gets_everywhere(page):
    page.keyboard.press("/")
    page.keyboard.type("layer.2")
    assert visible_rows(page) == 6
    page.locator(".heat button").first.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")
    assert page.evaluate("document.activeElement.ariaLabel").startswith("encoder.layer.1.output.dense:")
    page.keyboard.press("ArrowUp")
    page.keyboard.press("ArrowUp")  # the edge stays
    page.keyboard.press("Enter")
    assert page.get_by_role("region", name="encoder.layer.0.output.dense").is_visible()
    row = page.get_by_role("button", name="encoder.layer.1.attention.self.query", exact=True)
    row.focus()
    page.keyboard.press("Enter")
    assert row.get_attribute("aria-expanded") == "true"


def test_sorting_keeps_sections_with_their_rows(page):
    page.get_by_role("button", name="cls.predictions.decoder", exact=True).click()
    page.get_by_role("button", name="error / bound", exact=True).click()
    values = page.locator("#products > tbody > tr:not(.detail) > td:nth-child(6)").all_inner_texts()
    assert [float(value) for value in values] == sorted(float(value) for value in values)
    page.get_by_role("button", name="FLOPs", exact=True).click()
    page.get_by_role("button", name="FLOPs", exact=True).click()  # descending: the head is largest
    first = page.locator("#products > tbody > tr")
    assert first.nth(0).locator("th").inner_text() == "cls.predictions.decoder"
    assert "detail" in first.nth(1).get_attribute("class")


def test_a_link_opens_a_product_and_colours_change(page):
    url = page.url
    page.goto("about:blank")
    page.goto(f"{url}#p18")
    assert page.get_by_role("region", name="cls.predictions.decoder").is_visible()
    cell = page.locator(".heat button").first
    before = cell.evaluate("node => getComputedStyle(node).backgroundColor")
    page.get_by_label("Colour by", exact=True).select_option("bound")
    assert cell.evaluate("node => getComputedStyle(node).backgroundColor") != before


def test_every_control_has_a_name_and_dark_mode_is_dark(page):
    unnamed = page.evaluate("""[...document.querySelectorAll('button, select, input, a, [role=img]')].filter(node =>
        !(node.textContent.trim() || node.ariaLabel || (node.labels && node.labels.length))).length""")
    assert unnamed == 0
    lightness = "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).slice(0, 3).map(Number)[0]"
    assert page.evaluate(lightness) > 200
    page.emulate_media(color_scheme="dark")
    assert page.evaluate(lightness) < 60


def test_predicted_times_and_budgets_are_shown(browser, tmp_path):
    content = json.loads(json.dumps(records.content()))
    records.price(content)
    content["products"][4]["us"] = 80
    report.write(parse(content), None, tmp_path / "r.html")
    page = browser.new_page()
    page.goto((tmp_path / "r.html").as_uri())
    summary = page.get_by_role("region", name="Summary").inner_text()
    assert "predicted on h100" in summary and "Budget, optimal: at least 0.499 ms" in summary
    assert "noise_ratio\t2.50e-02\t5.00e-02\t50.0" in summary
    page.get_by_role("button", name="µs").click()
    assert page.locator("#products > tbody > tr").last.locator("td").nth(5).inner_text() == "80.0"
    page.get_by_label("Colour by", exact=True).select_option("time")
    colours = page.locator(".heat button").evaluate_all("nodes => nodes.map(n => getComputedStyle(n).backgroundColor)")
    assert len(set(colours)) == 2
    page.get_by_role("button", name="cls.predictions.decoder", exact=True).click()
    section = page.get_by_role("region", name="cls.predictions.decoder")
    assert "predicted\n20 µs" in section.inner_text()
    cells = section.get_by_role("row", name="E4M3 x E4M3").get_by_role("cell").all_inner_texts()
    assert cells[:3] == ["chosen", "20", "23"]
    assert page.locator(".warning").count() == 0
    content["predicted"]["total_us"] = 700
    report.write(parse(content), None, tmp_path / "r.html")
    page.reload()
    assert "8 bits do not pay on h100 at this size: 0.100 ms slower" in page.locator(".warning").inner_text()
    page.close()


class Tags(HTMLParser):
    """Counts elements, and fails on a tag that closes what is not open."""

    VOID = {"meta", "link", "input", "br", "hr", "img"}

    def __init__(self, text):
        super().__init__()
        self.open, self.names = [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.names.append(tag)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_names_are_text_never_markup(tmp_path):
    content = records.content()
    content["products"][0]["name"] = "encoder.layer.0.</script><script>alert(1)</script><b>"
    content["products"][0]["reason"] = "\"'><img src=x>"
    content["pins"] = ["<i>"]
    report.write(parse(content), None, tmp_path / "r.html", "</title><b>")
    tags = Tags((tmp_path / "r.html").read_text())
    assert tags.names.count("script") == 2 and not {"b", "i", "img"} & set(tags.names)


def test_metrics_of_another_graph_are_refused(tmp_path):
    record = records.record()
    other = records.content()
    other["graph_hash"] = "1"
    with pytest.raises(DecisionsError, match="the metrics are of graph 1, the decisions of 00000000deadbeef"):
        report.write(record, profile_of(parse(other)), tmp_path / "r.html")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(FileNotFoundError, match="directory .* does not exist"):
        report.write(record, None, tmp_path / "none" / "r.html")


def large_record():
    """The size of BERT-large's: 24 layers of 24 products with 12 candidates each."""
    content = records.content(24)
    for entry in content["products"]:
        entry["candidates"] = (entry["candidates"] * 6)[:12]
        entry["candidates"] = [json.loads(json.dumps(candidate)) for candidate in entry["candidates"]]
        for index, candidate in enumerate(entry["candidates"]):
            # 12 different pairs, with the digits that real metrics have.
            candidate["lhs"] = dict(candidate["lhs"], history=index)
            candidate["metrics"] = {name: 1.2345e-3 * (index + 1) for name in report.data.COLUMNS}
    products = []
    for part in range(4):
        for entry in content["products"]:
            layer_name = entry["name"].replace(".self", f".self{part}").replace("output", f"output{part}")
            products.append(entry | {"name": layer_name + (f".{part}" if "cls" in layer_name else "")})
    return parse(content | {"products": products})


def test_a_large_model_fits_and_opens_quickly(browser, tmp_path):
    record = large_record()
    exponents = {e: 1000 + 37 * e * e for e in range(-40, 2)}
    path = tmp_path / "large.html"
    size = report.write(record, profile_of(record, exponents), path)
    assert len(record.products) == 580 and size == os.path.getsize(path) < 5e6
    page = browser.new_page()
    page.goto(path.as_uri())
    milliseconds = page.evaluate("performance.getEntriesByType('navigation')[0].domContentLoadedEventEnd")
    assert milliseconds < 5000
    assert page.locator(".heat button").count() == 580
    page.get_by_label("Search", exact=True).fill("layer.23.")
    assert page.locator("#count").inner_text() == "24 of 580 products"
    page.close()


def test_the_command(mptc, tmp_path):
    path = tmp_path / "decisions.json"
    path.write_text(json.dumps(records.content()))
    done = mptc("report", path, "-o", tmp_path / "r.html", "--title", "BERT")
    assert done.returncode == 0, done.stderr
    assert "19 products" in done.stdout and "<title>BERT</title>" in (tmp_path / "r.html").read_text()
    done = mptc("report", path, "--metrics", path, "-o", tmp_path / "s.html")
    assert done.returncode == 1 and "format is 'mpt-decisions', expected 'mpt-metrics'" in done.stderr
    assert not (tmp_path / "s.html").exists()
