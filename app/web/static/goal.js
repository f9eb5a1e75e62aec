// A goal in words, and the fields of the start page that make one.

import { byId, figureName, isShare, scaled } from "/static/dom.js";

const DEFAULTS = { regression: "r2", match: "agreement" };
const ABSENT = "";

// How much a score lost: shares in percentage points.
export const dropValue = (metric, drop) => (drop === null ? ABSENT : isShare(metric) ? `${(100 * drop).toFixed(2)} points` : drop.toFixed(4)).replace("-", "−");

export function goalWords(goal, task) {
  const metric = goal.metric ?? DEFAULTS[task] ?? "accuracy";
  const told = [`least ${goal.minimize}`, `${figureName(metric)} may lose ${dropValue(metric, goal.max_drop)}`];
  if (goal.max_recall_drop !== null) told.push(`any class's recall ${dropValue("recall", goal.max_recall_drop)}`);
  if (goal.max_size_bytes !== null) told.push(`at most ${scaled(goal.max_size_bytes, "B")}`);
  if (goal.max_p50_ms !== null) told.push(`at most ${goal.max_p50_ms} ms a call`);
  if (goal.max_resident_bytes !== null) told.push(`at most ${scaled(goal.max_resident_bytes, "B")} of memory`);
  return told.join(", ");
}

// Fields of the start page: what is left empty is left out, so that the server's defaults hold.
const FIELDS = [
  ["minimize", "goal-minimize", String], ["metric", "goal-metric", String], ["max_drop", "goal-max-drop", Number],
  ["max_recall_drop", "goal-max-recall-drop", Number], ["max_size_bytes", "goal-max-size", (megabytes) => Math.round(Number(megabytes) * 1e6)],
  ["max_p50_ms", "goal-max-p50", Number], ["max_resident_bytes", "goal-max-memory", (megabytes) => Math.round(Number(megabytes) * 1e6)],
  ["batch_size", "goal-batch-size", Number], ["device", "goal-device", String], ["budget_s", "goal-budget", (minutes) => Math.round(Number(minutes) * 60)],
];

export const goalOfFields = () => Object.fromEntries(FIELDS.map(([name, id, read]) => [name, byId(id).value.trim(), read])
  .filter(([, text]) => text !== "").map(([name, text, read]) => [name, read(text)]));
