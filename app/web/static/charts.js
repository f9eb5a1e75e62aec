// Line and bar charts as SVG; colours and type come from style.css.

import { h, s } from "/static/dom.js";

const NARROWEST = 260;
export const DIGIT = 8; // a digit's width, at most, in the type of style.css
export const width = (place) => Math.max(NARROWEST, place.clientWidth || 480); // drawn at its real size: text stays legible
const short = (value) => String(Number(value.toPrecision(3)));

// `series`: [{name, mark: "a" | "b", points: [[x, y, part], …]}]; the line is broken where the part changes
export function lineChart(place, series, label, empty = "Nothing measured yet.") {
  const shown = series.filter(({ points }) => points.length);
  if (!shown.length) {
    place.replaceChildren(h("p", { class: "quiet" }, empty));
    return;
  }
  const all = shown.flatMap(({ points }) => points);
  const [xs, ys] = [all.map(([x]) => x), all.map(([, y]) => y)];
  const wide = width(place);
  const [x0, x1] = [Math.min(...xs), Math.max(...xs)];
  let [y0, y1] = [Math.min(...ys), Math.max(...ys)];
  if (y0 === y1) [y0, y1] = [y0 - Math.abs(y0) * 0.05 - 1e-6, y1 + Math.abs(y1) * 0.05 + 1e-6];
  const levels = [y0, (y0 + y1) / 2, y1];
  const widest = Math.max(...levels.map((y) => short(y).length));
  const [left, top, right, bottom] = [Math.max(52, DIGIT * widest + 8), 10, wide - 8, 190];
  const px = (x) => (x1 === x0 ? (left + right) / 2 : left + ((x - x0) / (x1 - x0)) * (right - left));
  const py = (y) => bottom - ((y - y0) / (y1 - y0)) * (bottom - top);
  const ticks = levels.map((y) => [
    s("line", { class: "axis", x1: left, x2: right, y1: py(y), y2: py(y) }), s("text", { x: left - 6, y: py(y) + 4, "text-anchor": "end" }, short(y))]);
  const curves = shown.map(({ mark, points }) => [
    parts(points).map((part) => s("polyline", { class: mark, points: part.map(([x, y]) => `${px(x).toFixed(1)},${py(y).toFixed(1)}`).join(" ") })),
    points.length < 40 ? points.map(([x, y]) => s("circle", { class: mark, cx: px(x), cy: py(y), r: 2.5 })) : []]);
  const last = shown.map(({ name, points }) => `${name} ${short(points.at(-1)[1])}`).join(", ");
  place.replaceChildren(
    h("p", { class: "legend" }, shown.map(({ name, mark, points }) => h("span", { class: mark }, `${name} ${short(points.at(-1)[1])}`))),
    s("svg", { viewBox: `0 0 ${wide} 212`, role: "img", "aria-label": `${label}: now ${last}` }, ticks.flat(), curves.flat(3),
      s("text", { x: right, y: 208, "text-anchor": "end" }, "training steps →")));
}

function parts(points) {
  const found = [];
  for (const point of points) {
    if (found.length && found.at(-1)[0][2] === point[2]) found.at(-1).push(point);
    else found.push([point]);
  }
  return found;
}

// `rows`: [{name, before, after, format}]; each row is scaled to its own larger value.
export function pairBars(place, rows, label) {
  if (!rows.length) {
    place.replaceChildren(h("p", { class: "quiet" }, "Not measured."));
    return;
  }
  const wide = width(place);
  const [left, right, height] = [4, wide - 150, 62];
  const bar = (mark, value, largest, y, text) => [
    s("rect", { class: mark, x: left, y, rx: 3, height: 15, width: Math.max(2, (value / largest) * (right - left)) }),
    s("text", { class: mark === "after" ? "strong" : null, x: left + Math.max(2, (value / largest) * (right - left)) + 6, y: y + 12 }, text)];
  const drawn = rows.map(({ name, before, after, format }, index) => {
    const [y, largest] = [index * height, Math.max(before, after, Number.MIN_VALUE)];
    const ratio = after > 0 ? ` (${short(before / after)}×)` : "";
    return [s("text", { class: "strong", x: left, y: y + 13 }, name), bar("before", before, largest, y + 19, format(before)),
      bar("after", after, largest, y + 37, format(after) + ratio)];
  });
  const spoken = rows.map(({ name, before, after, format }) => `${name} ${format(before)} before, ${format(after)} after`).join("; ");
  place.replaceChildren(h("p", { class: "legend" }, h("span", { class: "before" }, "before"), h("span", {}, "after")),
    s("svg", { viewBox: `0 0 ${wide} ${rows.length * height}`, role: "img", "aria-label": `${label}: ${spoken}` }, drawn.flat(3)));
}

// `rows`: [{name, share}]; shares are of one whole, bars of the largest.
export function shareBars(place, rows, label, format) {
  const wide = width(place);
  const [left, right, height] = [4, wide - 70, 40];
  const largest = Math.max(...rows.map(({ share }) => share), Number.MIN_VALUE);
  const letters = Math.floor((wide - left) / DIGIT);
  const fitting = (name) => (name.length > letters ? `…${name.slice(1 - letters)}` : name);
  const drawn = rows.map(({ name, share }, index) => {
    const [y, long] = [index * height, Math.max(2, (share / largest) * (right - left))];
    return [s("text", { x: left, y: y + 13 }, fitting(name)), s("rect", { class: "after", x: left, y: y + 18, rx: 3, height: 15, width: long }),
      s("text", { class: "strong", x: left + long + 6, y: y + 30 }, format(share))];
  });
  const spoken = rows.map(({ name, share }) => `${name} ${format(share)}`).join("; ");
  place.replaceChildren(s("svg", { viewBox: `0 0 ${wide} ${rows.length * height}`, role: "img", "aria-label": `${label}: ${spoken}` }, drawn.flat(2)));
}
