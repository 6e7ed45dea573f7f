// The panel of one entry: its sum, its uses, and the check of its gradient.

const SHOWN = 10; // terms shown before "more terms"
const MAX_OPENED = 40; // terms that "Open all" unfolds
const SLOPE = "slope: derivative of the result of this line with respect to the number beside it";
const opened = new Set(); // unfolded terms, by their path from an entry

/** A button that goes to an entry of an array: to its step, or to the inputs. */
function chip(array, entry, name, go, up = false, sign = "") {
  return el("button", {
    type: "button", class: `chip${up ? " up" : ""}`,
    title: stepOfArray.has(array) ? "Go to the step that computes this number" : "An input",
    onclick: () => go(array, entry),
  }, sign + entryName(arrays[array], entry, name));
}

/** A slope as a decimal number, or as a fraction 1/n. */
function slopeText(slope) {
  const parts = Math.round(1 / slope);
  return Math.abs(parts) > 1 && Math.abs(parts) < 1000 && Math.abs(parts * slope - 1) < 1e-12 ? minus(`${parts < 0 ? "-" : ""}1/${Math.abs(parts)}`) : medium(slope);
}

/** Whether a term is added without a factor. */
const isPlain = (term) => term.slope === 1 && term.factor < 0;

/** The reason why an entry has no terms: the value that a condition or a maximum reads. */
function cutOff(step, entry) {
  const size = sizeOf(arrays[step.array]);
  const reads = step.reads.filter((read) => read.at && sizeOf(arrays[read.array]) === size);
  const read = reads.find((read) => !hasSlope(read)) || reads[0];
  if (!read) return "no terms: this entry depends on no array";
  return `cut off: ${entryName(arrays[read.array], entry, read.name)} is ${medium(arrays[read.array].values[entry])}`;
}

/** A table of the terms of an entry; each term can be unfolded into its own terms. */
function sumTable(step, entry, go, way, off = new Set(), total = arrays[step.array].values[entry]) {
  const terms = termsOf(step, entry);
  const body = el("tbody");
  const rows = terms.map((term, k) => termRows(step, term, k, go, `${way}/${k}`, off));
  const show = (some) => some.forEach((pair) => body.append(...pair));
  show(opened.has(`${way}/all`) ? rows : rows.slice(0, SHOWN));
  if (rows.length > SHOWN && !opened.has(`${way}/all`)) {
    const rest = el("tr", {}, el("td", { colspan: 7, class: "name" }, el("button", {
      type: "button", class: "chip", onclick: () => { opened.add(`${way}/all`); rest.remove(); show(rows.slice(SHOWN)); },
    }, `${rows.length - SHOWN} more terms`)));
    body.append(rest);
  }
  const foot = el("tfoot", {}, el("tr", {},
    el("td", { colspan: 5, class: "name" }, terms.length ? "sum" : cutOff(step, entry)),
    el("td", { class: "sign" }, "="), el("td", {}, medium(total))));
  return el("table", { class: "terms", "data-terms": terms.length }, body, foot);
}

function termRows(step, term, k, go, way, off) {
  const from = stepOfArray.has(term.read.array) ? steps[stepOfArray.get(term.read.array)] : null;
  const inner = from && (termsOf(from, term.entry).length || madeOf(from, term.entry).length);
  const nested = el("tr", { class: "nested", hidden: "" }, el("td", { colspan: 7 }));
  const more = el("button", {
    type: "button", class: "more", "aria-expanded": "false", "aria-label": `Terms of ${term.read.name}`,
    onclick: () => { opened[nested.hidden ? "add" : "delete"](way); unfold(); },
  }, "▸");
  const unfold = () => {
    nested.hidden = !opened.has(way);
    if (!nested.hidden && !nested.firstChild.childNodes.length) nested.firstChild.append(madeOfBlock(from, term.entry, go, way, true));
    more.setAttribute("aria-expanded", String(!nested.hidden));
    more.textContent = nested.hidden ? "▸" : "▾";
  };
  if (inner && opened.has(way)) unfold();
  const plain = isPlain(term), other = factorOf(step, term);
  const row = el("tr", { class: off.has(term.read.name) ? "off" : null, "data-product": String(term.value * term.slope) },
    el("td", { class: "sign" }, k ? "+" : ""),
    el("td", { class: "fold" }, inner ? more : null),
    el("td", {}, chip(term.read.array, term.entry, term.read.name, go, term.read.up), plain ? null : el("div", {}, medium(term.value))),
    el("td", { class: "sign" }, plain ? "" : "×"),
    plain ? el("td") : el("td", {}, other ? chip(other.array, other.entry, other.name, go, false, other.sign) : el("span", { class: "sub", title: SLOPE }, "slope"), el("div", {}, other ? medium(term.slope) : slopeText(term.slope))),
    el("td", { class: "sign" }, plain ? "" : "="),
    el("td", { class: "product" }, medium(term.value * term.slope)));
  return [row, nested];
}

