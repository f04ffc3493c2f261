// The log of one instance: a window of lines that moves over a file of any size.
"use strict";
(() => {
  const MOST = 2000; // lines in the document
  const PAGE = 500;
  const FAILED = /\b(error|exception|traceback|fatal|killed|panic|failed)\b/i;
  const COLOR = /#033\[[0-9;]*[A-Za-z]/g; // how the log shows terminal colours
  const DUMP_BEGINS = /^(Training Env|Environment variables|Processing Env):?\s*$/;
  const DUMP_ENDS = /^Invoking script with the following command/;

  class Log {
    constructor(section) {
      this.section = section;
      this.url = section.dataset.url;
      this.scope = section.dataset.scope;
      this.place = section.querySelector("[data-lines]");
      this.tabs = section.querySelector("[data-tabs]");
      this.empty = section.querySelector("[data-empty]");
      this.hits = section.querySelector("[data-hits]");
      this.form = section.querySelector("[data-search]");
      this.download = section.querySelector("[data-download]");
      this.streams = new Map(); // name -> size
      this.stream = null;
      this.busy = false;
      this.reset();
      this.place.addEventListener("scroll", () => this.scrolled(), { passive: true });
      this.form.addEventListener("submit", (event) => {
        event.preventDefault();
        this.search(0);
      });
      this.form.elements.follow.addEventListener("change", () => {
        if (this.following) this.toEnd();
      });
      this.know(JSON.parse(section.dataset.streams));
    }

    get following() {
      return this.form.elements.follow.checked;
    }

    reset() {
      this.place.replaceChildren();
      this.start = 0; // offsets of what is shown
      this.end = 0;
      this.atEnd = true;
    }

    // The streams there are, and how long they have become.
    know(streams) {
      this.section.classList.toggle("nothing", streams.length === 0);
      this.empty.hidden = streams.length > 0;
      for (const { stream, size, instance } of streams) {
        if (!this.streams.has(stream)) this.addTab(stream, instance);
        this.streams.set(stream, size);
      }
      if (!this.stream && streams.length) this.choose(streams[0].stream);
      else if (this.stream && this.atEnd && this.streams.get(this.stream) > this.end) this.more();
    }

    addTab(stream, instance) {
      const tab = document.createElement("button");
      tab.type = "button";
      tab.setAttribute("role", "tab");
      tab.setAttribute("aria-selected", "false");
      tab.tabIndex = -1;
      tab.textContent = instance;
      tab.dataset.stream = stream;
      tab.addEventListener("click", () => this.choose(stream));
      this.tabs.append(tab);
    }

    choose(stream) {
      for (const tab of this.tabs.children) {
        const chosen = tab.dataset.stream === stream;
        tab.setAttribute("aria-selected", String(chosen));
        tab.tabIndex = chosen ? 0 : -1;
      }
      this.stream = stream;
      this.download.href = this.address("/text", {});
      this.hits.hidden = true;
      this.reset();
      this.toEnd();
    }

    address(path, query) {
      const words = new URLSearchParams(this.scope);
      words.set("stream", this.stream);
      for (const [name, value] of Object.entries(query)) words.set(name, value);
      return `${this.url}${path}?${words}`;
    }

    async fetch(path, query) {
      const stream = this.stream;
      const found = await emulator.ask(this.address(path, query));
      if (stream !== this.stream) throw new Error("another instance was chosen");
      return found;
    }

    // One question at a time, in the order of the reader's wishes.
    async once(work) {
      if (this.busy) return;
      this.busy = true;
      try {
        await work();
      } catch (error) {
        console.info(`Log: ${error.message}`);
      } finally {
        this.busy = false;
      }
      if (this.atEnd && this.streams.get(this.stream) > this.end && this.grew) {
        this.grew = false;
        this.more();
      }
    }

    toEnd() {
      return this.once(async () => {
        const page = await this.fetch("", { limit: PAGE });
        this.reset();
        this.show(page);
        this.atEnd = true;
        this.place.scrollTop = this.place.scrollHeight;
      });
    }

    // What follows the last line that is shown.
    more() {
      if (this.busy) this.grew = true;
      return this.once(async () => {
        for (let pages = 0; pages < 4; pages++) {
          const page = await this.fetch("", { after: this.end, limit: PAGE });
          if (page.size - page.end > 2_000_000 && this.following) {
            // It is written faster than anybody reads: go on at its end.
            const last = await this.fetch("", { limit: PAGE });
            this.reset();
            this.show(last);
            this.atEnd = true;
            break;
          }
          this.append(page);
          this.atEnd = page.end >= page.size || page.lines.length < PAGE;
          if (page.lines.length < PAGE) break;
        }
        if (this.following && this.atEnd) this.place.scrollTop = this.place.scrollHeight;
      });
    }

    earlier() {
      if (this.start === 0) return undefined;
      return this.once(async () => {
        const page = await this.fetch("", { before: this.start, limit: PAGE });
        if (!page.lines.length) return;
        const first = this.place.firstElementChild;
        const before = first ? first.getBoundingClientRect().top : 0;
        this.place.prepend(this.rows(page.lines));
        this.start = page.start;
        this.cutEnd();
        if (first) this.place.scrollTop += first.getBoundingClientRect().top - before;
      });
    }

    around(offset) {
      return this.once(async () => {
        const before = await this.fetch("", { before: offset, limit: 100 });
        const after = await this.fetch("", { after: offset, limit: PAGE });
        this.form.elements.follow.checked = false;
        this.reset();
        this.show(before);
        this.append(after);
        this.atEnd = after.end >= after.size;
        const found = this.place.querySelector(`[data-start="${offset}"]`);
        if (found) {
          found.classList.add("found");
          const dump = found.closest("details");
          if (dump) dump.open = true;
          found.scrollIntoView({ block: "center" });
        }
      });
    }

    show(page) {
      this.start = page.start;
      this.end = page.end;
      this.place.append(this.rows(page.lines));
    }

    append(page) {
      if (!page.lines.length) return;
      this.place.append(this.rows(page.lines));
      this.end = page.end;
      this.cutStart();
    }

    rows(lines) {
      const all = document.createDocumentFragment();
      let into = all;
      let dump = null;
      for (const line of lines) {
        const text = line.text.replace(COLOR, "");
        const row = document.createElement("div");
        row.className = FAILED.test(text) ? "line bad" : "line";
        row.dataset.start = line.start;
        row.dataset.end = line.end;
        row.dataset.at = new Date(line.at * 1000).toLocaleTimeString();
        row.textContent = text.replaceAll("#011", "\t");
        if (!dump && DUMP_BEGINS.test(text)) {
          dump = document.createElement("details");
          dump.className = "dump";
          const summary = document.createElement("summary");
          summary.textContent = text;
          dump.append(summary);
          all.append(dump);
          into = dump;
        } else if (dump && DUMP_ENDS.test(text)) {
          dump = null;
          into = all;
        }
        into.append(row);
      }
      return all;
    }

    count() {
      return this.place.getElementsByClassName("line").length;
    }

    cutStart() {
      let extra = this.count() - MOST;
      while (extra > 0 && this.place.firstElementChild) {
        const first = this.place.firstElementChild;
        extra -= first.classList.contains("line") ? 1 : first.getElementsByClassName("line").length;
        first.remove();
      }
      const first = this.place.getElementsByClassName("line")[0];
      if (first) this.start = Number(first.dataset.start);
    }

    cutEnd() {
      let extra = this.count() - MOST;
      while (extra > 0 && this.place.lastElementChild) {
        const last = this.place.lastElementChild;
        extra -= last.classList.contains("line") ? 1 : last.getElementsByClassName("line").length;
        last.remove();
        this.atEnd = false;
      }
      const lines = this.place.getElementsByClassName("line");
      if (lines.length) this.end = Number(lines[lines.length - 1].dataset.end);
    }

    scrolled() {
      const { scrollTop, clientHeight, scrollHeight } = this.place;
      const below = scrollHeight - scrollTop - clientHeight;
      if (below > 200 && this.following) this.form.elements.follow.checked = false;
      if (below < 4 && this.atEnd && !this.following) this.form.elements.follow.checked = true;
      if (scrollTop < 200) this.earlier();
      else if (below < 200 && !this.atEnd) this.more();
    }

    async search(after) {
      const words = this.form.elements.q.value.trim();
      if (!words || !this.stream) {
        this.hits.hidden = true;
        return;
      }
      try {
        const found = await this.fetch("/search", { q: words, after });
        this.showHits(found, words, after);
      } catch (error) {
        emulator.toast(error.message, "problem");
      }
    }

    showHits(found, words, after) {
      const list = document.createElement("ol");
      for (const line of found.lines) {
        const item = document.createElement("li");
        const go = document.createElement("button");
        go.type = "button";
        go.className = "quiet";
        go.textContent = line.text.slice(0, 300);
        go.addEventListener("click", () => this.around(line.start));
        item.append(go);
        list.append(item);
      }
      const head = document.createElement("p");
      head.setAttribute("role", "status");
      const done = found.end >= found.size;
      head.textContent = `${found.lines.length}${done ? "" : "+"} lines contain “${words}”`;
      this.hits.replaceChildren(head, list);
      if (!done) {
        const on = document.createElement("button");
        on.type = "button";
        on.textContent = "Search on";
        on.addEventListener("click", () => this.search(found.end));
        this.hits.append(on);
      }
      this.hits.hidden = false;
      if (found.lines.length && after === 0) this.around(found.lines[0].start);
    }
  }

  window.Log = Log;
})();
