// Pictures that several views draw: a matrix with words on both sides, lines over an axis, a scatter of points.

let measuring = null;
// the width of a text in pixels
lab.width = function (text, size = 13) {
  measuring = measuring || document.createElement("canvas").getContext("2d");
  measuring.font = `${size}px system-ui, sans-serif`;
  return measuring.measureText(text).width;
};

const shortened = (text, most = 16) => text.length > most ? `${text.slice(0, most - 1)}…` : text;

// A matrix as cells whose darkness is |value(r, c)| (0 to 1); negative values have the warm colour.
// Arrow keys move a cursor; `say(r, c)` is written below. `chosen(r, c)` is called on a click or Enter, `marks` outline cells.
lab.matrix = function ({ rows, columns, value, say, alt, cell = 24, chosen = null, rowTitle = "", columnTitle = "", marked = () => false }) {
  const rowNames = rows.map(name => shortened(lab.markText(name))), columnNames = columns.map(name => shortened(lab.markText(name)));
  const left = Math.ceil(Math.max(0, ...rowNames.map(name => lab.width(name)))) + 10 + (rowTitle ? 18 : 0);
  const tilt = Math.sin(Math.PI / 3), long = Math.max(0, ...columnNames.map(name => lab.width(name)));
  const top = Math.ceil(long * tilt) + 14 + (columnTitle ? 18 : 0);
  const width = left + columns.length * cell + Math.ceil(long * 0.5) + 6, height = top + rows.length * cell + 4;
  const readout = el("p.readout", { "aria-live": "polite" }, " ");
  const cursor = svg("rect.cursor", { width: cell, height: cell, visibility: "hidden" });
  let [row, column] = [0, 0];
  const move = (r, c) => {
    [row, column] = [r, c];
    cursor.setAttribute("x", left + c * cell);
    cursor.setAttribute("y", top + r * cell);
    cursor.setAttribute("visibility", "visible");
    readout.textContent = say(r, c);
  };
  const place = event => {
    const box = picture.getBoundingClientRect();
    const c = Math.floor((event.clientX - box.left - left) / cell), r = Math.floor((event.clientY - box.top - top) / cell);
    return r >= 0 && r < rows.length && c >= 0 && c < columns.length ? [r, c] : null;
  };
  const cells = [];
  for (let r = 0; r < rows.length; r++) for (let c = 0; c < columns.length; c++) {
    const amount = value(r, c);
    if (amount === null) continue;
    if (Math.abs(amount) > 0.004) cells.push(svg(amount < 0 ? "rect.cell.minus" : "rect.cell",
      { x: left + c * cell, y: top + r * cell, width: cell - 1, height: cell - 1, "fill-opacity": Math.min(Math.abs(amount), 1).toFixed(3) }));
    if (marked(r, c)) cells.push(svg("rect.cursor", { x: left + c * cell + 1, y: top + r * cell + 1, width: cell - 3, height: cell - 3 }));
  }
  const picture = svg("svg.grid", {
    width, height, role: "img", tabindex: 0, "aria-label": `${alt} Arrow keys read single cells.`,
    mousemove: event => { const at = place(event); if (at) move(...at); },
    click: event => { const at = place(event); if (at) { move(...at); if (chosen) chosen(...at); } },
    keydown: event => {
      const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
      if (step) {
        event.preventDefault();
        move(Math.min(Math.max(row + step[0], 0), rows.length - 1), Math.min(Math.max(column + step[1], 0), columns.length - 1));
        if (chosen) chosen(row, column);
      } else if (event.key === "Enter" && chosen) chosen(row, column);
    },
  },
  rowNames.map((name, r) => svg("text", { x: left - 7, y: top + r * cell + cell / 2 + 4, "text-anchor": "end" }, name)),
  columnNames.map((name, c) => svg("text", { transform: `translate(${left + c * cell + cell / 2 + 3} ${top - 7}) rotate(-60)` }, name)),
  rowTitle ? svg("text.soft", { transform: `translate(12 ${top + rows.length * cell / 2}) rotate(-90)`, "text-anchor": "middle" }, rowTitle) : null,
  columnTitle ? svg("text.soft", { x: left, y: 12 }, columnTitle) : null,
  svg("rect.frame", { x: left - .5, y: top - .5, width: columns.length * cell, height: rows.length * cell }),
  cells, cursor);
  const band = svg("rect.cursor", { y: top, width: cell, height: rows.length * cell, visibility: "hidden" });
  picture.append(band);
  const box = el("div", {}, lab.scroll(picture), readout);
  // outlines a whole column
  box.mark = c => { band.setAttribute("x", left + c * cell); band.setAttribute("visibility", "visible"); };
  return box;
};

