// The graph of forward as an arc diagram: what gives what, from left to right; gradients go back.

const NARROW = 44, WIDE = 118, RADIUS = 8, SVG = "http://www.w3.org/2000/svg";

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
  const like = JSON.stringify(arrays[0].shape); // an input like the first is a node, others are parameters
  const inputs = [...needed].filter((a) => !stepOfArray.has(a));
  const nodes = [
    ...inputs.filter((a) => a === 0 || JSON.stringify(arrays[a].shape) === like).sort((a, b) => a - b),
    ...steps.filter((s) => s.direction === "forward" && needed.has(s.array)).map((s) => s.array),
  ];
  const place = new Map(nodes.map((a, k) => [a, k]));
  const edges = [], params = new Map();
  for (const a of nodes.filter((one) => stepOfArray.has(one))) {
    for (const read of steps[stepOfArray.get(a)].reads.filter(hasSlope)) {
      if (place.has(read.array)) edges.push({ from: read.array, to: a });
      else params.set(a, [...(params.get(a) || []), read]);
    }
  }
  return { nodes, place, edges, params };
})();

let gap = NARROW; // between nodes
const x = (array) => 40 + gap * graph.place.get(array);

function drawGraph(figure, go) {
  const room = (figure.clientWidth - 80) / Math.max(1, graph.nodes.length - 1);
  const longest = Math.max(...graph.nodes.map((a) => arrays[a].name.length));
  gap = Math.max(Math.min(WIDE, room), NARROW, 8 * longest + 6);
  const span = Math.max(1, ...graph.edges.map((e) => graph.place.get(e.to) - graph.place.get(e.from)));
  const tall = span > 1 ? Math.min(86, 22 + 9 * span) : 16;
  const groups = groupsOf();
  const base = tall + 6, height = base + (graph.params.size ? 46 : 32) + (groups.length > 1 ? 20 : 0);
  const width = 80 + gap * (graph.nodes.length - 1);
  const root = svg("svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": describe() });
  for (const edge of graph.edges) {
    const path = svg("path", { class: "edge", d: arc(edge, base, tall, span) });
    path.dataset.edge = `${edge.from}-${edge.to}`;
    root.append(path);
  }
  for (const a of graph.nodes) {
    const node = svg("g", { class: "node" });
    node.dataset.node = a;
    node.append(svg("circle", { cx: x(a), cy: base, r: RADIUS }));
    node.append(svg("text", { x: x(a), y: base + 24 }, arrays[a].name));
    node.addEventListener("click", () => go(a));
    root.append(node);
    (graph.params.get(a) || []).forEach((read, k, all) => {
      const wide = 10 + 6.4 * Math.max(...all.map((one) => one.name.length));
      const label = svg("text", { class: "given", x: x(a) + wide * (k - (all.length - 1) / 2), y: base + 40 }, read.name);
      label.dataset.given = read.array;
      root.append(label);
    });
  }
  if (groups.length > 1) groups.forEach((group) => drawGroup(root, group, height));
  figure.replaceChildren(root);
}

function arc({ from, to }, base, tall, span) {
  const a = x(from), b = x(to), far = graph.place.get(to) - graph.place.get(from);
  if (far === 1) return `M${a + RADIUS},${base} L${b - RADIUS},${base}`;
  const rise = 26 + (tall - 26) * ((far - 2) / Math.max(1, span - 2));
  const top = base - rise, bend = Math.min(60, (b - a) / 3);
  return `M${a},${base - RADIUS} C${a + bend / 3},${top} ${a + bend},${top} ${a + bend + 4},${top} L${b - bend - 4},${top} C${b - bend},${top} ${b - bend / 3},${top} ${b},${base - RADIUS}`;
}

/** Neighbours of one layer and op. */
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

/** The edges of forward that one gradient, read by a step, comes back along. */
function edgesBack(step, read) {
  const giver = stepOfArray.has(read.array) ? steps[stepOfArray.get(read.array)] : null;
  if (giver && giver.twin === step.twin) { // a part of the same gradient
    return giver.route ? [giver.route] : giver.reads.filter((one) => one.up).flatMap((one) => edgesBack(giver, one));
  }
  const to = read.array === data.dout ? data.out : giver && giver.twin;
  return to === null || step.twin === null ? [] : [[step.twin, to]];
}

/** The edges of forward that a step goes along, and those that are switched off. */
function edgesOf(step, chosen) {
  if (!step) return { on: [], off: [] };
  if (step.direction === "forward") return { on: step.reads.map((read) => [read.array, step.array]), off: [] };
  if (step.route) return { on: [step.route], off: [] };
  const on = [], off = [];
  for (const read of step.reads.filter((one) => one.up)) {
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
  const done = new Set(steps.slice(0, Math.max(0, k + 1)).map((one) => one.array));
  const graded = new Set(steps.slice(0, Math.max(0, k + 1)).map((one) => (one.direction === "backward" ? one.twin : null)));
  if (back || k >= steps.length) graded.add(data.out); // its gradient is dout
  const now = step && (back ? step.twin : step.array);
  for (const node of figure.querySelectorAll(".node")) {
    const a = Number(node.dataset.node);
    const states = ["node", (done.has(a) || !stepOfArray.has(a)) && "done", graded.has(a) && "graded", a === now && "now", back && "backward"];
    node.setAttribute("class", states.filter(Boolean).join(" "));
    if (a === now) node.scrollIntoView({ block: "nearest", inline: "center" });
  }
  const read = new Set(step && !back ? step.reads.map((one) => one.array) : []);
  for (const label of figure.querySelectorAll(".given")) {
    const a = Number(label.dataset.given);
    label.setAttribute("class", `given${a === now ? " now" : ""}${read.has(a) ? " forward" : ""}`);
  }
}
