// Wrong gradients: a line that is wrong, or a right line that inherits the error of another one.

const isWrong = (step) => Boolean(step.check) && !step.check.agrees.every(Boolean);

/** Whether the line of a wrong gradient is wrong itself, as far as is known. */
const isCulprit = ({ fault }) => !fault || fault.culprit || !fault.inherits.length;

const signOfFault = (step) => (isCulprit(step) ? "\u2717" : "\u21b3");

/** A sign and a few words, such as "✗ wrong line" or "↳ inherits from dv"; "" for other steps. */
function markOf(step) {
  if (!isWrong(step)) return "";
  const words = step.fault ? step.fault.mark : live.routesOff().length ? "a route is off" : "wrong";
  return `${signOfFault(step)} ${words}`;
}

const faultClass = (step) => (isCulprit(step) ? "culprit" : "heir");

const faultMark = (step) => (isWrong(step) ? el("span", { class: `mark ${faultClass(step)}` }, markOf(step)) : null);

/** Where the mistake of a wrong step is, with links to the lines that it inherits from. */
function faultNote(step) {
  if (!step.fault || !isWrong(step)) return null;
  const links = step.fault.inherits.flatMap((k) => [" ", el("a", { href: `#step-${k + 1}` }, `Go to ${nameOf(steps[k])}`)]);
  return el("p", { class: `fault ${faultClass(step)}` }, `${signOfFault(step)} `, step.fault.sentence, ...links);
}
