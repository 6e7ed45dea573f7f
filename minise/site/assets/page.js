// The theme, which the walk's pages share, and controls that choose between results.
const system = matchMedia("(prefers-color-scheme: dark)");
const KEY = "minise-walk-theme";
const remembered = () => { try { return localStorage.getItem(KEY); } catch { return null; } };
const button = document.getElementById("theme");
function showTheme() {
  const theme = remembered() || (system.matches ? "dark" : "light");
  document.documentElement.dataset.theme = theme;
  button.textContent = theme === "dark" ? "Light" : "Dark";
  button.setAttribute("aria-pressed", String(theme === "dark"));
}
button.addEventListener("click", () => {
  const other = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
  try { localStorage.setItem(KEY, other); } catch { /* a private window remembers nothing */ }
  document.documentElement.dataset.theme = other;
  button.textContent = other === "dark" ? "Light" : "Dark";
  button.setAttribute("aria-pressed", String(other === "dark"));
});
system.addEventListener("change", showTheme);
showTheme();

// a control has the labels of its values; what depends on controls is there once for each choice
function showChoice(name) {
  const output = document.querySelector(`[data-says="${name}"]`);
  const control = document.getElementById(name);
  const label = JSON.parse(control.dataset.values)[control.value];
  output.textContent = label;
  control.setAttribute("aria-valuetext", label);
  for (const group of document.querySelectorAll(`[data-depends~="${name}"]`)) {
    const names = group.dataset.depends.split(" ");
    const chosen = names.map((id) => document.getElementById(id).value).join(" ");
    for (const result of group.children) result.hidden = result.dataset.when !== chosen;
  }
}
for (const control of document.querySelectorAll("input[data-values]")) {
  control.disabled = false;
  control.addEventListener("input", () => showChoice(control.id));
  showChoice(control.id);
}
if (document.body.clientWidth < 900) {
  for (const list of document.querySelectorAll(".contents details")) list.open = false;
}
