// The whole walk on paper: made when the page is printed, removed afterwards.

const paper = document.getElementById("paper");

/** A sentence about the check of a step's gradient. */
function checkSentence({ check }) {
  if (check.old) return "Not checked for the numbers as they are now.";
  const method = check.complex ? "complex-step" : check.forward ? "forward-mode" : "finite-difference";
  const count = check.agrees.length, wrong = check.agrees.filter((good) => !good).length;
  const error = Math.max(...check.error).toExponential(0);
  const of = `the ${method} derivative of the loss with respect to ${check.of}`;
  return wrong ? `\u2717 ${wrong} of ${count} entries do not agree with ${of}.`
    : `\u2713 All ${count} entries agree with ${of} (largest relative error ${error}).`;
}

/** Arrays side by side under a label, as tables that wrap. */
const onPaper = (label, figures) => (figures.length ? el("div", {}, el("p", { class: "label" }, label), el("div", { class: "inputs" }, ...figures)) : null);

function stepOnPaper(step, k) {
  const reads = step.reads.map((read) => {
    const from = stepOfArray.get(read.array);
    const caption = [read.up ? "upstream gradient" : "", from === undefined ? "" : `step ${from + 1}${otherName(step, read, steps[from])}`];
    return heatmap(arrays[read.array], { name: read.name, caption: caption.filter(Boolean), print: true });
  });
  const wrong = step.check && step.check.agrees.map((good) => !good);
  const where = `${step.direction === "forward" ? "Forward" : "Backward"} · ${whereOf(step)}`;
  const title = el("h2", {}, `Step ${k + 1}: ${nameOf(step)}`, el("span", { class: "shape" }, sizes(arrays[step.array])));
  return el("section", { class: `sheet ${step.direction}` }, el("p", { class: "pass" }, where), title,
    faultNote(step), lead(step), ruleBox(step), onPaper("reads", reads),
    onPaper("result", [heatmap(arrays[step.array], { wrong, print: true })]),
    step.check ? el("p", { class: "verdict" }, checkSentence(step)) : null);
}

/** The derivations in the docstrings, once for each op. */
function notesOnPaper() {
  return Object.entries(data.notes).filter(([, notes]) => notes.length)
    .map(([op, notes]) => el("section", { class: "sheet notes" }, el("h2", {}, `Derivation of ${op}, from the source code`), ...prose(notes)));
}

function showOnPaper() {
  const inputs = Object.keys(arrays).map(Number).filter((a) => arrays[a].limit !== undefined);
  const picture = graphFigure.firstChild.cloneNode(true);
  picture.querySelectorAll(".node").forEach((node) => node.setAttribute("class", "node done"));
  picture.querySelectorAll(".edge").forEach((edge) => edge.setAttribute("class", "edge"));
  paper.replaceChildren(
    el("h1", {}, data.title), el("p", { class: "kicker" }, [data.name, document.getElementById("settings").textContent].filter(Boolean).join(", ")),
    el("p", { class: "problem" }, bar.words(Infinity)), el("div", { class: "story" }, ...prose(data.story)), el("figure", { class: "graph" }, picture),
    onPaper("Inputs", inputs.map((a) => heatmap(arrays[a], { print: true }))),
    ...steps.map(stepOnPaper), el("section", { class: "sheet" }, ...endScreen()), ...notesOnPaper());
}

addEventListener("beforeprint", showOnPaper);
addEventListener("afterprint", () => paper.replaceChildren());
document.getElementById("printing").addEventListener("click", () => print());
