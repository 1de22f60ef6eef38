// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// Search, filters, sorting, the heat map's keys, and the section of a product, which is
// built when it is opened. Text from the record is only ever set as text, never as HTML.
"use strict";

const data = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);
const table = byId("products");
const body = table.tBodies[0];
const lines = [...body.rows];
const cells = [...document.querySelectorAll(".heat button")];

/** An element of HTML with properties and children; strings become text. */
function make(tag, properties = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

/** The same for SVG. */
function draw(tag, properties = {}, ...children) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(properties)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

function number(value, digits = 3) {
  if (value === null || value === undefined) return "–";
  if (value === 0) return "0";
  const size = Math.abs(value);
  return size >= 0.01 && size < 1e5 ? String(Number(value.toPrecision(digits))) : value.toExponential(digits - 1);
}

// Sections.

/** Error over bound of each candidate, on a logarithmic axis with the bound at 1. */
function candidateChart(product) {
  const left = 250, width = 420, line = 20, top = 18;
  const known = product.candidates.filter((c) => c[2] !== null && c[2] > 0);
  if (!known.length) return null;
  const ends = known.flatMap((c) => [c[2], 1, ...(c[3] > 0 ? [c[3]] : [])]);
  const low = Math.floor(Math.log10(Math.min(...ends)) - 0.05);
  const high = Math.max(1, Math.ceil(Math.log10(Math.max(...ends)) - 0.3));
  const x = (value) => left + width * Math.min(1, Math.max(0, (Math.log10(value) - low) / (high - low)));
  const bottom = top + line * product.candidates.length;
  const svg = draw("svg", { width: left + width + 70, height: bottom + 18, viewBox: `0 0 ${left + width + 70} ${bottom + 18}`,
    role: "img", "aria-label": `Error over bound of ${product.candidates.length} candidates of ${product.name}` });
  for (let power = low; power <= high; ++power) {
    const at = x(10 ** power);
    svg.append(draw("line", { x1: at, x2: at, y1: top, y2: bottom, class: "grid" }),
      draw("text", { x: at, y: bottom + 13, "text-anchor": "middle", class: "soft" }, String(Number((10 ** power).toPrecision(1)))));
  }
  const figures = []; // above the bound's line
  product.candidates.forEach(([label, state, ratio, lower], i) => {
    const y = top + line * i;
    svg.append(draw("text", { x: left - 8, y: y + 14, "text-anchor": "end" }, data.labels[label]));
    if (ratio === null) return;
    if (ratio > 0) {
      const bar = draw("rect", { x: left, y: y + 4, width: Math.max(1, x(ratio) - left), height: 12, class: `s${state}`, rx: 2 });
      bar.append(draw("title", {}, `${data.labels[label]}: ${number(ratio)} of the bound, ${data.states[state]}`));
      svg.append(bar);
      if (lower > 0 && lower < ratio)
        svg.append(draw("line", { x1: x(lower), x2: x(ratio), y1: y + 10, y2: y + 10, class: "whisker" }));
    }
    figures.push(draw("text", { x: x(Math.max(ratio, 10 ** low)) + 5, y: y + 14, class: "soft" }, number(ratio)));
  });
  svg.append(draw("line", { x1: x(1), x2: x(1), y1: top - 4, y2: bottom, class: "bound" }),
    draw("text", { x: x(1), y: top - 7, "text-anchor": "middle", class: "bound" }, "bound"), ...figures);
  return svg;
}

function candidateTable(product) {
  const used = data.columns.map((name, i) => i).filter((i) => product.candidates.some((c) => c[6][i] !== null));
  const timed = product.candidates.some((c) => c[5][0] !== null);
  const heads = used.map((i) => {
    const cell = make("th", { scope: "col", class: "n" }, data.columns[i]);
    if (product.bound[i]) cell.append(make("br"), `≤ ${number(product.bound[i])}`);
    return cell;
  });
  const rows = product.candidates.map(([label, state, , , , times, metrics]) => {
    const row = make("tr", state === 0 ? { class: "chosen" } : {}, make("th", { scope: "row" }, data.labels[label]),
      make("td", {}, label === product.next && state ? `${data.states[state]}, runner-up` : data.states[state]));
    for (const value of [...(timed ? times : []), ...used.map((i) => metrics[i])]) row.append(make("td", { class: "n" }, number(value)));
    return row;
  });
  const first = [make("th", { scope: "col" }, "candidate"), make("th", { scope: "col" }, "verdict")];
  if (timed) first.push(make("th", { scope: "col", class: "n" }, "µs"), make("th", { scope: "col", class: "n" }, "with casts"));
  return make("table", {}, make("thead", {}, make("tr", {}, ...first, ...heads)), make("tbody", {}, ...rows));
}

/** Why candidates were refused, equal reasons together. */
function refusals(product) {
  const groups = new Map();
  for (const [label, , , , why] of product.candidates) {
    if (!data.whys[why]) continue;
    if (!groups.has(why)) groups.set(why, []);
    groups.get(why).push(data.labels[label]);
  }
  return make("ul", { class: "refusals" }, ...[...groups].map(([why, labels]) =>
    make("li", {}, make("strong", {}, labels.join("; ")), `: ${data.whys[why]}`)));
}

function stateLegend(product) {
  const used = new Set(product.candidates.map((c) => c[1]));
  return make("div", { class: "legend", "aria-hidden": "true" }, ...[...used].sort().map((state) =>
    make("span", {}, make("span", { class: `chip s${state}c` }), data.states[state])));
}

// Powers of two of a format's largest value over its smallest normal and subnormal one: with a
// scale that takes the largest element to the largest value, what is so much smaller still has a code.
const RANGES = {
  f8E4M3FN: { name: "E4M3", normal: Math.log2(448) + 6, least: Math.log2(448) + 9 },
  f8E5M2: { name: "E5M2", normal: Math.log2(57344) + 14, least: Math.log2(57344) + 16 },
  i8: { name: "INT8", normal: Math.log2(127), least: Math.log2(127) },
};

/** How many elements have which binary exponent, and what formats scaled to the largest hold. */
function histogram(tensor, side, storages) {
  const held = storages.filter((storage) => RANGES[storage]);
  const count = tensor.shares.length;
  const left = 44, step = Math.max(4, Math.min(14, Math.floor(470 / Math.max(1, count)))), height = 110, floor = -6;
  const wide = Math.max(300, left + count * step + 10), bottom = 8 + height, tall = bottom + 24 + 15 * held.length;
  const svg = draw("svg", { width: wide, height: tall, viewBox: `0 0 ${wide} ${tall}`, role: "img",
    "aria-label": `Binary exponents of ${tensor.name}, 2^${tensor.low} to 2^${tensor.low + count - 1}` });
  for (let power = floor; power <= 0; power += 2) {
    const y = bottom - height * (1 - power / floor);
    svg.append(draw("line", { x1: left, x2: wide - 4, y1: y, y2: y, class: "grid" }),
      draw("text", { x: left - 5, y: y + 4, "text-anchor": "end", class: "soft" }, power ? `1e${power}` : "1"));
  }
  tensor.shares.forEach((share, i) => {
    if (!share) return;
    const size = Math.max(1.5, height * (1 - Math.max(floor, Math.log10(share)) / floor));
    const bar = draw("rect", { x: left + i * step, y: bottom - size, width: step - 1, height: size, class: "hist" });
    bar.append(draw("title", {}, `2^${tensor.low + i}: ${number(100 * share)} %`));
    svg.append(bar);
    const exponent = tensor.low + i;
    if (exponent % (step < 9 ? 10 : 5) === 0)
      svg.append(draw("text", { x: left + (i + 0.5) * step, y: bottom + 13, "text-anchor": "middle", class: "soft" }, String(exponent)));
  });
  const x = (value) => left + step * Math.max(0, value - tensor.low);
  held.forEach((storage, i) => {
    const { name, normal, least } = RANGES[storage], top = Math.log2(tensor.amax), y = bottom + 21 + 15 * i;
    if (!Number.isFinite(top)) return;
    const [a, b, c] = [x(top - least), x(top - normal), Math.max(x(top), left + 1)];
    svg.append(draw("text", { x: left - 5, y: y + 9, "text-anchor": "end" }, name),
      draw("rect", { x: a, y: y + 2, width: Math.max(0, b - a), height: 7, class: "sub" }),
      draw("rect", { x: b, y: y + 2, width: Math.max(1, c - b), height: 7, class: "range" }));
  });
  const zeros = tensor.zeros ? `, ${number(100 * tensor.zeros)} % zeros` : "";
  const bad = tensor.nonfinite ? `, ${tensor.nonfinite} not finite` : "";
  return make("figure", {}, svg, make("figcaption", {},
    `${side} at step ${tensor.step}: largest ${number(tensor.amax)}, smallest ${number(tensor.min)}${zeros}${bad}`));
}

function fact(name, value) {
  return make("div", {}, make("dt", {}, name), make("dd", {}, value));
}

function section(index) {
  const product = data.products[index];
  const [m, n, k, batch] = product.size;
  const facts = make("dl", {}, fact("role", product.role), fact("m × n × k", `${m} × ${n} × ${k}` + (batch > 1 ? `, ${batch} times` : "")),
    fact("FLOPs", `${number(product.flops / 1e9)} G`), fact("operands", `${number(product.bytes / 1e6)} MB`));
  if (product.us !== undefined) facts.append(fact("predicted", `${number(product.us)} µs`));
  if (product.next !== undefined) facts.append(fact("runner-up", data.labels[product.next]));
  if (product.margin !== undefined) facts.append(fact("bound / error", number(product.margin)));
  if (product.pin !== undefined) facts.append(fact("pin", product.pin));
  const node = make("section", { "aria-labelledby": `h${index}`, id: `s${index}` },
    make("h3", { id: `h${index}`, tabindex: -1 }, product.name),
    make("p", {}, make("strong", {}, data.labels[product.chosen]), `: ${product.reason}`), facts);
  if (product.candidates.length) {
    const chart = candidateChart(product);
    if (chart) node.append(make("h4", {}, "Candidates: error over bound"), stateLegend(product), chart);
    node.append(make("h4", {}, "Candidates: what was measured, worst point of training, upper ends of 95 % intervals"), candidateTable(product), refusals(product));
  } else {
    node.append(make("p", { class: "hint" }, "Nothing was measured of this product."));
  }
  const tensors = (product.tensors || []).map((at, i) => [data.tensors[at], data.sides[i]]).filter(([tensor]) => tensor);
  if (tensors.length) {
    node.append(make("h4", {}, "Binary exponents: share of elements; below, what a format scaled to the largest element holds (pale: subnormals)"),
      make("div", { class: "drawn" }, ...tensors.map(([tensor, side]) => histogram(tensor, side, product.storages))));
  } else {
    node.append(make("p", { class: "hint" }, "No histograms: the report was made without the profile (--metrics)."));
  }
  return node;
}

function detailOf(line) {
  const next = line.nextElementSibling;
  return next && next.classList.contains("detail") ? next : null;
}

function openSection(index) {
  const line = byId(`p${index}`);
  if (!detailOf(line)) {
    const cell = make("td", { colspan: line.cells.length }, section(index));
    line.after(make("tr", { class: "detail", "data-of": index }, cell));
    const button = byId(`b${index}`);
    button.setAttribute("aria-expanded", "true");
    button.setAttribute("aria-controls", `s${index}`);
  }
  return line;
}

function closeSection(line) {
  const detail = detailOf(line);
  if (!detail) return;
  detail.remove();
  const button = line.querySelector(".open");
  button.setAttribute("aria-expanded", "false");
  button.removeAttribute("aria-controls");
}

/** Opens a product from elsewhere on the page: filters that hide it are cleared. */
function go(index) {
  if (byId(`p${index}`).hidden) byId("filters").reset();
  apply();
  openSection(index).scrollIntoView({ block: "start" });
  byId(`h${index}`).focus({ preventScroll: true });
}

// Filters.

function matcher(text) {
  const words = text.trim().toLowerCase();
  if (!words) return () => true;
  if (!words.includes("*")) return (line) => line.dataset.text.includes(words);
  const pattern = new RegExp(words.split("*").map((part) => part.replace(/[.*+?^${}()|[\]\\]/g, "\\$&")).join(".*"));
  return (line) => pattern.test(line.dataset.text);
}

function apply() {
  const wanted = { role: byId("role").value, format: byId("format").value, layer: byId("layer").value };
  const fits = matcher(byId("search").value);
  const shown = new Set();
  for (const line of lines) {
    const visible = fits(line) && Object.entries(wanted).every(([key, value]) => !value || line.dataset[key] === value);
    line.hidden = !visible;
    const detail = detailOf(line);
    if (detail) detail.hidden = !visible;
    if (visible) shown.add(line.id.slice(1));
  }
  byId("count").value = `${shown.size} of ${lines.length} products`;
  for (const cell of cells) cell.classList.toggle("off", !shown.has(cell.dataset.go));
}

for (const line of lines) {
  const product = data.products[line.id.slice(1)];
  line.dataset.text = `${product.name} ${data.labels[product.chosen]}`.toLowerCase();
}
const filters = byId("filters");
filters.addEventListener("input", apply);
filters.addEventListener("submit", (event) => event.preventDefault());
// The fields have their first values only after the event.
filters.addEventListener("reset", () => setTimeout(apply));

// Sorting: by the number in data-v where there is one, else by text; sections stay with their rows.

function sortBy(column, heading) {
  const descending = heading.getAttribute("aria-sort") === "ascending";
  for (const other of heading.parentNode.cells) other.removeAttribute("aria-sort");
  heading.setAttribute("aria-sort", descending ? "descending" : "ascending");
  const numeric = heading.classList.contains("n");
  const key = (line) => {
    const cell = line.cells[column], text = cell.dataset.v ?? cell.textContent;
    return numeric ? (text === "" || text === "–" ? Infinity : Number(text)) : text;
  };
  const keyed = lines.map((line, i) => [key(line), i, line]);
  const sign = descending ? -1 : 1;
  keyed.sort(([a, i], [b, j]) => {
    if (numeric && (a === Infinity || b === Infinity)) return a === b ? i - j : a === Infinity ? 1 : -1;
    const order = numeric ? a - b : a.localeCompare(b, undefined, { numeric: true });
    return sign * order || i - j;
  });
  for (const [, , line] of keyed) {
    const detail = detailOf(line);
    body.append(line);
    if (detail) line.after(detail);
  }
}

[...table.tHead.rows[0].cells].forEach((heading, column) =>
  heading.querySelector("button").addEventListener("click", () => sortBy(column, heading)));

body.addEventListener("click", (event) => {
  const button = event.target.closest(".open");
  if (!button) return;
  const line = button.closest("tr");
  if (detailOf(line)) closeSection(line);
  else openSection(button.dataset.go);
});

document.addEventListener("click", (event) => {
  const target = event.target.closest(".heat button, a.go");
  if (!target) return;
  event.preventDefault();
  history.replaceState(null, "", `#p${target.dataset.go}`);
  go(target.dataset.go);
});

document.addEventListener("keydown", (event) => {
  const typing = /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName);
  if (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey) {
    event.preventDefault();
    byId("search").focus();
  }
  if (event.key !== "Escape") return;
  const detail = event.target.closest("tr.detail") || (event.target.classList.contains("open") && detailOf(event.target.closest("tr")));
  if (!detail) return;
  const line = byId(`p${detail.dataset.of}`);
  closeSection(line);
  line.querySelector(".open").focus();
});

