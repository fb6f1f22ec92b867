// Speech to the avatar over one WebSocket. Each message of the server is an event of its type; the
// connection itself tells "lost", "back" and, once and last, "over" with the reason.

const GRACE_S = 10;
const RETRY_MS = 700;
const CHUNK_S = 0.5;
const WAITING_BYTES = 512 * 1024;

/** End reasons that fatal errors stand for; those of an ended session arrive after a long loss. */
const FATAL = {
  JOIN_FAILED: "join_failed",
  START_FAILED: "join_failed",
  SESSION_ENDED: "connection_lost",
  INVALID_CREDENTIALS: "connection_lost",
};

/** Sample rate of everything that is sent, in Hz. */
export const RATE = 24000;

export class SpeechSocket extends EventTarget {
  #init;
  #url;
  #socket = null;
  #established = false;
  #reason = null;
  #over = false;
  #lostAt = 0;
  #spoken = 0;

  constructor({ url, sessionId, token }) {
    super();
    this.#url = url;
    this.#init = {
      type: "session.init",
      session_id: sessionId,
      session_token: token,
      events: ["playback", "lifecycle", "metrics"],
      audio: { sample_rate: RATE, format: "pcm_s16le", channels: 1 },
      reconnect_grace_s: GRACE_S,
    };
    this.#connect();
  }

  get open() {
    return this.#established && this.#socket.readyState === WebSocket.OPEN;
  }

  /** Open a new stretch of speech; returns its name. */
  begin() {
    const name = `u${++this.#spoken}`;
    this.#send({ type: "agent.speak.begin", utterance_id: name });
    return name;
  }

  /** Samples (Int16Array at RATE) of the open stretch. */
  audio(pcm) {
    if (this.open) this.#socket.send(pcm);
  }

  finish() {
    this.#send({ type: "agent.speak.end" });
  }

  /** Stop what is being said and forget what waits. */
  interrupt() {
    this.#send({ type: "agent.interrupt" });
  }

  /** A whole recording, never far ahead of what the network takes. `wanted()` false: stop. */
  async say(pcm, wanted = () => true) {
    this.begin();
    const step = Math.round(RATE * CHUNK_S);
    for (let at = 0; at < pcm.length && this.open && wanted(); at += step) {
      this.audio(pcm.slice(at, at + step));
      while (this.open && this.#socket.bufferedAmount > WAITING_BYTES) await pause(50);
    }
    if (wanted()) this.finish();
  }

  /** End the session. */
  end() {
    this.#send({ type: "session.end" });
  }

  close() {
    this.#over = true;
    this.#socket.close(1000);
  }

  #send(message) {
    if (this.#socket.readyState === WebSocket.OPEN) this.#socket.send(JSON.stringify(message));
  }

  #connect() {
    const socket = new WebSocket(this.#url);
    socket.binaryType = "arraybuffer";
    this.#socket = socket;
    socket.addEventListener("open", () => this.#send(this.#init));
    socket.addEventListener("message", ({ data }) => this.#hear(JSON.parse(data)));
    socket.addEventListener("close", (event) => this.#closed(event));
  }

  #hear(message) {
    if (message.type === "connection.established") {
      const back = this.#established;
      this.#established = true;
      this.#lostAt = 0;
      if (back) this.#tell("back");
    } else if (message.type === "session.ended") {
      this.#reason = message.reason;
    } else if (message.type === "error" && message.fatal) {
      this.#reason ??= FATAL[message.code] ?? "server_error";
    }
    this.#tell(message.type, message);
  }

  #closed({ code, reason, wasClean }) {
    if (this.#over) return;
    const now = performance.now();
    this.#lostAt ||= now;
    const broken = !wasClean || code === 1006 || code === 1012 || code === 1013;
    if (this.#reason === null && broken && now - this.#lostAt < GRACE_S * 1000) {
      this.#tell("lost");
      setTimeout(() => this.#over || this.#connect(), RETRY_MS);
      return;
    }
    this.#over = true;
    this.#tell("over", { reason: this.#reason ?? (broken ? "connection_lost" : reason || "websocket_closed") });
  }

  #tell(type, detail = {}) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}

export function pause(ms) {
  return new Promise((done) => setTimeout(done, ms));
}
