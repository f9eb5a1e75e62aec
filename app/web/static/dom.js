// Building blocks of every page: elements, figures as people read them, problems with their cure.

const SVG = "http://www.w3.org/2000/svg";

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

export const h = (tag, attributes = {}, ...children) => fill(document.createElement(tag), attributes, children);
export const s = (tag, attributes = {}, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);
export const byId = (id) => document.getElementById(id);

export function scaled(value, unit = "") {
  for (const prefix of ["", "k", "M", "G"]) {
    if (Math.abs(value) < 1000) {
      const digits = !prefix && Number.isInteger(value) ? value : Number(value.toPrecision(3));
      return `${digits} ${prefix}${unit}`.trim();
    }
    value /= 1000;
  }
  return `${Number(value.toPrecision(3))} T${unit}`;
}

export function duration(seconds) {
  if (seconds < 60) return `${Math.round(seconds)} s`;
  const minutes = Math.floor(Math.round(seconds) / 60);
  if (minutes < 60) return `${minutes} min ${String(Math.round(seconds) % 60).padStart(2, "0")} s`;
  return `${Math.floor(minutes / 60)} h ${String(minutes % 60).padStart(2, "0")} min`;
}

export const clock = (time) => new Date(time).toLocaleTimeString();
export const when = (time) => new Date(time).toLocaleString([], { dateStyle: "medium", timeStyle: "short" });
export const percent = (share) => `${Math.round(share * 100)} %`;

const FIGURES = {
  file_bytes: "file size", zstd_bytes: "download size (zstd)", resident_bytes: "memory when loaded", load_ms: "load time",
  parameters: "parameters", nonzeros: "non-zero weights", macs: "MACs per row", peak_activation_bytes: "activations per row, peak", macro_recall: "macro recall",
  macro_f1: "macro F1", throughput_per_s: "rows per second",
};
const SHARES = new Set(["accuracy", "macro_recall", "macro_f1", "agreement"]);

export const isShare = (figure) => SHARES.has(figure) || figure.startsWith("recall");

export function figureName(figure) {
  const [name, batch] = figure.split("@");
  const title = /^p\d+_ms$/.test(name) ? `latency ${name.slice(0, -3)}` : FIGURES[name] ?? name.replaceAll("_", " ");
  return batch ? `${title}, batch ${batch}` : title;
}

export function figureValue(figure, value) {
  const name = figure.split("@")[0];
  if (name.endsWith("_bytes")) return scaled(value, "B");
  if (name.endsWith("_ms")) return `${Number(value.toPrecision(3))} ms`;
  if (isShare(name)) return `${(value * 100).toFixed(2)} %`;
  if (["parameters", "nonzeros", "macs", "throughput_per_s"].includes(name)) return scaled(value);
  return String(Number(value.toPrecision(4)));
}

export const badge = (state) => h("span", { class: `badge ${state}` }, state);

export function table(headings, rows, caption) {
  const cell = (kind, content, heading) =>
    h(kind, { class: heading.startsWith(">") ? "figure" : null, scope: kind === "th" ? "col" : null }, content);
  return h("table", {},
    caption ? h("caption", {}, caption) : null,
    h("thead", {}, h("tr", {}, headings.map((heading) => cell("th", heading.replace(/^>/, ""), heading)))),
    h("tbody", {}, rows.map((row) => h("tr", {}, row.map((content, column) => cell("td", content, headings[column]))))));
}

export const facts = (list, pairs) =>
  list.replaceChildren(...pairs.filter((pair) => pair[1] !== null && pair[1] !== "")
    .flatMap(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]));

export function problemNotice(problem) {
  return h("div", { class: "notice error" },
    h("strong", {}, problem.title ?? "Something went wrong"), h("p", {}, problem.detail ?? ""),
    problem.errors?.length ? h("ul", {}, problem.errors.map((fault) => h("li", {}, h("code", {}, fault.pointer), ` ${fault.detail}`))) : null,
    problem.cure ? h("p", { class: "quiet" }, `What helps: ${problem.cure}`) : null);
}

export function showProblem(error, place = byId("problem")) {
  place.replaceChildren(problemNotice(error.problem ?? { title: "This page failed", detail: error.message }));
  place.scrollIntoView({ block: "nearest" });
}
