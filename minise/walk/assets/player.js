// The player: a screen for the case, one per step, and one for all gradients.

const article = document.getElementById("step"), graphFigure = document.getElementById("graph");
const slider = document.getElementById("slider"), last = steps.length + 1;
let here = -1, selected = 0; // the screen, the entry

/** Screen 0 is the case, screens 1, 2, … are the steps, and the last screen is the summary. */
const hashOf = (screen, entry) =>
  screen === 0 ? "#start" : screen === last ? "#end" : `#step-${screen}${entry !== firstEntry(screen) ? `-entry-${entry}` : ""}`;

/** The address of a screen with what the reader has changed. */
const addressOf = (screen, entry) => hashOf(screen, entry) + live.address();

/** For each term of a step: whether it is switched on. */
const chosenIn = (step) => (step ? step.terms.map((term) => !live.isOff(step, term)) : []);

/** The entry that a step shows first: the first one that is not zero and has terms. */
function firstEntry(screen) {
  const step = steps[screen - 1];
  if (!step) return 0;
  const first = arrays[step.array].values.findIndex((value, entry) => value !== 0 && madeOf(step, entry).length);
  return Math.max(0, first);
}

function screenOf(address) {
  const [hash] = address.split("&");
  if (hash === "#end") return [last, 0];
  const match = /^#step-(\d+)(?:-entry-(\d+))?$/.exec(hash);
  if (!match) return [0, 0];
  const screen = Math.min(Number(match[1]), last);
  const step = steps[screen - 1];
  const entry = match[2] === undefined ? firstEntry(screen) : Number(match[2]);
  return [screen, step && entry < sizeOf(arrays[step.array]) ? entry : 0];
}

function goTo(screen, entry, speak = true) {
  screen = Math.max(0, Math.min(last, screen));
  if (entry === undefined) entry = firstEntry(screen);
  selected = entry;
  const moved = screen !== here;
  here = screen;
  const hash = addressOf(screen, entry);
  if (location.hash !== hash) history.replaceState(null, "", hash);
  render();
  if (moved) opened.clear();
  if (moved && speak) {
    const top = article.getBoundingClientRect().top + scrollY - document.querySelector(".stage").offsetHeight;
    if (scrollY > top) scrollTo(0, top);
    document.getElementById("spoken").textContent = spoken();
  }
}

/** Go to the step that computes an array and select an entry; inputs are on the first screen. */
function goArray(array, entry) {
  const [screen, at] = stepOfArray.has(array) ? [stepOfArray.get(array) + 1, entry] : [0, 0];
  history.pushState(null, "", addressOf(screen, at === undefined ? firstEntry(screen) : at)); // so that the browser's Back returns
  goTo(stepOfArray.has(array) ? stepOfArray.get(array) + 1 : 0, stepOfArray.has(array) ? entry : 0);
}

/** Go to the array of a node of the graph; in the backward pass, to its gradient if it has one. */
function goNode(array) {
  const back = steps[here - 1] && steps[here - 1].direction === "backward";
  const gradient = steps.findIndex((step) => step.twin === array && !step.route);
  goArray(back && gradient >= 0 ? steps[gradient].array : array);
}

function spoken() {
  if (here === 0) return "The case";
  if (here === last) return "All gradients";
  const step = steps[here - 1];
  return `Step ${here} of ${steps.length}, ${step.direction}: ${step.formula}${isWrong(step) ? `, ${markOf(step)}` : ""}`;
}

function render() {
  slider.value = here;
  slider.setAttribute("aria-valuetext", spoken());
  document.getElementById("back").disabled = here === 0;
  document.getElementById("next").disabled = here === last;
  for (const link of document.querySelectorAll("#list a")) {
    if (Number(link.dataset.screen) === here) {
      link.setAttribute("aria-current", "step");
      const box = link.closest(".contents");
      if (box.scrollHeight > box.clientHeight) box.scrollTop = link.offsetTop - box.clientHeight / 2;
    } else link.removeAttribute("aria-current");
  }
  markGraph(graphFigure, here === 0 ? -1 : here === last ? steps.length : here - 1, chosenIn(steps[here - 1]));
  article.className = here > 0 && here < last ? steps[here - 1].direction : "";
  article.replaceChildren(...(here === 0 ? startScreen() : here === last ? endScreen() : stepScreen(here - 1)));
}

