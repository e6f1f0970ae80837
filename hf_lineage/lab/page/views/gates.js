// View b: units by tokens as a picture, the text coloured by the chosen units, one unit's gates as lines, and a search
// for other places where the same units are active.
lab.views.gates = function (body, data) {
  const place = el("div");
  if (data.models.length > 1) body.append(el("div.controls", {}, lab.choice("model", data.models.map(one => one.name), index => drawModel(data.models[index]))));
  body.append(place);
  drawModel(data.models[0]);

  function drawModel(model) {
    const { tokens } = model, wide = 15, top = 96;
    const kinds = Object.keys(model.layers[0].values), memory = "state";
    let layer = model.layers.length - 1, kind = kinds.includes("tanh(cell)") ? "tanh(cell)" : "state", switched = true, unit = 0, range = [0, 0], anchor = null, least = 0.3;
    let values, active = [], buttons = [];

    const canvas = el("canvas", { role: "img", tabindex: -1, click: event => {
      const box = canvas.getBoundingClientRect(), tall = box.height / values[kind].shape[1];
      chooseUnit(Math.floor((event.clientY - box.top) / tall));
    }, mousemove: event => {
      const box = canvas.getBoundingClientRect(), tall = box.height / values[kind].shape[1];
      const t = Math.min(Math.floor((event.clientX - box.left) / wide), tokens.length - 1), u = Math.min(Math.floor((event.clientY - box.top) / tall), values[kind].shape[1] - 1);
      readout.textContent = `${kind} of unit ${units()[u]} at “${word(t)}”: ${values[kind].at(t, u).toFixed(2)}`;
    } });
    const readout = el("p.readout", { "aria-live": "polite" }, " "), heads = el("div"), text = el("p.words", { role: "group", "aria-label": "The text, one button per token" });
    const lines = el("div"), found = el("div"), chosenUnits = el("p");
    const number = el("input", { type: "number", min: 0, change: () => chooseUnit(Math.max(0, units().indexOf(+number.value))) });
    const units = () => model.layers[layer].units;

    const kindBox = lab.choice("what the picture shows", kinds, index => { kind = kinds[index]; paint(); }, kinds.indexOf(kind));
    place.replaceChildren(
      el("div.controls", {},
        model.layers.length > 1 ? lab.choice("layer", model.layers.map((_, index) => String(index + 1)), index => { layer = index; unit = 0; load(); }, layer) : null,
        kindBox),
      el("p.small", {}, `Each row is one of ${model.layers[layer].units.length < model.all_units ? `the ${model.layers[layer].units.length} most variable units of ${model.all_units}` : `${model.all_units} units`}, each column a token. Click a row to choose its unit. Blue is positive (a gate: open), orange negative.`),
      lab.scroll(heads, canvas), readout,
      el("h3", {}, "One unit"),
      el("div.controls", {}, el("div", {}, el("label.label", {}, "unit", " ", number))),
      lines,
      el("h3", {}, "Where else?"),
      el("p.small", {}, `The text below is coloured by the ${memory} of the chosen unit. Choose a stretch of it: click its first token and then its last (keyboard: arrow keys and Enter).`),
      text,
      el("div.controls", {}, lab.slider("a unit counts as active from", { min: 0.1, max: 0.9, step: 0.05, value: least }, value => `${Math.round(value * 100)} % of the largest value`, value => { least = value; search(); }),
        el("label", {}, el("input", { type: "checkbox", checked: true, change: event => { switched = event.target.checked; search(); } }), " only units that the first token of the stretch switches on")),
      chosenUnits, found);
    load();

    function word(t) { return lab.tokenText(tokens[t]); }
    function load() {
      values = Object.fromEntries(Object.entries(model.layers[layer].values).map(([name, packed]) => [name, lab.unpack(packed)]));
      // the unit that changes most
      const of = values[memory], size = of.shape[1];
      let most = -1;
      for (let u = 0; u < size; u++) {
        let change = 0;
        for (let t = 1; t < of.shape[0]; t++) change += Math.abs(of.at(t, u) - of.at(t - 1, u));
        if (change > most) [most, unit] = [change, u];
      }
      // and the word that switches it on most
      let jump = -1;
      for (let t = 1; t < of.shape[0]; t++) {
        const rise = Math.abs(of.at(t, unit)) - Math.abs(of.at(t - 1, unit));
        if (rise > jump && !tokens[t].joins && !tokens[t].special) { jump = rise; range = whole(t, t); }
      }
      paint(); chooseUnit(unit); search();
    }
    function paint() {
      const of = values[kind], [length, size] = of.shape, tall = Math.max(1, Math.min(4, Math.round(320 / size)));
      heads.replaceChildren(svg("svg", { width: length * wide + 40, height: top, "aria-hidden": "true" },
        tokens.map((token, t) => svg(token.special ? "text.soft" : "text", { transform: `translate(${t * wide + wide / 2 + 4} ${top - 4}) rotate(-70)`, style: "font-size: 12px" }, shortened(lab.wordAt(tokens, t), 13)))));
      canvas.width = length; canvas.height = size;
      canvas.style = `width: ${length * wide}px; height: ${size * tall}px; cursor: pointer; border: 1px solid var(--line)`;
      canvas.setAttribute("aria-label", `${kind} of ${size} units over ${length} tokens; the field “unit” below chooses one.`);
      const draw = canvas.getContext("2d"), [plus, minus] = [lab.rgb("--accent"), lab.rgb("--warm")];
      draw.clearRect(0, 0, length, size);
      const bound = Math.max(Math.abs(of.low), Math.abs(of.high));
      for (let t = 0; t < length; t++) for (let u = 0; u < size; u++) {
        const value = of.at(t, u) / bound;
        draw.fillStyle = value < 0 ? minus : plus;
        draw.globalAlpha = Math.min(1, Math.abs(value) ** 0.8);
        draw.fillRect(t, u, 1, 1);
      }
    }
    function chooseUnit(u) {
      unit = Math.min(u, units().length - 1);
      number.value = units()[unit];
      number.max = units()[units().length - 1];
      const [from, to] = stretch();
      const shownKinds = kinds.filter(name => name !== "candidate");
      lines.replaceChildren(lab.legend(shownKinds.map((name, index) => ({ name, color: lab.color(index) }))), lab.lines({
        width: Math.max(420, (to - from) * 22 + 90), height: 300, dots: true,
        series: shownKinds.map((name, index) => ({ name, color: lab.color(index), points: Array.from({ length: to - from }, (_, i) => [i, values[name].at(from + i, unit)]) })),
        xLabels: tokens.slice(from, to).map((_, i) => lab.wordAt(tokens, from + i)),
        alt: `Gates and ${memory} of unit ${units()[unit]} over ${to - from} tokens.`,
      }));
      paintText();
    }
    // some tokens around the chosen range
    function stretch() {
      const from = Math.max(0, range[0] - 8);
      return [from, Math.min(tokens.length, from + 34)];
    }
    function paintText() {
      const of = values[memory], bound = Math.max(Math.abs(of.low), of.high);
      if (!buttons.length) {
        buttons = tokens.map((token, t) => el(token.joins ? "button.word.joins" : "button.word", { type: "button", tabindex: t === range[0] ? 0 : -1,
          click: () => pick(t),
          keydown: event => {
            const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key], next = step && buttons[t + step];
            if (!next) return;
            event.preventDefault();
            event.currentTarget.tabIndex = -1; next.tabIndex = 0; next.focus();
          } }, word(t)));
        text.append(...lab.inWords(tokens, buttons));
      }
      buttons.forEach((button, t) => {
        const value = of.at(t, unit) / bound;
        button.style.background = `color-mix(in srgb, var(${value < 0 ? "--warm" : "--accent"}) ${Math.round(Math.abs(value) * 45)}%, transparent)`;
        button.setAttribute("aria-pressed", t >= range[0] && t <= range[1]);
        button.title = `${memory} ${of.at(t, unit).toFixed(2)}`;
      });
    }
    // the stretch with its first and last word whole
    function whole(from, to) {
      while (tokens[from].joins) from--;
      while (to + 1 < tokens.length && tokens[to + 1].joins) to++;
      return [from, to];
    }
    function pick(t) {
      if (anchor === null) { anchor = t; range = whole(t, t); }
      else { range = whole(Math.min(anchor, t), Math.max(anchor, t)); anchor = null; }
      chooseUnit(unit); search();
    }
    function search() {
      const of = values[memory], bound = Math.max(Math.abs(of.low), of.high), size = of.shape[1];
      const on = (t, u) => { const value = of.at(t, u) / bound; return Math.abs(value) < least ? 0 : Math.sign(value); };
      // active at every token of the stretch, with one sign
      active = [];
      for (let u = 0; u < size; u++) {
        const sign = on(range[0], u);
        let holds = sign !== 0;
        for (let t = range[0]; t <= range[1] && holds; t++) holds = on(t, u) === sign;
        if (switched && range[0] > 0 && on(range[0] - 1, u) === sign) holds = false;
        if (holds) active.push([u, sign]);
      }
      const phrase = (from, to) => joined(...whole(from, to)), joined = (a, b) => tokens.slice(a, b + 1).reduce((sum, token, i) => sum + (token.joins && i ? "" : " ") + word(a + i), "").trim();
      chosenUnits.replaceChildren(active.length ? `${active.length} ${active.length === 1 ? "unit is" : "units are"} active throughout “${phrase(...range)}”: ` : `No such unit is active throughout “${phrase(...range)}”; choose a shorter stretch or a lower bound.`,
        ...active.slice(0, 24).flatMap(([u]) => [el("button.pill", { type: "button", click: () => chooseUnit(u) }, String(units()[u])), " "]));
      // other stretches of the same length, by how many of these units are active throughout
      const span = range[1] - range[0] + 1, matches = [];
      for (let start = 0; active.length && start + span <= tokens.length; start++) {
        if ((start + span > range[0] && start <= range[1]) || tokens[start].joins) continue;
        const held = active.filter(([u, sign]) => { for (let t = start; t < start + span; t++) if (on(t, u) !== sign) return false;
          return !switched || start === 0 || on(start - 1, u) !== sign; }).length;
        if (held) matches.push({ start, held });
      }
      const inContext = (from, to) => [from ? `… ${phrase(Math.max(0, from - 4), from - 1)} ` : "", el("b", {}, joined(from, to)),
        to + 1 < tokens.length ? ` ${phrase(to + 1, Math.min(tokens.length - 1, to + 4))} …` : ""];
      matches.sort((a, b) => b.held - a.held || a.start - b.start);
      const apart = [];
      for (const match of matches) if (apart.length < 8 && apart.every(other => Math.abs(other.start - match.start) >= span)) apart.push(match);
      found.replaceChildren(active.length ? el("table", {}, el("caption", {}, "Other places where most of them are active"),
        el("tbody", {}, apart.map(({ start, held }) => el("tr", {}, el("td.number.nowrap", {}, `${held} of ${active.length}`),
          el("td", {}, ...inContext(start, whole(start, start + span - 1)[1])))))) : "");
    }
    lab.redraw.push(() => { if (canvas.isConnected) paint(); });
  }
};
