// View c: gradient and influence by distance, and the recall of a run of recipes/long_dependencies.py if one is given.
lab.views.gradients = function (body, data) {
  const lines = key => data.models.map(model => ({ name: model.name, color: lab.modelColor(model.name),
    points: key === "gradients" ? model.gradients.map((value, index) => [index + 1, value]) : model.influence }));
  const far = model => model.gradients[Math.min(19, model.gradients.length - 1)] / model.gradients[0];
  // beside each other where there is room
  const width = data.recall ? 350 : 520;
  const columns = el(data.recall ? "div.columns.three" : "div.columns", {},
    el("div", {}, el("h3", {}, "Gradient of the last word's loss"), lab.lines({ series: lines("gradients"), log: { x: true, y: true }, width,
      x: "tokens back", y: "length of the gradient", alt: `Gradient by distance for ${lab.names.join(", ")}.` })),
    el("div", {}, el("h3", {}, "Change of the prediction"), lab.lines({ series: lines("influence"), log: { x: true }, dots: true, width,
      x: "tokens back", y: "nats", alt: "How much the last word's log-probability changes if the word that far back is another one." })));
  body.append(lab.legend(data.models.map(model => ({ name: model.name, color: lab.modelColor(model.name) }))), columns);
  if (data.recall) {
    const stations = Object.entries(data.recall).map(([name, gaps], index) =>
      ({ name, color: lab.names.includes(name) ? lab.modelColor(name) : lab.color(lab.names.length + index), points: Object.entries(gaps).map(([gap, recall]) => [Number(gap), recall]) }));
    columns.append(el("div", {}, el("h3", {}, "Recall after a gap"), lab.lines({ series: stations, log: { x: true }, dots: true, width,
      x: "symbols in the gap", y: "recall", alt: `Recall by gap for ${stations.map(({ name }) => name).join(", ")}.` }), lab.legend(stations),
      el("p.small", {}, "Not the models of this page: networks of the same stations, trained to name one of 8 symbols after a gap (recipes/long_dependencies.py).")));
  }
  body.append(lab.scroll(el("table", {}, el("caption", {}, "The gradient twenty tokens back, compared with that of the last token"),
    el("tbody", {}, data.models.map(model => el("tr", {}, el("th", { scope: "row" }, model.name),
      el("td.number", {}, far(model) === 0 ? "0" : far(model) < 1e-4 ? powerOfTen(far(model)) : far(model).toFixed(4))))))));
  body.append(el("p.small", {}, `Means over ${data.models[0].windows} stretches of one passage. Both axes of the left picture are logarithmic.`));
};
