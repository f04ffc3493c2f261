// What every page does: live fragments, times in the reader's zone, the theme, messages.
"use strict";
(() => {
  const body = document.body;

  // Times

  const dated = new Intl.DateTimeFormat(undefined, {
    month: "short", day: "numeric", hour: "2-digit", minute: "2-digit", second: "2-digit",
  });

  function duration(seconds) {
    const whole = Math.max(0, Math.round(seconds));
    if (whole < 60) return `${whole} s`;
    const two = (number) => String(number).padStart(2, "0");
    if (whole < 3600) return `${Math.floor(whole / 60)} min ${two(whole % 60)} s`;
    const hours = Math.floor(whole / 3600);
    if (hours < 48) return `${hours} h ${two(Math.floor((whole % 3600) / 60))} min`;
    return `${Math.floor(hours / 24)} d ${hours % 24} h`;
  }

  function tick(root) {
    const now = Date.now() / 1000;
    for (const element of root.querySelectorAll("[data-since]")) {
      const text = duration(now - Number(element.dataset.since));
      if (element.textContent !== text) element.textContent = text;
    }
    for (const element of root.querySelectorAll("time[data-at]:not([data-shown])")) {
      element.textContent = dated.format(new Date(Number(element.dataset.at) * 1000));
      element.title = element.getAttribute("datetime");
      element.dataset.shown = "";
    }
  }

  tick(document);
  setInterval(() => { if (!document.hidden) tick(document); }, 1000);

  // Messages

  function toast(text, kind) {
    const shown = document.createElement("div");
    shown.className = `toast ${kind || ""}`;
    shown.textContent = text;
    document.getElementById("toasts").append(shown);
    setTimeout(() => shown.remove(), kind === "problem" ? 12000 : 5000);
  }

  async function problemOf(response) {
    try {
      const said = await response.json();
      return typeof said.detail === "string" ? said.detail : JSON.stringify(said.detail);
    } catch {
      return `The emulator answers ${response.status}.`;
    }
  }

  async function send(url, method, value) {
    const response = await fetch(url, {
      method,
      headers: { "x-emulator-csrf": body.dataset.csrf, "content-type": "application/json" },
      body: value === undefined ? undefined : JSON.stringify(value),
    });
    if (!response.ok) throw new Error(await problemOf(response));
    return response.json();
  }

  async function ask(url) {
    const response = await fetch(url, { headers: { accept: "application/json" } });
    if (!response.ok) throw new Error(await problemOf(response));
    return response.json();
  }

  window.emulator = { ask, send, toast, duration };

  body.addEventListener("htmx:afterRequest", (event) => {
    const request = event.detail.xhr;
    if (event.detail.successful || !request) return;
    let text = request.status ? `The emulator answers ${request.status}.` : "No answer.";
    try {
      text = JSON.parse(request.responseText).detail || text;
    } catch {
      // Not JSON: the status says enough.
    }
    toast(text, "problem");
  });

  // Live fragments. A tab that nobody sees listens to nothing: a browser opens six connections
  // to a server, over all of its tabs.

  let source = null;
  const connection = document.getElementById("connection");

  function said(text) {
    if (connection.textContent !== text) connection.textContent = text;
  }

  function listen() {
    if (source || !body.dataset.live) return;
    source = new EventSource(body.dataset.live);
    source.addEventListener("open", () => said(""));
    source.addEventListener("error", () => said("no connection"));
    source.addEventListener("fragment", (event) => {
      const { id, html } = JSON.parse(event.data);
      const element = document.getElementById(id);
      if (!element) return;
      Idiomorph.morph(element, html, {
        morphStyle: "innerHTML",
        callbacks: {
          // What the reader has opened or checked stays so.
          beforeAttributeUpdated: (name, node) =>
            !((name === "open" && node.tagName === "DETAILS") || name === "checked" ||
              (name === "data-shown" && node.tagName === "TIME")),
          beforeNodeMorphed: (before, after) => {
            if (before.tagName === "TIME" && before.dataset?.at === after.dataset?.at) return false;
            if (before.dataset?.since && before.dataset.since === after.dataset?.since) return false;
            return true;
          },
        },
      });
      htmx.process(element);
      tick(element);
    });
    source.addEventListener("data", (event) => {
      document.dispatchEvent(new CustomEvent("live-data", { detail: JSON.parse(event.data) }));
    });
  }

  function hush() {
    if (source) source.close();
    source = null;
  }

  document.addEventListener("visibilitychange", () => (document.hidden ? hush() : listen()));
  addEventListener("pagehide", hush);
  addEventListener("pageshow", () => { if (!document.hidden) listen(); });
  if (!document.hidden) listen();

  // Theme

  document.getElementById("theme").addEventListener("click", () => {
    const root = document.documentElement;
    const dark = root.dataset.theme
      ? root.dataset.theme === "dark"
      : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
    try {
      localStorage.setItem("theme", root.dataset.theme);
    } catch {
      // It holds for this page alone.
    }
    document.dispatchEvent(new CustomEvent("theme"));
  });

  // Filters that are sent when they change

  for (const form of document.querySelectorAll("[data-submit-on-change]")) {
    form.addEventListener("change", () => form.requestSubmit());
  }

  // Tabs by arrow keys (ARIA authoring practices)

  document.addEventListener("keydown", (event) => {
    const tab = event.target.closest?.('[role="tab"]');
    if (!tab || !["ArrowLeft", "ArrowRight", "Home", "End"].includes(event.key)) return;
    const tabs = [...tab.closest('[role="tablist"]').querySelectorAll('[role="tab"]')];
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    const at = event.key === "Home" ? 0 : event.key === "End" ? tabs.length - 1
      : (tabs.indexOf(tab) + step + tabs.length) % tabs.length;
    event.preventDefault();
    tabs[at].focus();
    tabs[at].click();
  });
})();
