"use strict";
// The page's behaviour: sorting, filtering, choosing columns, one strategy's detail, two side by side, copying, and
// what figures show under the pointer. All names are inserted as text, never as markup. Numbers, marks and LaTeX come
// from bench/report: this script computes none, and a filter changes none.
const DATA = JSON.parse(document.getElementById("data").textContent);

const make = (tag, attributes = {}, ...children) => {
  const node = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children);
  return node;
};
const draw = (tag, attributes) => {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  return node;
};

function wire(section) {
  const table = JSON.parse(section.querySelector("script.data").textContent);
  const grid = section.querySelector("table.scores");
  const body = grid.tBodies[0];

  // Sorting: a click sorts from the better end, a second one turns it round; rows without a value stay last.
  const valueOf = (row, key) => {
    if (key === "strategy") return row.cells[0].textContent;
    if (key === "family") return row.cells[1].textContent;
    const cell = key === "n" ? row.cells[2] : row.querySelector(`td[data-key="${CSS.escape(key)}"]`);
    return cell.dataset.value === "" ? null : Number(cell.dataset.value);
  };
  grid.tHead.addEventListener("click", (event) => {
    const head = event.target.closest("th");
    if (!event.target.closest("button") || !head) return;
    const { key, best: first } = head.dataset;
    const other = first === "ascending" ? "descending" : "ascending";
    const order = head.getAttribute("aria-sort") === first ? other : first;
    for (const th of grid.tHead.querySelectorAll("th")) th.setAttribute("aria-sort", th === head ? order : "none");
    const sign = order === "ascending" ? 1 : -1;
    const rows = [...body.rows].map((row) => [row, valueOf(row, key)]);
    rows.sort(([, a], [, b]) => {
      if (a === null || b === null) return (a === null) - (b === null);
      return sign * (typeof a === "string" ? a.localeCompare(b) : a - b);
    });
    body.append(...rows.map(([row]) => row));
  });

  const filter = section.querySelector(".filter");
  filter.addEventListener("input", () => {
    const words = filter.value.toLowerCase().split(/[\s,]+/).filter(Boolean);
    for (const row of body.rows) {
      const text = `${row.cells[0].textContent} ${row.cells[1].textContent}`.toLowerCase();
      row.hidden = words.length > 0 && !words.some((word) => text.includes(word));
    }
  });

  section.querySelector(".columns").addEventListener("change", (event) => {
    for (const cell of grid.querySelectorAll(`[data-key="${CSS.escape(event.target.value)}"]`))
      cell.hidden = !event.target.checked;
  });

  // CSV has the numbers of what is visible, LaTeX the whole table as in table.tex.
  const status = section.querySelector(".status");
  for (const button of section.querySelectorAll("[data-copy]"))
    button.addEventListener("click", async () => {
      const text = button.dataset.copy === "csv" ? asCsv(numbers(grid)) : `${DATA.comments}\n${table.latex}`;
      status.textContent = (await copy(text)) ? "copied" : "this browser does not let pages copy";
    });

  const detail = section.querySelector(".detail");
  body.addEventListener("click", (event) => {
    const button = event.target.closest(".open");
    if (!button) return;
    const already = !detail.hidden && detail.dataset.row === button.dataset.row;
    for (const row of body.rows) row.classList.toggle("chosen", !already && row.dataset.row === button.dataset.row);
    detail.hidden = already;
    if (already) return;
    detail.dataset.row = button.dataset.row;
    const close = make("button", { type: "button" }, "close");
    close.addEventListener("click", () => { button.click(); button.focus(); });
    detail.replaceChildren(...strategy(table.rows[Number(button.dataset.row)], table), close);
    detail.focus();
    detail.scrollIntoView({ block: "nearest" });
  });

  const compare = section.querySelector(".compare");
  if (compare) {
    const form = compare.querySelector("form");
    const show = () => compare.querySelector(".answer").replaceChildren(...sideBySide(table, form));
    form.addEventListener("change", show);
    form.addEventListener("submit", (event) => event.preventDefault());
    show();
  }

  for (const figure of section.querySelectorAll("figure")) {
    const { csv, tips } = table.figures[Number(figure.dataset.figure)];
    const svg = figure.querySelector("svg");
    follow(figure.querySelector(".drawing"), svg, tips, figure.dataset.file);
    const download = (kind, type, text) => figure.querySelector(`[data-download=${kind}]`).addEventListener("click", () => {
      const href = URL.createObjectURL(new Blob([text()], { type }));
      make("a", { href, download: `${figure.dataset.file}.${kind}` }).click();
      URL.revokeObjectURL(href);
    });
    download("csv", "text/csv", () => csv);
    download("svg", "image/svg+xml", () => new XMLSerializer().serializeToString(svg));
  }
}

