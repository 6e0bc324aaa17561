import { heading } from "../core/ui.js";

export async function view({ main }) {
  main.append(heading("operations"));
}
