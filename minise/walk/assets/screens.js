// What a screen shows: the case, one step, or all gradients.

const CHECKED = "How fast the loss changes when only this number is moved in the forward pass: by a tiny imaginary amount (complex step, exact but for rounding), and by a little up and down (finite difference)";

/** The gradient that a step gives, or is a part of. */
const whole = (step) => (step.route ? nameOf(step).split("_")[0] : nameOf(step));

function prose(paragraphs) {
  return paragraphs.map((text) => (/^ {4}/.test(text)
    ? el("pre", {}, text.replace(/^ {4}/gm, ""))
    : el("p", {}, ...text.replace(/::$/, ":").replace(/\s*\n\s*/g, " ").split("``").map((part, k) => (k % 2 ? el("code", {}, part) : part)))));
}

const code = (text) => el("code", {}, text);

/** What the colours of numbers say. */
const scale = () => el("p", { class: "scale" }, "below 0", el("i"), "above 0, strongest at the largest of each array");

/** What the colours of the graph say. */
const dots = () => el("p", { class: "scale" }, ...[["done", "known in forward"], ["graded", "its gradient is known"], ["now", "this step"]].flatMap(([kind, text]) => [el("b", { class: `dot ${kind}` }), text]));

function startScreen() {
  const shown = Object.keys(arrays).map(Number).filter((a) => !stepOfArray.has(a) && a <= data.dout);
  const figures = shown.map((a) => {
    const figure = heatmap(arrays[a], {
      choose: (entry) => light(figure, entry === null ? null : new Set([entry]), entry),
      caption: a === data.dout ? [`the gradient of the loss with respect to ${arrays[data.out].name}`] : [],
    });
    return figure;
  });
  const first = steps.find((step) => step.gradientOf === arrays[0].name) || steps.find((step) => step.gradientOf), of = first ? first.gradientOf : arrays[0].name;
  const gradient = first ? nameOf(first) : `d${of}`;
  const counts = Object.entries(data.axes).map(([axis, said]) => `${axis} counts ${said}`).join(", ");
  const count = steps.filter((step) => step.check).reduce((sum, step) => sum + step.check.agrees.length, 0);
  return [
    el("div", { class: "story" }, ...prose(data.story),
      el("h2", {}, "How to read this"),
      el("p", {}, "Each step is one line of the code that trains, run on the small case below. First the forward pass, then the backward pass, which goes back through it line by line. ",
        code(gradient), " is the gradient of the loss with respect to ", code(of), ": how fast the loss changes with each number of ", code(of), ", so it has the shape of ", code(of),
        `.${counts ? ` ${counts}, all from 0.` : ""}`),
      arrays[data.dout].shape.length === 0 ? el("p", {}, "The loss is ", code(arrays[data.out].name), `, which is ${medium(data.loss)}; `, code("dout"), " is its gradient with respect to itself.")
      : el("p", {}, "The loss here is the sum of all products of ", code("dout"), " and ", code(arrays[data.out].name), `, which is ${medium(data.loss)}: chosen so that its gradient with respect to `, code(arrays[data.out].name), " is ", code("dout"), ", the upstream gradient that the backward pass starts from."),
      el("p", {}, "The dots above are what forward computes, from left to right; gradients come back along the same lines. Where several lines leave one dot, it reaches the loss by several routes, and its gradient is the sum of what comes back by each."),
      el("p", {}, "In the steps, point at a number, or tap it: what it depends on lights up, and its sum is written out. Every number of every gradient, ", String(count), " in all, was checked against the forward pass alone: how fast does the loss change when just that entry is moved?")),
    el("p", { class: "label", style: "margin-top:1.6rem" }, "What goes in"),
    scale(),
    el("div", { class: "inputs" }, ...figures),
    el("p", { class: "keys" }, el("kbd", {}, "←"), " ", el("kbd", {}, "→"), " step by step, ", el("kbd", {}, "Home"), " ", el("kbd", {}, "End"), " first and last; in a table the same keys go from number to number, ", el("kbd", {}, "Esc"), " leaves it."),
  ];
}

function endScreen() {
  const rows = steps.map((step, k) => [step, k]).filter(([step]) => step.check).map(([step, k]) => {
    const best = step.check.complex || step.check.difference;
    const own = arrays[step.array].values;
    const apart = Math.max(...own.map((value, i) => Math.abs(value - best[i])));
    const good = step.check.agrees.every(Boolean);
    return el("tr", {},
      el("td", {}, el("a", { href: `#step-${k + 1}` }, el("code", {}, nameOf(step)))),
      el("td", {}, whereOf(step)),
      el("td", {}, arrays[step.array].shape.join(" × ") || "1"),
      el("td", { class: "number" }, apart.toExponential(1)),
      el("td", { class: "number" }, Math.max(...step.check.error).toExponential(1)),
      el("td", { class: `verdict${good ? "" : " bad"}` }, good ? "✓ right" : "✗ wrong"));
  });
  const all = steps.every((step) => !step.check || step.check.agrees.every(Boolean));
  const head = ["gradient", "of", "shape", "largest difference", "largest relative error", ""];
  return [
    el("p", { class: "pass" }, "Behind the last step"),
    el("h2", {}, "All gradients"),
    el("p", { class: "lead" }, all ? "Every gradient that the backward pass made, beside the slope of the loss by a complex step of forward: they differ by rounding alone."
      : "Not every gradient is that of forward. The first one that is wrong shows the line to look at; those below it inherit the mistake."),
    el("div", { class: "scroll" }, el("table", { class: "summary" }, el("thead", {}, el("tr", {}, ...head.map((text) => el("th", { scope: "col" }, text)))), el("tbody", {}, ...rows))),
  ];
}

