// One job, live: stages, curves, log, cancel, resume.

import { events, get, post } from "/static/api.js";
import { lineChart } from "/static/charts.js";
import { watchCandidates } from "/static/candidates.js";
import { setOptions } from "/static/defaults.js";
import { byId, clock, duration, facts, h, percent, problemNotice, showProblem, when } from "/static/dom.js";
import { goalWords } from "/static/goal.js";

const FINAL = new Set(["succeeded", "failed", "cancelled"]);
const LOG_LINES = 500;
const id = byId("job").dataset.job;
const stages = []; // {name, began, ended}
const curves = { loss: [], validation_loss: [], validation_score: [] };
let job = null;
let points = 0;
let stale = false;

function showJob() {
  const badge = byId("state");
  badge.textContent = job.state;
  badge.className = `badge ${job.state}`;
  byId("cancel").hidden = FINAL.has(job.state) || job.state === "cancelling";
  byId("resume").hidden = !job.checkpoint || !["failed", "cancelled"].includes(job.state);
  byId("result-link").hidden = job.state !== "succeeded" && job.error?.type?.endsWith("guard-not-met") !== true;
  byId("outcome").replaceChildren(job.error ? problemNotice(job.error) : "");
  showProgress(job.progress, job.eta_s);
  if (FINAL.has(job.state) && stages.length) stages.at(-1).ended ??= Date.parse(job.ended_at);
  document.title = `${job.state} · ${percent(job.progress)} · modelpress`;
}

function showRequest(techniques) {
  const link = (path, text) => h("a", { href: path }, text);
  facts(byId("request"), [
    ["model", h("code", {}, job.model)], ["data", job.dataset ? h("code", {}, job.dataset) : "none"], ["task", job.task], ["seed", String(job.seed)],
    ["goal", job.goal ? goalWords(job.goal, job.task) : ""], ["time to look", job.goal ? duration(job.goal.budget_s) : ""],
    ["device", job.goal ? job.goal.device : ""], ["candidate of", job.parent ? link(`/jobs/${job.parent}`, h("code", {}, job.parent)) : ""],
    ["recipe", job.recipe ? h("code", {}, setOptions(job.recipe.steps, techniques).map(describeStep).join("  →  ") || "pack") : ""],
    ["controls", job.recipe?.controls.map((kind) => kind.replaceAll("_", " ")).join(", ") ?? ""],
    ["guard", job.guard ? `${job.guard.metric} may drop by ${job.guard.max_drop}` : job.goal ? "" : "none"], ["created", when(job.created_at)],
    ["", link(`/?model=${job.model}${job.dataset ? `&dataset=${job.dataset}` : ""}`, "another job with these inputs")],
  ]);
}

function describeStep({ technique, ...options }) {
  const set = Object.entries(options).map(([name, value]) => `${name}=${value}`).join(", ");
  return set ? `${technique}(${set})` : technique;
}

function showProgress(progress, eta) {
  byId("bar").value = progress;
  byId("percent").textContent = percent(progress);
  const now = Date.now();
  const began = job.started_at ? Date.parse(job.started_at) : null;
  const spent = began ? `${duration(((job.ended_at ? Date.parse(job.ended_at) : now) - began) / 1000)} so far` : "Waiting for a worker.";
  const left = eta !== null && eta !== undefined && !FINAL.has(job.state) ? `, about ${duration(eta)} left` : "";
  byId("eta").textContent = job.ended_at ? `Ended ${when(job.ended_at)}${began ? `, after ${spent.replace(" so far", "")}` : ""}.` : spent + left;
}

function showStages() {
  const now = Date.now();
  byId("stages").replaceChildren(...stages.map(({ name, began, ended }, index) => {
    const last = index === stages.length - 1;
    const state = !last || job.state === "succeeded" ? "done" : FINAL.has(job.state) ? "stopped" : "now";
    return h("li", { class: state }, name, h("span", { class: "time" }, duration(((ended ?? now) - began) / 1000)));
  }));
}

function showCurves() {
  const empty = FINAL.has(job.state) ? "No step of this job trained." : undefined;
  lineChart(byId("loss-chart"), [{ name: "training", mark: "a", points: curves.loss }, { name: "validation", mark: "b", points: curves.validation_loss }], "Loss", empty);
  lineChart(byId("score-chart"), [{ name: "validation", mark: "a", points: curves.validation_score }], "Validation score", empty);
}

function enterStage(name, at) {
  if (!name || stages.at(-1)?.name === name) return;
  if (stages.length) stages.at(-1).ended = at;
  stages.push({ name, began: at, ended: null });
}

function writeLog(event, text) {
  const log = byId("log");
  const atEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 40;
  log.append(h("li", {}, h("time", { datetime: event.at }, clock(event.at)), text));
  while (log.children.length > LOG_LINES) log.firstChild.remove();
  if (atEnd) log.scrollTop = log.scrollHeight;
}

async function take(event) {
  enterStage(event.stage, Date.parse(event.at));
  if (event.progress !== null) showProgress((job.progress = event.progress), (job.eta_s = event.eta_s));
  if (event.point) {
    points += 1;
    for (const [name, curve] of Object.entries(curves)) if (event.point[name] !== null) curve.push([points, event.point[name], event.stage]);
  }
  const text = event.message || (event.kind === "state" ? event.detail.state ?? event.stage : event.kind === "step" ? `step done: ${event.stage}` : "");
  if (text) writeLog(event, text);
  if (event.kind === "state") {
    job = await get(`/v1/jobs/${id}`);
    showJob();
  }
  stale = true;
}

function redraw() {
  if (!FINAL.has(job.state)) showProgress(job.progress, job.eta_s); // the clock goes on
  if (stale || !FINAL.has(job.state)) showStages();
  if (stale) showCurves();
  stale = false;
}

async function ended() {
  job = await get(`/v1/jobs/${id}`);
  return FINAL.has(job.state);
}

async function begin() {
  job = await get(`/v1/jobs/${id}`);
  showJob();
  showRequest(await get("/v1/techniques"));
  showCurves();
  byId("curves").hidden = Boolean(job.goal); // its candidates train, each on a page of its own
  if (job.goal) watchCandidates(id, () => FINAL.has(job.state)).catch(showProblem);
  const timer = setInterval(redraw, 500);
  for await (const event of events(`/v1/jobs/${id}/events`, ended)) await take(event);
  clearInterval(timer);
  stale = true;
  showJob();
  redraw();
}

byId("cancel").addEventListener("click", () => byId("confirm").showModal());
byId("keep").addEventListener("click", () => byId("confirm").close());
byId("really").addEventListener("click", async () => {
  byId("confirm").close();
  try {
    job = await post(`/v1/jobs/${id}/cancel`);
    showJob();
  } catch (error) {
    showProblem(error);
  }
});

byId("resume").addEventListener("click", async () => {
  try {
    await post(`/v1/jobs/${id}/resume`);
    location.reload(); // the history is told from its start again, and followed
  } catch (error) {
    showProblem(error);
  }
});

begin().catch((error) => { byId("state").textContent = "unknown"; showProblem(error); });
