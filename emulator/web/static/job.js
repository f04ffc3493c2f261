// The page of one job: its curves, its log, and the form to run it again.
"use strict";
(() => {
  const metrics = document.getElementById("metrics");
  const system = document.getElementById("system");
  const created = Number(metrics.dataset.created);
  const scope = metrics.dataset.scope;

  const curves = new Charts(metrics, { log: false, points: true, sync: "metrics" });
  const printed = new Feed(`${metrics.dataset.url}?${scope}`, (series) => {
    for (const one of series) {
      curves.chart(one.name).add(one.instance || "value", one.at.map((at) => at - created), one.values);
    }
  });

  const usage = new Charts(system, { percent: true, sync: "system" });
  const hosts = system.dataset.instances.trim().split(/\s+/).slice(0, 64);
  const feeds = hosts.map((host) => new Feed(
    `${system.dataset.url}?${scope}&instance=${encodeURIComponent(host)}`,
    (series) => {
      for (const one of series) {
        const title = one.name.replace(/^(CPU|GPU|Memory|Disk)(Memory)?Utilization$/, (_, what, more) => `${what}${more ? " memory" : ""}, %`);
        usage.chart(title).add(host, one.at.map((at) => at - created), one.values);
      }
    },
  ));

  const log = new Log(document.getElementById("log"));
  printed.pull();
  for (const feed of feeds) feed.pull();

  let ended = null;
  let points = 0;
  document.addEventListener("live-data", (event) => {
    const now = event.detail;
    log.know(now.streams);
    if (now.points !== points) {
      points = now.points;
      printed.pull();
      for (const feed of feeds) feed.pull();
    }
    if (ended === false && now.ended) htmx.trigger(document.body, "refresh-data");
    ended = now.ended;
  });

  // Tabs of the request

  const code = document.querySelector("[data-code]");
  const tabs = [...code.querySelectorAll('[role="tab"]')];
  for (const tab of tabs) {
    tab.addEventListener("click", () => {
      for (const other of tabs) {
        other.setAttribute("aria-selected", String(other === tab));
        other.tabIndex = other === tab ? 0 : -1;
        document.getElementById(other.getAttribute("aria-controls")).hidden = other !== tab;
      }
    });
  }
  code.querySelector("[data-copy]").addEventListener("click", async () => {
    const shown = code.querySelector("pre:not([hidden])");
    try {
      await navigator.clipboard.writeText(shown.textContent);
      emulator.toast("Copied.");
    } catch {
      getSelection().selectAllChildren(shown); // no clipboard without HTTPS but on loopback
      emulator.toast("Selected: press Ctrl-C.");
    }
  });

  // Run again

  const dialog = document.getElementById("again");
  const form = dialog.querySelector("form");
  const rows = form.querySelector("[data-rows]");
  const problem = form.querySelector("[data-problem]");

  document.addEventListener("click", (event) => {
    if (event.target.closest("[data-again]")) {
      problem.hidden = true;
      dialog.showModal();
    } else if (event.target.closest("[data-cancel]")) dialog.close();
    else if (event.target.closest("[data-remove]")) event.target.closest(".row").remove();
    else if (event.target.closest("[data-add]")) addRow();
  });

  function addRow() {
    const row = document.createElement("div");
    row.className = "row";
    for (const [name, label] of [["key", "Name of a hyperparameter"], ["value", "Its value"]]) {
      const input = document.createElement("input");
      input.name = name;
      input.setAttribute("aria-label", label);
      row.append(input);
    }
    const remove = document.createElement("button");
    remove.type = "button";
    remove.className = "quiet";
    remove.dataset.remove = "";
    remove.setAttribute("aria-label", "Remove it");
    remove.textContent = "✕";
    row.append(remove);
    rows.append(row);
    row.firstElementChild.focus();
  }

  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const wish = { name: form.elements.name.value };
    if (rows) {
      const given = [...rows.children].map((row) => [...row.querySelectorAll("input")].map((i) => i.value));
      wish.hyperparameters = Object.fromEntries(given.filter(([name]) => name));
    }
    try {
      const done = await emulator.send(form.dataset.url, "POST", wish);
      location.href = `${form.dataset.page}${encodeURIComponent(done.name)}?${scope}`;
    } catch (error) {
      problem.textContent = error.message;
      problem.hidden = false;
    }
  });
})();
