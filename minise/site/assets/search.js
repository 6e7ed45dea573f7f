// Search in SECTIONS, of search-index.js. A word counts where a word of the text begins with it.
// Sections with the most of the words come first; among these prose comes before the API reference,
// then titles, headings and lessons count more than text.
const query = document.getElementById("query");
const list = document.getElementById("found");
const count = document.getElementById("count");
const MOST = 30, AROUND = 90;
const COMMON = new Set("a an and are as at be by do does for from how in is it its of on or that the to what when where which why with".split(" "));
let lowered = null;

const plain = (text) => text.toLowerCase().normalize("NFKD").replace(/[\u0300-\u036f]/g, "");

/** The words of a query; common ones only if there are no others. */
function wordsOf(text) {
  const all = plain(text).split(/\s+/).filter(Boolean);
  const rare = all.filter((word) => !COMMON.has(word));
  return rare.length ? rare : all;
}

/** A pattern for a word at the start of a word. */
const startOf = (word) => new RegExp(`(?<![\\p{L}\\p{N}])${word.replace(/[.*+?^${}()|[\]\\]/g, "\\$&")}`, "u");

function find(words) {
  lowered ||= SECTIONS.map((section) => section.map(plain));
  const patterns = words.map(startOf), phrase = words.join(" ");
  const hits = [];
  lowered.forEach(([page, address, heading, text], k) => {
    let score = (text.includes(phrase) || heading.includes(phrase) ? 4 : 0) + (/^(lessons|article)/.test(address) ? 5 : 0);
    let present = 0;
    for (const pattern of patterns) {
      const weight = (pattern.test(heading) ? 6 : 0) + (pattern.test(page) ? 3 : 0) + (pattern.test(text) ? 1 : 0);
      present += weight > 0;
      score += weight;
    }
    if (present) hits.push({ present, prose: !address.startsWith("api/"), score, k });
  });
  const most = Math.max(...hits.map(({ present }) => present));
  return hits.filter(({ present }) => present === most)
    .sort((a, b) => b.prose - a.prose || b.score - a.score || a.k - b.k).map(({ k }) => SECTIONS[k]);
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
  const words = wordsOf(query.value);
  list.replaceChildren();
  if (!words.length) { count.textContent = ""; return; }
  const hits = find(words);
  count.textContent = hits.length === 0 ? "Nothing found: use other or shorter words"
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
