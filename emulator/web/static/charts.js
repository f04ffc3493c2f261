// Curves of values that arrive again and again.
"use strict";
(() => {
  const COLORS = ["--c1", "--c2", "--c3", "--c4", "--c5", "--c6", "--c7", "--c8"];

  function token(name) {
    return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  }

  function shown(value) {
    if (value === null || value === undefined) return "–";
    const size = Math.abs(value);
    if (size !== 0 && (size < 1e-3 || size >= 1e7)) return value.toExponential(2);
    return String(Number(value.toPrecision(5)));
  }

  function axisTime(seconds) {
    if (Math.abs(seconds) < 60) return `${Number(seconds.toFixed(1))}s`;
    if (Math.abs(seconds) < 3600) return `${Number((seconds / 60).toFixed(1))}m`;
    return `${Number((seconds / 3600).toFixed(1))}h`;
  }

  // One plot: several lines over the same x, each with points of its own.
  class Chart {
    constructor(parent, title, options) {
      this.title = title;
      this.options = options; // {log, points, percent, sync}
      this.lines = new Map(); // by label: {at: [], values: []}
      this.zoomed = false;
      this.frame = document.createElement("figure");
      this.frame.className = "chart";
      const caption = document.createElement("figcaption");
      const name = document.createElement("span");
      name.textContent = title;
      this.last = document.createElement("output");
      caption.append(name, this.last);
      this.place = document.createElement("div");
      this.place.className = "plot";
      this.frame.append(caption, this.place);
      parent.append(this.frame);
      this.plot = null;
      this.asked = false;
      new ResizeObserver(() => this.resize()).observe(this.place);
    }

    add(label, at, values) {
      let line = this.lines.get(label);
      if (!line) {
        line = { at: [], values: [] };
        this.lines.set(label, line);
        const order = new Intl.Collator(undefined, { numeric: true }).compare;
        this.lines = new Map([...this.lines].sort(([one], [other]) => order(one, other)));
        this.drop();
      }
      for (let n = 0; n < at.length; n++) {
        line.at.push(at[n]);
        line.values.push(values[n]);
      }
      this.draw();
    }

    // Draw once for all that came in this moment.
    draw() {
      if (this.asked) return;
      this.asked = true;
      requestAnimationFrame(() => {
        this.asked = false;
        this.drawNow();
      });
    }

    drop() {
      if (this.plot) this.plot.destroy();
      this.plot = null;
      this.zoomed = false;
    }

    data() {
      const tables = [...this.lines.values()].map((line) => {
        const x = this.options.points ? line.values.map((_, n) => n + 1) : line.at;
        const y = this.options.log ? line.values.map((v) => (v > 0 ? v : null)) : line.values;
        return [x, y];
      });
      if (tables.length === 1) return tables[0];
      return uPlot.join(tables.map(distinct));
    }

    drawNow() {
      if (!this.lines.size) return;
      const data = this.data();
      const ends = [...this.lines.values()].map((line) => shown(line.values.at(-1)));
      this.last.textContent = ends.length > 3 ? "" : ends.join("  ");
      this.frame.dataset.count = [...this.lines.values()].reduce((n, l) => n + l.values.length, 0);
      if (this.plot) {
        this.plot.setData(data, !this.zoomed);
        if (this.zoomed) this.plot.redraw();
        return;
      }
      const width = Math.max(200, this.place.clientWidth);
      const grid = { stroke: token("--line"), width: 1 };
      const axis = { stroke: token("--dim"), grid, ticks: grid, font: "11px system-ui", size: 30 };
      const several = this.lines.size > 1;
      this.plot = new uPlot({
        width,
        height: 210,
        cursor: {
          sync: this.options.sync ? { key: this.options.sync } : undefined,
          drag: { x: true, y: false },
          points: { size: 6 },
        },
        legend: { show: true, live: true },
        scales: {
          x: { time: Boolean(this.options.clock) },
          y: {
            distr: this.options.log ? 3 : 1,
            range: this.options.percent && !this.options.log
              ? (_, low, high) => [0, Math.max(10, high * 1.05)]
              : undefined,
          },
        },
        axes: [
          this.options.clock ? axis
            : { ...axis, values: (_, ticks) => ticks.map((t) => (this.options.points ? t : axisTime(t))) },
          { ...axis, size: 56, values: (_, ticks) => ticks.map((t) => (t === null ? "" : shown(t))) },
        ],
        series: [
          { label: this.options.points ? "point" : "time",
            value: (_, v) => (v === null ? "–" : this.options.points ? v
              : this.options.clock ? new Date(v * 1000).toLocaleTimeString() : axisTime(v)) },
          ...[...this.lines.keys()].map((label, n) => ({
            label: several ? label : "value",
            stroke: token(COLORS[n % COLORS.length]),
            width: 1.5,
            dash: n >= COLORS.length ? [6, 4] : undefined,
            spanGaps: true,
            points: { show: data[0].length < 60, size: 4 },
            value: (_, v) => shown(v),
          })),
        ],
        hooks: {
          setScale: [(plot, key) => {
            if (key !== "x") return;
            const all = plot.data[0];
            const { min, max } = plot.scales.x;
            this.zoomed = min > all[0] || max < all[all.length - 1];
            this.frame.dataset.zoom = this.zoomed ? `${min} ${max}` : "";
          }],
        },
      }, data, this.place);
      this.place.querySelector("canvas").setAttribute("aria-hidden", "true");
      this.place.setAttribute("role", "img");
      this.place.setAttribute("aria-label", `${this.title}: ${ends.join(", ")} at the end`);
    }

    resize() {
      const width = this.place.clientWidth;
      if (this.plot && width > 0 && width !== this.plot.width) {
        this.plot.setSize({ width, height: 210 });
      }
    }

    set(options) {
      Object.assign(this.options, options);
      this.drop();
      this.draw();
    }
  }

  // Lines are joined by their x: of several values at one moment the last is kept there.
  function distinct([x, y]) {
    const xs = [], ys = [];
    for (let n = 0; n < x.length; n++) {
      if (n && x[n] === xs[xs.length - 1]) ys[ys.length - 1] = y[n];
      else { xs.push(x[n]); ys.push(y[n]); }
    }
    return [xs, ys];
  }

  class Charts {
    constructor(section, options) {
      this.section = section;
      this.parent = section.querySelector("[data-charts]");
      this.empty = section.querySelector("[data-empty]");
      this.options = options;
      this.byTitle = new Map();
      for (const box of section.querySelectorAll('input[name="log"], input[name="time"]')) {
        box.addEventListener("change", () => {
          const chosen = box.name === "log" ? { log: box.checked } : { points: !box.checked };
          this.options = { ...this.options, ...chosen };
          for (const chart of this.byTitle.values()) chart.set(chosen);
        });
      }
      document.addEventListener("theme", () => {
        for (const chart of this.byTitle.values()) chart.set({});
      });
    }

    chart(title) {
      if (this.empty) this.empty.hidden = true;
      if (!this.byTitle.has(title)) {
        this.byTitle.set(title, new Chart(this.parent, title, { ...this.options }));
      }
      return this.byTitle.get(title);
    }
  }

  // Ask for values behind a cursor until there are no more; never twice at a time.
  class Feed {
    constructor(url, take) {
      this.url = url;
      this.take = take;
      this.cursor = 0;
      this.busy = false;
      this.again = false;
    }

    async pull() {
      if (this.busy) {
        this.again = true;
        return;
      }
      this.busy = true;
      try {
        do {
          this.again = false;
          const found = await emulator.ask(`${this.url}&after=${this.cursor}`);
          this.cursor = found.cursor;
          this.take(found.series);
          if (found.more) this.again = true;
        } while (this.again);
      } catch (error) {
        console.info(`No values: ${error.message}`);
      } finally {
        this.busy = false;
      }
    }
  }

  window.Charts = Charts;
  window.Feed = Feed;
})();
