// The contents of a screen: the case, one step, or all gradients.

const checkMethod = (check, name) => (check.forward ? `Computed in this page from the forward pass alone, for the numbers as they are now: the derivative with respect to this entry of ${name} is carried forward through every operation to the loss (forward-mode differentiation, exact up to rounding).`
  : `Computed from the forward pass alone, by changing only this entry of ${name}: by a tiny imaginary amount (complex step, exact up to rounding), and by a small real amount up and down (finite difference).`);

/** The name of the gradient that a step computes, in full or one term of it. */
const gradientName = (step) => (step.route ? nameOf(step).split("_")[0] : nameOf(step));

function prose(paragraphs) {
  return paragraphs.map((text) => (/^ {4}/.test(text)
    ? el("pre", {}, text.replace(/^ {4}/gm, ""))
    : el("p", {}, ...text.replace(/::$/, ":").replace(/\s*\n\s*/g, " ").split("``").map((part, k) => (k % 2 ? el("code", {}, part) : part)))));
}

const code = (text) => el("code", {}, text);

/** Legend of the colours of numbers. */
const scale = () => el("p", { class: "scale" }, "negative", el("i"), "positive (full colour: the largest magnitude in the array)");

/** Legend of the colours of the graph. */
const dots = () => el("p", { class: "scale" }, ...[["done", "value computed"], ["graded", "gradient computed"], ["now", "this step"]].flatMap(([kind, text]) => [el("b", { class: `dot ${kind}` }), text]));

/** The number of checked entries of gradients. */
const checkedCount = steps.filter((step) => step.check).reduce((sum, step) => sum + step.check.agrees.length, 0);

function startScreen() {
  const shown = Object.keys(arrays).map(Number).filter((a) => arrays[a].limit !== undefined);
  const figures = shown.map((a) => {
    const { limit } = arrays[a];
    const figure = heatmap(arrays[a], {
      choose: (entry, keep) => {
        light(figure, entry === null ? null : new Set([entry]), entry);
        if (keep && live.isInput(a)) bar.open(a, entry);
      },
      caption: a === data.dout ? [`the gradient of the loss with respect to ${arrays[data.out].name}`] : limit ? [`${limit[0]}, …, ${limit[1]}`] : [],
    });
    return markLive(figure, a);
  });
  const first = steps.find((step) => step.gradientOf === arrays[0].name) || steps.find((step) => step.gradientOf), of = first ? first.gradientOf : arrays[0].name;
  const gradient = first ? nameOf(first) : `d${of}`;
  const counts = Object.entries(data.axes).map(([axis, meaning]) => `${axis} = ${meaning}`).join(", ");
  const drawn = document.getElementById("picture").content.firstElementChild;
  return [
    el("div", { class: "story" }, ...prose(data.story), drawn && el("figure", { class: "picture" }, drawn.cloneNode(true)),
      el("h2", {}, "How to read this"),
      el("p", {}, "Each step is one line of the training code, run on the small arrays below: first the forward pass, then the backward pass, which goes through the forward lines in reverse order. ",
        code(gradient), " is the gradient of the loss with respect to ", code(of), ": its entries say how fast the loss changes with each entry of ", code(of), ", so it has the shape of ", code(of),
        `.${counts ? ` Index letters: ${counts}. All start at 0.` : ""}`),
      arrays[data.dout].shape.length === 0 ? el("p", {}, "The loss is ", code(arrays[data.out].name), `, which is ${medium(data.loss)}; `, code("dout"), " is its gradient with respect to itself.")
      : el("p", {}, "The loss here is the inner product of ", code("dout"), " and ", code(arrays[data.out].name), `, which is ${medium(data.loss)}. Its gradient with respect to `, code(arrays[data.out].name), " is therefore ", code("dout"), ", the upstream gradient that the backward pass starts from."),
      el("p", {}, "The dots in the graph above are the arrays of the forward pass, computed from left to right; gradients flow back along the same lines. An array with several outgoing lines affects the loss along several routes, and its gradient is the sum of the gradients of these routes."),
      el("p", {}, "In a step, point at a number or tap it: the numbers that it depends on light up, and its sum is written out. Every entry of every gradient (", String(checkedCount), " in all) was checked against a numerical derivative of the forward pass.")),
    el("p", { class: "label", style: "margin-top:1.6rem" }, "Inputs"),
    el("p", { class: "hint live" }, data.tape ? "Click a number to change it, or press Enter on it: every step of both passes is computed again in this page."
      : "The numbers of this page cannot be changed: the code does not run on the arrays that record it."),
    scale(),
    el("div", { class: "inputs" }, ...figures),
    el("p", { class: "keys" }, el("kbd", {}, "←"), " ", el("kbd", {}, "→"), " previous and next step, ", el("kbd", {}, "Home"), " ", el("kbd", {}, "End"), " first and last; inside a table the same keys move from number to number, ", el("kbd", {}, "Esc"), " leaves the table."),
  ];
}

