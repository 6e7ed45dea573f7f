// One entry in numbers: the sum that it is, what depends on it, and how its gradient was checked.

const SHOWN = 10; // terms at first

/** A button that leads to an entry of the step, or the input, that gave an array. */
function chip(array, entry, name, go, up = false) {
  return el("button", {
    type: "button", class: `chip${up ? " up" : ""}`,
    title: stepOfArray.has(array) ? "Go to the step that gave this number" : "An input",
    onclick: () => go(array, entry),
  }, entryName(arrays[array], entry, name));
}

/** A table of the terms whose sum an entry is; each can be unfolded into its own. */
function sumTable(step, entry, go, off = new Set(), total = arrays[step.array].values[entry]) {
  const terms = termsOf(step, entry);
  const body = el("tbody");
  const rows = terms.map((term, k) => termRows(step, term, k, go, off));
  const show = (some) => some.forEach((pair) => body.append(...pair));
  show(rows.slice(0, SHOWN));
  if (rows.length > SHOWN) {
    const rest = el("tr", {}, el("td", { colspan: 7, class: "name" }, el("button", {
      type: "button", class: "chip", onclick: () => { rest.remove(); show(rows.slice(SHOWN)); },
    }, `${rows.length - SHOWN} more terms`)));
    body.append(rest);
  }
  const foot = el("tfoot", {}, el("tr", {},
    el("td", { colspan: 5, class: "name" }, terms.length ? "sum" : "no term: nothing reaches this entry"),
    el("td", { class: "sign" }, "="), el("td", {}, medium(total))));
  return el("table", { class: "terms", "data-terms": terms.length }, body, foot);
}

function termRows(step, term, k, go, off) {
  const from = stepOfArray.has(term.read.array) ? steps[stepOfArray.get(term.read.array)] : null;
  const inner = from && (termsOf(from, term.entry).length || madeOf(from, term.entry).length);
  const nested = el("tr", { class: "nested", hidden: "" }, el("td", { colspan: 7 }));
  const more = el("button", {
    type: "button", class: "more", "aria-expanded": "false", "aria-label": `What ${term.read.name} is made of`,
    onclick: () => {
      if (!nested.firstChild.childNodes.length) nested.firstChild.append(madeOfBlock(from, term.entry, go, true));
      nested.hidden = !nested.hidden;
      more.setAttribute("aria-expanded", String(!nested.hidden));
      more.textContent = nested.hidden ? "▸" : "▾";
    },
  }, "▸");
  const name = factorName(step, term);
  const row = el("tr", { class: off.has(term.read.name) ? "off" : null, "data-product": String(term.value * term.slope) },
    el("td", { class: "sign" }, k ? "+" : ""),
    el("td", { class: "fold" }, inner ? more : null),
    el("td", {}, chip(term.read.array, term.entry, term.read.name, go, term.read.up), el("div", {}, medium(term.value))),
    el("td", { class: "sign" }, "×"),
    el("td", {}, el("span", { class: "sub" }, name || "slope"), el("div", {}, medium(term.slope))),
    el("td", { class: "sign" }, "="),
    el("td", { class: "product" }, medium(term.value * term.slope)));
  return [row, nested];
}

/** Where a line is no sum: what it reads there, and its slope in each. */
function slopeTable(step, entry, go) {
  const rows = madeOf(step, entry).slice(0, 4 * SHOWN).map((term) => el("tr", {},
    el("td", { class: "name" }, chip(term.read.array, term.entry, term.read.name, go, term.read.up)),
    el("td", {}, medium(term.value)), el("td", {}, medium(term.slope))));
  const head = el("tr", {}, el("th", { class: "name" }, "reads"), el("th", {}, "value"), el("th", {}, "slope of this line"));
  return el("table", { class: "terms" }, el("thead", {}, head), el("tbody", {}, ...rows));
}

function madeOfBlock(step, entry, go, nested = false, off = undefined, total = undefined) {
  const isSum = step.reads.some((read) => read.sum);
  const some = isSum || madeOf(step, entry).length;
  if (!some) return el("p", { class: "says" }, "No array that it reads has a slope here.");
  const table = isSum ? sumTable(step, entry, go, off, total) : slopeTable(step, entry, go);
  return nested ? el("div", {}, el("span", { class: "sub" }, step.formula), table) : el("div", { class: "scroll" }, table);
}

function goesList(array, entry, go) {
  const places = goesInto(array, entry);
  const items = places.slice(0, SHOWN).map((one) => el("li", {},
    chip(steps[one.step].array, one.entry, undefined, go, steps[one.step].direction === "backward"), ` × ${short(one.slope)}`));
  if (places.length > SHOWN) items.push(el("li", {}, `and ${places.length - SHOWN} more`));
  return el("ul", { class: "goes" }, ...items);
}

/** A gradient's entry beside forward's slopes; `value` may be with a route switched off. */
function checkTable(check, entry, value, whole) {
  const rows = [["this line gives", exact(value)]];
  if (check.complex) rows.push(["complex step", exact(check.complex[entry])]);
  rows.push(["finite difference", exact(check.difference[entry])]);
  if (whole) rows.push(["relative error", check.error[entry].toExponential(1)]);
  const table = el("table", { class: "check" }, el("tbody", {}, ...rows.map(([name, text]) =>
    el("tr", {}, el("th", { scope: "row" }, name), el("td", {}, text.startsWith("\u2212") ? text : ` ${text}`)))));
  const best = (check.complex || check.difference)[entry];
  const good = whole && check.agrees[entry];
  const words = good ? "✓ agrees, but for rounding"
    : whole ? "✗ does not agree: this line, or one above it, is wrong"
      : `✗ off by ${medium(best - value)}: a route is switched off`;
  return el("div", {}, el("div", { class: "scroll" }, table), el("p", { class: `verdict${good ? "" : " bad"}` }, words));
}
