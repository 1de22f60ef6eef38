# Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
"""The page's HTML: summary, heat map and table of products, around templates/*.

Everything that comes from a record is escaped here or set as text by report.js.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from html import escape
from importlib import resources
from itertools import groupby
from string import Template

from mpt import __version__, explain
from mpt.decisions import ROLES, Decisions, Product, priced_pins, share_table
from mpt.metrics import Metrics
from mpt.report.data import page_data, script_json, shown_ratio

# Storage in a heat map's cell; the label in full is the cell's name.
CODES = {"f32": "32", "bf16": "16", "f8E4M3FN": "E4", "f8E5M2": "E5", "i8": "I8"}
# Upper ends of error / bound of the heat map's classes; one more is above all.
CLASSES = (1 / 16, 1 / 8, 1 / 4, 1 / 2, 1, 2, 4)
OUTSIDE = "outside layers"


def template(name: str) -> str:
    return resources.files(__package__).joinpath("templates", name).read_text(encoding="utf-8")


def element(tag: str, content: str, **attributes: object) -> str:
    """An element around `content`, which is HTML; attributes are escaped, `_` is `-`, None is left out."""
    words = "".join(
        f' {name.rstrip("_").replace("_", "-")}="{escape(str(value))}"'
        for name, value in attributes.items()
        if value is not None
    )
    return f"<{tag}{words}>{content}</{tag}>"


def grid(caption: str, names: Sequence[str], cells: Iterable[Sequence[str]], text: int = 1, **attributes: str) -> str:
    """A table whose first `text` columns are text and the others numbers; the first cell of a row heads it."""

    def kind(column: int) -> str | None:
        return None if column < text else "n"

    heads = (element("th", escape(name), scope="col", class_=kind(i)) for i, name in enumerate(names))
    made = [f"<caption>{escape(caption)}</caption><thead><tr>{''.join(heads)}</tr></thead><tbody>"]
    for first, *rest in cells:
        line = (element("td", cell, class_=kind(i)) for i, cell in enumerate(rest, 1))
        made.append(f"<tr>{element('th', first, scope='row')}{''.join(line)}</tr>")
    return element("table", "".join([*made, "</tbody>"]), **attributes)


def percent(share: float) -> str:
    return f"{100 * share:.1f}&#8239;%"


def code(product: Product) -> str:
    """Both storages in short, one if they are the same: "E4", "E5·E4"."""
    lhs, rhs = (CODES[side["storage"]] for side in (product.chosen.lhs, product.chosen.rhs))
    return lhs if lhs == rhs else f"{lhs}·{rhs}"


def family(product: Product) -> str:
    """The colour's class: the storage, or `mix`."""
    lhs, rhs = (side["storage"] for side in (product.chosen.lhs, product.chosen.rhs))
    return lhs if lhs == rhs else "mix"


def quantile_class(value: float | None) -> int | None:
    """Index of the heat map's class of an error / bound."""
    if value is None or not math.isfinite(value):
        return None
    return next((index for index, top in enumerate(CLASSES) if value <= top), len(CLASSES))


def cards(record: Decisions) -> str:
    """The figures that one looks at first."""
    low = sum(product.flops for product in record.products if product.chosen.low) / (record.flops or 1)
    figures = [(percent(low), "of the products' FLOPs in 8 bits")]
    if record.time_us is not None:
        figures.append((f"{record.time_us / 1e3:.2f}&#8239;ms", escape(f"predicted on {record.target}")))
        if record.predicted.get("bf16_us"):
            figures.append((f"{record.predicted['bf16_us'] / record.time_us:.2f}&#8239;×", "as fast as all in BF16"))
    errors = explain.error_sums(record)
    if "error / bound" in errors:
        figures.append((f"{errors['error / bound'][0]:.2f}", "largest error / bound in 8 bits"))
    figures.append((str(len(record.products)), "products"))
    figures.append((escape(record.policy), "policy"))
    made = (f"<div><dt>{text}</dt><dd>{figure}</dd></div>" for figure, text in figures)
    return element("dl", "".join(made), class_="cards")


def share_rows(record: Decisions) -> list[list[str]]:
    made = []
    for name, row in share_table(record).items():
        cells = [escape(name)]
        for role in (*ROLES, "all"):
            count, share = row.get(role, (0, 0.0))
            bar = f'<span class="bar" style="width:{100 * share:.1f}%"></span>' if role == "all" else ""
            cells.append(f"{bar}{percent(share)} <small>{count}</small>" if count else "–")
        made.append(cells)
    return made


def link(product: Product, index: int) -> str:
    return element("a", escape(product.name), href=f"#p{index}", class_="go", data_go=index)


