// What a job achieved: verdict, before and after, steps, layers, the way to run it again.

import { drawAgain } from "/static/again.js";
import { call, get, post, saveFile, sleep } from "/static/api.js";
import { drawCauses } from "/static/causes.js";
import { pairBars, shareBars } from "/static/charts.js";
import { byId, duration, facts, figureName, figureValue, h, isShare, problemNotice, scaled, showProblem, table } from "/static/dom.js";
import { drawSearch, recommendedOf } from "/static/search.js";
import { drawSensitivity } from "/static/sensitivity.js";

const id = byId("verdict").dataset.job;
const MANY_LAYERS = 400;
const SLOWEST = 12;
const interval = (estimate, form) => `${form(estimate.value)} (${form(estimate.low)} to ${form(estimate.high)})`;
const signed = (value) => `${value > 0 ? "+" : ""}${Number(value.toPrecision(3))}`.replace("-", "−");
const points = (value) => `${value > 0 ? "+" : ""}${(100 * value).toFixed(2)}`.replace("-", "−");
const percent = (share) => `${(100 * share).toFixed(1)} %`;
const ms = (value) => `${Number(value.toPrecision(3))} ms`;

function changeOf(change, quality) {
  if (change.ratio_interval) return interval(change.ratio_interval, (value) => `${value.toFixed(2)}×`);
  if (change.ratio !== null && change.difference === null) return `${change.ratio.toFixed(2)}×`;
  if (change.difference === null) return "";
  const share = isShare(change.figure);
  const told = share ? `${interval(change.difference, points)} points` : interval(change.difference, signed);
  return `${told}${change.difference.samples ? `, n = ${change.difference.samples}${quality ? ` ${quality.split} rows` : ""}` : ""}`;
}

function drawChanges(report) {
  const mark = (verdict) => h("span", { class: verdict === "better" || verdict === "worse" ? verdict : "unchanged" }, verdict);
  byId("changes").replaceChildren(table(["Figure", ">Before", ">After", ">Change", "Verdict"], report.changes.map((change) => [
    figureName(change.figure), figureValue(change.figure, change.before), figureValue(change.figure, change.after), changeOf(change, report.after.quality), mark(change.verdict)])));
}

function drawControls({ before, after, controls }) {
  byId("controls").hidden = !controls.length;
  if (!controls.length) return;
  const kinds = controls.map(({ kind }) => `>${kind.replaceAll("_", " ").replace(/^./, (first) => first.toUpperCase())}`);
  const score = (name) => ({ quality }) => (quality?.scores[name] ? figureValue(name, quality.scores[name].value) : "");
  const difference = (name) => ({ differences }) => (differences[name]
    ? changeOf({ figure: name, ratio: null, ratio_interval: null, difference: differences[name] }, after.quality) : "");
  const rows = Object.keys(after.quality?.scores ?? {}).flatMap((name) => [
    [figureName(name), ...[before, after, ...controls].map(score(name))],
    ...(controls.some(({ differences }) => differences[name]) ? [["this result's is higher by", "", "", ...controls.map(difference(name))]] : [])]);
  byId("control-table").replaceChildren(table(["Figure", ">The original", ">This result", ...kinds], [
    [figureName("file_bytes"), ...[before, after, ...controls].map(({ file_bytes: size }) => scaled(size, "B"))], ...rows]));
}

function drawCharts({ before, after }) {
  const size = (name, key) => ({ name, before: before[key], after: after[key], format: (value) => scaled(value, "B") });
  const sizes = [size("file", "file_bytes"), size("download (zstd)", "zstd_bytes"), size("memory when loaded", "resident_bytes")];
  pairBars(byId("size-chart"), sizes.filter((row) => row.before !== null && row.after !== null), "Size");
  const like = (timing) => before.latency.find((other) => other.batch_size === timing.batch_size && other.threads === timing.threads);
  pairBars(byId("latency-chart"), after.latency.filter(like).map((timing) => ({
    name: `batch ${timing.batch_size}, ${timing.threads} thread${timing.threads > 1 ? "s" : ""}`, before: like(timing).p50_ms, after: timing.p50_ms, format: ms })), "Latency");
}

