// The numbers of the page for inputs and routes that the reader has changed.
//
// Without a change, every number is the trace's. With one, the tape is evaluated again, and the
// values, the derivatives of each line and the checks are replaced; derivatives and checks are
// computed when a screen asks for them.

const live = (() => {
  const tape = data.tape, nodes = tape ? evaluator.nodesOf(tape) : [];
  const inputNodes = new Map(tape ? tape.inputs : []); // by array
  const recorded = arrays.map((array) => array.values);
  const recordedLoss = data.loss;
  const outNode = steps[stepOfArray.get(data.out)].node;
  let changes = new Map(), off = new Set(), past = []; // "array.entry" -> value; "step.term"
  let values = null, version = 0; // of the nodes; null: the trace's numbers

  const isChanged = () => changes.size > 0 || off.size > 0;
  const isInput = (a) => inputNodes.has(a);
  const isOff = (step, term) => off.has(`${steps.indexOf(step)}.${term}`);
  const known = (node) => (node === null || node === undefined || !values ? null : values[node]);
  const isOld = (a) => isChanged() && arrays[a].old === true;

  /** The numbers of an array in JSON's form: flags are true and false. */
  const plain = (a, entries) => (typeof recorded[a][0] === "boolean" ? Array.from(entries, Boolean) : Array.from(entries));

  function inputsNow() {
    return new Map([...inputNodes].map(([a, node]) => {
      const entries = Float64Array.from(recorded[a]);
      for (const [key, value] of changes) if (Number(key.split(".")[0]) === a) entries[Number(key.split(".")[1])] = value;
      return [node, { shape: arrays[a].shape, data: entries }];
    }));
  }

  /** By the node of a step: the nodes of the terms that are switched off in it. */
  function nodesOff() {
    const terms = new Map();
    for (const key of off) {
      const [k, term] = [Number(key.split(".")[0]), key.slice(key.indexOf(".") + 1)], step = steps[k];
      const read = step.reads.find(({ name }) => name === term);
      if (step.node !== null && read.node !== null) terms.set(step.node, [...(terms.get(step.node) || []), read.node]);
    }
    return terms;
  }

  /** The value of every node for some inputs, with the routes that are on. */
  function evaluated(inputs) {
    const without = nodesOff();
    return evaluator.evaluate(nodes, tape.guards, inputs, (number, sofar) => {
      if (!without.has(number)) return null;
      const replaced = without.get(number).map((node) => [node, evaluator.zeros(sofar[node].shape)]);
      return evaluator.revalued(nodes, sofar, number, new Map(replaced));
    });
  }

  function recompute() {
    version += 1;
    values = null;
    arrays.forEach((array, a) => { array.values = recorded[a]; array.old = false; });
    data.loss = recordedLoss;
    if (!isChanged() || !tape) return;
    const inputs = inputsNow();
    values = evaluated(inputs);
    const show = (a, node) => {
      const value = known(node);
      arrays[a].old = value === null;
      if (value !== null) arrays[a].values = plain(a, value.data);
    };
    for (const [a, node] of inputNodes) show(a, node);
    for (const step of steps) {
      show(step.array, step.node);
      for (const read of step.reads) if (!isInput(read.array) && !stepOfArray.has(read.array)) show(read.array, read.node);
    }
    const out = arrays[data.out].values, dout = arrays[data.dout].values;
    data.loss = out.reduce((sum, value, k) => sum + value * dout[k], 0);
  }

  /** The derivatives of a step in an array that it reads, with all its other arrays held. */
  function derivatives(step, read) {
    const from = known(read.node), to = known(step.node);
    const cut = new Set(step.reads.map(({ node }) => node).filter((node) => node !== read.node));
    const route = evaluator.between(nodes, read.node, step.node, cut);
    const at = Array.from(to.data, () => []), by = at.map(() => []), slopes = [];
    for (let entry = 0; entry < from.data.length; entry++) {
      const along = evaluator.tangentOf(nodes, values, read.node, step.node, route, evaluator.unit(from.shape, entry));
      if (along) along.data.forEach((slope, out) => {
        if (slope !== 0) { at[out].push(entry); by[out].push(slopes.push(slope) - 1); }
      });
    }
    return { at, by, slopes };
  }

  const near = (a, b) => Math.abs(a - b) <= 8 * Number.EPSILON * Math.abs(b);

  /** The only number that equals the derivative of a term, as 2 * place (+ 1 for minus), else -1. */
  function factorOfTerm(numbers, slope, derivative, value) {
    for (const sign of [1, -1]) {
      let match = -1, count = 0;
      for (let place = 0; place < numbers.length && count < 2; place++) {
        if (near(sign * numbers[place], derivative) && near(sign * slope[place], value)) { match = place; count += 1; }
      }
      if (count === 1) return 2 * match + (sign < 0 ? 1 : 0);
    }
    return -1;
  }

  /** The other factor of each product in a sum, as in minise/walk/data.py. */
  function factorsOf(step, read) {
    const { at, by, slopes } = read;
    let best = {}, most = 0;
    step.reads.forEach((other, k) => {
      if (other.sum || !other.at) return;
      const numbers = arrays[other.array].values;
      const codes = at.map((places, out) => {
        const slope = new Float64Array(numbers.length);
        other.at[out].forEach((place, i) => { slope[place] = other.slopes[other.by[out][i]]; });
        return places.map((entry, i) => factorOfTerm(numbers, slope, slopes[by[out][i]], arrays[read.array].values[entry]));
      });
      const count = codes.flat().filter((code) => code >= 0).length;
      if (count > most) [most, best] = [count, { factorOf: k, factors: codes }];
    });
    return best;
  }

  /**
   * Give an object properties that are computed once for every change, `given` without a change;
   * return a function that tells whether they are computed for the present numbers.
   */
  function follow(object, names, given, compute) {
    let current = null, computedAt = -1;
    const now = () => {
      if (!values) return given;
      if (computedAt !== version) [current, computedAt] = [compute() || given, version];
      return current;
    };
    for (const name of names) Object.defineProperty(object, name, { get: () => now()[name] });
    return () => !values || computedAt === version;
  }

  /** The derivatives of the loss in the entries of the value that a check perturbs. */
  function lossSlopes(step) {
    const edge = step.route && steps[stepOfArray.get(step.route[1])];
    const read = edge && edge.reads.find(({ array }) => array === step.route[0]);
    const from = edge ? read.node : step.origin, dout = arrays[data.dout].values, value = known(from);
    if (!value || !known(outNode)) return null;
    const held = new Set(edge ? edge.reads.map(({ node }) => node).filter((node) => node !== from) : []);
    const first = edge ? evaluator.between(nodes, from, edge.node, held) : null;
    const middle = edge ? edge.node : from, route = evaluator.between(nodes, middle, outNode, new Set());
    const slopes = Array.from(value.data, (_, entry) => {
      let along = evaluator.unit(value.shape, entry);
      if (edge) along = evaluator.tangentOf(nodes, values, from, edge.node, first, along);
      along = along && evaluator.tangentOf(nodes, values, middle, outNode, route, along);
      return along ? along.data.reduce((sum, slope, k) => sum + slope * dout[k], 0) : 0;
    });
    return { shape: value.shape, data: slopes };
  }

  /** How far rounding errors of the inputs move a gradient and the slopes that it is compared with. */
  function roundingOf(step, own, loss) {
    const now = values, inputs = inputsNow();
    for (const [a, node] of inputNodes) if (!arrays[a].limit) inputs.get(node).data.forEach((x, k, all) => { all[k] = x * (1 + ((k % 3) - 1) * Number.EPSILON); });
    values = evaluated(inputs);
    const pairs = [[known(step.node), own], [lossSlopes(step), loss]];
    values = now;
    return Math.max(...pairs.map(([moved, from]) => (moved ? Math.max(...moved.data.map((x, k) => Math.abs(x - from.data[k]))) : Infinity)));
  }

  const REL_TOL = 1e-10; // of a derivative; both sides are exact up to rounding

  /** The check of a gradient; one that is broadcast is compared with all entries that it stands for. */
  function checkOf(step, given) {
    const own = known(step.node), loss = lossSlopes(step);
    if (!own || !loss) return { ...given, old: true };
    const places = evaluator.broadcastPlaces(own.shape, loss.shape);
    const norm = Math.hypot(...arrays[data.dout].values), scale = norm + Math.max(...own.data.map(Math.abs));
    const check = { of: given.of, difference: Array.from(own.data), complex: null, error: Array.from(own.data, () => 0), agrees: Array.from(own.data, () => true), forward: true };
    const largest = Array.from(own.data, () => -1);
    places.forEach((entry, k) => {
      const distance = Math.abs(own.data[entry] - loss.data[k]);
      if (!(distance <= REL_TOL * scale)) check.agrees[entry] = false;
      if (distance <= largest[entry]) return;
      largest[entry] = distance;
      check.difference[entry] = loss.data[k];
      const size = Math.max(Math.abs(own.data[entry]), Math.abs(loss.data[k]));
      check.error[entry] = size <= REL_TOL * 1e-3 * scale ? 0 : distance / size;
    });
    const isFinite = own.data.every(Number.isFinite) && check.difference.every(Number.isFinite);
    const isSure = check.agrees.every(Boolean) || roundingOf(step, own, loss) <= REL_TOL * scale;
    return isFinite && isSure ? check : { ...check, old: true, agrees: check.agrees.map(() => true) };
  }

  const isComputed = new Map(); // by step with a check
  steps.forEach((step) => {
    for (const read of step.reads.filter(({ at }) => at)) {
      const { at, by, slopes, factorOf, factors } = read, isKnown = () => known(read.node) && known(step.node);
      follow(read, ["at", "by", "slopes"], { at, by, slopes }, () => isKnown() && derivatives(step, read));
      follow(read, ["factorOf", "factors"], { factorOf, factors }, () => isKnown() && (read.sum ? factorsOf(step, read) : {}));
    }
    if (step.check) {
      const recorded = step.check;
      isComputed.set(step, follow(step, ["check"], { check: recorded }, () => ({ check: checkOf(step, recorded) })));
    }
  });

  /** A part of an address in plain text; "" if it is malformed. */
  const decoded = (text) => { try { return decodeURIComponent(text); } catch { return ""; } };

  const state = () => ({ changes: new Map(changes), off: new Set(off) });
  const restore = (other) => { changes = new Map(other.changes); off = new Set(other.off); recompute(); };

  /** The number that a text is; the minus sign of the page is one too. */
  const numberIn = (text) => {
    const plain = String(text).trim().replaceAll("\u2212", "-");
    return /^[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?$/i.test(plain) ? Number(plain) : NaN;
  };

  /** Why a text is no number for an entry of an input; "" if it is one. */
  function problem(a, text) {
    const value = numberIn(text), { limit } = arrays[a];
    if (!Number.isFinite(value)) return `"${text}" is no finite number: enter one such as 0.5 or -2e-3`;
    if (limit && !(Number.isInteger(value) && value >= limit[0] && value <= limit[1])) return `${text} is not in ${limit[0]}, …, ${limit[1]}: enter an integer of this range`;
    return "";
  }

  return {
    isChecked: (step) => isComputed.has(step) && isComputed.get(step)(),
    isChanged, isInput, isOff, isOld, numberIn, problem, inputs: () => [...inputNodes.keys()],
    original: (a, entry) => recorded[a][entry],
    changedEntries: (a) => [...changes.keys()].map((key) => key.split(".").map(Number)).filter(([array]) => array === a).map(([, entry]) => entry),
    changes: () => [...changes].map(([key, value]) => [...key.split(".").map(Number), value]),
    routesOff: () => [...off].map((key) => [Number(key.split(".")[0]), key.slice(key.indexOf(".") + 1)]),
    /** Change an entry; the changes while a slider is moved are undone together. */
    change(a, entry, value, sliding = false) {
      if (Object.is(value, Number(arrays[a].values[entry]))) return;
      const key = `${a}.${entry}`, last = past[past.length - 1];
      if (!sliding || !last || last.key !== key) past.push({ ...state(), key: sliding && key });
      if (value === Number(recorded[a][entry])) changes.delete(key);
      else changes.set(key, value);
      recompute();
    },
    turn(k, term, on) {
      past.push(state());
      off[on ? "delete" : "add"](`${k}.${term}`);
      recompute();
    },
    canUndo: () => past.length > 0,
    undo() { if (past.length) restore(past.pop()); },
    reset() { past.push(state()); restore({ changes: [], off: [] }); },
    /** The state as a part of an address, such as "&set=0.3:1.5&off=17:dx_gate", and back. */
    address: () => (changes.size ? `&set=${[...changes].map(([key, value]) => `${key}:${value}`).join(",")}` : "")
      + (off.size ? `&off=${[...off].map((key) => encodeURIComponent(key.replace(".", ":"))).join(",")}` : ""),
    read(address) {
      const part = (name) => (new RegExp(`&${name}=([^&]*)`).exec(address) || ["", ""])[1].split(",").filter(Boolean).map(decoded);
      const pairs = part("set").map((text) => /^(\d+)\.(\d+):(.+)$/.exec(text)).filter((match) => match && isInput(Number(match[1]))
        && Number(match[2]) < recorded[Number(match[1])].length && !problem(Number(match[1]), match[3]));
      const terms = part("off").map((text) => /^(\d+):(.+)$/.exec(text)).filter((match) => match && steps[match[1]] && steps[match[1]].terms.includes(match[2]));
      restore({ changes: pairs.map((match) => [`${match[1]}.${match[2]}`, numberIn(match[3])]), off: terms.map((match) => `${match[1]}.${match[2]}`) });
    },
  };
})();