// The pointer, or the arrow keys, choose a strategy: the others fade, and its name and numbers are shown.
function follow(drawing, svg, tips, file) {
  const tip = drawing.querySelector(".tip");
  const groups = new Map(); // by strategy: the parts of the figure
  const marks = []; // what has a text: a point of a line, or a bar
  for (const [name, [series, texts]] of Object.entries(tips)) {
    const group = svg.getElementById(`${file}-${name}`);
    if (!group) continue;
    group.classList.add("series");
    groups.set(series, [...(groups.get(series) ?? []), group]);
    const points = group.querySelectorAll("use");
    const parts = points.length === texts.length ? points : group.querySelectorAll("path");
    if (parts.length === texts.length) parts.forEach((node, i) => marks.push({ node, series, text: texts[i] }));
  }
  const names = [...groups.keys()];
  let chosen = null;
  const show = (series, text, x, y) => {
    for (const name of [chosen, series]) for (const group of groups.get(name) ?? []) group.classList.toggle("lit", name === series);
    chosen = series;
    drawing.classList.toggle("dim", series !== null);
    tip.hidden = series === null;
    if (series === null) return;
    tip.replaceChildren(make("strong", {}, series), ...(text ? [make("br"), text] : []));
    const room = drawing.getBoundingClientRect();
    tip.style.left = `${Math.max(0, Math.min(x - room.left + 12, room.width - tip.offsetWidth))}px`;
    tip.style.top = `${Math.max(0, y - room.top - tip.offsetHeight - 12)}px`;
  };
  const near = (event) => {
    let [best, least] = [null, 18];
    for (const mark of marks) {
      const box = mark.node.getBoundingClientRect();
      const away = Math.hypot(Math.max(box.left - event.clientX, 0, event.clientX - box.right),
        Math.max(box.top - event.clientY, 0, event.clientY - box.bottom));
      if (away < least) [best, least] = [mark, away];
    }
    return best;
  };
  const point = (event) => {
    const mark = near(event);
    const under = event.target.closest?.(".series");
    const series = mark?.series ?? names.find((name) => groups.get(name).includes(under)) ?? null;
    show(series, mark?.text, event.clientX, event.clientY);
  };
  drawing.addEventListener("pointermove", point);
  drawing.addEventListener("pointerdown", point);
  drawing.addEventListener("pointerleave", () => show(null));
  drawing.addEventListener("blur", () => show(null));
  drawing.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (event.key === "Escape") show(null);
    if (!step || !names.length) return;
    event.preventDefault();
    const place = chosen === null ? (step > 0 ? 0 : names.length - 1) : (names.indexOf(chosen) + step + names.length) % names.length;
    const last = marks.findLast((mark) => mark.series === names[place]);
    const { left, top } = (last?.node ?? groups.get(names[place])[0]).getBoundingClientRect();
    show(names[place], last?.text, left, top);
  });
}

// Rows of numbers: those of the visible columns and rows, as in table.csv.
function numbers(grid) {
  const cells = (row) => [...row.cells].slice(3).filter((cell) => !cell.hidden);
  const head = cells(grid.tHead.rows[0]).flatMap(({ dataset: { key } }) => ["mean", "sd", "n", "mark"].map((part) => `${key}_${part}`));
  const rows = [...grid.tBodies[0].rows].filter((row) => !row.hidden).map((row) => [
    ...[0, 1].map((place) => plain(row.cells[place].textContent.trim())), row.cells[2].dataset.value,
    ...cells(row).flatMap(({ dataset: { value, sd, n, mark } }) => [value, sd, n, mark])]);
  return [["strategy", "family", "n", ...head], ...rows];
}
// A spreadsheet would compute a text that begins like a formula.
const plain = (text) => (/^[=+\-@\t\r]/.test(text) ? `'${text}` : text);

function strategy(row, table) {
  const parts = [make("h3", {}, row.identity)];
  const panes = make("div", { class: "panes" });
  if (row.matrix) panes.append(matrix(row.matrix, table.score));
  if (row.stream) panes.append(curve(row.stream, table.score));
  const cells = make("table", {}, make("caption", { class: "small" }, "Cells"));
  cells.append(make("thead", {}, make("tr", {}, ...["seed", "status", table.titles.acc ?? "acc", "seconds", "why"].map((t) => make("th", { scope: "col" }, t)))));
  const body = make("tbody");
  for (const [seed, status, acc, seconds, why] of row.seeds)
    body.append(make("tr", {}, ...[seed, status, acc, seconds, why].map((text) => make("td", {}, text))));
  cells.append(body);
  panes.append(cells);
  parts.push(panes);
  return parts;
}

