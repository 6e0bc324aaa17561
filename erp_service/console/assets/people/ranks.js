// Who may manage whom, as the API decides it.

import { may } from "../shell.js";

export const ROLES = ["VIEWER", "STAFF", "ADMIN", "SUPER_ADMIN"];

// Whether they may change a person of this role, or grant it.
export function reaches(me, role) {
  return me.role === "SUPER_ADMIN" || !may({ role }, "ADMIN");
}
