// View a: a matrix of surprise, models by words; the chosen word's lists stand below. Translations have their own.
lab.views.next_words = function (body, data) {
  if (data.words.length) lab.expectations(body, data.words, data.rows, `“${data.text}”`);
  const notes = ["Bits are those of a word's tokens together; the models' vocabularies differ, so a word may be one token or several. ",
    "The outlined entry is the token that really comes. Joined to the grey word before it, a token continues that word."];
  if (data.rows.some(row => row.reads === "words around it"))
    notes.push(" word2vec's are a softmax over its scores, which negative sampling does not train as probabilities.");
  if (data.left_out.length) notes.push(` ${data.left_out.join(", ")} cannot read this sentence.`);
  const translations = el("div.columns");
  for (const { name, source, words, row } of data.translations) {
    const place = el("div", {}, el("h3", {}, `${name} translates “${source}”`));
    translations.append(place);
    lab.expectations(place, words, [{ name, reads: "source and the left side", words: row }], `the translation of “${source}”`);
  }
  body.append(translations, el("p.small", {}, ...notes));
};

// Rows of models and columns of words, a slider that chooses a word, and what each model expected there.
lab.expectations = function (body, words, rows, text) {
  const lists = el("div.cards", { "aria-live": "polite" });
  const most = Math.max(...rows.flatMap(row => row.words.filter(word => word).map(word => word.bits)));
  const draw = column => {
    matrix.mark(column);
    slider.set(column);
    title.textContent = `${rows.length > 1 ? "What each model" : `What ${rows[0].name}`} expected in place of “${words[column]}”`;
    lists.replaceChildren(...rows.map(row => {
      const word = row.words[column], before = row.reads.endsWith("left side") ? words[column - 1] || "" : "";
      return el("div.card", {}, el("h3", {}, row.name), el("p.small", {}, `reads ${row.reads === "both sides" ? "" : "the "}${row.reads}`),
        word ? [lab.bars(word.best, before), el("p.small", {}, `“${words[column]}”: ${word.bits.toFixed(1)} bits`)]
        : el("p.absent", {}, row.reads === "words around it" ? "it does not know this word" : "it has nothing to read yet"));
    }));
  };
  const title = el("h3");
  const matrix = lab.matrix({
    rows: rows.map(row => row.name), columns: words, cell: 30,
    value: (r, c) => rows[r].words[c] ? rows[r].words[c].bits / most : null,
    say: (r, c) => rows[r].words[c]
      ? `${rows[r].name}: “${words[c]}” takes ${rows[r].words[c].bits.toFixed(1)} bits, a probability of ${lab.percent(2 ** -rows[r].words[c].bits)}`
      : `${rows[r].name} has no guess for “${words[c]}”`,
    chosen: (r, c) => draw(c),
    alt: `How many bits each word of ${text} takes, for ${rows.map(row => row.name).join(", ")}.`,
  });
  const picked = Math.min(words.length - 1, 3);
  const slider = lab.slider("word", { max: words.length - 1, value: picked }, c => `“${words[c]}”`, draw);
  body.append(matrix, el("div.controls", {}, slider), title, lists);
  draw(picked);
};
