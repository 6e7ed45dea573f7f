// Queries on the data of the page: the step of an array, the terms of an entry, its uses.

const data = JSON.parse(document.getElementById("data").textContent);
const { arrays, steps } = data;

const stepOfArray = new Map(steps.map((step, k) => [step.array, k]));

// for each array: the steps that read it
const readers = new Map();
steps.forEach((step, k) => step.reads.forEach((read) => {
  if (!readers.has(read.array)) readers.set(read.array, []);
  readers.get(read.array).push({ step: k, read });
}));

const nameOf = (step) => arrays[step.array].name;
const sizeOf = (array) => array.values.length;
const whereOf = (step) => [step.layer, step.op].filter(Boolean).join(" · ");

/** The index of an entry along every axis, from its flat index. */
function indexOf(array, entry) {
  const index = [];
  for (let axis = array.shape.length - 1; axis >= 0; axis--) {
    index.unshift(entry % array.shape[axis]);
    entry = Math.floor(entry / array.shape[axis]);
  }
  return index;
}

/** Text such as dx[0, 1, 0, 0]; `name` may be the array's name in a line of code. */
function entryName(array, entry, name = array.name) {
  const index = indexOf(array, entry);
  return index.length ? `${name}[${index.join(", ")}]` : name;
}

const minus = (text) => text.replaceAll("-", "\u2212");

/** A number in full: the fewest digits that identify it. */
const exact = (value) => minus(String(value));

/** A number in few digits, for a cell. */
function short(value) {
  if (typeof value !== "number") return String(value);
  if (Number.isInteger(value)) return minus(String(value));
  const size = Math.abs(value);
  if (size < 0.005) return minus(value.toExponential(0));
  return minus(value.toFixed(size < 100 ? 2 : 0));
}

/** A number in about seven digits, for a sum. */
function medium(value) {
  if (typeof value !== "number") return String(value);
  if (Number.isInteger(value)) return minus(String(value));
  const size = Math.abs(value);
  const plain = value === 0 || (size >= 1e-4 && size < 1e6);
  return minus(plain ? value.toFixed(6) : value.toExponential(4));
}

/** All entries that an entry of a step depends on, with derivatives: of some reads or of all. */
function madeOf(step, entry, reads = step.reads) {
  return reads.filter((read) => read.at).flatMap((read) => read.at[entry].map((at, k) => {
    const by = read.by[entry][k];
    const from = arrays[read.array];
    const factor = read.factors ? read.factors[entry][k] : -1;
    return { read, entry: at, value: from.values[at], slope: read.slopes[by], factor };
  }));
}

/** Whether the value of a step has a nonzero derivative in a read; a condition has none. */
const hasSlope = (read) => read.at !== null && read.at.some((places) => places.length);

/** The terms of the sum that an entry is; empty if the line is not a sum. */
const termsOf = (step, entry) => madeOf(step, entry, step.reads.filter((read) => read.sum));

/** The entry of another read that equals the derivative of a term, or null. */
function factorOf(step, { read, factor }) {
  if (factor < 0) return null;
  const other = step.reads[read.factorOf];
  return { array: other.array, entry: Math.floor(factor / 2), name: other.name, sign: factor % 2 ? "\u2212" : "" };
}

/** All entries of later steps that depend on an entry of an array. */
function goesInto(array, entry) {
  const open = ({ step, read }) => read.at && !live.isOff(steps[step], read.name);
  return (readers.get(array) || []).filter(open).flatMap(({ step, read }) =>
    read.at.flatMap((places, out) => {
      const k = places.indexOf(entry);
      return k < 0 ? [] : [{ step, entry: out, slope: read.slopes[read.by[out][k]] }];
    }));
}

/** An element with attributes and children; text is never read as HTML. */
function el(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== null && value !== undefined && value !== false) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}
