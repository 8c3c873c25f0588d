// What is said here goes to the source one after the other; until it is kept there it is not let go of.

import { alarm, announce } from "./parts.js";

const RETRY = 2000;

/** Says, takes back, says again. `onStates` is told what stands of masks whenever something was kept. */
export class History {
  constructor(source, onStates) {
    this.source = source;
    this.onStates = onStates;
    this.done = [];
    this.undone = [];
    this.waiting = 0;
    this.queue = Promise.resolve();
    addEventListener("beforeunload", (event) => this.waiting && event.preventDefault());
  }

  /** Keep changes [{image, category, verdict, runs, tag}]; `text` says what they are. */
  say(changes, text) {
    const entry = { changes, text, events: [] };
    this.undone = [];
    return this.inTurn(() => this.keep(entry, text));
  }

  undo() {
    return this.inTurn(async () => {
      const entry = this.done.pop();
      if (!entry) return announce("Nothing to undo");
      const answer = await this.patiently(() => this.source.undo(entry.events));
      (answer ? this.undone : this.done).push(entry);
      if (answer) this.told(answer, `Undone: ${entry.text}`, true);
    });
  }

  redo() {
    return this.inTurn(async () => {
      const entry = this.undone.pop();
      if (!entry) return announce("Nothing to redo");
      await this.keep(entry, `Again: ${entry.text}`, true);
    });
  }

  async keep(entry, text, needsReload = false) {
    const answer = await this.patiently(() => this.source.correct(entry.changes));
    if (!answer) return;
    entry.events = answer.events;
    this.done.push(entry);
    this.told(answer, text, needsReload);
  }

  told(answer, text, needsReload) {
    this.onStates(answer.states, needsReload);
    announce(text);
  }

  inTurn(act) {
    this.waiting++;
    this.queue = this.queue.then(act).catch((error) => alarm(String(error.message))).finally(() => this.waiting--);
    return this.queue;
  }

  /** Ask until there is an answer: a server that is gone may come back. What it refuses is not asked again. */
  async patiently(ask) {
    for (;;) {
      try {
        const answer = await ask();
        alarm("");
        return answer;
      } catch (error) {
        if (error.isRefused) {
          alarm(`Not saved: ${error.message}`);
          return null;
        }
        alarm("Not saved yet: the server does not answer. Leave this page open; it tries again.");
        await new Promise((wake) => setTimeout(wake, RETRY));
      }
    }
  }
}
