// View a: a matrix of surprise, models by words; the chosen word's lists stand below.
lab.views.next_words = function (body, data) {
  const { words, rows } = data, lists = el("div.cards", { "aria-live": "polite" });
  const most = Math.max(...rows.flatMap(row => row.words.filter(word => word).map(word => word.bits)));
  const draw = column => {
    matrix.mark(column);
    slider.set(column);
    title.textContent = `What each model expected in place of “${words[column]}”`;
    lists.replaceChildren(...rows.map(row => {
      const word = row.words[column];
      return el("div.card", {}, el("h3", {}, row.name), el("p.small", {}, `reads ${row.reads === "both sides" ? "" : "the "}${row.reads}`),
        word ? [lab.bars(word.best, row.reads === "left side" ? words[column - 1] || "" : ""),
          el("p.small", {}, `“${words[column]}”: ${word.bits.toFixed(1)} bits`)]
        : el("p.absent", {}, "it has nothing to read yet"));
    }));
  };
  const title = el("h3");
  const matrix = lab.matrix({
    rows: rows.map(row => row.name), columns: words, cell: 30,
    value: (r, c) => rows[r].words[c] ? rows[r].words[c].bits / most : null,
    say: (r, c) => rows[r].words[c]
      ? `${rows[r].name}: “${words[c]}” takes ${rows[r].words[c].bits.toFixed(1)} bits, a probability of ${lab.percent(2 ** -rows[r].words[c].bits)}`
      : `${rows[r].name} has nothing to read before “${words[c]}”`,
    chosen: (r, c) => draw(c),
    alt: `How many bits each word of “${data.text}” takes, for ${rows.map(row => row.name).join(", ")}.`,
  });
  const picked = Math.min(words.length - 1, 3);
  const slider = lab.slider("word", { max: words.length - 1, value: picked }, c => `“${words[c]}”`, draw);
  body.append(matrix, el("div.controls", {}, slider), title, lists);
  body.append(el("p.small", {}, "Bits are those of a word's tokens together; the models' vocabularies differ, so a word may be one token or several. ",
    "The outlined entry is the token that really comes. Joined to the grey word before it, a token continues that word.",
    data.left_out.length ? ` ${data.left_out.join(", ")} cannot read this sentence.` : ""));
  draw(picked);
};
