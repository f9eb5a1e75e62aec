// Chooses one model or data set: a file to upload, or one that is already on the server.

import { get } from "/static/api.js";
import { badge, byId, h, percent, showProblem } from "/static/dom.js";
import { checked, upload } from "/static/upload.js";

// `kind`: noun, label, accept, hint, formatOf(name), fields(), describe(record)
export function picker(place, kind, onChosen) {
  const status = h("div", { role: "status", "aria-live": "polite" });
  const file = h("input", { type: "file", accept: kind.accept, "aria-label": `${kind.label} file` });
  const drop = h("label", { class: "drop" }, h("strong", {}, `Drop ${kind.article} ${kind.label} here`), " or choose a file", file,
    h("span", { class: "help" }, kind.hint));
  const select = h("select", { id: `${kind.noun}-select`, "aria-label": `${kind.label} already on the server` },
    h("option", { value: "" }, `no ${kind.label} chosen`));
  const or = h("div", { class: "or" }, "or take one that is here");
  place.replaceChildren(drop, or, select, status);
  const known = new Map();

  function choose(record) {
    status.replaceChildren(record ? h("div", { class: "chosen" }, h("strong", {}, record.name), " ", badge(record.state), kind.describe(record)) : "");
    onChosen(record);
  }
  function offer(record, first = false) {
    known.set(record.id, record);
    const option = h("option", { value: record.id }, `${record.name} · ${record.id.slice(-6)}`);
    if (first) select.options[0].after(option);
    else select.append(option);
  }
  async function take(chosen) {
    onChosen(null);
    const bar = h("progress", { max: 1, value: 0, "aria-label": `Upload of ${chosen.name}` });
    const line = h("span", { class: "quiet" }, "uploading");
    status.replaceChildren(h("div", { class: "chosen" }, h("strong", {}, chosen.name), " ", line, bar));
    try {
      const id = await upload(chosen, (share) => {
        bar.value = share;
        line.textContent = share < 1 ? `uploading, ${percent(share)}` : "arrived; a worker checks it";
      });
      bar.removeAttribute("value");
      const record = await checked(kind.noun, { upload: id, format: kind.formatOf(chosen.name), name: chosen.name, ...kind.fields() });
      offer(record, true);
      select.value = record.id;
      choose(record);
    } catch (error) {
      showProblem(error, status);
    } finally {
      file.value = "";
    }
  }

  file.addEventListener("change", () => file.files[0] && take(file.files[0]));
  select.addEventListener("change", () => choose(known.get(select.value) ?? null));
  for (const name of ["dragover", "dragleave", "drop"]) {
    drop.addEventListener(name, (event) => {
      event.preventDefault();
      drop.classList.toggle("over", name === "dragover");
      if (name === "drop" && event.dataTransfer.files[0]) take(event.dataTransfer.files[0]);
    });
  }
  return get(`/v1/${kind.noun}?limit=50`).then(({ items }) => {
    const ready = items.filter((record) => record.state === "ready");
    ready.forEach((record) => offer(record));
    or.hidden = select.hidden = !ready.length;
    new MutationObserver(() => (or.hidden = select.hidden = false)).observe(select, { childList: true });
    const wanted = new URLSearchParams(location.search).get(kind.query);
    if (known.has(wanted)) {
      select.value = wanted;
      choose(known.get(wanted));
    }
  });
}

export const columnFields = () => {
  const text = byId("column-text").value.trim();
  const label = byId("column-label").value.trim();
  const columns = { ...(text ? { text } : {}), ...(label ? { label } : {}) };
  return { columns, max_length: Number(byId("max-length").value) || 64 };
};
