// Wrong gradients: a line that is wrong, or a right line that inherits the error of another one.

const isWrong = (step) => Boolean(step.check) && !step.check.agrees.every(Boolean);

/** A sign and a few words, such as "✗ wrong line" or "↳ inherits from dv"; "" for other steps. */
function markOf(step) {
  if (!step.fault) return isWrong(step) ? "\u2717 wrong" : "";
  return `${step.fault.inherits.length && !step.fault.culprit ? "\u21b3" : "\u2717"} ${step.fault.mark}`;
}

/** The class of a wrong step: "culprit" for a wrong line, "heir" for one that inherits. */
const faultClass = (step) => (!isWrong(step) ? "" : step.fault && step.fault.inherits.length && !step.fault.culprit ? "heir" : "culprit");

const faultMark = (step) => (isWrong(step) ? el("span", { class: `mark ${faultClass(step)}` }, markOf(step)) : null);

/** Where the mistake of a wrong step is, with links to the lines that it inherits from. */
function faultNote(step) {
  if (!isWrong(step) || !step.fault) return null;
  const sign = faultClass(step) === "heir" ? "\u21b3 " : "\u2717 ";
  const links = step.fault.inherits.flatMap((k) => [" ", el("a", { href: `#step-${k + 1}` }, `Go to ${nameOf(steps[k])}`)]);
  return el("p", { class: `fault ${faultClass(step)}` }, sign, step.fault.sentence, ...links);
}