/** What the summary says of the numbers as the reader has changed them. */
function summaryNow(all) {
  const compared = "Every gradient for the numbers as they are now, compared with a derivative that is carried forward through the forward pass in this page";
  if (all) return `${compared}: the differences are rounding errors.`;
  return `${compared}. Some do not match${live.routesOff().length ? ": a route is switched off, so its step and all steps below it lack a term" : ""}.`;
}

function endScreen() {
  const rows = steps.map((step, k) => [step, k]).filter(([step]) => step.check).map(([step, k]) => {
    const best = step.check.complex || step.check.difference;
    const own = arrays[step.array].values;
    const maxDifference = Math.max(...own.map((value, i) => Math.abs(value - best[i])));
    const good = step.check.agrees.every(Boolean);
    return el("tr", {},
      el("td", {}, el("a", { href: `#step-${k + 1}` }, el("code", {}, nameOf(step)))),
      el("td", { class: `verdict${good ? "" : " bad"}` }, step.check.old ? "not checked" : good ? "✓ correct" : markOf(step)),
      el("td", {}, whereOf(step)),
      el("td", {}, arrays[step.array].shape.join(" × ") || "1"),
      el("td", { class: "number" }, maxDifference.toExponential(1)),
      el("td", { class: "number" }, Math.max(...step.check.error).toExponential(1)),
    );
  });
  const all = steps.every((step) => !step.check || step.check.agrees.every(Boolean));
  const head = ["gradient", "check", "op", "shape", "largest difference", "largest relative error"];
  return [
    el("p", { class: "pass" }, "Summary"),
    el("h2", {}, "All gradients"),
    el("p", { class: "lead" }, live.isChanged() ? summaryNow(all) : all ? "Every gradient of the backward pass, compared with a numerical derivative of the forward pass: the differences are rounding errors."
      : "Some gradients do not match the numerical derivatives of the forward pass. Each is marked: a wrong line computes a wrong gradient even from true ones; a line that inherits is right, and reads a wrong gradient."),
    el("div", { class: "scroll" }, el("table", { class: "summary" }, el("thead", {}, el("tr", {}, ...head.map((text) => el("th", { scope: "col" }, text)))), el("tbody", {}, ...rows))),
  ];
}

function lead(step) {
  if (step.direction === "forward") return step.reason ? el("p", { class: "lead" }, step.reason) : null;
  const parts = [];
  if (step.route) {
    const to = arrays[step.route[1]].name;
    parts.push("One of several routes: the part of ", el("code", {}, gradientName(step)), " that flows back through ", el("code", {}, to), " only. ");
  }
  if (step.rule) parts.push("Passes the gradient back through ", code(step.rule), ". ", step.reason ? `${step.reason} ` : "");
  else if (step.reason) parts.push(`${step.reason} `);
  else if (!step.reads.some((read) => read.up)) parts.push("Computed from arrays that forward saved. ");
  if (step.gradientOf) parts.push("The gradient of the loss with respect to ", el("code", {}, step.gradientOf), ".");
  return parts.length ? el("p", { class: "lead" }, ...parts) : null;
}

/** The lines of code, in runs of neighbouring lines of one helper function. */
function runsOf(lines) {
  const runs = [];
  for (const line of lines) {
    const run = runs[runs.length - 1];
    if (run && line.helper && run[0].helper === line.helper) run.push(line);
    else runs.push([line]);
  }
  return runs;
}