function lead(step) {
  if (step.direction === "forward") return step.reason ? el("p", { class: "lead" }, step.reason) : null;
  const parts = [];
  if (step.route) {
    const to = arrays[step.route[1]].name;
    parts.push("One route of several: the part of ", el("code", {}, whole(step)), " that comes back through ", el("code", {}, to), " alone. ");
  }
  if (step.rule) parts.push("Passes the gradient back through ", code(step.rule), step.reason ? `: ${step.reason}. ` : ". ");
  else if (step.reason) parts.push(`${step.reason.replace(/\.$/, "")}. `);
  else if (!step.reads.some((read) => read.up)) parts.push("Made from what forward kept. ");
  if (step.gradientOf) parts.push("This is what is returned for ", el("code", {}, step.gradientOf), ".");
  return parts.length ? el("p", { class: "lead" }, ...parts) : null;
}

function ruleBox(step) {
  const math = el("div", { class: "shown" });
  math.innerHTML = `<math display="block" style="text-align:left">${step.mathml}</math>`;
  math.firstChild.setAttribute("alttext", step.formula);
  const given = Object.entries(step.constants).map(([name, value]) => `${name} = ${value}`).join(", ");
  return el("div", { class: "rule" }, math, el("div", { class: "source" },
    ...step.code.map((line, k) => el("div", { class: k ? "inner" : null }, el("pre", {}, el("code", {}, line.text)), el("span", { class: "at" }, `${line.file}:${line.line}`))),
    given ? el("span", { class: "with" }, `with ${given}`) : null));
}

function stepScreen(k) {
  const step = steps[k], array = arrays[step.array];
  const key = step.terms.map((_, t) => (chosen[t] === false ? "0" : "1")).join("");
  const values = step.terms.length ? step.parts[key] : array.values;
  const complete = !key.includes("0");
  const wrong = step.check && step.check.agrees.map((good) => !good);
  const panel = el("div", { class: "entry", id: "entry" });
  const sources = step.reads.map((read) => {
    const from = stepOfArray.get(read.array);
    const caption = from === undefined ? [] : [el("button", { type: "button", onclick: () => goArray(read.array) }, `step ${from + 1}${otherName(step, read, steps[from])}`)];
    if (!hasSlope(read)) caption.unshift("chooses, but has no slope");
    const figure = heatmap(arrays[read.array], {
      name: read.name, up: read.up, caption: read.up ? ["upstream gradient", ...caption] : caption,
      choose: (entry, keep) => { lightFrom(read, entry); if (keep) reveal(panel); },
    });
    return { read, figure };
  });
  const result = heatmap(array, { values, wrong, up: step.direction === "backward", choose: (entry, keep) => {
    if (entry === null) return pick(kept);
    if (keep) { kept = entry; history.replaceState(null, "", hashOf(here, entry)); }
    pick(entry);
    if (keep) reveal(panel);
  } });
  const hold = (still) => { panel.style.minHeight = still ? `${panel.offsetHeight}px` : ""; }; // or the page would jump
  function pick(entry) {
    hold(entry !== kept);
    light(result, null, entry);
    for (const { read, figure } of sources) light(figure, hasSlope(read) ? new Set(read.at[entry]) : null, null);
    showEntry(panel, step, entry, values, complete);
  }
  function lightFrom(read, entry) {
    if (entry === null || !hasSlope(read)) return pick(kept);
    hold(true);
    const outs = new Set(read.at.flatMap((places, out) => (places.includes(entry) ? [out] : [])));
    light(result, outs, null);
    for (const one of sources) light(one.figure, one.read === read ? new Set([entry]) : null, one.read === read ? entry : null);
    showSource(panel, step, read, entry);
  }
  pick(kept);
  const title = el("h2", {}, array.name, el("span", { class: "shape" }, sizes(array)));
  return [
    el("p", { class: "pass" }, el("b", {}, step.direction === "forward" ? "Forward" : "Backward"), ` · step ${here} of ${steps.length} · ${whereOf(step)}`),
    title, lead(step), ruleBox(step), step.terms.length ? routes(step) : null,
    el("div", { class: "work" },
      sources.length ? el("div", { class: "column reads" }, el("p", { class: "label" }, "reads"), ...sources.map((one) => one.figure)) : null,
      el("div", { class: "column gives" }, el("p", { class: "label" }, "gives"), result), array.real ? panel : null),
    el("div", { class: "legend" }, scale(), dots()),
    notesFor(step),
  ].filter(Boolean);
}

