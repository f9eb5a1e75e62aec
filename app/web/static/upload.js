// Resumable uploads in parts, each with its digest; then the record, followed until a worker has checked it.

import { ApiProblem, call, get, post, sleep } from "/static/api.js";

const PART_BYTES = 8 * 2 ** 20;
const TRIES = 6;

async function digest(part) {
  if (!crypto.subtle) return {}; // plain http on another host than this one: the browser keeps it away
  const bytes = new Uint8Array(await crypto.subtle.digest("SHA-256", await part.arrayBuffer()));
  return { "Content-Digest": `sha-256=:${btoa(String.fromCharCode(...bytes))}:` };
}

async function send(id, file, offset) {
  const part = file.slice(offset, offset + PART_BYTES);
  const end = offset + part.size;
  const headers = {
    "Upload-Offset": String(offset), "Upload-Complete": end === file.size ? "?1" : "?0",
    "Content-Type": "application/partial-upload", ...(await digest(part)),
  };
  await call(`/v1/uploads/${id}`, { method: "PATCH", headers, body: part });
  return end;
}

export async function upload(file, onProgress) {
  const opened = { "Upload-Length": String(file.size), "Upload-Complete": "?0" };
  const { id } = await (await call("/v1/uploads", { method: "POST", headers: opened })).json();
  for (let offset = 0, failures = 0; offset < file.size; onProgress(offset / file.size)) {
    try {
      offset = await send(id, file, offset);
      failures = 0;
    } catch (error) {
      const resumable = error.problem?.retryable || error.problem?.status === 409;
      if (!(error instanceof ApiProblem) || !resumable || ++failures >= TRIES) throw error;
      await sleep(500 * 2 ** failures);
      const { headers } = await call(`/v1/uploads/${id}`, { method: "HEAD" });
      offset = Number(headers.get("Upload-Offset"));
    }
  }
  return id;
}

export async function checked(noun, fields, onStage = null) {
  let record = await post(`/v1/${noun}`, fields, onStage ? {} : { Prefer: "wait=20" });
  while (record.state === "checking") {
    onStage?.(record);
    await sleep(700);
    record = await get(`/v1/${noun}/${record.id}`);
  }
  if (record.state === "rejected") throw new ApiProblem(record.error);
  return record;
}
