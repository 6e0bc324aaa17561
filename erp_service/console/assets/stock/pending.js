// A posting on its way. It keeps its key until it is answered, also over a reload: sent again, it is booked once.

import { newKey, post } from "../core/api.js";
import { Offline, Problem } from "../core/problem.js";

const STORED = "erp.console.pending";

export function openPosting() {
  return { key: newKey(), kind: null, body: null };
}

// The one that had no answer when this tab was loaded again.
export function unanswered(me) {
  const stored = JSON.parse(sessionStorage.getItem(STORED) ?? "null");
  return stored?.user === me.id ? stored : null;
}

// Raises Problem if it was refused, and Unanswered if it may have been booked: then send the same again.
export async function send(posting, me) {
  sessionStorage.setItem(STORED, JSON.stringify({ ...posting, user: me.id }));
  try {
    const answer = await post(`/inventory/stock/${posting.kind}`, posting.body, { key: posting.key });
    forget();
    return answer;
  } catch (error) {
    if (isUncertain(error)) {
      throw new Unanswered(error);
    }
    forget();
    throw error;
  }
}

export class Unanswered extends Error {
  constructor(reason) {
    super(String(reason));
    this.reason = reason;
  }
}

// Nobody is signed in any more: whether it was booked before that is not known either.
function isUncertain(error) {
  return error instanceof Offline || (error instanceof Problem && (error.isUncertain || error.status === 401));
}

function forget() {
  sessionStorage.removeItem(STORED);
}
