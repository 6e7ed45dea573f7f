// Search in SECTIONS, of search-index.js: every word must occur; titles and headings count more.
const query = document.getElementById("query");
const list = document.getElementById("found");
const count = document.getElementById("count");
const MOST = 30, AROUND = 90;
let lowered = null;

const plain = (text) => text.toLowerCase().normalize("NFKD").replace(/[\u0300-\u036f]/g, "");

function find(words) {
  lowered ||= SECTIONS.map((section) => section.map(plain));
  const hits = [];
  lowered.forEach(([page, address, heading, text], k) => {
    let score = address.startsWith("api/") ? -8 : 0; // prose first
    for (const word of words) {
      const found = (heading.includes(word) ? 6 : 0) + (page.includes(word) ? 3 : 0)
        + (text.includes(word) ? 1 : 0);
      if (!found) return;
      score += found;
    }
    if (text.includes(words.join(" ")) || heading.includes(words.join(" "))) score += 4;
    hits.push([score, k]);
  });
  return hits.sort((a, b) => b[0] - a[0] || a[1] - b[1]).map(([, k]) => SECTIONS[k]);
}

// the part of a text around the first word that occurs
function excerpt(text, words) {
  const low = text.toLowerCase();
  const places = words.map((word) => low.indexOf(word)).filter((place) => place >= 0);
  const start = Math.max(0, Math.min(...places, text.length) - AROUND);
  const from = places.length ? start : 0;
  return (from ? "… " : "") + text.slice(from, from + 3 * AROUND) + (from + 3 * AROUND < text.length ? " …" : "");
}

function marked(parent, text, words) {
  const low = text.toLowerCase();
  let at = 0;
  while (at < text.length) {
    let next = text.length, length = 0;
    for (const word of words) {
      const place = low.indexOf(word, at);
      if (place >= 0 && place < next) { next = place; length = word.length; }
    }
    parent.append(text.slice(at, next));
    if (!length) break;
    const mark = document.createElement("mark");
    mark.textContent = text.slice(next, next + length);
    parent.append(mark);
    at = next + length;
  }
}

function show() {
  const words = plain(query.value).split(/\s+/).filter(Boolean);
  list.replaceChildren();
  if (!words.length) { count.textContent = ""; return; }
  const hits = find(words);
  count.textContent = hits.length === 0 ? "Nothing found: use fewer or shorter words"
    : hits.length === 1 ? "1 section" : `${hits.length} sections${hits.length > MOST ? `, the first ${MOST} shown` : ""}`;
  for (const [page, address, heading, text] of hits.slice(0, MOST)) {
    const item = document.createElement("li"), link = document.createElement("a");
    const title = document.createElement("span"), says = document.createElement("small");
    link.href = address;
    marked(title, heading && heading !== page ? `${page}: ${heading}` : page, words);
    marked(says, excerpt(text, words), words);
    link.append(title, says);
    item.append(link);
    list.append(item);
  }
}

query.addEventListener("input", show);
query.closest(".search").addEventListener("keydown", (event) => {
  const links = [query, ...list.querySelectorAll("a")];
  const place = links.indexOf(document.activeElement);
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (step && place >= 0) {
    event.preventDefault();
    links[Math.min(Math.max(place + step, 0), links.length - 1)].focus();
  } else if (event.key === "Escape") {
    query.value = "";
    show();
    query.focus();
  } else if (event.key === "Enter" && document.activeElement === query && links[1]) {
    location.href = links[1].href;
  }
});
document.addEventListener("keydown", (event) => {
  if (event.key === "/" && document.activeElement !== query) { event.preventDefault(); query.focus(); }
});
show();
