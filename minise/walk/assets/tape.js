// The tape of the page: the recorded operations, their values, and derivatives between two of them.

const evaluator = (() => {
const { OPERATIONS, array, zeros, broadcastPlaces } = numpy;

/** The nodes of the page's tape: operation, arguments, constants, and what is remembered. */
const nodesOf = (tape) => tape.nodes.map(([op, args = [], constants = {}]) => ({ op, args, constants, memo: {}, value: op === "constant" ? constantOf(constants) : null }));

function constantOf({ shape, values }) {
  const { data } = zeros(shape);
  return array(shape, values.length === 1 ? data.fill(Number(values[0])) : Float64Array.from(values, Number));
}

/** The value of a node from those of its arguments; null if it or an argument cannot be computed. */
function valueOf(node, args) {
  if (node.value) return node.value;
  if (!OPERATIONS[node.op] || args.some((arg) => !arg)) return null;
  try { return OPERATIONS[node.op].value(args, node.constants, node.memo); } catch { return null; }
}

/**
 * The value of every node. `inputs` has the arrays of the inputs by node; `adjusted(number, values)`
 * may return another value for a node. After a guard that does not hold, every value is null.
 */
function evaluate(nodes, guards, inputs, adjusted = () => null) {
  const values = [];
  let valid = true;
  nodes.forEach((node, number) => {
    for (const [at, entries, position] of guards) {
      if (position === number && valid) valid = values[at] !== null && entries.every((entry, k) => Number(entry) === values[at].data[k]);
    }
    values.push(inputs.get(number) || (valid ? valueOf(node, node.args.map((arg) => values[arg])) : null));
    const other = values[number] && adjusted(number, values);
    if (other) values[number] = other;
  });
  return values;
}

/** The nodes through which one node depends on another, in order; none of `cut` in between. */
function between(nodes, from, to, cut) {
  const after = new Set([from]), needed = new Set([to]);
  for (let k = from + 1; k <= to; k++) if (!cut.has(k) && nodes[k].args.some((arg) => after.has(arg))) after.add(k);
  if (!after.has(to)) return [];
  for (let k = to; k > from; k--) if (needed.has(k) && after.has(k)) nodes[k].args.forEach((arg) => needed.add(arg));
  return [...after].filter((k) => k !== from && needed.has(k)).sort((a, b) => a - b);
}

/** The value of a node if others had the values in `replaced`; only nodes between them change. */
function revalued(nodes, values, to, replaced) {
  const changed = new Map(replaced), cut = new Set(replaced.keys());
  const route = new Set([...replaced.keys()].flatMap((from) => between(nodes, from, to, cut)));
  for (const k of [...route].sort((a, b) => a - b)) {
    changed.set(k, valueOf(nodes[k], nodes[k].args.map((arg) => changed.get(arg) || values[arg])));
  }
  return changed.get(to) || values[to];
}

/** The derivative of one node along a direction of another, or null for zero; `route` as of between. */
function tangentOf(nodes, values, from, to, route, direction) {
  const tangents = new Map([[from, direction]]);
  for (const k of route) {
    const { op, args, constants, memo } = nodes[k], along = args.map((arg) => tangents.get(arg) || null);
    if (along.every((part) => !part) || !OPERATIONS[op]) continue;
    const tangent = OPERATIONS[op].tangent(along, args.map((arg) => values[arg]), constants, memo, values[k]);
    if (tangent) tangents.set(k, tangent);
  }
  return tangents.get(to) || null;
}

/** The direction in which one entry grows by 1. */
function unit(shape, entry) {
  const direction = zeros(shape);
  direction.data[entry] = 1;
  return direction;
}

return { nodesOf, evaluate, between, revalued, tangentOf, unit, zeros, broadcastPlaces };
})();
