// The graph of the forward pass as an arc diagram, from left to right.

const MIN_GAP = 44, MAX_GAP = 118, RADIUS = 8, MIN_TARGET = 28, // pixels
  SVG = "http://www.w3.org/2000/svg";

function svg(tag, attributes, text) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  if (text !== undefined) element.textContent = text;
  return element;
}

const graph = (() => {
  const needed = new Set([data.out]);
  for (let k = steps.length - 1; k >= 0; k--) {
    if (steps[k].direction === "forward" && needed.has(steps[k].array)) {
      steps[k].reads.filter(hasSlope).forEach((read) => needed.add(read.array));
    }
  }
  const like = JSON.stringify(arrays[0].shape); // an input of this shape is a node, all others are parameters
  const inputs = [...needed].filter((a) => !stepOfArray.has(a));
  const nodes = [
    ...inputs.filter((a) => a === 0 || JSON.stringify(arrays[a].shape) === like).sort((a, b) => a - b),
    ...steps.filter((s) => s.direction === "forward" && needed.has(s.array)).map((s) => s.array),
  ];
  const column = new Map(nodes.map((a, k) => [a, k]));
  const edges = [], params = new Map();
  for (const a of nodes.filter((node) => stepOfArray.has(node))) {
    for (const read of steps[stepOfArray.get(a)].reads.filter(hasSlope)) {
      if (column.has(read.array)) edges.push({ from: read.array, to: a });
      else params.set(a, [...(params.get(a) || []), read]);
    }
  }
  return { nodes, column, edges, params };
})();

let gap = MIN_GAP; // between nodes
const x = (array) => 40 + gap * graph.column.get(array);

