// REST. Every call returns the answer's JSON, or throws a Problem.

import { Problem } from "./words.js";

/** An API key of this machine's own, or null where the server makes none. */
export async function ownKey() {
  const answer = await send("/console/key", { method: "POST" });
  return answer.status === 200 ? (await answer.json()).api_key : null;
}

/** Where the speech socket is. */
export function gatewayUrl() {
  const given = document.querySelector("meta[name=avatar-gateway]")?.content;
  if (given) return given;
  const url = new URL("/v1/ws", location.href);
  url.protocol = url.protocol.replace("http", "ws");
  return url.href;
}

/** An address of the server as this page reaches it: the same path, this page's host. */
export function here(address) {
  const url = new URL(address, location.href);
  return /^\/(media|whep|watch)\//.test(url.pathname) ? url.pathname + url.search : url.href;
}

export class Api {
  #key;

  constructor(key) {
    this.#key = key;
  }

  /** Everybody's portraits, then the account's own, newest first. */
  async avatars() {
    const { public_avatars, my_avatars } = await this.#call("GET", "/v1/avatars");
    return [...public_avatars, ...my_avatars];
  }

  async usage() {
    return (await this.#call("GET", "/v1/usage")).usage;
  }

  /** Send a photo; returns the new avatar. */
  async upload(photo) {
    const form = new FormData();
    form.append("file", photo, photo.name || "photo.jpg");
    return this.#call("POST", "/v1/avatars/upload-face", form);
  }

  /** Start a session in a room of the server's own. */
  async create(avatarId, aspectRatio) {
    return this.#call("POST", "/v1/sessions", {
      avatar: avatarId,
      aspect_ratio: aspectRatio,
      room: { platform: "local" },
    }, { "Idempotency-Key": crypto.randomUUID?.() ?? String(Math.random()) });
  }

  /** End a session; `leaving`: the page is being closed and cannot wait. */
  async end(sessionId, { leaving = false } = {}) {
    const path = `/v1/sessions/${encodeURIComponent(sessionId)}/end`;
    if (leaving) {
      fetch(path, { method: "POST", headers: this.#headers(), keepalive: true }).catch(() => {});
      return null;
    }
    return this.#call("POST", path, {});
  }

  #headers() {
    return { "x-api-key": this.#key };
  }

  async #call(method, path, body, more = {}) {
    const headers = { ...this.#headers(), ...more };
    if (body && !(body instanceof FormData)) {
      headers["Content-Type"] = "application/json";
      body = JSON.stringify(body);
    }
    return read(await send(path, { method, headers, body }));
  }
}

/** The answer's JSON, or its error as a Problem. */
export async function read(answer) {
  const body = await answer.json().catch(() => null);
  if (answer.ok && body) return body;
  const error = body?.error;
  const about = { status: answer.status, code: error?.code ?? "" };
  if (typeof error === "string") throw new Problem(error, adviceFor(answer), about);
  if (error?.message) throw new Problem(error.message, error.suggestion ?? adviceFor(answer), about);
  throw new Problem(`The server answered ${answer.status}`, "Please try again in a moment.", about);
}

function adviceFor(answer) {
  const wait = Number(answer.headers.get("Retry-After"));
  if (wait) return `Please try again in ${wait} seconds.`;
  if (answer.status === 401) return "Check the key and enter it again.";
  return answer.status >= 500 ? "Please try again in a moment." : "";
}

async function send(path, options) {
  try {
    return await fetch(path, { credentials: "same-origin", ...options });
  } catch {
    throw new Problem("The server cannot be reached", "Check that it is running and that you are online, then try again.");
  }
}
