// What a job with a goal found: plots and the points.

import { byId, figureName, figureValue, h, scaled, table } from "/static/dom.js";
import { dropValue } from "/static/goal.js";
import { scatter } from "/static/scatter.js";

const ms = (value) => (value === null ? "" : `${Number(value.toPrecision(3))} ms`);
const times = (value) => (value === null ? "" : `${value.toFixed(value < 10 ? 2 : 1)}×`);
const memory = ({ figures }) => (figures?.resident_bytes ? scaled(figures.resident_bytes, "B") : "");
const placeOf = (point) => (point.artifact ? `/jobs/${point.job}/result` : `/jobs/${point.job}`);

// Why a candidate has no figures where it is not its own fault.
const UNMEASURED = { "time-limit-exceeded": "time was up", conflict: "cancelled" };

export const recommendedOf = (search) => search?.points.find(({ job }) => job === search.recommended) ?? null;

function markOf(search, point) {
  if (point.job === search.recommended) return "recommended";
  if (!point.figures) return UNMEASURED[point.error?.type.split("/").at(-1)] ?? "failed";
  return [search.front.includes(point.job) && "front", search.nearest.includes(point.job) && "nearest"].filter(Boolean).join(", ");
}

// The recommended first, then the front by size, then the others, last what was not measured.
function ranked(search) {
  const place = (point) => (!point.figures ? 3 : point.job === search.recommended ? 0 : search.front.includes(point.job) ? 1 : 2);
  return [...search.points].sort((a, b) => place(a) - place(b) || (a.figures?.file_bytes ?? 0) - (b.figures?.file_bytes ?? 0));
}

function drawPlot(id, search, key, most, costs, across) {
  const { original, metric, goal } = search;
  const dot = (point) => {
    const mark = markOf(search, point);
    const told = `${point.name}: ${costs(point.figures[key])}, ${figureName(metric)} ${figureValue(metric, point.figures.validation)}${mark && ` (${mark})`}`;
    const look = mark === "recommended" ? mark : search.front.includes(point.job) ? "front" : "other";
    return { cost: point.figures[key], score: point.figures.validation, look, told, href: placeOf(point) };
  };
  const measured = search.points.filter(({ figures }) => figures?.[key] && figures.validation !== null).map(dot);
  const before = original[key] && original.validation !== null
    ? [{ cost: original[key], score: original.validation, look: "original", told: `the original: ${costs(original[key])}` }] : [];
  byId(id).parentElement.hidden = !measured.length;
  if (!measured.length) return;
  const least = original.validation === null ? null : original.validation - goal.max_drop;
  scatter(byId(id), { dots: [...before, ...measured], most, least, costs, scores: (value) => figureValue(metric, value), across },
    `${across} against ${figureName(metric)} on validation rows`);
}

function drawPoints(search) {
  const headings = ["Candidate", "", ">Round", ">File", ">Smaller", ">p50", ">Predicted", ">Faster", ">Memory", ">Validation drop", ">Test drop", "Misses"];
  byId("point-table").replaceChildren(table(headings, ranked(search).map((point) => [
    h("a", { href: placeOf(point) }, point.name), h("strong", {}, markOf(search, point)), String(point.round),
    point.figures ? scaled(point.figures.file_bytes, "B") : "", times(point.smaller), ms(point.figures?.p50_ms ?? null), ms(point.predicted_p50_ms),
    times(point.faster), memory(point), dropValue(search.metric, point.validation_drop), dropValue(search.metric, point.test_drop),
    point.error ? point.error.title : point.misses.join("; ")])));
}

export function drawSearch(search) {
  byId("search").hidden = byId("why").hidden = !search;
  if (!search) return;
  byId("why").textContent = search.why;
  drawPoints(search);
  drawPlot("size-plot", search, "file_bytes", search.goal.max_size_bytes, (value) => scaled(value, "B"), "file size, logarithmic");
  drawPlot("latency-plot", search, "p50_ms", search.goal.max_p50_ms, ms, `median of one call at batch ${search.goal.batch_size}, logarithmic`);
}