function drawSteps(report) {
  const score = ({ quality }) => Object.entries(quality?.scores ?? {}).slice(0, 2).map(([name, value]) => `${name} ${figureValue(name, value.value)}`).join(", ");
  const options = (step) => Object.entries(step.options).filter(([name, value]) => name !== "technique" && value !== null && value?.length !== 0).map(([name, value]) => `${name}=${value}`).join(", ");
  byId("step-table").replaceChildren(table([">#", "Step", ">Time", ">Parameters", ">Non-zero", ">File", "Score", "Notes"], report.steps.map((step) => [
    String(step.index + 1), [h("strong", {}, step.technique), step.changed ? "" : " (changed nothing)", h("div", { class: "help" }, options(step))],
    duration(step.duration_s), scaled(step.measurement.parameters), scaled(step.measurement.nonzeros), scaled(step.measurement.file_bytes, "B"),
    score(step.measurement), step.notes.join("; ")])));
}

function drawLayers({ tensors }) {
  const largest = [...tensors].sort((a, b) => b.dense_bytes - a.dense_bytes).slice(0, MANY_LAYERS);
  const headings = ["Tensor", "Read by", "Shape", "Encoding", ">Bits", ">Entropy", ">Non-zero", ">Values", ">SNR", ">Cosine", ">Time", ">Dense", ">Packed"];
  const rows = largest.map((tensor) => [
    h("code", {}, tensor.name), tensor.operator, tensor.shape.join("×"), tensor.encoding, tensor.bits_per_weight.toFixed(2), tensor.entropy_bits_per_weight.toFixed(2),
    `${((100 * tensor.nonzeros) / Math.max(1, tensor.parameters)).toFixed(1)} %`, scaled(tensor.unique_values), tensor.snr_db === null ? "–" : `${tensor.snr_db.toFixed(1)} dB`,
    tensor.cosine === null ? "–" : tensor.cosine.toFixed(4), tensor.latency_share === null ? "–" : percent(tensor.latency_share),
    scaled(tensor.dense_bytes, "B"), scaled(tensor.packed_bytes, "B")]);
  byId("layer-table").replaceChildren(rows.length ? table(headings, rows) : h("p", { class: "quiet" }, "No weight tensor in the file."),
    tensors.length > MANY_LAYERS ? h("p", { class: "quiet" }, `The ${MANY_LAYERS} largest of ${tensors.length}; all are in the JSON report.`) : "");
}

// What is left belongs to other tensors, and to operators that read none.
function drawShares({ tensors }) {
  const timed = tensors.filter((tensor) => tensor.latency_share !== null).sort((a, b) => b.latency_share - a.latency_share);
  const slowest = timed.slice(0, SLOWEST).map((tensor) => ({ name: tensor.name, share: tensor.latency_share }));
  const shown = slowest.reduce((sum, { share }) => sum + share, 0);
  byId("share-card").hidden = !timed.length;
  shareBars(byId("share-chart"), [...slowest, { name: "everything else", share: Math.max(0, 1 - shown) }], "Where the time goes", percent);
}

function drawEnvironment(report) {
  const { environment, digests } = report;
  facts(byId("environment"), [
    ["processor", environment.cpu], ["flags", environment.cpu_flags.join(" ")], ["threads", String(environment.threads)], ["device", environment.device],
    ["versions", Object.entries({ python: environment.python, ...environment.versions }).map((pair) => pair.join(" ")).join(", ")],
    ["seed", String(report.seed)], ["took", duration(report.duration_s)],
    ...Object.entries(digests).map(([name, digest]) => [`sha256 of ${name}`, h("code", {}, digest)])]);
}

function drawDownloads(job) {
  const button = (text, path, name, primary) =>
    h("button", { type: "button", class: primary ? "primary" : null, onclick: () => saveFile(path, name).catch(showProblem) }, text);
  const content = `/v1/artifacts/${job.artifact}/content?variant=`;
  byId("downloads").replaceChildren(...(job.artifact ? [
    button("Download model.onnx", `${content}packed`, "model.onnx", true), button("Dense variant", `${content}dense`, "dense.onnx")] : []),
    h("button", { type: "button", onclick: () => saveReport("application/json", "report.json") }, "Report (JSON)"),
    h("button", { type: "button", onclick: () => saveReport("text/markdown", "report.md") }, "Model card (Markdown)"));
}

