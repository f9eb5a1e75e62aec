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
  const address = h("input", { placeholder: "https://…, s3://store/key, mlflow:name@alias", "aria-label": `Address to pull the ${kind.label} from` });
  const pull = h("button", { type: "button", class: "quiet" }, "Pull");
  const elsewhere = h("details", { class: "options" }, h("summary", {}, "Pull it from elsewhere"), h("div", { class: "field" }, address, pull,
    h("p", { class: "help" }, "The service fetches it. A store is one that the operator named.")));
  place.replaceChildren(drop, elsewhere, or, select, status);
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
  function busy(name, what, label) {
    onChosen(null);
    const bar = h("progress", { max: 1, value: 0, "aria-label": label });
    const line = h("span", { class: "quiet" }, what);
    status.replaceChildren(h("div", { class: "chosen" }, h("strong", {}, name), " ", line, bar));
    return [bar, line];
  }
  function arrived(record) {
    offer(record, true);
    select.value = record.id;
    choose(record);
  }
  async function fetchFrom(text) {
    const source = sourceOf(text);
    const name = source.name ?? ((source.key ?? source.url.split(/[?#]/)[0]).split("/").pop() || null);
    const [bar, line] = busy(name ?? text, "pulling", "Pulling");
    try {
      arrived(await checked(kind.noun, { source, format: kind.formatOf(name ?? ""), name, ...kind.fields() }, ({ stage, progress }) => {
        bar.value = progress;
        line.textContent = stage === "fetching" ? `pulling, ${percent(progress)}` : "a worker checks it";
      }));
      address.value = "";
    } catch (error) {
      showProblem(error, status);
    }
  }
  async function take(chosen) {
    const [bar, line] = busy(chosen.name, "uploading", `Upload of ${chosen.name}`);
    try {
      const id = await upload(chosen, (share) => {
        bar.value = share;
        line.textContent = share < 1 ? `uploading, ${percent(share)}` : "arrived; a worker checks it";
      });
      bar.removeAttribute("value");
      arrived(await checked(kind.noun, { upload: id, format: kind.formatOf(chosen.name), name: chosen.name, ...kind.fields() }));
    } catch (error) {
      showProblem(error, status);
    } finally {
      file.value = "";
    }
  }

  const go = () => address.value.trim() && fetchFrom(address.value.trim());
  pull.addEventListener("click", go);
  address.addEventListener("keydown", (event) => {
    if (event.key !== "Enter") return;
    event.preventDefault(); // it would start the job
    go();
  });
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

// What the service is asked to fetch: an address, or an object by the name of its store, a version of a registered model.
function sourceOf(text) {
  const version = text.match(/^mlflow:([^/@:]+)(?:\/(\d+)|@([^/@]+))$/);
  if (version) return { type: "mlflow", name: version[1], ...(version[2] ? { version: version[2] } : { alias: version[3] }) };
  const store = text.match(/^s3:\/\/([^/]+)\/(.+)$/);
  return store ? { type: "s3", store: store[1], key: store[2] } : { type: "https", url: text };
}

export const columnFields = () => {
  const text = byId("column-text").value.trim();
  const label = byId("column-label").value.trim();
  const columns = { ...(text ? { text } : {}), ...(label ? { label } : {}) };
  return { columns, max_length: Number(byId("max-length").value) || 64 };
};
