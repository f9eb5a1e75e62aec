// A scatter plot as SVG: cost to the right on a logarithmic axis, score upwards; colours come from style.css.

import { DIGIT, width } from "/static/charts.js";
import { h, s } from "/static/dom.js";

const HEIGHT = 300;
const MARGIN = 0.08; // of an axis, free beyond the outermost dot on either side
const RADII = { original: 7, recommended: 8 }; // a dot upon the original leaves a ring of it
const LOOKS = { original: "the original", recommended: "recommended", front: "on the front", other: "beaten by another" };

// `dots`: [{cost, score, look, told, href}], look: a key of LOOKS; `most`, `least`: bounds of the goal or null
export function scatter(place, { dots, most, least, costs, scores, across }, label) {
  const wide = width(place);
  const known = (values) => values.filter((value) => value !== null && value !== undefined);
  const [x0, x1] = span(known([...dots.map(({ cost }) => cost), most]).map(Math.log10));
  const [y0, y1] = span(known([...dots.map(({ score }) => score), least]));
  const levels = steps(y0, y1);
  const left = DIGIT * Math.max(...levels.map((level) => scores(level).length)) + 8;
  const [top, right, bottom] = [10, wide - 10, HEIGHT - 44];
  const px = (cost) => left + ((Math.log10(cost) - x0) / (x1 - x0)) * (right - left);
  const py = (score) => bottom - ((score - y0) / (y1 - y0)) * (bottom - top);
  const columns = magnitudes(x0, x1, wide < 400 ? 3 : 5);
  const grid = [
    ...levels.map((level) => [s("line", { class: "axis", x1: left, x2: right, y1: py(level), y2: py(level) }),
      s("text", { x: left - 6, y: py(level) + 4, "text-anchor": "end" }, scores(level))]),
    ...columns.map((cost) => [s("line", { class: "axis", x1: px(cost), x2: px(cost), y1: top, y2: bottom }),
      s("text", px(cost) > right - 24 ? { x: right, y: bottom + 17, "text-anchor": "end" } : { x: px(cost), y: bottom + 17, "text-anchor": "middle" }, costs(cost))])];
  const late = most && px(most) > (left + right) / 2;
  const bounds = [
    most ? [s("line", { class: "bound", x1: px(most), x2: px(most), y1: top, y2: bottom }),
      s("text", { x: px(most) + (late ? -5 : 5), y: bottom - 6, "text-anchor": late ? "end" : "start" }, `at most ${costs(most)}`)] : [],
    least === null ? [] : [s("line", { class: "bound", x1: left, x2: right, y1: py(least), y2: py(least) }),
      s("text", { x: left + 5, y: py(least) + 14 }, `at least ${scores(least)}`)]];
  const found = dots.filter(({ look }) => look !== "original");
  const corners = staircase(found).map(([cost, score]) => `${px(cost).toFixed(1)},${py(score).toFixed(1)}`).join(" ");
  const drawn = dots.map((dot) => {
    const circle = s("circle", { class: dot.look, cx: px(dot.cost).toFixed(1), cy: py(dot.score).toFixed(1), r: RADII[dot.look] ?? 5 },
      s("title", {}, dot.told));
    return dot.href ? s("a", { href: dot.href, "aria-label": dot.told }, circle) : circle;
  });
  const looks = Object.keys(LOOKS).filter((look) => dots.some((dot) => dot.look === look));
  place.replaceChildren(h("p", { class: "legend" }, looks.map((look) => h("span", { class: look }, LOOKS[look]))),
    s("svg", { viewBox: `0 0 ${wide} ${HEIGHT}`, role: "group", "aria-label": label }, grid.flat(), bounds.flat(),
      s("polyline", { class: "front-line", points: corners }), drawn, s("text", { x: right, y: HEIGHT - 6, "text-anchor": "end" }, `${across} →`)));
}

function span(values) {
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const room = MARGIN * (high - low) || Math.abs(high) * 0.05 || 1;
  return [low - room, high + room];
}

// Round numbers between two values, three to six of them.
function steps(low, high) {
  const rough = (high - low) / 3;
  const scale = 10 ** Math.floor(Math.log10(rough));
  const step = scale * [5, 2, 1].find((factor) => factor * scale <= rough);
  const found = [];
  for (let index = Math.ceil(low / step); index * step <= high; index += 1) found.push(index * step);
  return found;
}

// Round numbers between two powers of ten, at most `most` of them, and two at least.
function magnitudes(low, high, most) {
  for (const factors of [[1, 2, 5], [1, 3], [1]]) {
    const found = [];
    for (let power = Math.floor(low); power <= high; power += 1) found.push(...factors.map((factor) => factor * 10 ** power));
    const inside = found.filter((value) => Math.log10(value) >= low && Math.log10(value) <= high);
    if (inside.length >= 2 && inside.length <= most) return inside;
  }
  return [0.2, 0.8].map((share) => 10 ** (low + share * (high - low)));
}

// The best score that was reached for at most each cost.
function staircase(dots) {
  const corners = [];
  let best = null;
  for (const { cost, score } of [...dots].sort((a, b) => a.cost - b.cost || b.score - a.score)) {
    if (best !== null && score <= best) continue;
    if (best !== null) corners.push([cost, best]);
    corners.push([cost, score]);
    best = score;
  }
  return corners;
}