function matrix(texts, score) {
  const table = make("table", { class: "matrix" });
  table.append(make("caption", {}, score.on));
  const head = make("tr", {}, make("td"), ...texts[0].map((_, j) => make("th", { scope: "col" }, String(j + 1))));
  table.append(make("thead", {}, head));
  const body = make("tbody");
  texts.forEach((row, i) => {
    const line = make("tr", {}, make("th", { scope: "row" }, String(i)));
    for (const text of row) {
      const cell = make("td", {}, text);
      if (!Number.isNaN(Number(text))) {
        // A dark to light ramp; the ink turns where it would not be read.
        const place = Number(text) / (100 * score.top);
        cell.style.background = `hsl(${225 - 170 * place} 55% ${18 + 57 * place}%)`;
        cell.style.color = place > 0.55 ? "#111" : "#fff";
      }
      line.append(cell);
    }
    body.append(line);
  });
  table.append(body);
  return table;
}

function curve(stream, score) {
  const [w, h, left, base] = [320, 180, 34, 22];
  const x = (i) => left + (stream.length === 1 ? (w - left - 8) / 2 : (i * (w - left - 8)) / (stream.length - 1));
  const y = (v) => 6 + (1 - v / score.top) * (h - base - 6);
  const svg = draw("svg", { viewBox: `0 0 ${w} ${h}`, class: "curve", role: "img",
    "aria-label": `${score.label}: ` + stream.map(([, , text], i) => `${text}${score.unit} after ${i + 1}`).join(", ") });
  for (const v of [0, score.top / 2, score.top]) {
    svg.append(draw("line", { class: "axis", x1: left, x2: w - 8, y1: y(v), y2: y(v) }));
    const label = draw("text", { x: left - 4, y: y(v) + 4, "text-anchor": "end" });
    label.textContent = Number((100 * v).toPrecision(3));
    svg.append(label);
  }
  const step = stream.length > 12 ? 5 * Math.ceil(stream.length / 60) : 1;
  stream.forEach((_, i) => {
    if ((i + 1) % step) return;
    const label = draw("text", { x: x(i), y: h - 6, "text-anchor": "middle" });
    label.textContent = i + 1;
    svg.append(label);
  });
  const known = stream.map(([mean, half], i) => [x(i), mean, half ?? 0]).filter(([, mean]) => mean !== null);
  const clip = (v) => Math.min(score.top, Math.max(0, v));
  const upper = known.map(([px, m, half]) => `${px},${y(clip(m + half))}`);
  const lower = known.map(([px, m, half]) => `${px},${y(clip(m - half))}`).reverse();
  svg.append(draw("polygon", { class: "band", points: [...upper, ...lower].join(" ") }));
  svg.append(draw("polyline", { class: "line", points: known.map(([px, m]) => `${px},${y(m)}`).join(" ") }));
  return make("div", {}, make("p", { class: "small" }, `${score.so_far}, 95 % interval, by tasks learned`), svg);
}

function sideBySide(table, form) {
  const [a, b] = [form.elements.a.value, form.elements.b.value].map(Number);
  const score = form.elements.score.value;
  if (a === b) return [make("p", {}, "Choose two different strategies.")];
  const [low, high] = a < b ? [a, b] : [b, a];
  const found = (table.pairs[score] ?? {})[`${low},${high}`];
  const title = table.titles[score] ?? score;
  const names = [table.rows[a].identity, table.rows[b].identity];
  const side = make("div", { class: "side" }, ...[a, b].map((i) => make("div", {}, make("h3", {}, table.rows[i].identity),
    ...(table.rows[i].stream ? [curve(table.rows[i].stream, table.score)] : []), ...(table.rows[i].matrix ? [matrix(table.rows[i].matrix, table.score)] : []))));
  if (!found) return [make("p", {}, `There are no common seeds with ${title} for these two.`), side];
  // The other way round the difference has the other sign.
  const turned = (text) => (a < b || !/[1-9]/.test(text) ? text : text.startsWith("-") ? text.slice(1) : `-${text}`);
  const ends = (a < b ? found.ends : [...found.ends].reverse()).map(turned);
  const interval = ends.length ? ` (95 % interval ${ends[0]} to ${ends[1]})` : "";
  const words = `${title} of ${names[0]} minus ${names[1]}: ${turned(found.mean)} points${interval}, paired over ${found.n} common seeds. ${found.words}`;
  return [make("p", {}, words), side];
}

const asCsv = (rows) => rows.map((row) => row.map((text) => (/[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text)).join(",")).join("\n") + "\n";

async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    // A page opened from a file has no clipboard of its own in some browsers; execCommand still works there.
    const area = make("textarea", { class: "hidden" });
    area.value = text;
    document.body.append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    return done;
  }
}

document.querySelectorAll("section.result").forEach(wire);

// A served page asks now and then whether its run has new cells; a page that is a file asks nothing.
if (DATA.live) {
  let seen = null;
  setInterval(async () => {
    const answer = await fetch("state").catch(() => null);
    if (!answer || !answer.ok) return;
    const state = await answer.text();
    if (seen !== null && state !== seen) location.reload();
    seen = state;
  }, 2000);
}
