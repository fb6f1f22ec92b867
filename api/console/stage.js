// The picture and what is written on and under it; the same on every page that shows a portrait.

import { duration } from "./words.js";

const CONNECTION = {
  none: "Not started",
  connecting: "Connecting",
  live: "Live",
  reconnecting: "Reconnecting",
  ended: "Ended",
};

const RATIOS = { "4:3": 4 / 3, "3:4": 3 / 4, "1:1": 1 };

export const at = (id) => document.getElementById(id);

/** The aspect ratio nearest to a picture's. */
export function nearestRatio(width, height) {
  const off = (name) => Math.abs(Math.log(width / height / RATIOS[name]));
  return Object.keys(RATIOS).reduce((best, name) => (off(name) < off(best) ? name : best));
}

/** Write where the page has a place for it. */
function put(id, text) {
  const place = at(id);
  if (place) place.textContent = text;
}

/** Say something to people who listen to the page. */
export function announce(text) {
  at("announce").textContent = text;
}

/** A result under the thing that was tried; an empty title takes it away. */
export function verdict(id, good, title, text = "") {
  const box = at(id);
  box.hidden = !title;
  box.dataset.good = good ? "yes" : "no";
  box.replaceChildren(Object.assign(document.createElement("strong"), { textContent: title }), text);
  if (title) box.scrollIntoView({ block: "nearest" });
}

export class Stage {
  #expires = null;
  #clock = 0;
  #state = "";

  /** Show a portrait at rest, if it is still `wanted` once it is here. Resolves to its ratio. */
  async portrait(url, wanted = () => true) {
    const picture = Object.assign(new Image(), { src: url });
    await picture.decode().catch(() => {});
    if (!picture.naturalWidth) return "4:3";
    if (!wanted()) return nearestRatio(picture.naturalWidth, picture.naturalHeight);
    const poster = at("poster");
    poster.src = url;
    poster.hidden = false;
    at("blank").hidden = true;
    const ratio = nearestRatio(picture.naturalWidth, picture.naturalHeight);
    this.ratio(ratio);
    return ratio;
  }

  ratio(name) {
    at("frame").dataset.ratio = name;
  }

  connection(state) {
    document.body.dataset.connection = state;
    document.body.dataset.picture = state === "live" || state === "reconnecting" ? "yes" : "no";
    const words = CONNECTION[state];
    if (at("badge-text").textContent !== words && state !== "none") announce(words);
    put("fact-connection", words);
    put("badge-text", words);
    at("badge").hidden = state === "none" || state === "connecting";
    this.busy(state === "connecting" ? "Connecting to the portrait…" : "");
  }

  /** What is being waited for; empty: nothing. */
  busy(text) {
    at("spinner").hidden = !text;
    at("spinner-text").textContent = text;
  }

  /** "speaking", "listening", "quiet" or "" when there is nobody. */
  speaking(state) {
    const words = { speaking: "Speaking", listening: "Listening", quiet: "Quiet" }[state] ?? "–";
    if (state && this.#state && state !== this.#state) announce(words);
    this.#state = state;
    put("fact-speaking", words);
    document.body.dataset.speaking = state === "speaking" ? "yes" : "no";
    at("voice").hidden = state !== "speaking";
  }

  latency(ms) {
    put("fact-latency", ms === null ? "–" : `${(ms / 1000).toFixed(2)} s`);
  }

  /** When the session ends by itself: a Date, null for never, undefined when there is none. */
  expires(moment) {
    clearInterval(this.#clock);
    this.#expires = moment;
    this.#tick();
    if (moment) this.#clock = setInterval(() => this.#tick(), 1000);
  }

  #tick() {
    const left = this.#expires;
    put("fact-left", left === undefined ? "–" : left === null ? "No limit" : duration(left - Date.now()));
  }
}