/** For a line that is not a sum: the entries that it reads, and its derivative in each. */
function slopeTable(step, entry, go) {
  const rows = madeOf(step, entry).slice(0, 4 * SHOWN).map((term) => el("tr", {},
    el("td", { class: "name" }, chip(term.read.array, term.entry, term.read.name, go, term.read.up)),
    el("td", {}, medium(term.value)), el("td", {}, slopeText(term.slope))));
  const head = el("tr", {}, el("th", { class: "name" }, "reads"), el("th", {}, "value"), el("th", {}, "slope of this line"));
  return el("table", { class: "terms" }, el("thead", {}, head), el("tbody", {}, ...rows));
}

/** Unfold the terms under an entry, breadth first, or fold all of them. */
function openAll(way) {
  const inside = [...opened].filter((path) => path.startsWith(`${way}/`));
  if (inside.length) { inside.forEach((path) => opened.delete(path)); return; }
  const [array, entry] = way.split(".").map(Number);
  const queue = [[steps[stepOfArray.get(array)], entry, way]];
  for (let count = 0; queue.length && count < MAX_OPENED;) {
    const [step, at, here] = queue.shift();
    termsOf(step, at).slice(0, SHOWN).forEach((term, k) => {
      const from = stepOfArray.get(term.read.array);
      if (from === undefined || !madeOf(steps[from], term.entry).length || count >= MAX_OPENED) return;
      opened.add(`${here}/${k}`);
      count += 1;
      queue.push([steps[from], term.entry, `${here}/${k}`]);
    });
  }
}

/** The terms of an entry; `way` is its path from the entry that the panel shows. */
function madeOfBlock(step, entry, go, way, nested = false, off = undefined, total = undefined) {
  const isSum = step.reads.some((read) => read.sum);
  const some = isSum || madeOf(step, entry).length;
  if (!some) return el("p", { class: "says" }, "This number depends on no array.");
  const table = isSum ? sumTable(step, entry, go, way, off, total) : slopeTable(step, entry, go);
  if (nested) return el("div", {}, el("span", { class: "sub" }, step.formula), table);
  const bare = isSum ? termsOf(step, entry).some((term) => term.factor < 0 && !isPlain(term)) : true;
  const folds = table.querySelector(".more");
  const all = folds ? el("button", { type: "button", class: "quiet all", onclick: () => {
    openAll(way);
    block.replaceWith(madeOfBlock(step, entry, go, way, false, off, total));
  } }, table.querySelector(".more[aria-expanded='true']") ? "Fold all" : "Open all") : null;
  const block = el("div", {}, el("div", { class: "scroll" }, table), all, bare ? el("p", { class: "hint" }, SLOPE) : null);
  return block;
}

/** The layer and op of a step in parentheses, unless the step on the screen has the same. */
function elsewhere(step) {
  const where = whereOf(step);
  return steps[here - 1] && whereOf(steps[here - 1]) !== where ? ` (${where})` : "";
}

function goesList(array, entry, go) {
  const uses = goesInto(array, entry);
  const items = uses.slice(0, SHOWN).map((use) => el("li", {},
    chip(steps[use.step].array, use.entry, undefined, go, steps[use.step].direction === "backward"), ` × ${short(use.slope)}${elsewhere(steps[use.step])}`));
  if (uses.length > SHOWN) items.push(el("li", {}, `and ${uses.length - SHOWN} more`));
  return el("ul", { class: "goes" }, ...items);
}

/** An entry of a gradient and its derivatives by other methods. */
function checkTable(check, entry, value) {
  const rows = [["this line", exact(value)]];
  if (check.complex) rows.push(["complex step", exact(check.complex[entry])]);
  rows.push([check.forward ? "forward derivative" : "finite difference", exact(check.difference[entry])]);
  rows.push(["relative error", check.error[entry].toExponential(1)]);
  const table = el("table", { class: "check" }, el("tbody", {}, ...rows.map(([name, text]) =>
    el("tr", {}, el("th", { scope: "row" }, name), el("td", {}, text.startsWith("\u2212") ? text : ` ${text}`)))));
  const best = (check.complex || check.difference)[entry];
  const good = !check.old && check.agrees[entry], withoutRoute = live.routesOff().length > 0;
  const words = good ? "✓ agrees up to rounding"
    : check.old ? "not checked for the numbers as they are now"
      : withoutRoute ? `✗ off by ${medium(best - value)}: a route is switched off`
        : "✗ does not agree";
  return el("div", {}, el("div", { class: "scroll" }, table), el("p", { class: `verdict${good ? "" : " bad"}` }, words));
}
