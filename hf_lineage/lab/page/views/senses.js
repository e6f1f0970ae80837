// View f: maps of one word's vectors, per model, with a layer to choose; ELMo's layers can also be mixed.
lab.views.senses = function (body, data) {
  const place = el("div");
  body.append(el("div.controls", {}, lab.choice("word", data.words.map(one => one.word), index => draw(data.words[index]))), place);
  draw(data.words[0]);

  function draw(shown) {
    const senses = [...new Set(shown.sentences.map(one => one.sense))];
    const colors = shown.sentences.map(one => lab.color(senses.indexOf(one.sense)));
    const names = shown.sentences.map((_, index) => String(index + 1));
    const maps = el("div.columns.maps");
    for (const model of shown.models) maps.append(mapOf(model));
    const depth = Math.max(...shown.models.map(model => model.cosines.length));
    place.replaceChildren(
      lab.legend(senses.map((sense, index) => ({ name: sense, color: lab.color(index), dot: true }))),
      el("ol.small", {}, shown.sentences.map(one => el("li", {}, ...marked(one.text, shown.word)))),
      maps, el("h3", {}, "How much closer the same sense is"),
      lab.legend(shown.models.map(model => ({ name: model.name, color: lab.modelColor(model.name) }))),
      lab.lines({ width: 560, dots: true, x: "layer (0: the token's own vector)", y: "cosine, same − other sense", 
        series: shown.models.map(model => ({ name: model.name, color: lab.modelColor(model.name),
          points: model.cosines.map((cosines, layer) => [layer, gap(cosines)]) })),
        alt: `Mean cosine within a sense minus mean cosine between senses, by layer, of ${shown.models.map(model => model.name).join(", ")}; up to ${depth} layers.` }),
      el("p.small", {}, "Each picture is the plane of the two principal components of the vectors' directions; points that would overlap share one mark. "
        + "BERT's and GPT's layer 0 also holds the word's position."));

    function gap(cosines) {
      const [same, other] = means(cosines);
      return same - other;
    }
    function means(cosines) {
      const sums = [[0, 0], [0, 0]];
      cosines.forEach((row, i) => row.forEach((value, j) => {
        if (i < j) { const pair = sums[shown.sentences[i].sense === shown.sentences[j].sense ? 0 : 1]; pair[0] += value; pair[1]++; }
      }));
      return sums.map(([sum, number]) => number ? sum / number : 0);
    }
    function mapOf(model) {
      const layers = model.cosines.length, picture = el("div"), said = el("p.small", { "aria-live": "polite" });
      const show = cosines => {
        picture.replaceChildren(lab.scatter({ points: lab.plane(cosines), names, colors,
          alt: `${model.name}: map of the ${names.length} vectors of “${shown.word}”.` }));
        const [same, other] = means(cosines);
        said.textContent = `mean cosine: same sense ${same.toFixed(3)}, other sense ${other.toFixed(3)}`;
      };
      const controls = el("div");
      if (layers > 1) controls.append(lab.slider("layer", { max: layers - 1, value: layers - 1 }, layer => `${layer} of ${layers - 1}`, layer => show(model.cosines[layer])));
      if (model.products) {
        const weights = Array(layers).fill(1), shares = () => { const sum = weights.reduce((a, b) => a + b) || 1; return weights.map(w => w / sum); };
        const mixed = () => show(mix(model.products, shares()));
        controls.append(el("details", {}, el("summary.small", {}, "mix the layers"), weights.map((_, layer) =>
          lab.slider(`weight of layer ${layer}`, { max: 1, step: 0.05, value: 1 }, value => value.toFixed(2), value => { weights[layer] = value; mixed(); }))));
      }
      show(model.cosines[layers - 1]);
      return el("div", {}, el("h3", {}, model.name), picture, said, controls);
    }
  }

  // Σ_k Σ_l s_k s_l h_k · h_l, as cosines
  function mix(products, shares) {
    const n = products[0][0].length, sums = Array.from({ length: n }, () => Array(n).fill(0));
    products.forEach((others, k) => others.forEach((matrix, l) => matrix.forEach((row, i) => row.forEach((value, j) => { sums[i][j] += shares[k] * shares[l] * value; }))));
    return sums.map((row, i) => row.map((value, j) => value / (Math.sqrt(sums[i][i] * sums[j][j]) || 1)));
  }
  function marked(text, word) {
    const start = text.indexOf(word);
    return [text.slice(0, start), el("b", {}, word), text.slice(start + word.length)];
  }
};
