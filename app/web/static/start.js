// The start page: model, data, recipe, guard, submit.

import { call, get } from "/static/api.js";
import { byId, h, scaled, showProblem } from "/static/dom.js";
import { goalOfFields } from "/static/goal.js";
import { columnFields, picker } from "/static/picker.js";
import { RecipeBuilder } from "/static/recipe.js";

const PRESETS = [
  { title: "Quick: int8, no training", steps: [{ technique: "quantize_int8" }] },
  { title: "Fast: half the layers, distil, int8", steps: [{ technique: "prune_layers" }, { technique: "distill" }, { technique: "quantize_int8" }] },
  { title: "Small: prune, share weights", steps: [{ technique: "prune_weights", sparsity: 0.7 }, { technique: "share_weights", clusters: 16 }] },
];
const shape = (tensor) => `${tensor.name} ${tensor.dtype}[${tensor.shape.map((axis) => axis ?? "?").join(", ")}]`;
const lines = (...parts) => h("p", { class: "help" }, parts.filter(Boolean).join(" · "));

const MODEL = {
  noun: "models", query: "model", label: "model", article: "a", accept: ".onnx,.zip", hint: "ONNX file, it and its data files as .zip, or a Hugging Face folder (safetensors) as .zip",
  formatOf: (name) => (name.toLowerCase().endsWith(".zip") ? "huggingface" : "onnx"), fields: () => ({}),
  describe: ({ summary }) => summary && [
    lines(`${scaled(summary.parameters)} parameters`, scaled(summary.onnx_bytes, "B"), `opset ${summary.opset}`, summary.has_tokenizer && "with tokenizer"),
    lines(summary.macs !== null && `${scaled(summary.macs)} MACs per row`, summary.macs_formula && `in all: ${summary.macs_formula}`,
      summary.peak_activation_bytes !== null && `activations per row: ${scaled(summary.peak_activation_bytes, "B")} at the peak`),
    lines(`in: ${summary.inputs.map(shape).join("; ")}`), lines(`out: ${summary.outputs.map(shape).join("; ")}`)],
};
const DATASET = {
  noun: "datasets", query: "dataset", label: "data set", article: "a", accept: ".npz,.csv,.jsonl,.parquet", hint: "npz by input name, or csv, jsonl, parquet",
  formatOf: (name) => name.toLowerCase().split(".").pop(), fields: columnFields,
  describe: ({ summary }) => summary && [
    lines(`${scaled(summary.rows)} rows`, Object.entries(summary.rows_per_split).map(([name, rows]) => `${name} ${rows}`).join(", "),
      Object.keys(summary.classes).length && `${Object.keys(summary.classes).length} classes`),
    lines(`columns: ${summary.columns.slice(0, 12).map((column) => column.name).join(", ")}${summary.columns.length > 12 ? " …" : ""}`)],
};

const chosen = { model: null, dataset: null };
let builder = null;
let idempotencyKey = crypto.randomUUID?.() ?? String(Math.random());

function refresh() {
  const missing = !chosen.model ? "Choose a model first." : wantsGoal() ? needsRows() : !builder?.steps.length ? "Add at least one step." : needsData();
  byId("submit").disabled = Boolean(missing);
  byId("submit-hint").textContent = missing || "Ready.";
  idempotencyKey = crypto.randomUUID?.() ?? String(Math.random()); // another request from here on
}

const wantsGoal = () => document.querySelector("#ways input:checked").value === "goal";
const needsRows = () => (chosen.dataset ? "" : "Candidates are trained and measured: choose a data set.");

// A goal has bounds of its own, so the guard goes with the recipe.
function showWay() {
  const goal = wantsGoal();
  byId("goal-part").hidden = !goal;
  for (const id of ["recipe-part", "guard-title", "guard-drop", "guard-metric"]) byId(id).hidden = goal;
}

function needsData() {
  if (chosen.dataset) return "";
  const step = builder.steps.find(({ technique }) => builder.techniques.get(technique).needs_data);
  return step ? `${builder.techniques.get(step.technique).title} needs data: choose a data set.` : "";
}

// What a recipe says beside its steps.
function recipeOptions() {
  const limit = byId("max-load-ms").value;
  const controls = [...document.querySelectorAll("#controls input:checked")].map((box) => box.value);
  return { ...(limit === "" ? {} : { pack: { max_load_ms: Number(limit) } }), ...(controls.length ? { controls } : {}) };
}

function request() {
  const drop = byId("max-drop").value;
  return {
    model: chosen.model.id, ...(chosen.dataset ? { dataset: chosen.dataset.id } : {}), task: byId("task").value,
    seed: Number(byId("seed").value), ...(wantsGoal() ? { goal: goalOfFields() } : { recipe: { ...builder.value(), ...recipeOptions() } }),
    ...(drop === "" || wantsGoal() ? {} : { guard: { metric: byId("metric").value, max_drop: Number(drop) } }),
  };
}

// Puts each fault at its field, and returns those that have none.
function placeErrors(errors) {
  return errors.filter(({ pointer, detail }) => {
    const field = [...document.querySelectorAll("[data-pointer]")].filter((node) => pointer.startsWith(node.dataset.pointer))
      .sort((a, b) => b.dataset.pointer.length - a.dataset.pointer.length)[0];
    if (!field) return true;
    if (field.tagName === "P") {
      field.textContent = detail;
      return false;
    }
    field.setAttribute("aria-invalid", "true");
    field.closest("details")?.setAttribute("open", "");
    let place = field.parentElement.querySelector("[data-error]");
    if (!place) field.parentElement.append((place = h("p", { class: "field-error", "data-error": pointer })));
    place.textContent = detail;
    field.focus();
    return false;
  });
}

function clearErrors() {
  byId("problem").replaceChildren();
  document.querySelectorAll("[aria-invalid]").forEach((node) => node.removeAttribute("aria-invalid"));
  document.querySelectorAll(".field-error").forEach((node) => (node.textContent = ""));
}

async function submit(event) {
  event.preventDefault();
  clearErrors();
  byId("submit").disabled = true;
  try {
    const response = await call("/v1/jobs", { method: "POST", json: request(), headers: { "Idempotency-Key": idempotencyKey } });
    location.href = `/jobs/${(await response.json()).id}`;
  } catch (error) {
    const homeless = placeErrors(error.problem?.errors ?? []);
    if (error.problem) error.problem.errors = homeless;
    showProblem(error);
    refresh();
  }
}

async function begin() {
  byId("job-form").addEventListener("submit", submit);
  byId("ways").addEventListener("change", showWay);
  byId("job-form").addEventListener("change", refresh);
  showWay(); // a browser that goes back keeps what was chosen
  const page = await get("/v1/techniques");
  builder = new RecipeBuilder(page.items ?? page, () => builder && refresh());
  const offered = PRESETS.filter(({ steps }) => steps.every(({ technique }) => builder.techniques.has(technique)));
  byId("presets").replaceChildren(...offered.map(({ title, steps }) =>
    h("button", { type: "button", onclick: () => { builder.set(structuredClone(steps)); refresh(); } }, title)));
  await Promise.all([
    picker(byId("model-picker"), MODEL, (record) => { chosen.model = record; refresh(); }),
    picker(byId("dataset-picker"), DATASET, (record) => { chosen.dataset = record; refresh(); }),
  ]);
  refresh();
}

begin().catch(showProblem);