// The heat map: one cell is in the order of tabs, arrows move.

function place(cell) {
  return [cell.closest("tr").rowIndex, cell.parentNode.cellIndex];
}

for (const map of document.querySelectorAll(".heat")) {
  const own = cells.filter((cell) => map.contains(cell));
  own[0].tabIndex = 0;
  map.addEventListener("keydown", (event) => {
    const move = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key];
    if (!move || !event.target.matches("button")) return;
    event.preventDefault();
    let [row, column] = place(event.target);
    for (;;) {
      row += move[0];
      column += move[1];
      const cell = map.rows[row] && map.rows[row].cells[column];
      if (!cell || row < 2 || column < 1) return;
      const button = cell.querySelector("button");
      if (!button) continue;
      event.target.tabIndex = -1;
      button.tabIndex = 0;
      button.focus();
      return;
    }
  });
}

const LEGENDS = {
  format: [["e4", "E4M3 × E4M3"], ["mix", "two formats of 8 bits"], ["e5", "E5M2 × E5M2"], ["i8", "INT8"], ["bf", "BF16"], ["f32", "FP32"]],
  bound: [["q0", "to 1/16 of the bound"], ["q1", "1/8"], ["q2", "1/4"], ["q3", "1/2"], ["q4", "1"], ["q5", "to 2, above the bound"], ["q6", "4"], ["q7", "more"]],
  time: [["q0", "no time"], ["q7", "the longest product"]],
};
const FAMILIES = { e4: "f8E4M3FN", mix: "mix", e5: "f8E5M2", i8: "i8", bf: "bf16", f32: "f32" };

function colour() {
  const by = byId("colour").value;
  for (const map of document.querySelectorAll(".heat")) map.dataset.by = by;
  const used = new Set(cells.map((cell) => cell.dataset.f));
  const entries = LEGENDS[by].filter(([name]) => by !== "format" || used.has(FAMILIES[name]));
  byId("legend").replaceChildren(...entries.map(([name, text]) =>
    make("span", {}, make("span", { class: "chip", style: `--chip: var(--${name})` }), text)));
}
byId("colour").addEventListener("change", colour);
colour();
apply();

function follow() {
  const found = /^#p(\d+)$/.exec(location.hash);
  if (found && data.products[found[1]]) go(found[1]);
}
addEventListener("hashchange", follow);
follow();
