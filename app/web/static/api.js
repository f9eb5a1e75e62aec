// The REST API from the browser: the key as bearer, problems as errors, pages as one stream, events with resumption.

const KEY = "modelpress-api-key";

export class ApiProblem extends Error {
  constructor(problem) {
    super(problem.detail);
    this.problem = problem;
  }
}

export const key = () => sessionStorage.getItem(KEY) ?? "";
export function keepKey(value) {
  if (value) sessionStorage.setItem(KEY, value);
  else sessionStorage.removeItem(KEY);
}

export async function call(path, { method = "GET", headers = {}, body, json, signal } = {}) {
  const sent = { ...headers };
  if (key()) sent.Authorization = `Bearer ${key()}`;
  if (json !== undefined) sent["Content-Type"] = "application/json";
  const payload = json === undefined ? body : JSON.stringify(json);
  let response;
  try {
    response = await fetch(path, { method, headers: sent, body: payload, signal });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiProblem({
      title: "The server does not answer", detail: "The connection failed.", retryable: true,
      cure: "Check that modelpress is running (modelpress up), then reload this page.",
    });
  }
  if (!response.ok) throw new ApiProblem(await problemOf(response));
  return response;
}

async function problemOf(response) {
  if (response.status === 401) document.dispatchEvent(new Event("key-needed"));
  const fallback = { title: response.statusText || "Error", status: response.status, detail: `The server answered ${response.status}.` };
  return response.json().catch(() => fallback);
}

export const get = async (path) => (await call(path)).json();
export const post = async (path, json, headers = {}) => (await call(path, { method: "POST", json, headers })).json();

export const sleep = (ms) => new Promise((done) => setTimeout(done, ms));

export async function saveFile(path, name) {
  if (!key()) {
    location.href = path; // the browser's own download: progress bar, resumption
    return;
  }
  const answer = await call(path);
  const zipped = answer.headers.get("Content-Disposition")?.includes(".zip"); // a model of 2 GiB and more
  const link = Object.assign(document.createElement("a"), {
    href: URL.createObjectURL(await answer.blob()), download: zipped ? name.replace(/\.onnx$/, ".zip") : name });
  link.click();
  URL.revokeObjectURL(link.href);
}

// EventSource cannot send a bearer key, so the stream is read by fetch; same protocol, same resumption.
export async function* events(path, ended) {
  let last = 0;
  for (let failures = 0; ; ) {
    try {
      const headers = { Accept: "text/event-stream", ...(last ? { "Last-Event-ID": String(last) } : {}) };
      for await (const message of messages((await call(path, { headers })).body)) {
        const event = JSON.parse(message);
        failures = 0;
        if (event.id > last) {
          last = event.id;
          yield event;
        }
      }
    } catch (error) {
      if (error instanceof ApiProblem && error.problem.retryable === false) throw error;
      failures += 1;
    }
    if (await ended().catch(() => false)) return;
    await sleep(Math.min(15000, 500 * 2 ** failures));
  }
}

async function* messages(stream) {
  const decoder = new TextDecoder();
  let rest = "";
  let data = [];
  for (const reader = stream.getReader(); ; ) {
    const { value, done } = await reader.read();
    if (done) return;
    const lines = (rest + decoder.decode(value, { stream: true })).split(/\r\n|\n|\r(?!$)/);
    rest = lines.pop();
    for (const line of lines) {
      if (line.startsWith("data:")) data.push(line.slice(5).replace(/^ /, ""));
      if (line === "" && data.length) {
        yield data.join("\n");
        data = [];
      }
    }
  }
}
