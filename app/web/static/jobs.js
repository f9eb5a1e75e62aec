// The list of jobs, newest first; open ones are looked at again every few seconds.

import { get, sleep } from "/static/api.js";
import { badge, byId, h, percent, showProblem, table, when } from "/static/dom.js";
import { goalWords } from "/static/goal.js";

const FINAL = new Set(["succeeded", "failed", "cancelled"]);
const PAUSE_MS = 4000;
const found = new Map();
let after = null;

function draw() {
  const jobs = [...found.values()];
  const link = (job) => h("a", { href: job.artifact ? `/jobs/${job.id}/result` : `/jobs/${job.id}` }, job.id.slice(0, 6), "…", job.id.slice(-6));
  const rows = jobs.map((job) => [
    h("span", { title: job.id }, link(job)), badge(job.state), job.goal ? `goal: ${goalWords(job.goal, job.task)}` : job.recipe.steps.map((step) => step.technique).join(" → ") || "pack",
    FINAL.has(job.state) ? "" : h("progress", { max: 1, value: job.progress, "aria-label": `Progress of ${job.id}: ${percent(job.progress)}` }),
    job.error ? job.error.title : FINAL.has(job.state) ? "" : job.stage, when(job.created_at),
  ]);
  const empty = h("div", { class: "empty" }, h("p", {}, "No job yet."), h("a", { class: "button primary", href: "/" }, "Start the first one"));
  byId("jobs").replaceChildren(jobs.length ? h("div", { class: "card scroll" }, table(["Job", "State", "Recipe or goal", "Progress", "Stage", "Created"], rows)) : empty);
  byId("jobs").setAttribute("aria-busy", "false");
  byId("older").hidden = !after;
}

async function load(from) {
  const page = await get(`/v1/jobs?limit=25${from ? `&after=${encodeURIComponent(from)}` : ""}`);
  page.items.forEach((job) => found.set(job.id, job));
  return page.next;
}

async function watch() {
  for (;;) {
    await sleep(PAUSE_MS);
    const open = [...found.values()].filter((job) => !FINAL.has(job.state));
    for (const job of document.hidden ? [] : open.slice(0, 10)) found.set(job.id, await get(`/v1/jobs/${job.id}`).catch(() => job));
    if (open.length) draw();
  }
}

byId("older").addEventListener("click", async () => {
  after = await load(after).catch((error) => (showProblem(error), after));
  draw();
});

load(null).then((next) => { after = next; draw(); return watch(); }).catch((error) => { byId("jobs").replaceChildren(); showProblem(error); });