// round steps for an axis from low to high
function ticksOf(low, high, number = 5) {
  const rough = (high - low) / number, power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map(factor => factor * power).find(step => step >= rough);
  const ticks = [];
  for (let tick = Math.ceil(low / step - 1e-9) * step; tick <= high + step * 1e-9; tick += step) ticks.push(Math.abs(tick) < step / 1e6 ? 0 : tick);
  return ticks;
}
const powerOfTen = value => {
  const [digits, power] = value.toExponential(0).split("e");
  const raised = [...power.replace("+", "")].map(sign => "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"["-0123456789".indexOf(sign)]).join("");
  return `${digits === "1" ? "" : `${digits} · `}10${raised}`;
};
const plain = value => value === 0 ? "0" : Math.abs(value) >= 1e7 || Math.abs(value) < 1e-3
  ? powerOfTen(value) : Math.abs(value) >= 1e4 ? value.toLocaleString("en") : String(+value.toPrecision(3));

// Lines {name, color, points: [[x, y], …]} over axes, each linear or logarithmic (`log: {x, y}`); `xLabels` name places.
lab.lines = function ({ series, x, y, alt, log = {}, width = 520, height = 260, xLabels = null, yRange = null, dots = false }) {
  const points = series.flatMap(line => line.points).filter(([, value]) => value !== null && (!log.y || value > 0));
  if (!points.length) return el("p.absent", {}, "nothing to draw");
  const xs = points.map(point => point[0]), ys = points.map(point => point[1]);
  let [lowX, highX] = [Math.min(...xs), Math.max(...xs)];
  let [lowY, highY] = yRange || [Math.min(...ys), Math.max(...ys)];
  if (lowX === highX) highX = lowX + 1;
  if (log.y) [lowY, highY] = [Math.max(lowY, highY / 1e8), highY * 1.3];
  else if (!yRange) { const room = (highY - lowY || 1) * 0.06; lowY = lowY >= 0 && lowY < room * 8 ? 0 : lowY - room; highY += room; }
  const scale = (value, low, high, isLog) => isLog ? Math.log(value / low) / Math.log(high / low) : (value - low) / (high - low);
  const yTicks = log.y ? decades(lowY, highY) : ticksOf(lowY, highY);
  const left = Math.ceil(Math.max(...yTicks.map(tick => lab.width(plain(tick))))) + 28;
  const bottom = xLabels ? 16 + Math.max(...xLabels.map(name => lab.width(shortened(name)))) * 0.87 : 44, right = 14, top = 10;
  const px = value => left + scale(value, lowX, highX, log.x) * (width - left - right);
  const py = value => top + (1 - scale(Math.max(value, log.y ? lowY : -Infinity), lowY, highY, log.y)) * (height - top - bottom);
  const xTicks = xLabels ? [] : log.x ? [1, 2, 4, 8, 16, 32, 64, 128, 256, 512].filter(tick => tick >= lowX && tick <= highX) : ticksOf(lowX, highX, 6).filter(tick => !xs.every(Number.isInteger) || Number.isInteger(tick));
  const picture = svg("svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": alt },
    yTicks.map(tick => [svg("line.rule", { x1: left, x2: width - right, y1: py(tick), y2: py(tick) }),
      svg("text.soft", { x: left - 6, y: py(tick) + 4, "text-anchor": "end" }, plain(tick))]),
    xTicks.map(tick => [svg("line.rule", { x1: px(tick), x2: px(tick), y1: height - bottom, y2: height - bottom + 4 }),
      svg("text.soft", { x: px(tick), y: height - bottom + 18, "text-anchor": "middle" }, plain(tick))]),
    (xLabels || []).map((name, index) => svg("text", { transform: `translate(${px(index) + 4} ${height - bottom + 10}) rotate(-60)`, "text-anchor": "end" }, shortened(name))),
    x ? svg("text.soft", { x: (left + width - right) / 2, y: height - 4, "text-anchor": "middle" }, x) : null,
    y ? svg("text.soft", { transform: `translate(12 ${(height - bottom) / 2}) rotate(-90)`, "text-anchor": "middle" }, y) : null,
    series.map(line => {
      const drawn = line.points.filter(([, value]) => value !== null && (!log.y || value > 0));
      return [svg("path.series", { stroke: line.color, "stroke-dasharray": line.dashed ? "5 4" : null,
        d: drawn.map(([a, b], index) => `${index ? "L" : "M"}${px(a).toFixed(1)} ${py(b).toFixed(1)}`).join("") }),
      ...(dots ? drawn.map(([a, b]) => svg("circle", { cx: px(a), cy: py(b), r: 3.5, fill: line.color }, svg("title", {}, `${line.name}: ${plain(b)}`))) : [])];
    }));
  return lab.scroll(picture);
};

