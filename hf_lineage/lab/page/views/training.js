// The stations of a training run: a table, learning curves, tables of scores, and samples.
lab.views.training = function (body, data) {
  const shown = value => value === null || value === undefined ? "–" : typeof value !== "number" ? String(value)
    : Number.isInteger(value) ? value.toLocaleString("en") : value.toLocaleString("en", { maximumFractionDigits: 2, minimumFractionDigits: 2 });
  const isNumber = value => typeof value === "number" || /^[\d.,]+%$/.test(value);
  // one alignment for a column, its dashes included
  const isNumeric = (rows, c) => rows.some(row => isNumber(row[c])) && rows.every(row => row[c] === null || row[c] === undefined || isNumber(row[c]));
  const table = ({ title, columns, rows, note }) => el("div", {}, title ? el("h3", {}, title) : null, note ? el("p.small", {}, note) : null,
    lab.scroll(el("table", {}, el("thead", {}, el("tr", {}, columns.map((name, c) => el(isNumeric(rows, c) ? "th.number" : "th", { scope: "col" }, name)))),
      el("tbody", {}, rows.map(row => el("tr", {}, row.map((value, c) => c ? el(isNumeric(rows, c) ? "td.number" : "td", {}, shown(value)) : el("th", { scope: "row" }, value))))))));
  body.append(table({ columns: ["station", "its new idea", "seconds", "result here"], rows: data.stations }));
  if (data.curves.length) {
    const colors = data.curves.map(curve => lab.modelColor(curve.name));
    body.append(el("h3", {}, "Loss while reading"), lab.legend(data.curves.map((curve, i) => ({ name: curve.name, color: colors[i] }))),
      lab.lines({ width: 640, height: 300, x: "training tokens", y: "loss per token, nats",
        series: data.curves.map((curve, i) => ({ name: curve.name, color: colors[i], points: curve.train })),
        alt: `Training loss by tokens read, of ${data.curves.map(curve => curve.name).join(", ")}.` }));
  }
  data.tables.forEach(one => body.append(table(one)));
  if (data.samples.length) {
    body.append(el("h3", {}, "What they write"), el("div.columns", {}, data.samples.map(sample => el("div.card", {}, el("h3", {}, sample.name),
      sample.texts.map(([prompt, continuation]) => el("p", {}, el("b", {}, prompt), continuation))))));
  }
};
