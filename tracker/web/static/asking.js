// What is asked of the daemon by a button without a form: once until it is answered, and a refusal stays until it is read.

import { refusal } from "./dom.js";

const unanswered = new Set(); // as JSON: what a second click means is asked already

export async function ask(link, op, args) {
  const wanted = JSON.stringify([op, args]);
  if (unanswered.has(wanted)) return;
  unanswered.add(wanted);
  try {
    await link.call(op, args);
  } catch (error) {
    refusal(error.message);
  } finally {
    unanswered.delete(wanted);
  }
}
