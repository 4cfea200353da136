"use strict";
// The four charts of the page, on uPlot. Each is made once and given new data; a change of theme
// makes them anew, since uPlot takes its colours at the start.

const Charts = (() => {
  const made = new Map(); // element id -> {plot, signature}
  const utc = (seconds) => uPlot.tzDate(new Date(seconds * 1000), "Etc/UTC");
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  function axes(format, right) {
    const plain = { stroke: colour("--muted"), font: "11px system-ui", grid: { stroke: colour("--line"), width: 1 },
      ticks: { stroke: colour("--line"), width: 1 } };
    const list = [{ ...plain, size: 40, values: (_, at, __, ___, step) => at.map((one, number) => time(one, number, step)) }, { ...plain, scale: "y", size: 58, values: (_, at) => at.map(format) }];
    if (right) list.push({ ...plain, scale: right, side: 1, size: 52, grid: { show: false },
      values: (_, at) => at.map(short) });
    return list;
  }

  function time(seconds, number, step) {
    const text = new Date(seconds * 1000).toISOString();
    return text.slice(11, step < 60 ? 19 : 16) + (number === 0 ? `\n${text.slice(0, 10)}` : "");
  }

  function short(value) {
    const size = Math.abs(value);
    if (size >= 1e6) return `${+(value / 1e6).toFixed(1)}M`;
    if (size >= 1e4) return `${+(value / 1e3).toFixed(0)}k`;
    return `${+value.toFixed(2)}`;
  }

  const line = (name, width = 1.6, more = {}) =>
    ({ stroke: colour(name), width, spanGaps: true, points: { show: false }, ...more });

  const fromZero = { y: { range: (_, low, high) => [0, Math.max(high ?? 0, 1) * 1.06] } };

  // Draws `data` ([x, ...series]) into the element `id`, or `empty` when there is nothing to draw.
  function draw(id, data, empty, options) {
    const holder = document.getElementById(id);
    const signature = options.signature ?? "";
    let entry = made.get(id);
    const nothing = !data || data[0].length === 0;
    if (entry && (nothing || entry.signature !== signature)) {
      entry.plot.destroy();
      made.delete(id);
      entry = undefined;
    }
    if (nothing) {
      const text = document.createElement("div");
      text.className = "empty";
      text.textContent = empty;
      holder.replaceChildren(text);
      return;
    }
    if (entry) {
      entry.marks.list = options.marks ?? [];
      entry.plot.setData(data);
      return;
    }
    holder.replaceChildren();
    const marks = { list: options.marks ?? [] };
    const plot = new uPlot({
      width: holder.clientWidth, height: holder.clientHeight, tzDate: utc,
      padding: [8, 18, 0, 0],
      cursor: { drag: { x: true, y: false }, points: { size: 5 } },
      hooks: { draw: [(self) => mark(self, marks.list)], setCursor: [(self) => tip(self, options.tip)] },
      scales: { x: { time: true }, ...(options.scales ?? fromZero) },
      series: [{}, ...options.series()],
      bands: options.bands ? options.bands() : [],
      axes: axes(options.format ?? short, options.right),
    }, data, holder);
    made.set(id, { plot, signature, marks });
  }

  // Vertical lines at decisions: {x, label, colour}.
  function mark(self, list) {
    const { ctx, bbox } = self;
    const scale = devicePixelRatio;
    ctx.save();
    ctx.font = `${11 * scale}px system-ui`;
    ctx.textAlign = "left";
    list.forEach((one, at) => {
      if (one.x < self.scales.x.min || one.x > self.scales.x.max) return;
      const x = Math.round(self.valToPos(one.x, "x", true));
      ctx.strokeStyle = ctx.fillStyle = colour(one.colour);
      ctx.globalAlpha = .8;
      ctx.setLineDash([4 * scale, 3 * scale]);
      ctx.beginPath();
      ctx.moveTo(x, bbox.top);
      ctx.lineTo(x, bbox.top + bbox.height);
      ctx.stroke();
      ctx.fillText(one.label, x + 3 * scale, bbox.top + (11 + 13 * (at % 3)) * scale);
    });
    ctx.restore();
  }

  function tip(self, describe) {
    const at = self.cursor.idx;
    self.root.title = at == null || !describe ? "" : describe(self.data.map((one) => one[at]));
  }

  function resize() {
    for (const [id, { plot }] of made) {
      const holder = document.getElementById(id);
      plot.setSize({ width: holder.clientWidth, height: holder.clientHeight });
    }
  }

  function forget() {
    for (const { plot } of made.values()) plot.destroy();
    made.clear();
  }

  return { draw, line, colour, short, resize, forget, fromZero };
})();
