// The talk button: held by finger, mouse or key, or pressed once to keep it on.

import { loudness, Microphone } from "./microphone.js";
import { RATE } from "./session.js";

const TAP_MS = 300;

/**
 * `begin()`, `audio(pcm)` and `finish()` receive what is said; `onProblem(problem)` what goes wrong;
 * `onChange(talking)` follows the button.
 */
export class TalkButton {
  #button;
  #label;
  #to;
  #microphone;
  #pressed = false;    // a finger, the mouse or a key holds it
  #latched = false;    // a short press keeps it on
  #since = 0;
  #talking = false;
  #busy = false;

  constructor({ button, label, begin, audio, finish, onProblem, onChange }) {
    this.#button = button;
    this.#label = label;
    this.#to = { begin, finish, onProblem, onChange };
    this.#microphone = new Microphone(RATE, (pcm) => {
      if (!this.#talking) return;
      audio(pcm);
      button.style.setProperty("--voice", loudness(pcm).toFixed(2));
    });
    this.#listen();
  }

  get talking() {
    return this.#talking;
  }

  /** As if it had been let go. */
  stop() {
    this.#pressed = this.#latched = false;
    this.#follow();
  }

  /** The session is over: let the microphone go. */
  close() {
    this.#pressed = this.#latched = this.#talking = false;
    this.#show();
    this.#microphone.close();
  }

  #listen() {
    const button = this.#button;
    button.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      button.setPointerCapture(event.pointerId);
      this.#press();
    });
    for (const type of ["pointerup", "pointercancel", "lostpointercapture"]) {
      button.addEventListener(type, () => this.#release());
    }
    button.addEventListener("contextmenu", (event) => event.preventDefault());
    button.addEventListener("keydown", (event) => {
      if (event.key !== " " && event.key !== "Enter") return;
      event.preventDefault();
      if (!event.repeat) this.#press();
    });
    button.addEventListener("keyup", (event) => {
      if (event.key === " " || event.key === "Enter") {
        event.preventDefault();
        this.#release();
      }
    });
    // Screen readers and voice control click without a pointer.
    button.addEventListener("click", (event) => {
      if (event.detail === 0 && !this.#pressed) {
        this.#press();
        this.#release();
      }
    });
    button.addEventListener("blur", () => this.#release());
  }

  #press() {
    if (this.#pressed || this.#button.disabled) return;
    this.#pressed = true;
    this.#since = performance.now();
    if (this.#latched) {
      this.#latched = false;
      this.#since = -Infinity;  // this press ends it, however short
    } else {
      this.#follow();
    }
  }

  #release() {
    if (!this.#pressed) return;
    this.#pressed = false;
    this.#latched = performance.now() - this.#since < TAP_MS;
    this.#follow();
  }

  /** Bring the microphone to where the button is. */
  async #follow() {
    if (this.#busy) return;
    this.#busy = true;
    try {
      while ((this.#pressed || this.#latched) !== this.#talking) {
        if (this.#talking) await this.#stop();
        else await this.#start();
      }
    } catch (problem) {
      this.#pressed = this.#latched = this.#talking = false;
      this.#to.onProblem(problem);
    } finally {
      this.#busy = false;
      this.#show();
    }
  }

  async #start() {
    if (!this.#microphone.ready) {
      this.#label.textContent = "Allow the microphone…";
      await this.#microphone.open();
      // The question took the finger off the button: it has to be pressed once more.
      if (!this.#pressed) this.#latched = false;
      if (!this.#pressed || this.#button.disabled) return;
    }
    this.#talking = true;
    this.#show();
    this.#to.begin();
    this.#to.onChange(true);
    this.#microphone.start();
  }

  async #stop() {
    await this.#microphone.stop();
    this.#talking = false;
    this.#show();
    this.#to.finish();
    this.#to.onChange(false);
  }

  #show() {
    this.#button.setAttribute("aria-pressed", String(this.#talking));
    this.#label.textContent = this.#talking
      ? this.#latched ? "Press to stop" : "Listening…"
      : "Hold to talk";
    if (!this.#talking) this.#button.style.setProperty("--voice", "0");
  }
}
