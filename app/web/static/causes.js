// Why a guard was not met: repairs, steps, classes, rows and layers.

import { h, scaled, table } from "/static/dom.js";

const score = (value) => value.toFixed(4);
const change = (value) => `${value > 0 ? "+" : ""}${value.toFixed(4)}`.replace("-", "−");

export function drawCauses(place, causes) {
  const part = (title, headings, rows) => (rows.length ? [h("h3", {}, title), h("div", { class: "scroll" }, table(headings, rows))] : []);
  const drops = [
    ...causes.steps.map((step) => [`${causes.metric} in step ${step.index + 1}, ${step.technique}`, step.before, step.after, ""]),
    ...causes.classes.map((lost) => [`recall of ${lost.name}`, lost.before, lost.after, String(lost.samples)])];
  const layers = [...causes.layers].sort((a, b) => b.gain - a.gain);
  place.replaceChildren(
    h("ol", {}, causes.repairs.map((repair) => h("li", {}, repair.advice))),
    ...part("What the drop came from", ["What", ">Before", ">After", ">Change", ">Rows"],
      drops.map(([what, before, after, rows]) => [what, score(before), score(after), change(after - before), rows])),
    ...part("Validation rows that turned wrong", [">Row", "Label", "Original", "Result"],
      causes.samples.map((turned) => [String(turned.row), turned.label ?? "", turned.before, turned.after])),
    ...part(`Layers put back one by one, on ${causes.rows} validation rows`,
      ["Tensor", "Read by", ">Relative error", ">Score", ">Gain", ">Then", ">Now", "Meets the guard"],
      layers.map((layer) => [h("code", {}, layer.tensor), layer.operator, layer.relative_error.toFixed(3), score(layer.score), change(layer.gain),
        scaled(layer.dense_bytes, "B"), scaled(layer.packed_bytes, "B"), layer.meets ? "yes" : "no"])));
}
