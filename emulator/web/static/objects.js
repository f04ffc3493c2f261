// Uploads: files that are dropped or chosen, one after another.
"use strict";
(() => {
  const drop = document.getElementById("drop");
  const list = drop.querySelector("[data-uploads]");

  function put(url, file, told) {
    return new Promise((resolve, reject) => {
      const request = new XMLHttpRequest(); // fetch does not tell how far an upload is
      request.open("PUT", url);
      request.setRequestHeader("x-emulator-csrf", document.body.dataset.csrf);
      request.setRequestHeader("content-type", "application/octet-stream");
      request.upload.addEventListener("progress", (event) => told(event.loaded / event.total));
      request.addEventListener("error", () => reject(new Error("no answer")));
      request.addEventListener("load", () => {
        if (request.status < 300) {
          resolve();
          return;
        }
        let text = `the emulator answers ${request.status}`;
        try {
          text = JSON.parse(request.responseText).detail || text;
        } catch {
          // Not JSON: the status says enough.
        }
        reject(new Error(text));
      });
      request.send(file);
    });
  }

  async function upload(files) {
    let failed = false;
    for (const file of files) {
      const item = document.createElement("li");
      const bar = document.createElement("progress");
      bar.max = 1;
      bar.setAttribute("aria-label", `Upload of ${file.name}`);
      const text = document.createElement("span");
      text.textContent = file.name;
      item.append(text, bar);
      list.append(item);
      const name = (file.webkitRelativePath || file.name).split("/").map(encodeURIComponent).join("/");
      try {
        await put(drop.dataset.url + name, file, (share) => { bar.value = share; });
        bar.value = 1;
      } catch (error) {
        failed = true;
        text.textContent = `${file.name}: ${error.message}`;
        item.className = "problem";
        bar.remove();
      }
    }
    if (!failed) location.reload();
  }

  for (const name of ["dragenter", "dragover"]) {
    drop.addEventListener(name, (event) => {
      event.preventDefault();
      drop.classList.add("over");
    });
  }
  drop.addEventListener("dragleave", (event) => {
    if (!drop.contains(event.relatedTarget)) drop.classList.remove("over");
  });
  drop.addEventListener("drop", (event) => {
    event.preventDefault();
    drop.classList.remove("over");
    upload([...event.dataTransfer.files]);
  });
  document.querySelector("[data-upload]").addEventListener("change", (event) => {
    upload([...event.target.files]);
  });
})();
