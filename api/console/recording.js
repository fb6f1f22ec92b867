// Sound files: whatever the browser can decode, as 16-bit mono samples.

import { Problem } from "./words.js";

const LONGEST_S = 280;
const LARGEST_BYTES = 100 * 2 ** 20;

/** Decode a file (Blob) to an Int16Array at `rate` Hz. Throws a Problem that says why it cannot be. */
export async function decodeRecording(file, rate) {
  if (file.size > LARGEST_BYTES) throw new Problem("This recording is too large", "Use one of at most 100 MB.");
  let decoded;
  try {
    // The context's rate is the rate the decoder resamples to.
    decoded = await new OfflineAudioContext(1, 1, rate).decodeAudioData(await file.arrayBuffer());
  } catch {
    throw new Problem("This file cannot be played", "Use a WAV, MP3, M4A or OGG recording of speech.");
  }
  if (decoded.duration > LONGEST_S) {
    throw new Problem(
      `This recording is ${Math.ceil(decoded.duration / 60)} minutes long`,
      `Use one of at most ${Math.floor(LONGEST_S / 60)} minutes and ${LONGEST_S % 60} seconds.`,
    );
  }
  return toPcm(decoded);
}

function toPcm(decoded) {
  const channels = Array.from({ length: decoded.numberOfChannels }, (_, i) => decoded.getChannelData(i));
  const pcm = new Int16Array(decoded.length);
  for (let i = 0; i < pcm.length; i += 1) {
    let sum = 0;
    for (const channel of channels) sum += channel[i];
    pcm[i] = Math.max(-32768, Math.min(32767, Math.round((sum / channels.length) * 32767)));
  }
  return pcm;
}
