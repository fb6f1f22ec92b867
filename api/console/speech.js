// What a person says to the portrait: by the talk button, by the sample, or by a file of theirs.

import { decodeRecording } from "./recording.js";
import { RATE } from "./session.js";
import { at, verdict } from "./stage.js";
import { TalkButton } from "./talking.js";
import { Problem } from "./words.js";

const LONGEST_S = 120;
const SHORTEST_S = 0.25;

/**
 * The controls of the talk view. Speech goes to the portrait when the button is let go, or with the
 * box ticked as it is spoken: from loudspeakers that would go round in circles.
 */
export class SpeechControls {
  #conversation = null;
  #talk;
  #speaking = false;
  #live = false;
  #kept = [];
  #awaited = false;  // a recording was sent and is not heard yet
  #onChange;
  #onProblem;

  /** `onChange(state)`: "speaking", "listening" or "quiet". */
  constructor({ onChange, onProblem }) {
    this.#onChange = onChange;
    this.#onProblem = onProblem;
    this.#talk = new TalkButton({
      button: at("talk"),
      label: at("talk-label"),
      begin: () => this.#begin(),
      audio: (pcm) => this.#audio(pcm),
      finish: () => this.#finish(),
      onProblem,
      onChange: () => this.#show(),
    });
    at("interrupt").addEventListener("click", () => {
      this.#conversation?.interrupt();
      at("talk").focus();
    });
    at("sample").addEventListener("click", () => this.#try(async () => {
      await this.#play(await (await fetch("/console/sample.ogg")).blob(), "The sample sentence");
    }));
    at("choose-sound").addEventListener("click", () => at("recording").click());
    at("recording").addEventListener("change", () => this.#try(async () => {
      const [file] = at("recording").files;
      at("recording").value = "";
      if (file) await this.#play(file, file.name);
    }));
  }

  /** From now on speech goes to this one; null: to nobody. */
  connect(conversation) {
    this.#conversation = conversation;
    this.#speaking = this.#awaited = false;
    if (!conversation) this.#talk.close();
    verdict("said", true, "");
    this.#show();
  }

  /** The portrait began or stopped to speak. */
  speaking(whether) {
    this.#speaking = whether;
    if (whether) this.#awaited = false;
    else if (!this.#awaited) verdict("said", true, "");
    this.#show();
  }

  /** What can be pressed now. */
  refresh() {
    const ready = this.#conversation?.live ?? false;
    for (const id of ["talk", "sample", "choose-sound"]) at(id).disabled = !ready;
    at("interrupt").disabled = !ready || !this.#speaking;
  }

  #show() {
    this.refresh();
    if (!this.#conversation) return;
    this.#onChange(this.#speaking ? "speaking" : this.#talk.talking ? "listening" : "quiet");
  }

  #begin() {
    if (this.#speaking) this.#conversation?.interrupt();
    verdict("said", true, "");
    this.#kept = [];
    this.#live = at("live").checked;
    if (this.#live) this.#conversation?.begin();
  }

  #audio(pcm) {
    if (this.#live) return this.#conversation?.audio(pcm);
    this.#kept.push(pcm);
    if (this.#kept.length * pcm.length > LONGEST_S * RATE) this.#talk.stop();
  }

  #finish() {
    if (this.#live) return this.#conversation?.finish();
    const pcm = joined(this.#kept);
    this.#kept = [];
    if (pcm.length >= SHORTEST_S * RATE) this.#conversation?.say(pcm).catch(this.#onProblem);
    else verdict("said", false, "That was too short", "Hold the button for as long as you talk.");
  }

  async #play(file, name) {
    const pcm = await decodeRecording(file, RATE);
    const conversation = this.#conversation;
    if (!conversation) return;
    if (this.#speaking) conversation.interrupt();
    this.#awaited = true;
    verdict("said", true, "Playing", `${name}, ${Math.max(1, Math.round(pcm.length / RATE))} s`);
    await conversation.say(pcm);
  }

  async #try(task) {
    try {
      await task();
    } catch (problem) {
      if (problem instanceof Problem) verdict("said", false, problem.title, problem.text);
      else this.#onProblem(problem);
    }
  }
}

function joined(chunks) {
  const pcm = new Int16Array(chunks.reduce((sum, chunk) => sum + chunk.length, 0));
  let filled = 0;
  for (const chunk of chunks) {
    pcm.set(chunk, filled);
    filled += chunk.length;
  }
  return pcm;
}