function ruleBox(step) {
  const math = el("div", { class: "shown" });
  math.innerHTML = `<math display="block" style="text-align:left">${step.mathml}</math>`;
  math.firstChild.setAttribute("alttext", step.formula);
  const constants = Object.entries(step.constants).map(([name, value]) => `${name} = ${value}`).join(", ");
  return el("div", { class: "rule" }, math, el("div", { class: "source" },
    ...runsOf(step.code).map(([first, ...more]) => el("div", { class: first.helper ? "inner" : null },
      el("pre", {}, el("code", {}, [first, ...more].map((line) => line.text).join("\n"))),
      el("span", { class: "at" }, `${first.helper ? `${first.helper}, ` : ""}${first.file}:${first.line}`))),
    constants ? el("span", { class: "with" }, `with ${constants}`) : null));
}

function stepScreen(k) {
  const step = steps[k], array = arrays[step.array], { values } = array;
  const wrong = step.check && step.check.agrees.map((good) => !good);
  const panel = el("div", { class: "entry", id: "entry" });
  const sources = step.reads.map((read) => {
    const from = stepOfArray.get(read.array);
    const caption = from === undefined ? [] : [el("button", { type: "button", onclick: () => goArray(read.array) }, `step ${from + 1}${otherName(step, read, steps[from])}`)];
    if (!hasSlope(read)) caption.unshift("selects entries, has no derivative");
    const figure = heatmap(arrays[read.array], {
      name: read.name, up: read.up, caption: read.up ? ["upstream gradient", ...caption] : caption,
      choose: (entry, keep) => {
        lightFrom(read, entry);
        if (keep && live.isInput(read.array)) bar.open(read.array, entry);
        if (keep) reveal(panel);
      },
    });
    return { read, figure: markLive(figure, read.array) };
  });
  const result = heatmap(array, { values, wrong, up: step.direction === "backward", choose: (entry, keep) => {
    if (entry === null) return pick(selected);
    if (keep) { selected = entry; history.replaceState(null, "", addressOf(here, entry)); }
    pick(entry);
    if (keep) reveal(panel);
  } });
  const hold = (fixed) => { panel.style.minHeight = fixed ? `${panel.offsetHeight}px` : ""; }; // else the page would jump
  function pick(entry) {
    hold(entry !== selected);
    light(result, null, entry);
    for (const { read, figure } of sources) light(figure, hasSlope(read) ? new Set(read.at[entry]) : null, null);
    showEntry(panel, step, entry, values);
  }
  function lightFrom(read, entry) {
    if (entry === null || !hasSlope(read)) return pick(selected);
    hold(true);
    const outs = new Set(read.at.flatMap((places, out) => (places.includes(entry) ? [out] : [])));
    light(result, outs, null);
    for (const source of sources) light(source.figure, source.read === read ? new Set([entry]) : null, source.read === read ? entry : null);
    showSource(panel, step, read, entry);
  }
  pick(selected);
  const title = el("h2", {}, array.name, el("span", { class: "shape" }, sizes(array)));
  return [
    el("p", { class: "pass" }, el("b", {}, step.direction === "forward" ? "Forward" : "Backward"), ` · step ${here} of ${steps.length} · ${whereOf(step)}`),
    title, oldNote(step), faultNote(step), lead(step), ruleBox(step), step.terms.length ? routes(step) : null,
    el("div", { class: "work" },
      sources.length ? el("div", { class: "column reads" }, el("p", { class: "label" }, "reads"), ...sources.map((source) => source.figure)) : null,
      el("div", { class: "column result" }, el("p", { class: "label" }, "result"), result), array.real ? panel : null),
    el("div", { class: "legend" }, scale(), dots()),
    notesFor(step),
  ].filter(Boolean);
}

/** The name of an array in the step that computed it, if it is another name or another op. */
function otherName(step, read, from) {
  if (whereOf(from) !== whereOf(step)) return `, ${nameOf(from)} of ${whereOf(from)}`;
  return nameOf(from) === read.name ? "" : `, ${nameOf(from)}`;
}

/** Scroll to the panel of a number, if it is out of sight. */
function reveal(panel) {
  const { top, bottom } = panel.getBoundingClientRect();
  if (top > innerHeight - 60 || bottom < 200) panel.scrollIntoView({ block: "start" });
}

