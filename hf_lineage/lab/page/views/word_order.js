// View i: bits per token of each order, a row per model, a dot per order.
lab.views.word_order = function (body, data) {
  const place = el("div");
  if (data.examples.length > 1) body.append(el("div.controls", {}, lab.choice("words", data.examples.map(one => one.orders[0]), index => draw(data.examples[index]))));
  body.append(place);
  draw(data.examples[0]);

  function draw({ orders, rows }) {
    const names = rows.map(row => row.name + (row.positions ? "" : ", no positions") + (row.translation === undefined ? "" : " *"));
    const left = Math.max(...names.map(name => lab.width(name))) + 14, wide = 460, step = 30, top = 10;
    const all = rows.flatMap(row => row.bits), low = Math.floor(Math.min(...all)), high = Math.ceil(Math.max(...all));
    const x = bits => left + (bits - low) / (high - low || 1) * wide, height = top + rows.length * step + 40;
    const readout = el("p.readout", { "aria-live": "polite" }, " ");
    const kinds = ["var(--s0)", "var(--s1)", "var(--soft)"];
    const picture = svg("svg", { width: left + wide + 20, height, role: "group", "aria-label": `Bits per token of ${orders.length} orders of the words “${orders[0]}”; the table below has the numbers.` },
      ticksOf(low, high, 6).map(tick => [svg("line.rule", { x1: x(tick), x2: x(tick), y1: top, y2: top + rows.length * step }),
        svg("text.soft", { x: x(tick), y: top + rows.length * step + 18, "text-anchor": "middle" }, plain(tick))]),
      svg("text.soft", { x: left + wide / 2, y: height - 4, "text-anchor": "middle" }, "bits per token (less: more likely)"),
      rows.map((row, r) => [svg("text", { x: left - 10, y: top + r * step + step / 2 + 4, "text-anchor": "end" }, names[r]),
        // the two sensible orders are drawn last, above the shuffles
        row.bits.map((bits, o) => o).reverse().map(o => svg("circle", { cx: x(row.bits[o]), cy: top + r * step + step / 2 + (o === 0 ? -4 : o === 1 ? 4 : 0), r: o < 2 ? 5.5 : 4,
          fill: kinds[Math.min(o, 2)], "fill-opacity": o < 2 ? 1 : 0.45,
          mouseenter: () => { readout.textContent = `${names[r]}: “${orders[o]}” takes ${row.bits[o].toFixed(2)} bits per token`; } }))]));
    const mean = row => row.bits.slice(2).reduce((a, b) => a + b, 0) / (row.bits.length - 2);
    place.replaceChildren(
      lab.legend([{ name: orders[0], color: kinds[0], dot: true }, { name: orders[1], color: kinds[1], dot: true }, { name: `${orders.length - 2} shuffles`, color: kinds[2], dot: true }]),
      lab.scroll(picture), readout,
      lab.scroll(el("table", {}, el("caption", {}, "Bits per token; masked models: of the pseudo-log-likelihood"),
        el("thead", {}, el("tr", {}, el("th", { scope: "col" }, "model"), [orders[0], orders[1], "mean of the shuffles"].map(name => el("th.number", { scope: "col" }, name)))),
        el("tbody", {}, rows.map((row, r) => el("tr", {}, el("th", { scope: "row" }, names[r]), [row.bits[0], row.bits[1], mean(row)].map(bits => el("td.number", {}, bits.toFixed(2)))))))),
      rows.some(row => row.translation !== undefined) ? el("p.small", {}, "* of the model's translation of the first order, when it reads the words in the order shown: ",
        rows.filter(row => row.translation !== undefined && row.positions).map(row => `${row.name} “${row.translation}”`).join(", "), ".") : "",
      el("details", {}, el("summary.small", {}, "the shuffles"), el("ul.small", {}, orders.slice(2).map(order => el("li", {}, order)))));
  }
};
