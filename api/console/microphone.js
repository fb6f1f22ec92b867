// The person's own microphone, open for as long as a session runs, heard only while they talk.

import { Problem } from "./words.js";

export class Microphone {
  #rate;
  #onAudio;
  #stream = null;
  #context = null;
  #node = null;
  #stopped = null;

  /** `onAudio(pcm)`: 20 ms of 16-bit samples at `rate` Hz. */
  constructor(rate, onAudio) {
    this.#rate = rate;
    this.#onAudio = onAudio;
  }

  get ready() {
    return this.#node !== null;
  }

  /** Ask for the microphone. Throws a Problem when there is none to be had. */
  async open() {
    if (this.ready) return;
    if (!navigator.mediaDevices?.getUserMedia) {
      throw new Problem("The microphone needs a secure page", "Open this page by https, or on the server's own machine.");
    }
    let stream;
    try {
      stream = await navigator.mediaDevices.getUserMedia({
        audio: { channelCount: 1, echoCancellation: true, noiseSuppression: true, autoGainControl: true },
      });
    } catch (error) {
      throw refusal(error);
    }
    const context = new AudioContext();
    try {
      await context.audioWorklet.addModule(new URL("./recorder-worklet.js", import.meta.url));
      await context.resume();
    } catch {
      stream.getTracks().forEach((track) => track.stop());
      context.close();
      throw new Problem("This browser cannot record here", "Try a current Chrome, Edge, Firefox or Safari.");
    }
    const node = new AudioWorkletNode(context, "recorder", {
      numberOfOutputs: 0,
      processorOptions: { rate: this.#rate },
    });
    node.port.onmessage = ({ data }) => {
      if (data === "stopped") this.#stopped?.();
      else this.#onAudio(data);
    };
    context.createMediaStreamSource(stream).connect(node);
    for (const track of stream.getTracks()) track.enabled = false;
    [this.#stream, this.#context, this.#node] = [stream, context, node];
  }

  start() {
    for (const track of this.#stream.getTracks()) track.enabled = true;
    this.#node.port.postMessage("start");
  }

  /** Resolves when the last of what was said has been handed over. */
  async stop() {
    if (!this.ready) return;
    await new Promise((done) => {
      this.#stopped = done;
      setTimeout(done, 500);
      this.#node.port.postMessage("stop");
    });
    for (const track of this.#stream?.getTracks() ?? []) track.enabled = false;
  }

  close() {
    this.#stream?.getTracks().forEach((track) => track.stop());
    this.#context?.close();
    [this.#stream, this.#context, this.#node] = [null, null, null];
  }
}

/** How loud 16-bit samples are, 0 to 1, as an ear would say. */
export function loudness(pcm) {
  let sum = 0;
  for (const sample of pcm) sum += sample * sample;
  const decibels = 10 * Math.log10(sum / Math.max(1, pcm.length) / 32768 ** 2 + 1e-9);
  return Math.max(0, Math.min(1, (decibels + 55) / 45));
}

function refusal(error) {
  if (error.name === "NotAllowedError") {
    return new Problem("The microphone is not allowed", "Allow it for this page in the browser's address bar, then try again.");
  }
  if (error.name === "NotFoundError") {
    return new Problem("No microphone was found", "Connect one, or play a recording instead.");
  }
  return new Problem("The microphone cannot be used", "Another program may be using it. Close that, then try again.");
}