function showEntry(panel, step, entry, values) {
  const array = arrays[step.array], off = new Set(step.terms.filter((term) => live.isOff(step, term)));
  const into = goesInto(step.array, entry);
  const gradient = steps.find((other) => other.twin === step.array && !other.route && sizeOf(arrays[other.array]) === sizeOf(array));
  panel.replaceChildren(
    el("h3", {}, entryName(array, entry), el("span", { class: "value" }, ` = ${exact(values[entry])}`)),
    madeOfBlock(step, entry, goArray, `${step.array}.${entry}`, false, off, values[entry]),
    ...(step.check ? [el("h4", {}, `Check: derivative of the loss with respect to ${step.check.of}`), el("p", { class: "hint" }, checkMethod(step.check, step.check.of.split(" as read")[0])), checkTable(step.check, entry, values[entry])] : []),
    ...(gradient ? [el("h4", {}, "Gradient of the loss with respect to this number"),
      el("p", { class: "goes" }, chip(gradient.array, entry, undefined, goArray, true), el("span", {}, `= ${exact(arrays[gradient.array].values[entry])}${elsewhere(gradient)}`))] : []),
    ...(into.length ? [el("h4", {}, "Used by"), goesList(step.array, entry, goArray)] : []));
}

/** The entries of a step that depend on an entry that it reads, with derivatives. */
function showSource(panel, step, read, entry) {
  const from = arrays[read.array], to = arrays[step.array];
  const outs = read.at.flatMap((places, out) => {
    const k = places.indexOf(entry);
    return k < 0 ? [] : [[out, read.slopes[read.by[out][k]]]];
  });
  const rows = outs.slice(0, 4 * SHOWN).map(([out, slope]) => el("tr", {},
    el("td", { class: "name" }, el("code", {}, entryName(to, out))), el("td", {}, medium(slope))));
  const head = el("tr", {}, el("th", { class: "name" }, "entry"), el("th", {}, "derivative"));
  panel.replaceChildren(
    el("h3", {}, entryName(from, entry, read.name), el("span", { class: "value" }, ` = ${exact(from.values[entry])}`)),
    outs.length ? el("div", { class: "scroll" }, el("table", { class: "terms" }, el("thead", {}, head), el("tbody", {}, ...rows)))
      : el("p", {}, "No entry of this step depends on this number."));
}

/** The forward lines that a gradient flows back through, as text. */
function throughs(step, read) {
  const lines = edgesBack(step, read).map(([, to]) => stepOfArray.get(to)).filter((k) => k !== undefined);
  return [...new Set(lines)].map((k) => `through ${steps[k].layer ? `${whereOf(steps[k])}: ` : ""}${steps[k].formula}`);
}

/** Switches for the terms of a gradient. */
function routes(step) {
  const labels = step.terms.map((name) => {
    const read = step.reads.find((candidate) => candidate.name === name);
    const source = stepOfArray.has(read.array) ? steps[stepOfArray.get(read.array)] : null;
    const box = el("input", { type: "checkbox", "data-term": name, disabled: step.node === null, onchange: (event) => {
      live.turn(steps.indexOf(step), name, event.target.checked);
      bar.refresh();
      article.querySelector(`[data-term="${name}"]`).focus();
    } });
    box.checked = !live.isOff(step, name);
    const reason = source && source.route && source.reason ? `. ${source.reason}` : "";
    const inner = source && source.terms.length ? `; itself a sum of ${source.terms.length} routes, see step ${stepOfArray.get(read.array) + 1}` : "";
    const via = `${throughs(step, read).join("; ") || (source ? source.formula : "")}${reason}${inner}`;
    return el("label", {}, box, el("span", {}, el("code", {}, name), " ", el("span", { class: "says" }, via)));
  });
  const words = `${arrays[step.array].name} is a sum over ${step.terms.length} routes: switch one off to see this gradient, and all that follow from it, without it`;
  return el("fieldset", { class: "routes" }, el("legend", {}, words), ...labels);
}

/** The derivation in the docstring of backward, for a gradient that it derives. */
function notesFor(step) {
  const name = gradientName(step);
  const about = new RegExp(`^\\s+${name}\\s+=`, "m");
  const notes = data.notes[step.op] || [];
  if (step.direction !== "backward" || !notes.some((text) => about.test(text))) return null;
  return el("div", { class: "notes" }, el("p", { class: "label", style: "margin-top:1.6rem" }, "Derivation, from the source code"), ...prose(notes));
}
