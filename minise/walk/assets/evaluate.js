// The operations of a tape: NumPy's functions on arrays { shape, data }, with their derivatives.
//
// data is a Float64Array in C order; flags are 0 and 1. An operation has
//   value(args, constants, memo)              the array that NumPy's function returns
//   tangent(tangents, args, constants, memo, out)
//                                             the derivative of the value along a direction:
//                                             tangents[k] is that of args[k], or null for zero
// The shapes of a tape never change; memo keeps, for one node, what depends on shapes alone.

const numpy = (() => {
const sizeOfShape = (shape) => shape.reduce((size, n) => size * n, 1);
const array = (shape, data) => ({ shape, data });
const zeros = (shape) => array(shape, new Float64Array(sizeOfShape(shape)));
const remember = (memo, key, compute) => (memo[key] === undefined ? (memo[key] = compute()) : memo[key]);

/** The step in data along each axis. */
function stridesOf(shape) {
  const strides = new Array(shape.length);
  for (let axis = shape.length - 1, step = 1; axis >= 0; axis--) { strides[axis] = step; step *= shape[axis]; }
  return strides;
}

/** np.broadcast_shapes */
function broadcastShape(shapes) {
  const rank = Math.max(...shapes.map((shape) => shape.length)), result = new Array(rank).fill(1);
  for (const shape of shapes) shape.forEach((size, k) => { if (size !== 1) result[rank - shape.length + k] = size; });
  return result;
}

/** For each entry of a target shape, in C order: the sum of index times step over the axes. */
function placesOf(shape, steps, start = 0) {
  let places = Int32Array.of(start);
  shape.forEach((size, axis) => {
    const next = new Int32Array(places.length * size);
    for (let k = 0, at = 0; k < places.length; k++) for (let i = 0; i < size; i++) next[at++] = places[k] + i * steps[axis];
    places = next;
  });
  return places;
}

/** For each entry of the target shape: the entry of an array that is broadcast to it. */
function broadcastPlaces(shape, target) {
  const own = stridesOf(shape), ahead = target.length - shape.length;
  return placesOf(target, target.map((_, axis) => (axis < ahead || shape[axis - ahead] === 1 ? 0 : own[axis - ahead])));
}

const picked = (x, shape, places) => array(shape, Float64Array.from(places, (place) => x.data[place]));

// Elementwise: a function and its partial derivative in each argument, or null for a condition.
const flag = (test) => [(a, b) => (test(a, b) ? 1 : 0), null];
const isTrue = (a) => a !== 0;
const ELEMENTWISE = {
  add: [(a, b) => a + b, [() => 1, () => 1]],
  subtract: [(a, b) => a - b, [() => 1, () => -1]],
  multiply: [(a, b) => a * b, [(a, b) => b, (a) => a]],
  divide: [(a, b) => a / b, [(a, b) => 1 / b, (a, b) => -a / (b * b)]],
  power: [(a, b) => a ** b, [(a, b) => (b === 0 ? 0 : b * a ** (b - 1)), (a, b, out) => (a > 0 ? out * Math.log(a) : 0)]],
  negative: [(a) => -a, [() => -1]],
  positive: [(a) => a, [() => 1]],
  square: [(a) => a * a, [(a) => 2 * a]],
  sqrt: [Math.sqrt, [(a, out) => 0.5 / out]],
  reciprocal: [(a) => 1 / a, [(a, out) => -out * out]],
  exp: [Math.exp, [(a, out) => out]],
  expm1: [Math.expm1, [(a, out) => out + 1]],
  log: [Math.log, [(a) => 1 / a]],
  log1p: [Math.log1p, [(a) => 1 / (1 + a)]],
  tanh: [Math.tanh, [(a, out) => 1 - out * out]],
  sin: [Math.sin, [(a) => Math.cos(a)]],
  cos: [Math.cos, [(a) => -Math.sin(a)]],
  absolute: [Math.abs, [(a) => Math.sign(a)]],
  maximum: [(a, b) => (Number.isNaN(a) ? a : b > a || Number.isNaN(b) ? b : a), [(a, b) => (a > b ? 1 : 0), (a, b) => (b > a ? 1 : 0)]],
  minimum: [(a, b) => (Number.isNaN(a) ? a : b < a || Number.isNaN(b) ? b : a), [(a, b) => (a < b ? 1 : 0), (a, b) => (b < a ? 1 : 0)]],
  where: [(c, a, b) => (c ? a : b), [() => 0, (c) => (c ? 1 : 0), (c) => (c ? 0 : 1)]],
  sign: [Math.sign, null],
  trunc: [Math.trunc, null],
  floor: [Math.floor, null],
  less: flag((a, b) => a < b),
  less_equal: flag((a, b) => a <= b),
  greater: flag((a, b) => a > b),
  greater_equal: flag((a, b) => a >= b),
  equal: flag((a, b) => a === b),
  not_equal: flag((a, b) => a !== b),
  logical_and: flag((a, b) => isTrue(a) && isTrue(b)),
  logical_or: flag((a, b) => isTrue(a) || isTrue(b)),
  logical_not: flag((a) => !isTrue(a)),
  isnan: flag(Number.isNaN),
  isfinite: flag(Number.isFinite),
};

/** The shape of an elementwise result and, for each argument, the places of its entries in it. */
const spread = (args, memo) => remember(memo, "spread", () => {
  const shape = broadcastShape(args.map((arg) => arg.shape));
  return { shape, places: args.map((arg) => broadcastPlaces(arg.shape, shape)) };
});

function elementwise([apply, partials]) {
  const value = (args, constants, memo) => {
    const { shape, places } = spread(args, memo), out = zeros(shape);
    const [a, b, c] = args.map((arg) => arg.data), [p, q, r] = places;
    for (let k = 0; k < out.data.length; k++) {
      out.data[k] = args.length === 1 ? apply(a[p[k]]) : args.length === 2 ? apply(a[p[k]], b[q[k]]) : apply(a[p[k]], b[q[k]], c[r[k]]);
    }
    return out;
  };
  const tangent = (tangents, args, constants, memo, out) => {
    if (!partials) return null;
    const { shape, places } = spread(args, memo), result = zeros(shape);
    tangents.forEach((along, k) => {
      if (!along) return;
      // the partial derivatives at these values are the same for every direction
      if (memo.out !== out) { memo.out = out; memo.partials = []; }
      const partial = remember(memo.partials, k, () => Float64Array.from(places[k], (_, at) =>
        partials[k](...args.map((arg, j) => arg.data[places[j][at]]), out.data[at])));
      for (let at = 0; at < partial.length; at++) {
        if (partial[at] !== 0) result.data[at] += partial[at] * along.data[places[k][at]];
      }
    });
    return result;
  };
  return { value, tangent };
}

/** An operation that is linear in its first argument; the others are indices. */
const linear = (value) => ({
  value,
  tangent: ([along], [, ...indices], constants, memo) => along && value([along, ...indices], constants, memo),
});

/** An operation that is linear in all its arguments together. */
const linearInAll = (value, count = Infinity) => ({
  value,
  tangent: (tangents, args, constants, memo) =>
    value(args.map((arg, k) => (k < count ? tangents[k] || zeros(arg.shape) : arg)), constants, memo),
});

/** An operation that is linear in each of its arguments: a product. */
const linearInEach = (value) => ({
  value,
  tangent: (tangents, args, constants, memo) => tangents.reduce((sum, along, k) => {
    if (!along) return sum;
    const term = value(args.map((arg, j) => (j === k ? along : arg)), constants, memo);
    return sum ? array(sum.shape, sum.data.map((entry, at) => entry + term.data[at])) : term;
  }, null),
});

/** An operation with whole numbers as a result, or with a condition. */
const constant = (value) => ({ value, tangent: () => null });

/** The shape of x.sum(axis, keepdims) and, for each entry of x, the entry that it is added to. */
const reduced = ([x], { axis, keepdims }, memo) => remember(memo, "reduced", () => {
  const axes = new Set([axis].flat());
  const keptShape = x.shape.map((size, k) => (axes.has(k) ? 1 : size));
  return {
    shape: keepdims ? keptShape : x.shape.filter((_, k) => !axes.has(k)),
    places: broadcastPlaces(keptShape, x.shape),
    count: sizeOfShape(x.shape.filter((_, k) => axes.has(k))),
  };
});

/** x.sum(axis), or with another start and another way to add an entry */
const reduction = (start, join) => (args, constants, memo) => {
  const { shape, places, count } = reduced(args, constants, memo), out = zeros(shape);
  out.data.fill(start);
  args[0].data.forEach((entry, k) => { out.data[places[k]] = join(out.data[places[k]], entry, count); });
  return out;
};

/** For each entry of x.max(axis): the first entry of x with this value (NaN is the largest). */
function firstPlaces(args, constants, memo, beats) {
  const { shape, places } = reduced(args, constants, memo), { data } = args[0];
  const first = new Int32Array(sizeOfShape(shape)).fill(-1);
  places.forEach((to, k) => {
    const best = data[first[to]];
    if (first[to] < 0 || (!Number.isNaN(best) && (Number.isNaN(data[k]) || beats(data[k], best)))) first[to] = k;
  });
  return { shape, first };
}

const extreme = (beats) => {
  const value = (args, constants, memo) => {
    const { shape, first } = firstPlaces(args, constants, memo, beats);
    return picked(args[0], shape, first);
  };
  const tangent = ([along], args, constants, memo) => {
    const { shape, first } = firstPlaces(args, constants, memo, beats);
    return picked(along, shape, first);
  };
  return { value, tangent };
};

/** x.argmax(axis): the index along the axis */
const argExtreme = (beats) => constant((args, constants, memo) => {
  const { shape, first } = firstPlaces(args, constants, memo, beats), { axis } = constants;
  const step = stridesOf(args[0].shape)[axis], size = args[0].shape[axis];
  return array(shape, Float64Array.from(first, (place) => Math.floor(place / step) % size));
});

const prod = {
  value: reduction(1, (product, entry) => product * entry),
  tangent: ([along], args, constants, memo) => { // (p x)' = p' x + p x'
    const { shape, places } = reduced(args, constants, memo), product = zeros(shape), result = zeros(shape);
    product.data.fill(1);
    args[0].data.forEach((entry, k) => {
      const to = places[k];
      result.data[to] = result.data[to] * entry + product.data[to] * along.data[k];
      product.data[to] *= entry;
    });
    return result;
  },
};

/** np.einsum("nc,nr->cr", a, b) */
const einsum = linearInEach((args, { subscripts }, memo) => {
  const plan = remember(memo, "einsum", () => {
    const [inputs, result] = subscripts.split("->"), letters = inputs.split(","), sizes = {};
    letters.forEach((word, k) => [...word].forEach((letter, axis) => { sizes[letter] = args[k].shape[axis]; }));
    const all = [...new Set(result + letters.join(""))], loop = all.map((letter) => sizes[letter]);
    const shape = [...result].map((letter) => sizes[letter]);
    const places = (word, own) => placesOf(loop, all.map((letter) =>
      [...word].reduce((sum, other, axis) => sum + (other === letter ? stridesOf(own)[axis] : 0), 0)));
    return { shape, to: places(result, shape), from: letters.map((word, k) => places(word, args[k].shape)) };
  });
  const out = zeros(plan.shape);
  plan.to.forEach((to, k) => { out.data[to] += args.reduce((product, arg, j) => product * arg.data[plan.from[j][k]], 1); });
  return out;
});

/** a @ b as an einsum: rows times columns, with the axes before them broadcast */
const matmul = linearInEach((args, constants, memo) => {
  const plan = remember(memo, "matmul", () => {
    const [a, b] = args.map((arg) => arg.shape);
    const left = a.length === 1 ? [1, ...a] : a, right = b.length === 1 ? [...b, 1] : b;
    const [n, m] = left.slice(-2), k = right[right.length - 1];
    const batch = broadcastShape([left.slice(0, -2), right.slice(0, -2)]);
    const places = (shape, row, column) => {
      const own = stridesOf(shape), ahead = batch.length - (shape.length - 2);
      const steps = batch.map((_, axis) => (axis < ahead || shape[axis - ahead] === 1 ? 0 : own[axis - ahead]));
      return placesOf([...batch, n, k, m], [...steps, ...row(own), ...column(own)]);
    };
    const last = (own, at) => own[own.length - at];
    return {
      shape: [...batch, ...(a.length === 1 ? [] : [n]), ...(b.length === 1 ? [] : [k])],
      inner: m,
      left: places(left, (own) => [last(own, 2), 0], (own) => [last(own, 1)]),
      right: places(right, (own) => [0, last(own, 1)], (own) => [last(own, 2)]),
    };
  });
  const out = zeros(plan.shape), [a, b] = args.map((arg) => arg.data);
  plan.left.forEach((place, k) => { out.data[Math.floor(k / plan.inner)] += a[place] * b[plan.right[k]]; });
  return out;
});

/**
 * The entries that x[index] selects. An element of an index is a number, null for a new axis,
 * [start, step, count] for a slice, or { array: k } for the k-th index array. As in NumPy, index
 * arrays are broadcast, and their axes are in their place if they stand side by side, else first.
 */
function selected(x, index, indices) {
  const steps = stridesOf(x.shape), groups = [], together = [];
  const some = index.some((part) => part !== null && part.array !== undefined);
  let axis = 0, start = 0;
  index.forEach((part, at) => {
    const step = steps[axis], size = x.shape[axis];
    if (part === null) groups.push({ shape: [1], offsets: [0] });
    else if (Array.isArray(part)) groups.push({ shape: [part[2]], offsets: Array.from({ length: part[2] }, (_, i) => (part[0] + i * part[1]) * step) });
    else if (!some) start += part * step;
    else together.push({ at, group: groups.length, step, size, values: part.array === undefined ? array([], [part]) : indices[part.array] });
    axis += part === null ? 0 : 1;
  });
  if (some) {
    const shape = broadcastShape(together.map(({ values }) => values.shape)), offsets = new Array(sizeOfShape(shape)).fill(0);
    for (const { values, step, size } of together) {
      broadcastPlaces(values.shape, shape).forEach((place, k) => {
        const entry = values.data[place] < 0 ? values.data[place] + size : values.data[place];
        if (!(entry >= 0 && entry < size)) throw new RangeError(`index ${entry} of an axis of size ${size}`);
        offsets[k] += entry * step;
      });
    }
    const besides = together.every(({ at }, k) => k === 0 || at === together[k - 1].at + 1);
    groups.splice(besides ? together[0].group : 0, 0, { shape, offsets });
  }
  const places = groups.reduce((sofar, { offsets }) => sofar.flatMap((place) => offsets.map((offset) => place + offset)), [start]);
  return { shape: groups.flatMap((group) => group.shape), places };
}

/** The entries that an index selects; remembered unless it has index arrays. */
const chosenBy = (x, { index }, indices, memo) => (indices.length ? selected(x, index, indices) : remember(memo, "selected", () => selected(x, index, [])));

const getitem = linear(([x, ...indices], constants, memo) => {
  const { shape, places } = chosenBy(x, constants, indices, memo);
  return picked(x, shape, places);
});

/** A copy of x after x[index] = value */
const setitem = linearInAll(([x, value, ...indices], constants, memo) => {
  const { shape, places } = chosenBy(x, constants, indices, memo), out = array(x.shape, x.data.slice());
  const from = broadcastPlaces(value.shape.slice(Math.max(0, value.shape.length - shape.length)), shape);
  places.forEach((place, k) => { out.data[place] = value.data[from[k]]; });
  return out;
}, 2);

/** np.concatenate(args, axis) */
const concatenate = linearInAll((args, { axis }) => {
  const shape = args[0].shape.slice(), step = sizeOfShape(shape.slice(axis + 1));
  shape[axis] = args.reduce((sum, arg) => sum + arg.shape[axis], 0);
  const out = zeros(shape);
  let before = 0;
  for (const arg of args) {
    const run = arg.shape[axis] * step; // entries that lie side by side in both
    arg.data.forEach((entry, k) => { out.data[Math.floor(k / run) * shape[axis] * step + before + (k % run)] = entry; });
    before += run;
  }
  return out;
});

const withAxis = (x, axis) => array([...x.shape.slice(0, axis), 1, ...x.shape.slice(axis)], x.data);

/** np.pad(x, widths, constant_values=fill); the frame has no derivative */
const padded = ([x], { widths, fill }, memo) => {
  const plan = remember(memo, "pad", () => {
    const shape = x.shape.map((size, axis) => size + widths[axis][0] + widths[axis][1]), steps = stridesOf(shape);
    return { shape, places: placesOf(x.shape, steps, widths.reduce((sum, [before], axis) => sum + before * steps[axis], 0)) };
  });
  const out = zeros(plan.shape);
  if (fill) out.data.fill(Number(fill));
  plan.places.forEach((place, k) => { out.data[place] = x.data[k]; });
  return out;
};

/** np.take_along_axis(x, places, axis) */
const takeAlong = linear(([x, places], { axis }) => {
  const shape = broadcastShape([x.shape.map((size, k) => (k === axis ? 1 : size)), places.shape.map((size, k) => (k === axis ? 1 : size))]);
  shape[axis] = places.shape[axis];
  const own = stridesOf(x.shape), from = placesOf(shape, own.map((step, k) => (k === axis || x.shape[k] === 1 ? 0 : step)));
  const at = broadcastPlaces(places.shape, shape), size = x.shape[axis];
  return array(shape, Float64Array.from(from, (place, k) => {
    const entry = places.data[at[k]];
    return x.data[place + (entry < 0 ? entry + size : entry) * own[axis]];
  }));
});

const same = linear(([x]) => x);
const OPERATIONS = {
  ...Object.fromEntries(Object.entries(ELEMENTWISE).map(([name, rule]) => [name, elementwise(rule)])),
  same, copy: same, contiguous: same,
  sum: linear(reduction(0, (sum, entry) => sum + entry)),
  mean: linear((args, constants, memo) => {
    const { count } = reduced(args, constants, memo), sum = reduction(0, (total, entry) => total + entry)(args, constants, memo);
    return array(sum.shape, sum.data.map((total) => total / count));
  }),
  max: extreme((a, b) => a > b),
  min: extreme((a, b) => a < b),
  argmax: argExtreme((a, b) => a > b),
  argmin: argExtreme((a, b) => a < b),
  prod,
  any: constant(reduction(0, (some, entry) => (some || isTrue(entry) ? 1 : 0))),
  all: constant(reduction(1, (every, entry) => (every && isTrue(entry) ? 1 : 0))),
  einsum, matmul, getitem, setitem, concatenate,
  stack: linearInAll((args, { axis }, memo) => concatenate.value(args.map((arg) => withAxis(arg, axis)), { axis }, memo)),
  reshape: linear(([x], { shape }) => array(shape, x.data)),
  transpose: linear(([x], { axes }, memo) => {
    const shape = axes.map((axis) => x.shape[axis]);
    return picked(x, shape, remember(memo, "transpose", () => placesOf(shape, axes.map((axis) => stridesOf(x.shape)[axis]))));
  }),
  broadcast_to: linear(([x], { shape }, memo) => picked(x, shape, remember(memo, "broadcast", () => broadcastPlaces(x.shape, shape)))),
  pad: { value: padded, tangent: ([along], args, { widths }, memo) => padded([along], { widths, fill: 0 }, memo) },
  take_along_axis: takeAlong,
};

return { OPERATIONS, array, zeros, broadcastPlaces };
})();
