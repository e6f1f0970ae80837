// View g: a text with the tokens that one seed hides, and the model's guesses for each.
lab.views.masking = function (body, data) {
  const place = el("div");
  if (data.models.length > 1) body.append(el("div.controls", {}, lab.choice("model", data.models.map(one => one.name), index => draw(data.models[index]))));
  body.append(place);
  draw(data.models[0]);

  function draw(model) {
    const text = el("p.words"), cards = el("div.cards", { "aria-live": "polite" });
    const names = { mask: "hidden by the mask", random: "replaced by another token", kept: "left as it is" };
    const show = number => {
      const { places } = model.draws[number], at = new Map(places.map(one => [one.place, one]));
      text.replaceChildren(...lab.inWords(model.tokens, model.tokens.map((token, index) => {
        const one = at.get(index);
        return el(token.joins ? "span.word.joins" : "span.word", one ? { class: `word ${one.fate}${token.joins ? " joins" : ""}`, title: names[one.fate] } : token.special ? { class: "word faint" } : {},
          one && one.fate !== "kept" ? (one.fate === "mask" ? "mask" : lab.tokenText(one.shown)) : lab.tokenText(token));
      })));
      cards.replaceChildren(...places.map(one => {
        const token = model.tokens[one.place], before = lab.wordBefore(model.tokens, one.place);
        let first = one.place;
        while (model.tokens[first].joins) first--;
        const word = lab.wordAt(model.tokens, first), isPart = word !== token.text;
        return el("div.card", {}, el("h3", {}, `“${token.text}”`, isPart ? el("span.faint", {}, ` in “${word}”`) : null), el("p.small", {}, names[one.fate]
          + (one.fate === "random" ? `: “${lab.tokenText(one.shown)}”` : "")), lab.bars(one.guesses, before));
      }));
    };
    const counts = { mask: 0, random: 0, kept: 0 };
    model.draws.forEach(one => one.places.forEach(({ fate }) => counts[fate]++));
    const all = counts.mask + counts.random + counts.kept;
    place.replaceChildren(
      el("div.controls", {}, lab.slider("seed", { max: model.draws.length - 1 }, number => String(model.draws[number].seed), show)),
      lab.legend([{ name: "mask", color: "var(--s0)", dot: true }, { name: "another token", color: "var(--s1)", dot: true }, { name: "kept, but to be guessed", color: "var(--s2)", dot: true }]),
      text, cards,
      el("p.small", {}, `Over these ${model.draws.length} seeds: ${counts.mask} of ${all} became the mask, ${counts.random} another token, ${counts.kept} stayed. The outlined guess is the true token.`));
    show(0);
  }
};