def high_rows(record: Decisions) -> list[tuple[str, ...]]:
    made = []
    for reason, products in explain.grouped_reasons(record):
        share = sum(product.flops for product in products) / (record.flops or 1)
        names = "<br>".join(escape(name) for name in explain.families(products))
        made.append((escape(reason), f'<div class="names">{names}</div>', str(len(products)), percent(share)))
    return made


def budget_rows(record: Decisions) -> list[tuple[str, ...]]:
    bounds = record.budget.bounds if record.budget else []
    used = [percent(bound.sum / bound.limit) if bound.limit > 0 else "–" for bound in bounds]
    return [(escape(b.name), f"{b.sum:.2e}", f"{b.limit:.2e}", share) for b, share in zip(bounds, used)]


def near_rows(record: Decisions, count: int = 8) -> list[tuple[str, ...]]:
    near = [(abs(math.log(p.margin)), i, p) for i, p in enumerate(record.products) if p.margin and p.margin > 0]
    made = []
    for _, index, product in sorted(near, key=lambda entry: entry[:2])[:count]:
        other = product.runner_up.label if product.runner_up else "–"
        made.append((link(product, index), escape(product.label), escape(other), f"{product.margin:.2f}"))
    return made


def summary(record: Decisions) -> str:
    parts = [cards(record), *(element("p", escape(text), class_="warning") for text in explain.slower(record))]
    if record.pins:
        parts.append("<p>Pins: " + ", ".join(f"<code>{escape(pin)}</code>" for pin in priced_pins(record)) + "</p>")
    caption = "Share of the products' FLOPs, and number of products"
    parts.append(grid(caption, ["formats", *ROLES, "all"], share_rows(record), class_="shares"))
    if record.budget:
        title = f"Budget, {record.budget.status}: at least {record.budget.dual_us / 1e3:.3f} ms by the dual bound"
        parts.append(grid(title, ["sum of", "is", "limit", "used"], budget_rows(record)))
    if any(not product.chosen.low for product in record.products):
        names = ["reason", "products", "number", "FLOPs"]
        parts.append(grid("What stayed high, and why", names, high_rows(record), text=2))
    if any(product.margin for product in record.products):
        names = ["product", "chosen", "runner-up", "bound / error"]
        parts.append(grid("Nearest to their bounds", names, near_rows(record), text=3))
    return "".join(parts)


def cell(product: Product, index: int, share: float | None, kind: str | None) -> str:
    """A product in the heat map: a button, one of which is in the order of tabs."""
    value = shown_ratio(product)
    ratio = "" if value is None else f", error / bound {value:.2g}"
    button = element(
        "button",
        code(product),
        type="button",
        data_go=index,
        data_f=family(product),
        data_q=quantile_class(value),
        style=None if share is None else f"--t:{share:.2f}",
        tabindex=-1,
        aria_label=f"{product.name}: {product.label}{ratio}",
        title=f"{product.name}\n{product.label}{ratio}",
    )
    return element("td", button, class_=kind)


def heat_heads(columns: Sequence[tuple[str, str]]) -> str:
    """Two rows of headings from (role, name) of each column: roles over their columns, and names."""
    groups = ((role, len(list(members))) for role, members in groupby(columns, key=lambda column: column[0]))
    over = "".join(f'<th scope="colgroup" colspan="{count}" class="first">{role}</th>' for role, count in groups)
    names = "".join(
        element("th", f"<span>{escape(name)}</span>", scope="col", class_=first_of(columns, i))
        for i, (_, name) in enumerate(columns)
    )
    return f'<thead><tr><td></td>{over}</tr><tr><th scope="col"><span>layer</span></th>{names}</tr></thead>'


def first_of(columns: Sequence[tuple[str, str]], index: int) -> str | None:
    """The class of the first column of a role, which stands off from the one before."""
    return "first" if index == 0 or columns[index][0] != columns[index - 1][0] else None


def short_kind(product: Product) -> str:
    """What a column is called under its role's heading: "self.context, lhs" for "self.context/dgrad.lhs"."""
    base, slash, suffix = product.kind.partition("/")
    side = suffix.partition(".")[2]
    return f"{base}, {side}" if slash and side else base


