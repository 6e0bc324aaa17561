// The files that were chosen on this page, by the id of their import: a reload forgets them.

import { postFile } from "../core/api.js";
import { Problem } from "../core/problem.js";
import { t } from "../core/texts.js";

export const JOBS = "/imports/jobs";
export const ENDED = ["succeeded", "failed", "canceled", "expired"];
// what each kind needs, as the API has it
export const ROLES = { movements: "STAFF", items: "ADMIN", locations: "ADMIN" };

const NAME_LENGTH = 80;
const files = new Map();

export const fileOf = (id) => files.get(id);

// Sends the file while `bar` is seen, and returns the path of the page that shows its import.
export async function submit(file, options, { dry, key, signal, bar }) {
  // of a file that has changed since it was chosen a browser sends nothing, and says nothing
  await file.slice(0, 1).arrayBuffer().catch(() => { throw new Problem(0, { title: t("imports.changed") }); });
  const name = encodeURIComponent([...file.name].slice(-NAME_LENGTH).join(""));
  const headers = { "Idempotency-Key": key, "Content-Disposition": `attachment; filename*=UTF-8''${name}` };
  bar.hidden = false;
  try {
    const { id } = await postFile(JOBS, file, { query: { ...options, dry_run: dry }, headers, signal });
    files.set(id, file);
    return `/imports/${id}?${new URLSearchParams(options)}`;
  } finally {
    bar.hidden = true;
  }
}

// The lines with these numbers, counted from 1: a Map. Of zstd and xz, which no browser unpacks, none.
export async function linesOf(file, wanted, encoding) {
  const found = new Map();
  const magic = Array.from(new Uint8Array(await file.slice(0, 2).arrayBuffer()), (byte) => byte.toString(16)).join("");
  if (["28b5", "fd37"].includes(magic)) {
    return found;
  }
  const bytes = magic === "1f8b" ? file.stream().pipeThrough(new DecompressionStream("gzip")) : file.stream();
  const label = encoding ?? { fffe: "utf-16le", feff: "utf-16be" }[magic] ?? "utf-8";
  const reader = bytes.pipeThrough(new TextDecoderStream(label)).getReader();
  let [number, rest, done] = [0, "", false];
  while (!done && found.size < wanted.size) {
    const read = await reader.read();
    done = read.done;
    const lines = (rest + (read.value ?? "")).split("\n");
    rest = done ? "" : lines.pop();
    for (const line of lines) {
      number += 1;
      if (wanted.has(number)) {
        found.set(number, line);
      }
    }
  }
  reader.cancel();
  return found;
}
