// Curves of several jobs in one plot a metric, each counted from its start.
"use strict";
(() => {
  const section = document.getElementById("compare");
  const charts = new Charts(section, { log: false, points: true, sync: "compare" });
  const feeds = [...section.querySelectorAll("[data-job]")].map((item) => {
    const { job, url, started } = item.dataset;
    return new Feed(url, (series) => {
      for (const one of series) {
        const label = one.instance && one.instance !== "algo-1" ? `${job} ${one.instance}` : job;
        charts.chart(one.name).add(label, one.at.map((at) => at - Number(started)), one.values);
      }
    });
  });
  const pull = () => { for (const feed of feeds) feed.pull(); };
  pull();
  setInterval(() => { if (!document.hidden) pull(); }, 3000);
})();
