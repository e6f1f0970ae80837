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
      built.replaceChildren(el("div.scroll", {}, el("table.built", {},
        el("tbody", {}, row("token", pair.tokens.map(token => el("span", token.special ? { class: "faint" } : {}, token.special ? token.text : (token.joins ? "·" : "") + token.text)), pair.segments),
          row("segment", pair.segments.map(segment => "AB"[segment]), pair.segments),
          row("position", pair.tokens.map((_, position) => String(position)), pair.segments)))));
      [...table.querySelectorAll("tbody tr")].forEach((line, number) => line.setAttribute("class", number === index ? "chosen" : ""));
    };
    const row = (name, cells, segments) => el("tr", {}, el("th", { scope: "row" }, name), cells.map((cell, index) => el("td", { class: `segment${segments[index]}` }, cell)));
    const right = model.pairs.filter(pair => (pair.p > 0.5) === pair.follows).length;
    const table = el("table.pairs", {}, el("caption", {}, `${right} of ${model.pairs.length} answers are right`),
      el("thead", {}, el("tr", {}, ["", "first sentence", "second sentence", "in the text", "probability that it follows"].map(name => el("th", { scope: "col" }, name)))),
      el("tbody", {}, model.pairs.map((pair, index) => el("tr", {},
        el("td", {}, el("button.pill", { type: "button", "aria-label": `show pair ${index + 1}`, click: () => show(index) }, String(index + 1))),
        el("td", {}, pair.first), el("td", {}, pair.second), el("td", {}, pair.follows ? "it follows" : "from elsewhere"),
        el("td", {}, el("span.meter", {}, el("i", { style: `width: ${100 * pair.p}%` })), ` ${lab.percent(pair.p)} `, (pair.p > 0.5) === pair.follows ? "✓" : "✗")))));
    place.replaceChildren(title, built, el("h3", {}, "Its answers"), el("div.scroll", {}, table));
    show(0);
  }
};