/** What a line's name for an array leaves out: what it is called where it was made. */
function otherName(step, read, from) {
  if (whereOf(from) !== whereOf(step)) return `, ${nameOf(from)} of ${whereOf(from)}`;
  return nameOf(from) === read.name ? "" : `, ${nameOf(from)}`;
}

/** Scroll to where a number is written out, if that is out of sight. */
function reveal(panel) {
  const { top, bottom } = panel.getBoundingClientRect();
  if (top > innerHeight - 60 || bottom < 200) panel.scrollIntoView({ block: "start" });
}

function showEntry(panel, step, entry, values, complete) {
  const array = arrays[step.array], off = new Set(step.terms.filter((_, t) => chosen[t] === false));
  const into = goesInto(step.array, entry);
  const gradient = steps.find((one) => one.twin === step.array && !one.route && sizeOf(arrays[one.array]) === sizeOf(array));
  panel.replaceChildren(
    el("h3", {}, entryName(array, entry), el("span", { class: "value" }, ` = ${exact(values[entry])}`)),
    madeOfBlock(step, entry, goArray, `${step.array}.${entry}`, false, off, values[entry]),
    ...(step.check ? [el("h4", {}, `Forward's own slope in ${step.check.of}`), el("p", { class: "hint" }, CHECKED), checkTable(step.check, entry, values[entry], complete)] : []),
    ...(gradient ? [el("h4", {}, "The gradient of the loss with respect to it"),
      el("p", { class: "goes" }, chip(gradient.array, entry, undefined, goArray, true), el("span", {}, `= ${exact(arrays[gradient.array].values[entry])}${elsewhere(gradient)}`))] : []),
    ...(into.length ? [el("h4", {}, "What depends on it"), goesList(step.array, entry, goArray)] : []));
}

/** What an entry that the step reads does in this step. */
function showSource(panel, step, read, entry) {
  const from = arrays[read.array], to = arrays[step.array];
  const outs = read.at.flatMap((places, out) => {
    const k = places.indexOf(entry);
    return k < 0 ? [] : [[out, read.slopes[read.by[out][k]]]];
  });
  const rows = outs.slice(0, 4 * SHOWN).map(([out, slope]) => el("tr", {},
    el("td", { class: "name" }, el("code", {}, entryName(to, out))), el("td", {}, medium(slope))));
  const head = el("tr", {}, el("th", { class: "name" }, "changes"), el("th", {}, "as fast as"));
  panel.replaceChildren(
    el("h3", {}, entryName(from, entry, read.name), el("span", { class: "value" }, ` = ${exact(from.values[entry])}`)),
    outs.length ? el("div", { class: "scroll" }, el("table", { class: "terms" }, el("thead", {}, head), el("tbody", {}, ...rows)))
      : el("p", {}, "No entry of this step depends on it."));
}

/** In words, the lines of forward that a gradient comes back through. */
function throughs(step, read) {
  const lines = edgesBack(step, read).map(([, to]) => stepOfArray.get(to)).filter((k) => k !== undefined);
  return [...new Set(lines)].map((k) => `through ${steps[k].layer ? `${whereOf(steps[k])}: ` : ""}${steps[k].formula}`);
}

/** Switches for the terms of a gradient. */
function routes(step) {
  const labels = step.terms.map((name, t) => {
    const read = step.reads.find((one) => one.name === name);
    const giver = stepOfArray.has(read.array) ? steps[stepOfArray.get(read.array)] : null;
    const box = el("input", { type: "checkbox", "data-term": name, onchange: (event) => {
      chosen[t] = event.target.checked;
      render();
      article.querySelector(`[data-term="${name}"]`).focus();
    } });
    box.checked = chosen[t] !== false;
    const reason = giver && giver.route && giver.reason ? `: ${giver.reason}` : "";
    const inner = giver && giver.terms.length ? `; itself a sum of ${giver.terms.length} routes, see step ${stepOfArray.get(read.array) + 1}` : "";
    const via = `${throughs(step, read).join("; ") || (giver ? giver.formula : "")}${reason}${inner}`;
    return el("label", {}, box, el("span", {}, el("code", {}, name), " ", el("span", { class: "says" }, via)));
  });
  const words = `${arrays[step.array].name} is a sum of ${step.terms.length} routes: switch one off and see what is missing`;
  return el("fieldset", { class: "routes" }, el("legend", {}, words), ...labels);
}

/** The derivation in the source, beside the gradients that it is about. */
function notesFor(step) {
  const name = whole(step);
  const about = new RegExp(`^\\s+${name}\\s+=`, "m");
  const notes = data.notes[step.op] || [];
  if (step.direction !== "backward" || !notes.some((text) => about.test(text))) return null;
  return el("div", { class: "notes" }, el("p", { class: "label", style: "margin-top:1.6rem" }, "In the words of the source"), ...prose(notes));
}