def heat_map(record: Decisions) -> str:
    """Layer x product and role; what is in no layer has a row of its own below."""
    inside = [(i, p) for i, p in enumerate(record.products) if p.layer is not None]
    outside = [(i, p) for i, p in enumerate(record.products) if p.layer is None]
    times = [product.us for product in record.products]
    longest = max((time for time in times if time is not None), default=0) or 1
    shares = [None if time is None else time / longest for time in times]
    order = {role: place for place, role in enumerate(ROLES)}
    base = {kind: place for place, kind in enumerate(dict.fromkeys(p.kind.split("/")[0] for p in record.products))}

    def place(product: Product) -> tuple[int, int, str]:
        return order[product.role], base[product.kind.split("/")[0]], product.kind

    def line(name: str, found: Sequence[tuple[int, Product] | None], columns: Sequence[tuple[str, str]]) -> str:
        made = "".join(
            cell(entry[1], entry[0], shares[entry[0]], first_of(columns, i)) if entry else "<td></td>"
            for i, entry in enumerate(found)
        )
        return f'<tr><th scope="row">{name}</th>{made}</tr>'

    parts = []
    if inside:
        kinds = sorted({product.kind: product for _, product in inside}.values(), key=place)
        columns = [(product.role, short_kind(product)) for product in kinds]
        at = {(product.layer, product.kind): (index, product) for index, product in inside}
        layers = sorted({product.layer for _, product in inside if product.layer is not None})
        body = [line(str(n), [at.get((n, product.kind)) for product in kinds], columns) for n in layers]
        parts.append(heat_table("Products in layers", heat_heads(columns), "".join(body)))
    if outside:
        outside.sort(key=lambda entry: place(entry[1]))
        columns = [(product.role, short_kind(product)) for _, product in outside]
        parts.append(heat_table("Products outside layers", heat_heads(columns), line("–", outside, columns)))
    return "".join(parts)


def heat_table(name: str, heads: str, body: str) -> str:
    table = element("table", f"{heads}<tbody>{body}</tbody>", class_="heat", data_by="format", aria_label=name)
    return element("div", table, class_="scroll", tabindex=0, role="region", aria_label=name)


def product_row(record: Decisions, product: Product, index: int, timed: bool) -> str:
    layer = OUTSIDE if product.layer is None else str(product.layer)
    value = shown_ratio(product)
    name = element(
        "button", escape(product.name), type="button", class_="open", aria_expanded="false", id=f"b{index}", data_go=index
    )
    cells = [
        element("th", name, scope="row"),
        element("td", product.role),
        element("td", "–" if product.layer is None else layer, class_="n"),
        element("td", f'<span class="chip" data-f="{family(product)}"></span>{escape(product.label)}'),
        element("td", percent(product.flops / (record.flops or 1)), class_="n", data_v=product.flops),
        element("td", "–" if value is None else f"{value:.2f}", class_="n", data_v="" if value is None else value),
    ]
    if timed:
        time = product.us
        text, sorted_by = ("–", "") if time is None else (f"{time:.1f}", str(time))
        cells.append(element("td", text, class_="n", data_v=sorted_by))
    cells.append(element("td", f"<span>{escape(product.reason)}</span>", class_="why", title=product.reason))
    return element(
        "tr", "".join(cells), id=f"p{index}", data_role=product.role, data_layer=layer, data_format=product.label
    )


def product_table(record: Decisions) -> str:
    timed = any(product.us is not None for product in record.products)
    names = ["product", "role", "layer", "formats", "FLOPs", "error / bound"] + ["µs"] * timed + ["reason"]
    numeric = {"layer", "FLOPs", "error / bound", "µs"}
    heads = "".join(
        element("th", element("button", escape(name), type="button", class_="sort"), scope="col",
                class_="n" if name in numeric else None)
        for name in names
    )  # fmt: skip
    body = "\n".join(product_row(record, product, index, timed) for index, product in enumerate(record.products))
    return f'<table id="products"><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table>'


def options(values: Iterable[str], everything: str) -> str:
    made = [element("option", escape(everything), value="")]
    return "".join(made + [element("option", escape(value), value=value) for value in values])


def layer_options(record: Decisions) -> str:
    layers = sorted({product.layer for product in record.products if product.layer is not None})
    names = [str(layer) for layer in layers]
    if any(product.layer is None for product in record.products):
        names.append(OUTSIDE)
    return options(names, "all layers")


def colour_options(record: Decisions) -> str:
    choices = {"format": "formats", "bound": "error / bound"}
    if any(product.us is not None for product in record.products):
        choices["time"] = "predicted time"
    return "".join(element("option", text, value=value) for value, text in choices.items())


def about(record: Decisions, metrics: Metrics | None) -> str:
    words = [f"graph {record.graph_hash or 'without a hash'}", f"mpt {__version__}"]
    if metrics is not None:
        steps = ", ".join(map(str, metrics.at_steps))
        words.append(f"profiled at step {steps}, {metrics.batches} batches at each, engine {metrics.engine}")
    return escape(" · ".join(words))


def render(record: Decisions, metrics: Metrics | None, title: str) -> str:
    """The whole page."""
    return Template(template("report.html")).substitute(
        title=escape(title),
        style=template("report.css"),
        script=template("report.js"),
        about=about(record, metrics),
        summary=summary(record),
        roles=options(ROLES, "all roles"),
        formats=options(share_table(record), "all formats"),
        layers=layer_options(record),
        colours=colour_options(record),
        heat=heat_map(record),
        count=len(record.products),
        products=product_table(record),
        data=script_json(page_data(record, metrics)),
    )
