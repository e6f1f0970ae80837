// View k: share of right answers per phenomenon and model, then the pairs one by one.
lab.views.minimal_pairs = function (body, data) {
  const { phenomena, rows } = data, starts = [];
  phenomena.reduce((start, one) => { starts.push(start); return start + 2 * one.pairs.length; }, 0);
  const gain = (row, p, i) => row.scores[starts[p] + 2 * i] - row.scores[starts[p] + 2 * i + 1];
  const right = (row, p) => phenomena[p].pairs.filter((_, i) => gain(row, p, i) > 0).length;
  const total = row => phenomena.reduce((sum, _, p) => sum + right(row, p), 0), pairs = phenomena.reduce((sum, one) => sum + one.pairs.length, 0);
  const detail = el("div", { "aria-live": "polite" });
  const names = ["all", ...phenomena.map(one => one.name)];
  const share = (r, c) => c === 0 ? total(rows[r]) / pairs : right(rows[r], c - 1) / phenomena[c - 1].pairs.length;
  const counts = (r, c) => c === 0 ? `${total(rows[r])} of ${pairs}` : `${right(rows[r], c - 1)} of ${phenomena[c - 1].pairs.length}`;
  body.append(lab.scroll(el("table.shares", {}, el("caption", {}, "Pairs in which the right sentence is the more likely one; chance is half"),
    el("thead", {}, el("tr", {}, el("th", { scope: "col" }, "model"), names.map(name => el("th", { scope: "col" }, name)))),
    el("tbody", {}, rows.map((row, r) => el("tr", {}, el("th.nowrap", { scope: "row" }, row.name), names.map((_, c) =>
      el("td", {}, el("span.meter", {}, el("i", { style: `width: ${100 * share(r, c)}%` })), ` ${counts(r, c)}`))))))));
  body.append(el("div.controls", {}, lab.choice("pairs about", phenomena.map(one => one.name), show)), detail);
  const ngram = rows.find(row => row.tokens);
  body.append(el("p.small", {}, "A number is by how many bits the model prefers the right sentence; masked models judge by the pseudo-log-likelihood, ELMo by the mean of both directions.",
    ngram ? ` The n-gram model was counted on ${ngram.tokens.toLocaleString("en")} tokens of the training text.` : " Name the training text with --corpus to add an n-gram model."));
  show(0);

  function show(p) {
    detail.replaceChildren(lab.scroll(el("table", {},
      el("thead", {}, el("tr", {}, el("th", { scope: "col" }, "right, and wrong"), rows.map(row => el("th.number.nowrap", { scope: "col" }, row.name)))),
      el("tbody", {}, phenomena[p].pairs.map(([good, bad], i) => el("tr", {}, el("td", {}, good, el("br"), el("span.faint", {}, bad)),
        rows.map(row => { const value = gain(row, p, i); return el("td.number", { class: `number ${value > 0 ? "good" : "bad"}` }, `${value > 0 ? "+" : "−"}${Math.abs(value).toFixed(1)}`); })))))));
  }
};
