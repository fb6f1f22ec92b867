// Watches a room through WHEP: one offer, one answer, sound and picture. It comes back by itself after
// a loss, until it is told to stop.

const GATHER_MS = 1000;
const GRACE_MS = 3000;
const STALL_MS = 5000;
const LONGEST_WAIT_MS = 4000;
const SDP = "application/sdp";

/** Events: "live", "lost", "silent" (sound needs a click), and "refused" with the HTTP status. */
export class Viewer extends EventTarget {
  #url;
  #video;
  #call = null;
  #attempts = 0;
  #retry = 0;
  #stopped = false;

  constructor({ url, video }) {
    super();
    this.#url = url;
    this.#video = video;
    this.#connect();
  }

  /** Hang up for good. `gone`: the room is no more, nobody need be told. */
  stop({ gone = false } = {}) {
    this.#stopped = true;
    if (gone && this.#call) this.#call.resource = null;
    this.#hangUp();
    this.#video.srcObject = null;
  }

  /** Start the sound; needs a person's action in most browsers. */
  async play() {
    try {
      await this.#video.play();
    } catch (error) {
      if (error.name !== "NotAllowedError") return;
      this.#video.muted = true;
      this.#tell("silent");
      await this.#video.play().catch(() => {});
    }
  }

  async #connect() {
    const call = { peer: new RTCPeerConnection() };
    this.#call = call;
    const media = new MediaStream();
    call.peer.addEventListener("track", ({ track }) => {
      media.addTrack(track);
      if (this.#video.srcObject !== media) this.#video.srcObject = media;
      this.play();
    });
    call.peer.addTransceiver("video", { direction: "recvonly" });
    call.peer.addTransceiver("audio", { direction: "recvonly" });
    try {
      await call.peer.setLocalDescription();
      await gathered(call.peer);
      const answer = await fetch(this.#url, {
        method: "POST",
        headers: { "Content-Type": SDP, Accept: SDP },
        body: call.peer.localDescription.sdp,
      });
      const resource = answer.headers.get("Location");
      if (resource) call.resource = new URL(resource, new URL(this.#url, location.href)).href;
      if (call !== this.#call || this.#stopped) return this.#leave(call);
      if (answer.status === 201) {
        await call.peer.setRemoteDescription({ type: "answer", sdp: await answer.text() });
        this.#watch(call);
      } else if ([400, 401, 403, 406, 415].includes(answer.status)) {
        this.stop();
        this.#tell("refused", { status: answer.status });
      } else {
        this.#again();
      }
    } catch {
      if (call === this.#call) this.#again();
    }
  }

  #watch(call) {
    const { peer } = call;
    peer.addEventListener("connectionstatechange", () => {
      if (call !== this.#call) return;
      clearTimeout(call.grace);
      if (peer.connectionState === "connected") this.#attempts = 0;
      else if (peer.connectionState === "disconnected") call.grace = setTimeout(() => this.#again(), GRACE_MS);
      else if (["failed", "closed"].includes(peer.connectionState)) this.#again();
    });
    // A browser is not told that the other side is gone; it sees the picture stand still.
    let seen = 0, since = performance.now();
    call.watchdog = setInterval(() => {
      const frames = this.#video.getVideoPlaybackQuality().totalVideoFrames;
      if (frames !== seen) {
        if (!call.live) {
          call.live = true;
          this.#tell("live");
        }
        seen = frames;
        since = performance.now();
      } else if (document.hidden) {
        since = performance.now();
      } else if (performance.now() - since > STALL_MS) {
        this.#again();
      }
    }, 200);
  }

  #again() {
    if (this.#stopped) return;
    if (this.#call?.live) this.#tell("lost");
    this.#hangUp();
    const wait = Math.min(LONGEST_WAIT_MS, 250 * 2 ** this.#attempts++);
    this.#retry = setTimeout(() => this.#stopped || this.#connect(), wait);
  }

  #hangUp() {
    clearTimeout(this.#retry);
    const call = this.#call;
    this.#call = null;
    if (call) this.#leave(call);
  }

  #leave(call) {
    clearTimeout(call.grace);
    clearInterval(call.watchdog);
    call.peer.close();
    if (call.resource) fetch(call.resource, { method: "DELETE", keepalive: true }).catch(() => {});
    call.resource = null;
  }

  #tell(type, detail = {}) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}

function gathered(peer) {
  if (peer.iceGatheringState === "complete") return Promise.resolve();
  return new Promise((done) => {
    setTimeout(done, GATHER_MS);
    peer.addEventListener("icegatheringstatechange", () => {
      if (peer.iceGatheringState === "complete") done();
    });
  });
}
