// How a photo gets here: dropped, chosen, pasted, or taken with the camera.

import { Problem } from "./words.js";

const TYPES = ["image/jpeg", "image/png", "image/gif", "image/webp"];
const LARGEST_BYTES = 10 * 10 ** 6;
const LONGEST_SIDE = 3200;

/** `onPhoto(blob)` is called for each; `enabled()` tells whether one is wanted now. */
export function acceptPhotos({ page, input, button, enabled, onPhoto }) {
  button.addEventListener("click", () => input.click());
  input.addEventListener("change", () => {
    const [file] = input.files;
    input.value = "";  // so that the same file can be chosen again
    if (file) onPhoto(file);
  });

  let depth = 0;
  const carries = (event) => event.dataTransfer?.types.includes("Files");
  page.addEventListener("dragenter", (event) => {
    if (!carries(event)) return;
    depth += 1;
    page.classList.toggle("dragging", enabled());
  });
  page.addEventListener("dragleave", (event) => {
    if (carries(event) && --depth <= 0) settle();
  });
  page.addEventListener("dragover", (event) => {
    if (!carries(event)) return;
    event.preventDefault();
    event.dataTransfer.dropEffect = enabled() ? "copy" : "none";
  });
  page.addEventListener("drop", (event) => {
    if (!carries(event)) return;
    event.preventDefault();  // or the browser would show the file in place of the page
    settle();
    const [file] = event.dataTransfer.files;
    if (file && enabled()) onPhoto(file);
  });
  page.addEventListener("paste", (event) => {
    const [file] = event.clipboardData?.files ?? [];
    if (file && enabled()) onPhoto(file);
  });

  function settle() {
    depth = 0;
    page.classList.remove("dragging");
  }
}

/** The photo as the server takes it. Photos it would refuse for their size or format alone are drawn
 * again here, if this browser can read them. */
export async function prepared(photo) {
  if (TYPES.includes(photo.type) && photo.size <= LARGEST_BYTES) return photo;
  try {
    const picture = await createImageBitmap(photo, { imageOrientation: "from-image" });
    const scale = Math.min(1, LONGEST_SIDE / Math.max(picture.width, picture.height));
    const drawn = await toJpeg(picture, Math.round(picture.width * scale), Math.round(picture.height * scale));
    picture.close();
    return drawn;
  } catch {
    return photo;  // the server says what is wrong with it
  }
}

/** Lets a person take their photo; resolves to a JPEG blob, or null when they would rather not. */
export async function takePhoto({ dialog, video, take, cancel }) {
  if (!navigator.mediaDevices?.getUserMedia) {
    throw new Problem("The camera needs a secure page", "Open this page by https, or on the server's own machine; or choose a photo.");
  }
  let stream;
  try {
    stream = await navigator.mediaDevices.getUserMedia({
      video: { facingMode: "user", width: { ideal: 1280 }, height: { ideal: 960 } },
    });
  } catch (error) {
    throw error.name === "NotAllowedError"
      ? new Problem("The camera is not allowed", "Allow it for this page in the browser's address bar, or choose a photo.")
      : new Problem("No camera can be used", "Connect one, close programs that use it, or choose a photo.");
  }
  try {
    video.srcObject = stream;
    take.disabled = true;
    video.onplaying = () => { take.disabled = false; };
    video.play().catch(() => {});
    dialog.showModal();
    return await new Promise((done) => {
      take.onclick = async () => {
        done(await toJpeg(video, video.videoWidth, video.videoHeight).catch(() => null));
        dialog.close();
      };
      cancel.onclick = () => dialog.close();
      dialog.onclose = () => done(null);
    });
  } finally {
    stream.getTracks().forEach((track) => track.stop());
    video.srcObject = null;
    if (dialog.open) dialog.close();
  }
}

function toJpeg(source, width, height) {
  const canvas = Object.assign(document.createElement("canvas"), { width, height });
  canvas.getContext("2d").drawImage(source, 0, 0, width, height);
  return new Promise((done, failed) => {
    canvas.toBlob((blob) => (blob ? done(blob) : failed(new Error("no picture"))), "image/jpeg", 0.93);
  });
}
