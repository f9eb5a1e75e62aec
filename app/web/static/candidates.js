// The candidates of a job with a goal, each a job of its own; looked at again every few seconds until all have ended.

import { get, sleep } from "/static/api.js";
import { badge, byId, h, percent, table } from "/static/dom.js";

const FINAL = new Set(["succeeded", "failed", "cancelled"]);
const PAUSE_MS = 4000;

async function candidatesOf(id) {
  const found = [];
  for (let after = null; ; ) {
    const page = await get(`/v1/jobs?parent=${id}&limit=100${after ? `&after=${encodeURIComponent(after)}` : ""}`);
    found.push(...page.items);
    if (!page.next) return found.reverse(); // in the order of the search
    after = page.next;
  }
}

function draw(found) {
  const rows = found.map((job) => [
    h("a", { href: job.artifact ? `/jobs/${job.id}/result` : `/jobs/${job.id}` }, job.id.slice(0, 6), "…", job.id.slice(-6)), badge(job.state),
    job.recipe?.steps.map((step) => step.technique).join(" → ") || "pack",
    FINAL.has(job.state) ? "" : h("progress", { max: 1, value: job.progress, "aria-label": `Progress of ${job.id}: ${percent(job.progress)}` }),
    job.error ? job.error.title : FINAL.has(job.state) ? "" : job.stage]);
  const ended = found.filter((job) => FINAL.has(job.state)).length;
  byId("candidate-count").textContent = found.length ? `${ended} of ${found.length} have ended.` : "None yet: the model is looked at first.";
  byId("candidates").replaceChildren(rows.length ? table(["Job", "State", "Recipe", "Progress", "Stage"], rows) : "");
}

// `ended` says whether the parent has ended: no further candidates come then.
export async function watchCandidates(id, ended) {
  byId("candidates-card").hidden = false;
  for (;;) {
    const last = ended();
    const found = document.hidden ? null : await candidatesOf(id).catch(() => null); // a lost connection is no reason to stop
    if (found) draw(found);
    if (found && last && found.every((job) => FINAL.has(job.state))) return;
    await sleep(PAUSE_MS);
  }
}
