// Runs on the audio thread: the microphone at the device's rate in, 20 ms of 16-bit samples at the
// session's rate out, low-passed so that nothing folds back.

const HALF = 24;       // zero crossings of the sinc on either side
const PHASES = 512;    // steps of its table between two zero crossings
const CHUNK_S = 0.02;

/** A windowed-sinc resampler that keeps its state from block to block. */
class Resampler {
  constructor(from, to) {
    this.step = from / to;
    this.scale = Math.min(1, to / from);
    this.reach = Math.ceil(HALF / this.scale);
    this.table = Float32Array.from({ length: HALF * PHASES + 2 }, (_, i) => {
      const x = i / PHASES;
      if (x >= HALF) return 0;
      const window = Math.cos((Math.PI * x) / (2 * HALF)) ** 2;
      return window * (x === 0 ? 1 : Math.sin(Math.PI * x) / (Math.PI * x));
    });
    this.reset();
  }

  reset() {
    this.held = new Float32Array(this.reach);
    this.at = this.reach;
  }

  /** Samples that can be made now. The last `reach` input samples wait for those after them. */
  push(block) {
    const input = new Float32Array(this.held.length + block.length);
    input.set(this.held);
    input.set(block, this.held.length);
    const made = [];
    for (; this.at + this.reach < input.length; this.at += this.step) made.push(this.#sample(input));
    const past = Math.max(0, Math.floor(this.at) - this.reach);
    this.held = input.slice(past);
    this.at -= past;
    return made;
  }

  #sample(input) {
    const middle = Math.floor(this.at);
    let sum = 0;
    for (let i = middle - this.reach + 1; i <= middle + this.reach; i += 1) {
      if (i < 0) continue;
      const place = Math.abs(i - this.at) * this.scale * PHASES;
      const low = Math.floor(place);
      if (low >= HALF * PHASES) continue;
      sum += input[i] * (this.table[low] + (place - low) * (this.table[low + 1] - this.table[low]));
    }
    return sum * this.scale;
  }
}

class Recorder extends AudioWorkletProcessor {
  constructor({ processorOptions: { rate } }) {
    super();
    this.resampler = new Resampler(sampleRate, rate);
    this.chunk = new Int16Array(Math.round(rate * CHUNK_S));
    this.filled = 0;
    this.on = false;
    this.port.onmessage = ({ data }) => (data === "start" ? this.#start() : this.#stop());
  }

  process([channels]) {
    if (this.on && channels.length) this.#take(this.resampler.push(mono(channels)));
    return true;
  }

  #start() {
    this.resampler.reset();
    this.filled = 0;
    this.on = true;
  }

  #stop() {
    if (this.on) {
      this.#take(this.resampler.push(new Float32Array(this.resampler.reach)));
      if (this.filled) this.#send(this.chunk.slice(0, this.filled));
    }
    this.on = false;
    this.port.postMessage("stopped");
  }

  #take(samples) {
    for (const sample of samples) {
      this.chunk[this.filled++] = Math.max(-32768, Math.min(32767, Math.round(sample * 32767)));
      if (this.filled === this.chunk.length) {
        this.#send(this.chunk.slice());
        this.filled = 0;
      }
    }
  }

  #send(pcm) {
    this.port.postMessage(pcm, [pcm.buffer]);
  }
}

function mono(channels) {
  if (channels.length === 1) return channels[0];
  return channels[0].map((_, i) => channels.reduce((sum, each) => sum + each[i], 0) / channels.length);
}

registerProcessor("recorder", Recorder);