function contents() {
  const list = document.getElementById("list");
  const link = (screen, text, kind = "", step = null) => el("li", {}, el("a", { href: hashOf(screen, 0), class: kind, "data-screen": screen },
    el("span", { class: "n" }, screen > 0 && screen < last ? String(screen) : ""), el("span", { class: `what${step && isWrong(step) ? " bad" : ""}` }, text), step && faultMark(step)));
  list.append(link(0, "The case"));
  let part = "", group = "";
  const several = new Set(steps.map(whereOf)).size > 1;
  steps.forEach((step, k) => {
    if (step.direction !== part) { part = step.direction; group = ""; list.append(el("li", { class: "part" }, part)); }
    if (several && whereOf(step) !== group) { group = whereOf(step); list.append(el("li", { class: "group" }, group)); }
    list.append(link(k + 1, nameOf(step), part, step));
  });
  list.append(link(last, "All gradients"));
}

const THEME = "minise-walk-theme";

/** The theme that the reader chose on any page, or null. */
function remembered() {
  try { return localStorage.getItem(THEME); } catch { return null; }
}

function theme() {
  const button = document.getElementById("theme"), root = document.documentElement;
  const set = (dark) => {
    root.dataset.theme = dark ? "dark" : "light";
    button.textContent = dark ? "Light" : "Dark";
    button.setAttribute("aria-pressed", String(dark));
  };
  const system = matchMedia("(prefers-color-scheme: dark)");
  const known = remembered();
  set(known ? known === "dark" : system.matches);
  system.addEventListener("change", (event) => { if (!remembered()) set(event.matches); });
  button.addEventListener("click", () => {
    set(root.dataset.theme !== "dark");
    try { localStorage.setItem(THEME, root.dataset.theme); } catch { /* storage is disabled */ }
  });
}

function start() {
  document.getElementById("title").textContent = data.title;
  document.getElementById("op").textContent = data.name;
  document.getElementById("settings").textContent = Object.entries(data.settings).map(([name, value]) => `${name} = ${value}`).join(", ");
  theme();
  contents();
  const wide = matchMedia("(min-width: 62rem)"); // also changes when the <details> around a frame opens
  const unfold = () => { document.getElementById("contents").open = wide.matches; };
  wide.addEventListener("change", unfold);
  unfold();
  drawGraph(graphFigure, goNode);
  slider.max = last;
  const turn = 100 * (1 + steps.filter((step) => step.direction === "forward").length) / (last + 1);
  slider.style.setProperty("--track", `linear-gradient(90deg, var(--forward) ${turn}%, var(--backward) ${turn}%)`);
  slider.addEventListener("input", () => goTo(Number(slider.value)));
  document.getElementById("back").addEventListener("click", () => goTo(here - 1));
  document.getElementById("next").addEventListener("click", () => goTo(here + 1));
  document.querySelector("[data-skip]").addEventListener("click", (event) => { event.preventDefault(); article.focus(); });
  document.documentElement.classList.toggle("embed", new URLSearchParams(location.search).has("embed"));
  addEventListener("hashchange", () => { follow(location.hash); goTo(...screenOf(location.hash)); });
  addEventListener("keydown", (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey || event.target.matches("input[type=range], input[type=text]")) return;
    if (event.key === "Escape" && document.activeElement) document.activeElement.blur();
    const to = { ArrowLeft: here - 1, ArrowRight: here + 1, Home: 0, End: last }[event.key];
    if (to !== undefined) { event.preventDefault(); goTo(to); }
  });
  follow(location.hash);
  goTo(...screenOf(location.hash), false);
}

/** Change what an address says was changed; an address without changes leaves them as they are. */
function follow(address) {
  if (!address.includes("&")) return;
  live.read(address);
  bar.show();
  markContents();
}

start();
