// An array as tables of coloured numbers: one table per image and channel, else a single table.

const MAX_OPACITY = 0.6; // of the colour of the largest number in an array
const MAX_COLUMNS = 12; // of one table in print

/** The colour of a number: its hue and opacity, which the style sheet lowers where a cell is dimmed. */
function tint(value, largest) {
  if (typeof value !== "number" || !largest) return null;
  const opacity = MAX_OPACITY * Math.min(1, Math.abs(value) / largest);
  return `--hue:var(${value < 0 ? "--low" : "--high"});--alpha:${opacity.toFixed(3)}`;
}

/**
 * A figure of an array. `choose(entry, keep)` is called when the pointer is over an entry (keep is
 * false) or an entry is selected (true); `values` replace the values of the array. With `print`, a
 * wide table is split.
 */
function heatmap(array, { name = array.name, caption = [], up = false, values = array.values, wrong = null, choose = () => {}, print = false }) {
  const largest = array.real ? Math.max(...values.map(Math.abs)) : 0;
  const shape = array.shape.filter((size, axis) => !(array.shape.length === 4 && axis > 1 && collapsed(array)));
  const figure = el("figure", { class: `array${up ? " up" : ""}` },
    el("figcaption", {}, el("b", {}, name), el("span", {}, sizes(array)), ...caption.map((part) => (typeof part === "string" ? el("span", {}, part) : part))));
  const cell = (entry) => {
    const value = values[entry];
    const isWrong = wrong && wrong[entry];
    return el("td", {
      class: `cell${isWrong ? " wrong" : ""}`, "data-entry": entry, "data-value": String(value),
      "aria-label": `${entryName(array, entry, name)}: ${short(value)}${isWrong ? ", wrong" : ""}`,
      tabindex: entry ? -1 : 0, role: "gridcell", style: tint(value, largest),
    }, short(value));
  };
  const parts = print ? MAX_COLUMNS : Infinity;
  figure.append(shape.length === 4 ? blocks(array, cell) : flat(array, shape, cell, parts));
  listen(figure, array, choose, name);
  return figure;
}

const sizes = (array) => (array.shape.length ? array.shape.join(" × ") : "one number");

/** Whether images have one pixel: then the figure is one table of images by channels. */
const collapsed = (array) => array.shape[2] === 1 && array.shape[3] === 1;

function blocks(array, cell) {
  const [N, C, H, W] = array.shape;
  const box = el("div", { class: `blocks${C * W > MAX_COLUMNS ? " wide" : ""}`, style: `grid-template-columns:repeat(${C}, max-content)`, role: "grid", "aria-label": array.name });
  for (let n = 0; n < N; n++) {
    for (let c = 0; c < C; c++) {
      const table = el("table", { role: "presentation" });
      for (let i = 0; i < H; i++) {
        const row = el("tr", { role: "row" });
        for (let j = 0; j < W; j++) row.append(cell(((n * C + c) * H + i) * W + j));
        table.append(row);
      }
      const title = `${array.axes[0]} ${n} · ${array.axes[1]} ${c}`;
      box.append(el("div", { class: "block", role: "rowgroup" }, el("div", { class: "name", role: "presentation" }, title), table));
    }
  }
  return box;
}

/** One table for every `most` columns. */
function flat(array, shape, cell, most) {
  const columns = shape.length ? shape[shape.length - 1] : 1;
  const box = el("div", { class: "blocks" });
  for (let from = 0; from < columns; from += most) box.append(flatTable(array, shape, cell, from, Math.min(columns, from + most)));
  return box;
}

function flatTable(array, shape, cell, from, to) {
  const columns = shape.length ? shape[shape.length - 1] : 1;
  const rows = array.values.length / columns;
  const [down, across] = shape.length === 2 ? array.axes : ["", array.axes[0] || ""];
  const table = el("table", { class: "flat", role: "grid", "aria-label": array.name });
  if (columns > 1) {
    const head = el("tr", { role: "row" }, rows > 1 ? el("td", { role: "presentation" }) : null);
    for (let j = from; j < to; j++) head.append(el("th", { scope: "col" }, `${across} ${j}`));
    table.append(el("thead", {}, head));
  }
  const body = el("tbody");
  for (let i = 0; i < rows; i++) {
    const row = el("tr", { role: "row" }, rows > 1 ? el("th", { scope: "row" }, shape.length === 2 ? `${down} ${i}` : "") : null);
    for (let j = from; j < to; j++) row.append(cell(i * columns + j));
    body.append(row);
  }
  table.append(body);
  return table;
}

function listen(figure, array, choose, name) {
  const entryOf = (event) => {
    const cell = event.target.closest("td.cell");
    return cell && Number(cell.dataset.entry);
  };
  figure.addEventListener("pointerover", (event) => {
    const entry = entryOf(event);
    if (event.pointerType !== "mouse" || entry === null) return;
    // all digits, for the eye only: a screen reader would read a title out after the rounded number
    const cell = event.target.closest("td.cell");
    cell.title = `${entryName(array, entry, name)}: ${exact(array.values[entry])}`;
    choose(entry, false);
  });
  figure.addEventListener("pointerleave", (event) => { if (event.pointerType === "mouse") choose(null, false); });
  figure.addEventListener("click", (event) => { const entry = entryOf(event); if (entry !== null) choose(entry, true); });
  figure.addEventListener("keydown", (event) => {
    const entry = entryOf(event);
    if (entry === null) return;
    const to = moved(array, entry, event.key);
    if (to !== null) {
      event.preventDefault();
      event.stopPropagation();
      focusCell(figure, to);
      choose(to, true);
    }
    if (event.key === "Enter" || event.key === " ") { event.preventDefault(); choose(entry, true); }
  });
}

/** The entry that a key moves to, or null: along a row, along a column, or to an end of the row. */
function moved(array, entry, key) {
  const shape = collapsed(array) ? array.shape.slice(0, 2) : array.shape;
  const columns = shape.length ? shape[shape.length - 1] : 1;
  if (key === "Home") return entry - (entry % columns);
  if (key === "End") return entry - (entry % columns) + columns - 1;
  const way = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns }[key];
  if (!way) return null;
  const to = entry + way;
  return to >= 0 && to < array.values.length ? to : entry;
}

function focusCell(figure, entry) {
  for (const cell of figure.querySelectorAll("td.cell")) {
    const here = Number(cell.dataset.entry) === entry;
    cell.tabIndex = here ? 0 : -1;
    if (here) cell.focus();
  }
}

/** Highlight some entries of a figure and dim the others; null resets the figure. */
function light(figure, entries, chosen = null) {
  figure.classList.toggle("lit", entries !== null);
  for (const cell of figure.querySelectorAll("td.cell")) {
    const entry = Number(cell.dataset.entry);
    cell.classList.toggle("on", entries !== null && entries.has(entry));
    cell.classList.toggle("chosen", entry === chosen);
  }
}
