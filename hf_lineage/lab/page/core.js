// What all views share: elements, controls, numbers from bytes, and the frame of the page.

const lab = { views: {}, redraw: [] };

// el("p.small", {title: "…"}, "text", child, …): an HTML element; attributes that are functions become listeners
function el(kind, attributes = {}, ...children) {
  const [tag, ...classes] = kind.split(".");
  return filled(document.createElement(tag), classes, attributes, children);
}

// the same for SVG
function svg(kind, attributes = {}, ...children) {
  const [tag, ...classes] = kind.split(".");
  return filled(document.createElementNS("http://www.w3.org/2000/svg", tag), classes, attributes, children);
}

function filled(element, classes, attributes, children) {
  if (classes.length) element.setAttribute("class", classes.join(" "));
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(name, value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children.flat(Infinity).filter(child => child !== null && child !== undefined));
  return element;
}

// A box that scrolls sideways where its content is too wide; then the keyboard reaches it.
lab.scroll = function (...children) {
  const box = el("div.scroll", {}, children);
  const sizes = new ResizeObserver(() => {
    if (box.scrollWidth > box.clientWidth) box.setAttribute("tabindex", 0);
    else box.removeAttribute("tabindex");
  });
  for (const element of [box, ...box.children]) sizes.observe(element);
  return box;
};

let numbered = 0;
const newId = () => `n${++numbered}`;

// A group of choices, as pills; one of them is chosen. `options` are labels; `changed(index)` is called at each change.
lab.choice = function (label, options, changed, chosen = 0) {
  const name = newId();
  const pills = options.map((option, index) => el("label", {},
    el("input", { type: "radio", name, value: index, checked: index === chosen, change: () => changed(index) }),
    el("span", {}, option)));
  return el("fieldset", {}, el("legend", {}, label), el("div.pills", {}, pills));
};

// A slider with its value in words.
lab.slider = function (label, { min = 0, max, step = 1, value = min }, say, changed) {
  const shown = el("output.small", {}, say(value)), id = newId();
  const input = el("input", { type: "range", id, min, max, step, value, input: () => {
    shown.textContent = say(+input.value);
    input.setAttribute("aria-valuetext", say(+input.value));
    changed(+input.value);
  } });
  input.setAttribute("aria-valuetext", say(value));
  const box = el("div", {}, el("label.label", { for: id }, label), input, " ", shown);
  box.set = number => { input.value = number; shown.textContent = say(number); };
  return box;
};

// {shape, low, high, bytes} -> the same with `at(i, j, …)`, the number at a place, within half a level of the true one
lab.unpack = function (packed) {
  const raw = atob(packed.bytes), levels = new Uint8Array(raw.length);
  for (let i = 0; i < raw.length; i++) levels[i] = raw.charCodeAt(i);
  const { shape, low, high } = packed;
  const at = (...place) => {
    let index = 0;
    for (let k = 0; k < place.length; k++) index = index * shape[k] + place[k];
    return low + levels[index] / 255 * (high - low);
  };
  return { shape, low, high, at };
};

lab.percent = p => p >= 0.0995 ? `${Math.round(p * 100)} %` : p >= 0.001 ? `${(p * 100).toFixed(1)} %` : "< 0.1 %";
lab.color = index => `var(--s${index % 12})`;
// the colour that a canvas needs, since it knows no variables
lab.rgb = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

// The colour of each model, the same in all views.
lab.modelColor = name => {
  const index = lab.names.findIndex(known => name === known || name.startsWith(`${known} `));
  return lab.color(Math.max(index, 0));
};

lab.legend = entries => el("ul.legend", {}, entries.map(({ name, color, dot }) =>
  el("li", {}, el(dot ? "b.dot" : "b", { style: `background: ${color}` }), name)));

// A list of tokens with bars; entries are {text, joins, special, p, true}, `before` is the word that a piece continues.
lab.bars = function (entries, before = "") {
  const most = Math.max(...entries.map(entry => entry.p), 1e-9);
  return el("ol.bars", {}, entries.map(entry => el(entry.true ? "li.true" : "li", {},
    el("i", { style: `width: ${100 * entry.p / most}%` }),
    el("span.name", {}, entry.joins ? el("span.faint", {}, before) : null, lab.tokenText(entry)),
    el("span.value", {}, lab.percent(entry.p)))));
};

// The word that a token begins, joined from its pieces; "" for a token that continues one.
lab.wordAt = function (tokens, place) {
  if (tokens[place].joins) return "";
  let word = lab.tokenText(tokens[place]);
  for (let next = place + 1; next < tokens.length && tokens[next].joins; next++) word += tokens[next].text;
  return word;
};

// One element per token -> one box per word, so that no word is cut at the end of a line.
lab.inWords = function (tokens, elements) {
  const words = [];
  elements.forEach((element, place) => tokens[place].joins ? words[words.length - 1].append(element) : words.push(el("span.whole", {}, element)));
  return words;
};

// The part of a word that has been read before a place, or the whole word before it.
lab.wordBefore = function (tokens, place) {
  let word = "";
  for (let at = place - 1; at >= 0 && !tokens[at].special; at--) {
    word = tokens[at].text + word;
    if (!tokens[at].joins) break;
  }
  return word;
};

// special tokens in words
const MARKS = { UNK: "unknown word", SEP: "end mark", "/S": "end mark", EOS: "end mark", S: "start mark", BOS: "start mark", CLS: "start mark", PAD: "padding", MASK: "mask" };
lab.markText = name => {
  const inner = /^(?:\[(.+)\]|<(.+)>)$/.exec(name);
  return inner ? MARKS[(inner[1] || inner[2]).toUpperCase()] || name : name;
};
lab.tokenText = entry => entry.special ? `(${lab.markText(entry.text)})` : entry.text;

lab.start = function () {
  const data = JSON.parse(document.getElementById("data").textContent);
  lab.names = data.models.map(model => model.name);
  const table = document.getElementById("models");
  table.append(el("thead", {}, el("tr", {}, ["name", "station", "class", "parameters", "folder"].map(name =>
    el(name === "parameters" ? "th.number" : name === "class" ? "th.class" : "th", { scope: "col" }, name)))));
  table.append(el("tbody", {}, data.models.map(model => el("tr", {},
    el("th", { scope: "row" }, model.name), el("td", {}, model.paper ? el("a", { href: model.paper }, model.station) : model.station), el("td.class", {}, model.class),
    el("td.number", {}, model.parameters.toLocaleString("en")), el("td", {}, model.folder)))));
  for (const view of data.views) {
    document.getElementById("links").append(el("a", { href: `#${view.key}`, title: view.title }, view.short));
    const body = el("div");
    document.getElementById("views").append(el("section", { id: view.key, "aria-labelledby": `${view.key}-title` },
      el("h2", { id: `${view.key}-title` }, view.title), el("p.see", {}, view.see), el("p.source", {}, `Paper: ${view.source}.`), body));
    lab.views[view.key](body, view.data);
  }
  if (data.absent.length) {
    document.getElementById("absent").textContent =
      `Not shown, because no model on this page can: ${data.absent.map(view => view.title).join("; ")}.`;
  }
  const theme = document.documentElement;
  document.getElementById("theme").addEventListener("click", () => {
    const dark = theme.dataset.theme ? theme.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    theme.dataset.theme = dark ? "light" : "dark";
    lab.redraw.forEach(draw => draw());
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => lab.redraw.forEach(draw => draw()));
};
