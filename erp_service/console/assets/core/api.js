// The public API, as any other program calls it.

import { base, Offline, Problem, problemOf } from "./problem.js";
import { accessToken, refresh, sessionEnded } from "./session.js";

export { newKey } from "./key.js";

const GATES = new Set(["password-change-required", "second-factor-required"]);
const gates = new Set();

// Called with the slug of a problem that whoever is signed in has to see to before anything else.
export function onGate(listener) {
  gates.add(listener);
}

const API = `${base}/api/v1`;

// `path` below /api/v1. Raises Problem, Offline, or AbortError if `signal`
// says that the answer is not wanted any more. A file is sent as it is.
async function send(method, path, { query, body, headers = {}, signal } = {}) {
  const url = new URL(API + path, location.origin);
  for (const [name, value] of Object.entries(query ?? {})) {
    if (value !== undefined && value !== null && value !== "") {
      url.searchParams.set(name, value);
    }
  }
  const isFile = body instanceof Blob;
  const once = async () => {
    const all = { ...headers, Authorization: `Bearer ${accessToken()}` };
    if (body !== undefined) {
      all["Content-Type"] = isFile ? "application/octet-stream" : "application/json";
    }
    try {
      const content = body === undefined || isFile ? body : JSON.stringify(body);
      return await fetch(url, { method, headers: all, body: content, signal, cache: "no-store" });
    } catch (error) {
      if (error.name === "AbortError") {
        throw error;
      }
      throw new Offline(String(error));
    }
  };
  let answer = await once();
  if (answer.status === 401) {
    await refreshed();
    answer = await once();
  }
  if (!answer.ok) {
    const problem = await problemOf(answer);
    if (problem.status === 401) {
      sessionEnded();
    }
    if (GATES.has(problem.slug)) {
      gates.forEach((listener) => listener(problem.slug));
    }
    throw problem;
  }
  return answer;
}

async function refreshed() {
  try {
    await refresh();
  } catch (error) {
    if (error instanceof Problem && error.status === 401) {
      sessionEnded();
    }
    throw error;
  }
}

export async function get(path, query, options = {}) {
  return (await send("GET", path, { query, ...options })).json();
}

// With the `etag` that `read` gave, it is refused as "stale" if that has changed since.
export async function put(path, body, { key, etag } = {}) {
  const headers = { ...(key && { "Idempotency-Key": key }), ...(etag && { "If-Match": etag }) };
  return (await send("PUT", path, { body, headers })).json();
}

export async function patch(path, body) {
  return (await send("PATCH", path, { body })).json();
}

export async function remove(path, body) {
  await send("DELETE", path, { body });
}

async function tagged(answer) {
  return { data: await answer.json(), etag: answer.headers.get("ETag") };
}

// {data, etag}: what is there, and what `change` says of it.
export async function read(path, { signal } = {}) {
  return tagged(await send("GET", path, { signal }));
}

// As `read`, after a PATCH that is refused as "stale" if it is not the one with this `etag` any more.
export async function change(path, body, etag) {
  return tagged(await send("PATCH", path, { body, headers: { "If-Match": etag } }));
}

// Without a key, for what changes nothing, such as a look-up.
export async function post(path, body, { key, signal } = {}) {
  const headers = key ? { "Idempotency-Key": key } : {};
  const answer = await send("POST", path, { body, headers, signal });
  return answer.status === 204 ? null : answer.json();
}

export async function getFile(path, { signal } = {}) {
  return (await send("GET", path, { signal })).blob();
}

export async function postFile(path, file, options) {
  return (await send("POST", path, { ...options, body: file })).json();
}

// Server-sent events with a token, which an EventSource cannot send. Calls `listener(event, data)`; ends when the
// stream ends. Raises as `get` does.
export async function follow(path, listener, { signal, after } = {}) {
  const headers = after ? { "Last-Event-ID": after } : {};
  const answer = await send("GET", path, { headers, signal });
  if (answer.status === 204) {
    return;
  }
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) {
      return;
    }
    rest += value;
    const blocks = rest.split("\n\n");
    rest = blocks.pop();
    for (const block of blocks) {
      const fields = {};
      for (const line of block.split("\n")) {
        const [, name, text] = /^(\w+): ?(.*)$/.exec(line) ?? [];
        if (name) {
          fields[name] = text;
        }
      }
      if (fields.data) {
        listener(fields.event, JSON.parse(fields.data), fields.id);
      }
    }
  }
}