// The report's form follows the Accept header, which a plain link cannot choose.
async function saveReport(type, name) {
  try {
    const blob = await (await call(`/v1/jobs/${id}/report`, { headers: { Accept: type } })).blob();
    h("a", { href: URL.createObjectURL(blob), download: name }).click();
  } catch (error) {
    showProblem(error);
  }
}

async function benchmark(artifact) {
  const place = byId("benchmark-result");
  byId("benchmark").disabled = true;
  place.replaceChildren(h("p", { class: "quiet" }, "Timing both models on a worker…"), h("progress", { "aria-label": "Benchmark" }));
  try {
    let run = await post(`/v1/artifacts/${artifact}/benchmarks`, { batch_sizes: [1, 8], threads: 2 });
    while (!["succeeded", "failed", "cancelled"].includes(run.state)) {
      await sleep(800);
      run = await get(`/v1/benchmarks/${run.id}`);
    }
    place.replaceChildren(run.result ? benchmarkTable(run.result) : problemNotice(run.error ?? { title: `The benchmark was ${run.state}` }));
  } catch (error) {
    showProblem(error, place);
  } finally {
    byId("benchmark").disabled = false;
  }
}

function benchmarkTable({ candidate, original, speedups }) {
  const rows = candidate.latency.map((ours, index) => {
    const theirs = original.latency[index];
    const faster = speedups[`${ours.batch_size}@${ours.threads}`] ?? ours.ratio;
    return [String(ours.batch_size), String(ours.threads), ms(theirs.p50_ms), ms(ours.p50_ms), ms(ours.p95_ms), ms(ours.p99_ms), scaled(ours.throughput_per_s),
      faster ? interval(faster, (value) => `${value.toFixed(2)}×`) : ""];
  });
  return h("div", { class: "scroll" }, table([">Batch", ">Threads", ">Original p50", ">p50", ">p95", ">p99", ">Rows/s", ">Faster"], rows));
}

async function begin() {
  const job = await get(`/v1/jobs/${id}`);
  const techniques = await get("/v1/techniques");
  byId("parent").replaceChildren(job.parent ? h("a", { href: `/jobs/${job.parent}` }, "a candidate of ", h("code", {}, job.parent)) : "");
  let report;
  try {
    report = await get(`/v1/jobs/${id}/report`);
  } catch (error) {
    byId("verdict").textContent = job.error ? job.error.title : "There is no result yet";
    if (job.error) byId("problem").replaceChildren(problemNotice(job.error));
    byId("downloads").replaceChildren(h("a", { class: "button", href: `/jobs/${id}` }, "See the job"));
    return;
  }
  const missed = report.search && !report.search.recommended; // what is told then is of what comes closest
  byId("verdict").textContent = missed ? "The goal is not met" : report.verdict;
  document.title = `${byId("verdict").textContent} · modelpress`;
  const notes = report.notes.length ? h("div", { class: "notice" }, h("strong", {}, "Worth knowing"), h("ul", {}, report.notes.map((note) => h("li", {}, note)))) : "";
  byId("notes").replaceChildren(report.guard ?? job.error ? problemNotice(report.guard ?? job.error) : "", notes);
  drawDownloads(job);
  byId("causes-card").hidden = !report.guard_causes;
  byId("causes-title").textContent = report.guard ? "Why the guard was not met" : "Why the goal was not met";
  if (report.guard_causes) drawCauses(byId("causes"), report.guard_causes);
  drawChanges(report);
  drawControls(report);
  drawSteps(report);
  drawLayers(report);
  drawSensitivity(report);
  drawAgain(job, recommendedOf(report.search)?.recipe ?? null, techniques);
  drawEnvironment(report);
  byId("result").hidden = false; // the charts below take the width that they find
  drawSearch(report.search);
  drawCharts(report);
  drawShares(report);
  byId("benchmark").hidden = !job.artifact;
  byId("benchmark").addEventListener("click", () => benchmark(job.artifact));
}

begin().catch((error) => { byId("verdict").textContent = "The result cannot be shown"; showProblem(error); });
