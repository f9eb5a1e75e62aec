// The ways to run a job again: its recipe, or the one that was found for its goal, and the goal itself.

import { sleep } from "/static/api.js";
import { setOptions } from "/static/defaults.js";
import { byId, h } from "/static/dom.js";

function copyable(title, text) {
  const button = h("button", { type: "button", class: "small", onclick: async () => {
    await navigator.clipboard.writeText(text);
    button.textContent = "Copied";
    await sleep(1500);
    button.textContent = "Copy";
  } }, "Copy");
  return [h("div", { class: "copy" }, h("h3", {}, title), navigator.clipboard ? button : null), h("pre", {}, text)];
}

const inputs = (job) => ({ model: job.model, ...(job.dataset ? { dataset: job.dataset } : {}), task: job.task, seed: job.seed });
const curl = (body) =>
  `curl -X POST ${location.origin}/v1/jobs -H 'Content-Type: application/json' -d '${JSON.stringify(body).replaceAll("'", "'\\''")}'`;

function ofRecipe(job, full, techniques) {
  const limit = full.pack?.max_load_ms;
  const pack = full.pack ? { pack: limit ? { max_load_ms: limit } : {} } : {};
  const controls = full.controls.length ? { controls: full.controls } : {};
  const recipe = { version: 1, ...pack, steps: setOptions(full.steps, techniques), ...controls };
  const body = { ...inputs(job), recipe, ...(job.guard ? { guard: job.guard } : {}) };
  const quoted = (value) => (value === null ? "None" : JSON.stringify(value));
  const steps = JSON.stringify(full.pack || full.controls.length ? recipe : recipe.steps).replaceAll(":true", ":True").replaceAll(":false", ":False");
  const python = `from modelpress import Client\njob = Client("${location.origin}").submit("${job.model}", ${steps}, ${quoted(job.dataset)}, task="${job.task}", seed=${job.seed})`;
  return [...copyable(job.goal ? "The recommended recipe" : "Recipe", JSON.stringify(recipe, null, 2)), ...copyable("curl", curl(body)), ...copyable("Python", python),
    h("details", { class: "options" }, h("summary", {}, "Full recipe, defaults included"), copyable("Recipe", JSON.stringify(full, null, 2)))];
}

function ofGoal(job) {
  const goal = Object.fromEntries(Object.entries(job.goal).filter(([, value]) => value !== null));
  return copyable("Look again", curl({ ...inputs(job), goal }));
}

// `found`: the recipe that is recommended for the job's goal, or null
export function drawAgain(job, found, techniques) {
  const recipe = job.recipe ?? found;
  byId("again").replaceChildren(...(recipe ? ofRecipe(job, recipe, techniques) : []), ...(job.goal ? ofGoal(job) : []));
}
