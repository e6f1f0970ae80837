// View h: a pair token by token, with segments and positions, and the answers for all pairs.
lab.views.sentence_pairs = function (body, data) {
  const place = el("div");
  if (data.models.length > 1) body.append(el("div.controls", {}, lab.choice("model", data.models.map(one => one.name), index => draw(data.models[index]))));
  body.append(place);
  draw(data.models[0]);

  function draw(model) {
    const built = el("div"), title = el("h3");
    const show = index => {
      const pair = model.pairs[index];
      title.textContent = `How the model reads pair ${index + 1}`;
      built.replaceChildren(lab.scroll(el("table.built", {},
        el("tbody", {}, el("tr", {}, el("th", { scope: "row" }, "word"), pair.tokens.map((token, at) => token.joins ? null : el("td", {
            class: `segment${pair.segments[at]}${token.special ? " faint" : ""}`, colspan: lengthOf(pair.tokens, at) }, token.special ? token.text : lab.wordAt(pair.tokens, at)))),
          row("segment", pair.segments.map(segment => "AB"[segment]), pair.segments),
          row("position", pair.tokens.map((_, position) => String(position)), pair.segments)))));
      [...table.querySelectorAll("tbody tr")].forEach((line, number) => line.setAttribute("class", number === index ? "chosen" : ""));
    };
    const lengthOf = (tokens, at) => { let end = at + 1; while (end < tokens.length && tokens[end].joins) end++; return end - at; };
    const row = (name, cells, segments) => el("tr", {}, el("th", { scope: "row" }, name), cells.map((cell, index) => el("td", { class: `segment${segments[index]}` }, cell)));
    const right = model.pairs.filter(pair => (pair.p > 0.5) === pair.follows).length;
    const table = el("table.pairs", {}, el("caption", {}, `${right} of ${model.pairs.length} answers are right`),
      el("thead", {}, el("tr", {}, ["", "first sentence", "second sentence", "in the text", "probability that it follows"].map(name => el("th", { scope: "col" }, name)))),
      el("tbody", {}, model.pairs.map((pair, index) => el("tr", {},
        el("td", {}, el("button.pill", { type: "button", "aria-label": `show pair ${index + 1}`, click: () => show(index) }, String(index + 1))),
        el("td", {}, pair.first), el("td", {}, pair.second), el("td", {}, pair.follows ? "it follows" : "from elsewhere"),
        el("td", {}, el("span.meter", {}, el("i", { style: `width: ${100 * pair.p}%` })), ` ${lab.percent(pair.p)} `, (pair.p > 0.5) === pair.follows ? "✓" : "✗")))));
    place.replaceChildren(title, built, el("h3", {}, "Its answers"), lab.scroll(table));
    show(0);
  }
};
