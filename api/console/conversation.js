// One session as a person has it: the picture, the speech socket and what both tell, in one place.

import { pause, SpeechSocket } from "./session.js";
import { Viewer } from "./watch.js";

const LAST_WORDS_MS = 400;

/**
 * Events: "connection" ("connecting", "live", "reconnecting"), "speaking" (boolean), "latency" (ms),
 * "refused" (text of an error that does not end anything), "silent" (sound needs a click), and once,
 * last, "over" (reason).
 */
export class Conversation extends EventTarget {
  #socket;
  #viewer;
  #video;
  #heard = new Set();
  #running = true;
  #saying = 0;
  #picture = false;
  #lost = false;
  #leaving;
  #onLeave = () => this.leave();

  /** `end(leaving)` ends the session at the server; leaving: the page is going away. */
  constructor({ sessionId, token, watchUrl, socketUrl, video, end }) {
    super();
    this.#video = video;
    this.#leaving = end;
    this.#socket = new SpeechSocket({ url: socketUrl, sessionId, token });
    this.#viewer = new Viewer({ url: watchUrl, video });
    this.#listen();
    addEventListener("pagehide", this.#onLeave);
  }

  get running() {
    return this.#running;
  }

  get live() {
    return this.#running && this.#picture && this.#socket.open;
  }

  begin() {
    this.#saying += 1;
    this.#socket.begin();
  }

  audio(pcm) {
    this.#socket.audio(pcm);
  }

  finish() {
    this.#socket.finish();
  }

  /** Say a recording (Int16Array); what is being said goes first. */
  async say(pcm) {
    const mine = ++this.#saying;
    await this.#socket.say(pcm, () => this.#running && mine === this.#saying);
  }

  interrupt() {
    this.#saying += 1;
    this.#socket.interrupt();
  }

  /** Start the sound after a click. */
  unmute() {
    this.#video.muted = false;
    return this.#viewer.play();
  }

  /** End it, and wait until the server has said so. */
  async end() {
    this.#saying += 1;
    if (this.#socket.open) this.#socket.end();
    await Promise.race([
      Promise.resolve(this.#leaving(false)).catch(() => {}),
      pause(3000),
    ]);
    await pause(this.#running ? LAST_WORDS_MS : 0);
    this.#over("client_request");
  }

  /** The page is going away. */
  leave() {
    if (!this.#running) return;
    if (this.#socket.open) this.#socket.end();
    this.#leaving(true);
    this.#over("client_request");
  }

  #listen() {
    const socket = this.#socket, viewer = this.#viewer;
    const on = (source, type, react) =>
      source.addEventListener(type, ({ detail }) => this.#running && react(detail));
    on(viewer, "live", () => { this.#picture = true; this.#connection(); });
    on(viewer, "lost", () => { this.#picture = false; this.#connection(); });
    on(viewer, "silent", () => this.#tell("silent"));
    on(viewer, "refused", () => { this.#leaving(false); this.#over("server_error"); });
    on(socket, "lost", () => { this.#lost = true; this.#quiet(); this.#connection(); });
    on(socket, "back", () => { this.#lost = false; this.#connection(); });
    on(socket, "connection.established", () => this.#connection());
    on(socket, "agent.speak.started", ({ segment_id, latency_ms }) => {
      this.#heard.add(segment_id);
      this.#tell("latency", latency_ms);
      this.#tell("speaking", true);
    });
    on(socket, "agent.speak.ended", ({ segment_id }) => {
      this.#heard.delete(segment_id);
      if (!this.#heard.size) this.#tell("speaking", false);
    });
    on(socket, "agent.interrupt.confirmed", () => this.#quiet());
    on(socket, "error", ({ error, fatal }) => { if (!fatal) this.#tell("refused", error); });
    on(socket, "over", ({ reason }) => {
      if (reason === "connection_lost") this.#leaving(false);
      this.#over(reason);
    });
  }

  #quiet() {
    this.#heard.clear();
    this.#tell("speaking", false);
  }

  #connection() {
    const state = this.live ? "live" : this.#lost || this.#picture ? "reconnecting" : "connecting";
    this.#tell("connection", state);
  }

  #over(reason) {
    if (!this.#running) return;
    this.#running = false;
    removeEventListener("pagehide", this.#onLeave);
    this.#viewer.stop({ gone: true });
    this.#socket.close();
    this.#tell("over", reason);
  }

  #tell(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}
