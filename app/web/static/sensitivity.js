// What coarser values in one tensor alone would cost: for each kind of values the tensors that bear them worst.

import { byId, h, scaled, table } from "/static/dom.js";

const MOST_LAYERS = 8; // for each setting; the JSON report has them all
const SETTINGS = ["int8", "int4", "ternary", "binary"];

export function drawSensitivity({ sensitivity }) {
  const worst = SETTINGS.flatMap((setting) =>
    sensitivity.filter((layer) => layer.setting === setting).sort((a, b) => b.damage - a.damage).slice(0, MOST_LAYERS));
  byId("sensitivity-card").hidden = !worst.length;
  byId("sensitivity").replaceChildren(table(["Values", "Tensor", "Read by", ">Parameters", ">Damage"], worst.map((layer) => [
    layer.setting, h("code", {}, layer.tensor), layer.operator, scaled(layer.parameters), String(Number(layer.damage.toPrecision(3)))])));
}
