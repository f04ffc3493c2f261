// The page of one endpoint: figures of its requests, its logs, and a box to send one.
"use strict";
(() => {
  const metrics = document.getElementById("metrics");
  const scope = metrics.dataset.scope;
  const charts = new Charts(metrics, { points: false, clock: true, sync: "endpoint" });
  const feed = new Feed(`${metrics.dataset.url}?${scope}`, (series) => {
    for (const one of series) charts.chart(one.name).add(one.instance, one.at, one.values);
  });
  const log = new Log(document.getElementById("log"));
  feed.pull();

  let points = 0;
  document.addEventListener("live-data", (event) => {
    log.know(event.detail.streams);
    if (event.detail.points !== points) {
      points = event.detail.points;
      feed.pull();
    }
  });

  const form = document.querySelector("[data-invoke]");
  const answer = form.querySelector("output");
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const button = form.querySelector("button");
    button.disabled = true;
    const began = performance.now();
    try {
      const response = await fetch(form.action, {
        method: "POST",
        headers: {
          "x-emulator-csrf": document.body.dataset.csrf,
          "content-type": form.elements.type.value,
        },
        body: form.elements.body.value,
      });
      const text = await response.text();
      const took = Math.round(performance.now() - began);
      const kind = response.headers.get("content-type") || "no type";
      answer.textContent = `${response.status} · ${kind} · ${took} ms\n${text.slice(0, 20000)}`;
    } catch (error) {
      answer.textContent = `No answer: ${error.message}`;
    } finally {
      button.disabled = false;
    }
  });
})();
