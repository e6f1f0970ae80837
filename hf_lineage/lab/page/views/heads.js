// View e: thumbnails of all heads; the chosen head as a matrix and as lines between words.
lab.views.heads = function (body, data) {
  const controls = el("div.controls"), place = el("div");
  body.append(controls, place);
  let model = 0;
  const drawModel = () => {
    const maps = data.models[model].maps;
    place.replaceChildren();
    const inner = el("div");
    if (maps.length > 1) {
      const start = maps.length - 1;
      place.append(lab.choice("attention", maps.map(map => map.title), index => drawMap(maps[index]), start), inner);
      drawMap(maps[start]);
    } else { place.append(inner); drawMap(maps[0]); }

    function drawMap(map) {
      const weights = lab.unpack(map.weights), [layers, heads, , ] = weights.shape;
      let chosen = [layers - 1, 0];
      const thumbs = el("div.thumbs", { style: `grid-template-columns: max-content repeat(${heads}, max-content)`, role: "group", "aria-label": "layers and heads" });
      const large = el("div.columns"), buttons = [];
      const cell = Math.max(1, Math.min(5, Math.floor(72 / Math.max(map.rows.length, map.columns.length))));
      for (let layer = 0; layer < layers; layer++) {
        thumbs.append(el("span.small", {}, `layer ${layer + 1}`));
        for (let head = 0; head < heads; head++) {
          const canvas = el("canvas", { width: map.columns.length, height: map.rows.length,
            style: `width: ${map.columns.length * cell}px; height: ${map.rows.length * cell}px` });
          const button = el("button", { type: "button", "aria-label": `layer ${layer + 1}, head ${head + 1}`,
            "aria-pressed": "false", click: () => show(layer, head) }, canvas);
          buttons.push({ button, canvas, layer, head });
          thumbs.append(button);
        }
      }
      const paint = () => {
        for (const { canvas, layer, head } of buttons) {
          const draw = canvas.getContext("2d");
          draw.clearRect(0, 0, canvas.width, canvas.height);
          draw.fillStyle = lab.rgb("--accent");
          for (let r = 0; r < map.rows.length; r++) for (let c = 0; c < map.columns.length; c++) {
            draw.globalAlpha = weights.at(layer, head, r, c);
            draw.fillRect(c, r, 1, 1);
          }
        }
      };
      const show = (layer, head) => {
        chosen = [layer, head];
        for (const one of buttons) one.button.setAttribute("aria-pressed", one.layer === layer && one.head === head);
        const weight = (r, c) => weights.at(layer, head, r, c);
        large.replaceChildren(
          el("div", {}, el("h3", {}, `Layer ${layer + 1}, head ${head + 1}`), lab.matrix({
            rows: map.rows, columns: map.columns, value: weight,
            say: (r, c) => `“${map.rows[r]}” looks at “${map.columns[c]}” with ${lab.percent(weight(r, c))} of its attention`,
            alt: `Attention of layer ${layer + 1}, head ${head + 1}: each row is a word that looks, each column a word that is looked at.`,
          })),
          el("div", {}, el("h3", {}, "The same as lines"), lines(map, weight)));
      };
      paint();
      lab.redraw.push(paint);
      inner.replaceChildren(el("h3", {}, "All heads"), lab.scroll(thumbs), large);
      show(...chosen);
    }
  };
  if (data.models.length > 1) controls.append(lab.choice("model", data.models.map(one => one.name), index => { model = index; drawModel(); }));
  drawModel();

  // two columns of words; a line is as strong as its weight, and pointing at a word shows its lines alone
  function lines(map, weight) {
    const step = 24, gap = 150, left = Math.max(...map.rows.map(name => lab.width(lab.markText(name)))) + 10;
    const right = Math.max(...map.columns.map(name => lab.width(lab.markText(name)))) + 10;
    const width = left + gap + right, height = Math.max(map.rows.length, map.columns.length) * step + 8;
    const y = index => 12 + index * step;
    const strokes = [], rowNames = map.rows.map(lab.markText), columnNames = map.columns.map(lab.markText);
    const focus = row => strokes.forEach(one => one.line.setAttribute("visibility", row === null || one.row === row ? "visible" : "hidden"));
    map.rows.forEach((_, r) => map.columns.forEach((_, c) => {
      const w = weight(r, c);
      if (w > 0.02) strokes.push({ row: r, line: svg("line", { x1: left, y1: y(r), x2: left + gap, y2: y(c), stroke: "var(--accent)", "stroke-width": 2, "stroke-opacity": w.toFixed(3) }) });
    }));
    const names = rowNames.map((name, r) => svg("text", { x: left - 7, y: y(r) + 4, "text-anchor": "end", tabindex: 0, role: "button", "aria-label": `lines of ${name}`,
      mouseenter: () => focus(r), mouseleave: () => focus(null), focus: () => focus(r), blur: () => focus(null) }, name));
    return lab.scroll(svg("svg", { width, height, role: "group", "aria-label": "The same weights as lines from the words that look (left) to the words they look at (right)." },
      strokes.map(one => one.line), names, columnNames.map((name, c) => svg("text", { x: left + gap + 7, y: y(c) + 4 }, name))));
  }
};