function drawGraph(figure, go) {
  const room = (figure.clientWidth - 80) / Math.max(1, graph.nodes.length - 1);
  const longest = Math.max(...graph.nodes.map((a) => arrays[a].name.length));
  gap = Math.max(Math.min(MAX_GAP, room), MIN_GAP, 8 * longest + 6);
  const span = Math.max(1, ...graph.edges.map((e) => graph.column.get(e.to) - graph.column.get(e.from)));
  const tall = span > 1 ? Math.min(86, 22 + 9 * span) : 16;
  const groups = groupsOf();
  const base = tall + 6, height = base + (graph.params.size ? 46 : 32) + (groups.length > 1 ? 20 : 0);
  const width = 80 + gap * (graph.nodes.length - 1);
  const root = svg("svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "group", "aria-label": describe() });
  for (const edge of graph.edges) {
    const path = svg("path", { class: "edge", d: arc(edge, base, tall, span) });
    path.dataset.edge = `${edge.from}-${edge.to}`;
    root.append(path);
  }
  for (const a of graph.nodes) {
    root.append(drawNode(a, base, go));
    (graph.params.get(a) || []).forEach((read, k, all) => {
      const wide = 10 + 6.4 * Math.max(...all.map((param) => param.name.length + signOf(param.array).length));
      const label = svg("text", { class: "param", x: x(a) + wide * (k - (all.length - 1) / 2), y: base + 40 }, `${read.name}${signOf(read.array)}`);
      label.dataset.param = read.array;
      root.append(label);
    });
  }
  if (groups.length > 1) groups.forEach((group) => drawGroup(root, group, height));
  figure.replaceChildren(root);
}

/** A node: its circle and name, in a rectangle that is large enough to tap. */
function drawNode(a, base, go) {
  const node = svg("g", { class: "node", role: "button", tabindex: a === graph.nodes[0] ? 0 : -1 });
  const wide = Math.max(MIN_TARGET, Math.min(gap, 8 * arrays[a].name.length + 6));
  node.dataset.node = a;
  node.append(svg("rect", { class: "target", x: x(a) - wide / 2, y: base - MIN_TARGET / 2, width: wide, height: MIN_TARGET + 18, rx: 4 }));
  node.append(svg("circle", { cx: x(a), cy: base, r: RADIUS }));
  node.append(svg("text", { x: x(a), y: base + 24 }, arrays[a].name));
  const sign = signOf(a);
  if (sign) node.append(svg("text", { class: "sign", x: x(a) + RADIUS + 7, y: base - 5 }, sign.trim()));
  node.addEventListener("click", (event) => { go(a); if (event.detail) node.blur(); }); // arrow keys then change the step
  node.addEventListener("keydown", (event) => {
    const to = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (event.key === "Enter" || event.key === " ") { event.preventDefault(); go(a); }
    if (!to) return;
    event.preventDefault();
    event.stopPropagation();
    focusNode(node.ownerSVGElement, graph.nodes[graph.column.get(a) + to]);
  });
  return node;
}

/** Move the focus to a node: one node of the graph is reached with Tab, the others with arrows. */
function focusNode(root, array) {
  if (array === undefined) return;
  for (const node of root.querySelectorAll(".node")) {
    node.setAttribute("tabindex", Number(node.dataset.node) === array ? 0 : -1);
    if (Number(node.dataset.node) === array) node.focus();
  }
}

/** The steps that compute the gradient of an array, or one term of it, wrongly, as far as checked. */
const wrongOf = (array) => steps.filter((step) => step.twin === array && (step.fault || live.isChecked(step)) && isWrong(step));

/** The sign of a wrong gradient beside the name of its array: of a wrong line, else of an heir. */
function signOf(array) {
  const wrong = wrongOf(array);
  return wrong.length ? ` ${signOfFault(wrong.find(isCulprit) || wrong[0])}` : "";
}

function arc({ from, to }, base, tall, span) {
  const a = x(from), b = x(to), far = graph.column.get(to) - graph.column.get(from);
  if (far === 1) return `M${a + RADIUS},${base} L${b - RADIUS},${base}`;
  const rise = 26 + (tall - 26) * ((far - 2) / Math.max(1, span - 2));
  const top = base - rise, bend = Math.min(60, (b - a) / 3);
  return `M${a},${base - RADIUS} C${a + bend / 3},${top} ${a + bend},${top} ${a + bend + 4},${top} L${b - bend - 4},${top} C${b - bend},${top} ${b - bend / 3},${top} ${b},${base - RADIUS}`;
}

/** Runs of neighbouring nodes with the same layer and op. */
function groupsOf() {
  const groups = [];
  for (const a of graph.nodes) {
    const step = stepOfArray.has(a) ? steps[stepOfArray.get(a)] : null;
    const name = step ? whereOf(step) : "";
    const last = groups[groups.length - 1];
    if (last && last.name === name) last.to = a;
    else groups.push({ name, from: a, to: a });
  }
  return groups.filter((group) => group.name);
}

function drawGroup(root, { name, from, to }, height) {
  const a = x(from) - 26, b = x(to) + 26, y = height - 16;
  root.append(svg("path", { class: "bracket", d: `M${a},${y - 4} v4 H${b} v-4` }));
  const room = Math.floor((b - a) / 5.6);
  const text = name.length > room ? name.split(" · ")[0] : name;
  root.append(svg("text", { class: "group", x: (a + b) / 2, y: y + 12 }, text.slice(0, room)));
}

function describe() {
  const lines = graph.edges.map((edge) => `${arrays[edge.from].name} to ${arrays[edge.to].name}`);
  return `Graph of the forward pass: ${lines.join(", ")}`;
}

/** The forward edges that a gradient flows back along, for a step that reads it. */
function edgesBack(step, read) {
  const source = stepOfArray.has(read.array) ? steps[stepOfArray.get(read.array)] : null;
  if (source && source.twin === step.twin) { // a term of the same gradient
    return source.route ? [source.route] : source.reads.filter((inner) => inner.up).flatMap((inner) => edgesBack(source, inner));
  }
  const to = read.array === data.dout ? data.out : source && source.twin;
  return to === null || step.twin === null ? [] : [[step.twin, to]];
}

/** The forward edges of a step, and those that are switched off. */
function edgesOf(step, chosen) {
  if (!step) return { on: [], off: [] };
  if (step.direction === "forward") return { on: step.reads.map((read) => [read.array, step.array]), off: [] };
  if (step.route) return { on: [step.route], off: [] };
  const on = [], off = [];
  for (const read of step.reads.filter(({ up }) => up)) {
    const open = chosen[step.terms.indexOf(read.name)] !== false;
    (open ? on : off).push(...edgesBack(step, read));
  }
  return { on, off };
}

function markGraph(figure, k, chosen) {
  const step = steps[k] || null, back = step && step.direction === "backward";
  const { on, off } = edgesOf(step, chosen);
  const has = (pairs, key) => pairs.some(([from, to]) => `${from}-${to}` === key);
  for (const path of figure.querySelectorAll(".edge")) {
    const key = path.dataset.edge;
    path.setAttribute("class", `edge${has(on, key) ? (back ? " backward" : " forward") : ""}${has(off, key) ? " off" : ""}`);
  }
  const done = new Set(steps.slice(0, Math.max(0, k + 1)).map(({ array }) => array));
  const graded = new Set(steps.slice(0, Math.max(0, k + 1)).map(({ direction, twin }) => (direction === "backward" ? twin : null)));
  if (back || k >= steps.length) graded.add(data.out); // its gradient is dout
  const now = step && (back ? step.twin : step.array);
  for (const node of figure.querySelectorAll(".node")) {
    const a = Number(node.dataset.node);
    const states = ["node", (done.has(a) || !stepOfArray.has(a)) && "done", graded.has(a) && "graded", a === now && "now", back && "backward"];
    node.setAttribute("class", states.filter(Boolean).join(" "));
    const words = [done.has(a) || !stepOfArray.has(a) ? "" : "not computed yet", graded.has(a) ? "gradient computed" : "", ...wrongOf(a).map((wrong) => `${nameOf(wrong)} ${markOf(wrong).slice(2)}`)];
    node.setAttribute("aria-label", [arrays[a].name, ...words].filter(Boolean).join(", "));
    if (a === now) node.setAttribute("aria-current", "step");
    else node.removeAttribute("aria-current");
    if (a === now) node.scrollIntoView({ block: "nearest", inline: "center" });
  }
  const read = new Set(step && !back ? step.reads.map(({ array }) => array) : []);
  for (const label of figure.querySelectorAll(".param")) {
    const a = Number(label.dataset.param);
    label.setAttribute("class", `param${a === now ? " now" : ""}${read.has(a) ? " forward" : ""}`);
  }
}
