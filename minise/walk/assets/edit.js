// The bar above the graph: a field for the number that is edited, and what has been changed.

const SHOWN_CHANGES = 3; // named in the bar
const STEP = 0.1; // of the buttons for less and more

const bar = (() => {
  const button = (text, label, onclick) => el("button", { type: "button", class: "quiet", "aria-label": label, title: label, onclick: () => { commit(); onclick(); } }, text);
  const name = el("label", { for: "number" }), problem = el("p", { class: "problem", role: "alert", id: "problem" });
  const field = el("input", { id: "number", type: "text", inputmode: "decimal", autocomplete: "off", size: 7, "aria-describedby": "problem" });
  const slide = el("input", { type: "range", class: "slide" });
  const back = button("", "Set it to the number of the trace again", () => set(live.original(...target)));
  const editor = el("form", { class: "editor", hidden: "" }, name, field,
    button("\u2212", "Less", () => shift(-1)), button("+", "More", () => shift(1)), slide, back, button("×", "Close the field", () => close()), problem);
  const changes = el("div", { class: "changed", hidden: "" });
  let target = null; // [array, entry]
  let typed = null; // [target, text] of a field that was left, until the click that left it is over
  let isPressed = false; // a button of the pointer

  const current = () => Number(arrays[target[0]].values[target[1]]);

  /** Change the number and show all numbers that follow; say why if a text is no number. */
  function set(text, sliding = false) {
    const fault = live.problem(target[0], text);
    problem.textContent = fault ? `${fault}. Nothing was changed.` : "";
    field.setAttribute("aria-invalid", String(Boolean(fault)));
    if (fault) return;
    live.change(...target, live.numberIn(text), sliding);
    refresh(sliding);
  }

  /** Set the number that was typed in a field before it was left; a wrong text is dropped. */
  function commit() {
    if (!typed) return;
    const [[a, entry], text] = typed;
    typed = null;
    if (target && target[0] === a && target[1] === entry) return set(text);
    if (live.problem(a, text)) return;
    live.change(a, entry, live.numberIn(text));
    refresh();
  }

  const shift = (way) => {
    const [a] = target, step = arrays[a].limit ? 1 : STEP;
    set(Number((current() + way * step).toFixed(12)));
  };

  /** Show all numbers anew; the address follows when a slider is released: browsers limit its changes. */
  function refresh(sliding = false) {
    show();
    if (sliding) render();
    else goTo(here, selected, false);
    markContents();
  }

  function show() {
    editor.hidden = target === null;
    if (target !== null) {
      const [a, entry] = target, { limit } = arrays[a], was = Number(live.original(a, entry));
      const largest = Math.ceil(2 * Math.max(1, ...arrays[a].values.map((value) => Math.abs(value))));
      name.textContent = `${entryName(arrays[a], entry)} =`;
      field.value = String(current());
      Object.assign(slide, { min: limit ? limit[0] : -largest, max: limit ? limit[1] : largest, step: limit ? 1 : 0.01 });
      slide.value = current();
      slide.setAttribute("aria-label", entryName(arrays[a], entry));
      back.textContent = `was ${exact(was)}`;
      back.setAttribute("aria-label", `Set it to ${was} again`);
      back.hidden = was === current();
    }
    showChanges();
  }

  /** What is changed, in words; "" without a change. */
  function words(most = SHOWN_CHANGES) {
    const numbers = live.changes().map(([a, entry, value]) => `${entryName(arrays[a], entry)} = ${exact(value)} (was ${exact(Number(live.original(a, entry)))})`);
    const routes = live.routesOff().map(([k, term]) => `route ${term} of ${nameOf(steps[k])} off`);
    const all = [...numbers, ...routes], rest = all.length - most;
    return all.length ? `Changed: ${all.slice(0, most).join(", ")}${rest > 0 ? ` and ${rest} more` : ""}` : "";
  }

  function showChanges() {
    changes.hidden = !live.isChanged() && !live.canUndo();
    changes.replaceChildren(
      el("span", { role: "status" }, words() || "Nothing is changed"),
      live.canUndo() ? button("Undo", "Undo the last change", () => { live.undo(); refresh(); }) : "",
      live.isChanged() ? button("Reset all", "Set all numbers and routes to those of the trace", () => { live.reset(); refresh(); }) : "");
  }

  /** Edit an entry of an input; `focus` puts the cursor into the field. */
  function open(a, entry, focus = false) {
    target = [a, entry];
    problem.textContent = "";
    field.removeAttribute("aria-invalid");
    show();
    if (focus) { field.focus(); field.select(); }
  }

  function close() {
    target = null;
    show();
  }

  editor.addEventListener("submit", (event) => { event.preventDefault(); typed = null; set(field.value); });
  // to show all numbers anew while a button is pressed would move away what is clicked
  field.addEventListener("change", () => {
    typed = [target, field.value];
    const later = () => setTimeout(commit);
    if (isPressed) addEventListener("pointerup", later, { once: true });
    else later();
  });
  for (const [event, pressed] of Object.entries({ pointerdown: true, pointerup: false, pointercancel: false })) addEventListener(event, () => { isPressed = pressed; }, true);
  field.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    open(...target);
    field.blur();
    typed = null;
    const figure = document.querySelector(`[data-array="${target[0]}"]`);
    if (figure) focusCell(figure, target[1]);
  });
  slide.addEventListener("input", () => { typed = null; set(slide.value, true); });
  slide.addEventListener("change", () => goTo(here, selected, false));
  document.querySelector(".stage").prepend(editor, changes);
  return { open, show, refresh, words };
})();

/** Mark the changed numbers of a figure and numbers that are not recomputed; edit an input with Enter, or by typing. */
function markLive(figure, a) {
  const changed = new Set(live.changedEntries(a));
  for (const cell of figure.querySelectorAll("td.cell")) if (changed.has(Number(cell.dataset.entry))) cell.classList.add("edited");
  if (live.isOld(a)) {
    figure.classList.add("old");
    figure.querySelector("figcaption").append(el("span", { class: "problem" }, "not recomputed: the numbers before the change"));
  }
  if (!live.isInput(a)) return figure;
  figure.dataset.array = a;
  const edit = (event) => {
    const cell = event.target.closest("td.cell");
    const types = /^[-+.\u2212\d]$/.test(event.key || "") && !event.ctrlKey && !event.metaKey && !event.altKey;
    if (!cell || (event.key && event.key !== "Enter" && !types)) return;
    if (!types) event.preventDefault(); // what is typed in the cell goes into the field, whose text is selected
    bar.open(a, Number(cell.dataset.entry), true);
  };
  figure.addEventListener("dblclick", edit);
  figure.addEventListener("keydown", edit);
  return figure;
}

/** What a step says if its numbers do not follow the changes. */
const oldNote = (step) => (live.isOld(step.array)
  ? el("p", { class: "problem" }, "This step cannot be recomputed here: its numbers are those before the change.") : null);

let marking = null; // the pending work of markContents

/** Mark the steps whose gradient is wrong now in the list of steps: a few at a time. */
function markContents(from = 0) {
  clearTimeout(marking);
  const started = performance.now();
  let k = from;
  for (; k < steps.length && performance.now() - started < 12; k++) {
    const link = document.querySelector(`#list a[data-screen="${k + 1}"]`);
    link.querySelectorAll(".mark").forEach((mark) => mark.remove());
    link.querySelector(".what").classList.toggle("bad", isWrong(steps[k]));
    if (isWrong(steps[k])) link.append(faultMark(steps[k]));
  }
  if (k < steps.length) marking = setTimeout(() => markContents(k), 0);
}
