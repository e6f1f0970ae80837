// View d: the beams of a step, and the attention of the chosen one.
lab.views.alignments = function (body, data) {
  const controls = el("div.controls"), place = el("div");
  // first one whose attention can be seen
  let model = Math.max(0, data.models.findIndex(one => one.sentences[0].answers[0].weights)), sentence = 0;
  body.append(controls, place);
  controls.append(lab.choice("model", data.models.map(one => one.name), index => { model = index; sentence = 0; draw(); }, model));
  draw();

  function draw() {
    const { sentences } = data.models[model], shown = sentences[sentence], last = shown.steps.length;
    const beams = el("ol.beams"), matrix = el("div"), title = el("h3");
    let chosen = 0;
    const step = number => {
      const isEnd = number === last;
      // beams that ended here left the search, and wait among the finished ones
      const ended = shown.answers.filter(answer => answer.tokens === number + 1);
      const list = isEnd ? shown.answers : [...shown.steps[number], ...ended];
      title.textContent = isEnd ? "The finished translations, best first" : `After ${number + 1} ${number ? "tokens" : "token"}`;
      chosen = Math.min(chosen, list.length - 1);
      beams.replaceChildren(...list.map((beam, index) => el("li", {}, el("button", { type: "button", "aria-pressed": String(index === chosen),
        click: () => { chosen = index; step(number); } },
        el("span.value", {}, !isEnd && ended.includes(beam) ? "finished" : beam.score.toFixed(2)), el("span", {}, sentenceOf(beam.words))))));
      const beam = list[chosen];
      if (!beam.weights) { matrix.replaceChildren(el("p.absent", {}, "This model has no attention: one state holds the whole source.")); return; }
      const weights = lab.unpack(beam.weights);
      matrix.replaceChildren(lab.matrix({
        rows: beam.words, columns: shown.columns, value: (r, c) => weights.at(r, c),
        say: (r, c) => `“${beam.words[r]}” looks at “${shown.columns[c]}” with ${lab.percent(weights.at(r, c))} of its attention`,
        alt: "Attention: each row is a word of the translation, each column a word of the source.",
        rowTitle: "translation", columnTitle: "source",
      }));
    };
    place.replaceChildren(
      sentences.length > 1 ? lab.choice("source", sentences.map(one => one.source), index => { sentence = index; draw(); }, sentence) : el("p", {}, shown.source),
      el("div.controls", {}, lab.slider("step of the search", { max: last, value: last }, number => number === last ? "finished" : `${number + 1} of ${last}`, step)),
      el("div.columns", {}, el("div", {}, title, beams, el("p.small", {}, `A number is the sum of the log-probabilities of the tokens (natural logarithm); `
        + `for finished translations it is divided by a power of their length, as generate() ranks them. ${data.beams} beams.`)), matrix));
    step(last);
  }

  // marks follow their word without a blank
  function sentenceOf(words) {
    return words.filter(word => !/^(<.*>|\[.*\])$/.test(word)).join(" ").replace(/ ([.,;:!?。,])/g, "$1") || "(end)";
  }
};
