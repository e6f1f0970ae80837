// View j: neighbours and analogies, computed here from unit vectors, and a map of groups of words.
lab.views.word_vectors = function (body, data) {
  const place = el("div");
  if (data.models.length > 1) body.append(el("div.controls", {}, lab.choice("model", data.models.map(one => one.name), index => draw(data.models[index]))));
  body.append(place);
  draw(data.models[0]);

  function draw(model) {
    const raw = atob(model.vectors), bytes = Uint8Array.from(raw, letter => letter.charCodeAt(0));
    const numbers = new Int16Array(bytes.buffer), { size, words } = model;
    const index = new Map(words.map((word, i) => [word, i]));
    const vector = i => Float64Array.from(numbers.subarray(i * size, (i + 1) * size), value => value / 32767);
    const find = word => index.has(word) ? index.get(word) : index.get(word.toLowerCase());
    // the words with the largest cosine, except some
    const nearest = (query, except, number) => {
      const length = Math.hypot(...query), scores = [];
      for (let i = 0; i < words.length; i++) {
        if (except.includes(i)) continue;
        let dot = 0;
        for (let d = 0; d < size; d++) dot += query[d] * numbers[i * size + d];
        scores.push([dot / 32767 / length, i]);
      }
      return scores.sort((a, b) => b[0] - a[0]).slice(0, number);
    };
    const listOf = found => el("ol.bars", {}, found.map(([cosine, i]) => el("li", {}, el("i", { style: `width: ${Math.max(0, 100 * cosine)}%` }),
      el("span.name", {}, words[i]), el("span.value", {}, cosine.toFixed(2)))));
    const suggestions = newId();
    const field = (value, label, changed) => el("div", {}, el("label.label", {}, label, el("br"), el("input", { type: "text", size: 12, value, list: suggestions, autocapitalize: "off", spellcheck: "false", input: changed })));
    const valueOf = box => box.querySelector("input").value.trim();
    const unknown = word => el("p.absent", {}, word ? `“${word}” is not among the ${words.length.toLocaleString("en")} most frequent words, which the page carries.` : "type a word");

    const neighbours = el("div", { "aria-live": "polite" }), answers = el("div", { "aria-live": "polite" });
    const first = Object.values(model.groups)[0], word = field(first ? first[0] : words[Math.min(50, words.length - 1)], "word", () => showNeighbours());
    const showNeighbours = () => {
      const i = find(valueOf(word));
      neighbours.replaceChildren(i === undefined ? unknown(valueOf(word)) : listOf(nearest(vector(i), [i], 10)));
    };
    const start = model.analogies[0] || [words[0], words[1], words[2]].map(String);
    const boxes = ["is to", "as", "is to what?"].map((label, k) => field(start[k], ["a", "is to b", "as c is to …"][k], () => showAnswer()));
    const showAnswer = () => {
      const asked = boxes.map(valueOf), ids = asked.map(find), missing = ids.findIndex(id => id === undefined);
      if (missing >= 0) { answers.replaceChildren(unknown(asked[missing])); return; }
      const [a, b, c] = ids.map(vector);
      answers.replaceChildren(listOf(nearest(b.map((value, d) => value - a[d] + c[d]), ids, 6)));
    };
    const examples = el("div.pills.examples", {}, model.analogies.map(question => el("button.pill", { type: "button", click: () => {
      boxes.forEach((box, k) => { box.querySelector("input").value = question[k]; });
      showAnswer();
    } }, `${question[0]} : ${question[1]} = ${question[2]} : ?`)));
    const grouped = Object.entries(model.groups);
    place.replaceChildren(
      el("datalist", { id: suggestions }, words.slice(0, 400).map(word => el("option", { value: word }))),
      el("div.columns", {},
        el("div", {}, el("h3", {}, "Neighbours"), word, el("p.small", {}, "by cosine"), neighbours),
        el("div", {}, el("h3", {}, "Analogies"), el("div.controls", {}, boxes), answers, examples)),
      grouped.length ? el("div", {}, el("h3", {}, "A map of some words"), lab.legend(grouped.map(([name], k) => ({ name, color: lab.color(k), dot: true }))), map(grouped)) : "",
      el("p.small", {}, `The page carries ${words.length.toLocaleString("en")} of the model's ${model.vocabulary.toLocaleString("en")} words, so answers come from these. Analogies are 3CosAdd: the word nearest to b − a + c.`));
    showNeighbours(); showAnswer();

    // words in the plane of their two principal components; a label that would cover another moves or is left out
    function map(groups) {
      const members = groups.flatMap(([, names], k) => names.map(name => ({ name, k, at: vector(find(name)) })));
      const cosines = members.map(a => members.map(b => a.at.reduce((sum, value, d) => sum + value * b.at[d], 0)));
      const points = lab.plane(cosines), wide = 860, tall = 520, pad = 20;
      const range = axis => { const values = points.map(point => point[axis]); return [Math.min(...values), Math.max(...values)]; };
      const [x0, x1] = range(0), [y0, y1] = range(1), taken = [];
      const px = points.map(([a, b]) => [pad + (a - x0) / (x1 - x0 || 1) * (wide - 2 * pad - 70), pad + (y1 - b) / (y1 - y0 || 1) * (tall - 2 * pad)]);
      const free = box => taken.every(other => box[0] > other[2] || box[2] < other[0] || box[1] > other[3] || box[3] < other[1]);
      px.forEach(([x, y]) => taken.push([x - 4, y - 4, x + 4, y + 4]));
      let hidden = 0;
      const marks = members.map((member, i) => {
        const [x, y] = px[i], w = lab.width(member.name);
        const spots = [[x + 7, y + 4, "start"], [x - 7, y + 4, "end"], [x, y - 8, "middle"], [x, y + 17, "middle"], [x + 7, y - 6, "start"], [x + 7, y + 15, "start"],
          // farther away, with a line to the point
          ...[22, 36, 50].flatMap(far => [[x + far, y - far / 2, "start", 1], [x - far, y - far / 2, "end", 1], [x + far, y + far / 2, "start", 1], [x - far, y + far / 2, "end", 1], [x, y - far, "middle", 1], [x, y + far, "middle", 1]])];
        const spot = spots.find(([a, b, anchor]) => { const from = anchor === "start" ? a : anchor === "end" ? a - w : a - w / 2; return from > 0 && from + w < wide && b > 14 && b < tall - 6 && free([from, b - 11, from + w, b + 3]); });
        if (spot) { const from = spot[2] === "start" ? spot[0] : spot[2] === "end" ? spot[0] - w : spot[0] - w / 2; taken.push([from, spot[1] - 11, from + w, spot[1] + 3]); } else hidden++;
        return [spot && spot[3] ? svg("line.rule", { x1: x, y1: y, x2: spot[0], y2: spot[1] - (spot[1] < y ? -3 : 10) }) : null,
          svg("circle", { cx: x, cy: y, r: 4, fill: lab.color(member.k) }, svg("title", {}, member.name)), spot ? svg("text", { x: spot[0], y: spot[1], "text-anchor": spot[2] }, member.name) : null];
      });
      return el("div", {}, lab.scroll(svg("svg", { width: wide, height: tall, role: "img", "aria-label": `Map of ${members.length} words by their two principal components: ${groups.map(([name]) => name).join(", ")}.` },
        svg("rect.frame", { x: .5, y: .5, width: wide - 1, height: tall - 1, rx: 6 }), marks)),
        hidden ? el("p.small", {}, `${hidden} of the points ${hidden === 1 ? "has" : "have"} no room for a word; point at one to read it.`) : null);
    }
  }
};