function decades(low, high) {
  const ticks = [];
  for (let power = Math.ceil(Math.log10(low)); power <= Math.log10(high); power++) ticks.push(10 ** power);
  return ticks.length > 7 ? ticks.filter((_, index) => index % 2 === 0) : ticks.length ? ticks : [low];
}

// Points [[x, y], …] with a number each and a colour; those that would overlap share one mark that names them all.
lab.scatter = function ({ points, names, colors, alt, size = 260 }) {
  const reach = Math.max(...points.flat().map(Math.abs), 1e-9), pad = 22;
  const at = points.map(([a, b]) => [pad + (a / reach + 1) / 2 * (size - 2 * pad), pad + (1 - b / reach) / 2 * (size - 2 * pad)]);
  // the centre of the plane is drawn in the middle
  const groups = at.map((place, index) => ({ place, members: [index] }));
  for (let merged = true; merged;) {
    merged = false;
    for (let i = 0; i < groups.length && !merged; i++) for (let j = i + 1; j < groups.length && !merged; j++) {
      const [a, b] = [groups[i], groups[j]];
      const wide = group => 8 + lab.width(label(group)) / 2;
      if (Math.abs(a.place[0] - b.place[0]) < wide(a) + wide(b) && Math.abs(a.place[1] - b.place[1]) < 20) {
        const members = [...a.members, ...b.members].sort((x, y) => x - y);
        groups[i] = { members, place: [0, 1].map(k => members.reduce((sum, m) => sum + at[m][k], 0) / members.length) };
        groups.splice(j, 1);
        merged = true;
      }
    }
  }
  function label(group) {
    // 1 2 3 5 -> "1–3 5"
    const runs = [];
    for (const member of group.members) {
      const last = runs[runs.length - 1];
      if (last && last[1] === member - 1) last[1] = member; else runs.push([member, member]);
    }
    return runs.map(([a, b]) => a === b ? names[a] : `${names[a]}${b > a + 1 ? "–" : " "}${names[b]}`).join(" ");
  }
  return svg("svg", { width: size, height: size, viewBox: `0 0 ${size} ${size}`, role: "img", "aria-label": alt },
    svg("rect.frame", { x: .5, y: .5, width: size - 1, height: size - 1, rx: 6 }),
    groups.map(group => {
      const text = label(group), half = Math.max(10, 7 + lab.width(text) / 2);
      const x = Math.min(Math.max(group.place[0], half + 3), size - half - 3), y = Math.min(Math.max(group.place[1], 13), size - 13);
      const shades = [...new Set(group.members.map(member => colors[member]))];
      return [svg("rect", { x: x - half, y: y - 10, width: 2 * half, height: 20, rx: 10, fill: shades.length === 1 ? shades[0] : "var(--soft)" }),
        svg("text", { x, y: y + 4.5, "text-anchor": "middle", style: "fill: var(--panel)" }, text)];
    }));
};

// The plane that keeps distances best: cosines [n][n] of unit vectors -> n points, by the two largest eigenvectors of
// the centred matrix (classical scaling), which are the principal components of the vectors.
lab.plane = function (cosines) {
  const n = cosines.length, mean = cosines.map(row => row.reduce((a, b) => a + b) / n), all = mean.reduce((a, b) => a + b) / n;
  const matrix = cosines.map((row, i) => row.map((value, j) => value - mean[i] - mean[j] + all));
  const axes = [];
  for (let axis = 0; axis < 2; axis++) {
    let vector = Array.from({ length: n }, (_, i) => Math.sin(i * (axis + 1) + 1)), length = 0;
    for (let round = 0; round < 300; round++) {
      const next = matrix.map(row => row.reduce((sum, value, j) => sum + value * vector[j], 0));
      length = Math.hypot(...next);
      if (length < 1e-9) break;
      vector = next.map(value => value / length);
    }
    if (length < 1e-9) { axes.push(Array(n).fill(0)); continue; }
    // the sign is free: the first point lies on the positive side
    const sign = vector[0] < 0 ? -1 : 1;
    axes.push(vector.map(value => sign * value * Math.sqrt(length)));
    for (let i = 0; i < n; i++) for (let j = 0; j < n; j++) matrix[i][j] -= length * vector[i] * vector[j];
  }
  return axes[0].map((value, i) => [value, axes[1][i]]);
};
