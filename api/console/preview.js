// A preview: one button, one sentence, then it is over.

import { gatewayUrl, here, read } from "./api.js";
import { Conversation } from "./conversation.js";
import { decodeRecording } from "./recording.js";
import { pause, RATE } from "./session.js";
import { announce, at, Stage } from "./stage.js";
import { ending, Problem } from "./words.js";

const AFTER_MS = 1200;

const link = `/preview/${document.querySelector("meta[name=avatar-preview]").content}`;
const stage = new Stage();
let conversation = null;
let said = false;

stage.portrait(here(at("poster").dataset.image));

at("play").addEventListener("click", async () => {
  at("play").disabled = true;
  stage.busy("Waking the portrait…");
  try {
    // Both before the link is used up.
    const voice = await fetch("/console/sample.ogg").then((answer) => answer.blob());
    const pcm = await decodeRecording(voice, RATE);
    const { session } = await read(await fetch(`${link}/start`, { method: "POST" }));
    begin(session, pcm);
  } catch (problem) {
    stage.busy("");
    at("play").disabled = false;
    show(problem instanceof Problem ? problem : new Problem("The server cannot be reached", "Please try again."));
    if (problem.status === 404) at("play").hidden = true;
  }
});

function begin(session, pcm) {
  const credentials = JSON.stringify({ session_id: session.session_id, session_token: session.session_token });
  at("video").muted = false;
  at("play").hidden = true;
  at("stop").hidden = false;
  stage.ratio(session.aspect_ratio);
  stage.connection("connecting");
  conversation = new Conversation({
    sessionId: session.session_id,
    token: session.session_token,
    watchUrl: here(session.room.whep_url),
    socketUrl: gatewayUrl(),
    video: at("video"),
    end: () => fetch(`${link}/end`, { method: "POST", body: credentials, keepalive: true }),
  });
  const on = (type, react) => conversation.addEventListener(type, ({ detail }) => react(detail));
  on("connection", (state) => {
    stage.connection(state);
    if (state === "live" && !said) {
      said = true;
      conversation.say(pcm);
    }
  });
  on("speaking", async (whether) => {
    stage.speaking(whether ? "speaking" : "quiet");
    if (whether || !said) return;
    await pause(AFTER_MS);
    conversation?.end();
  });
  on("silent", () => { at("sound").hidden = false; });
  on("over", over);
}

function over(reason) {
  conversation = null;
  stage.connection("ended");
  stage.speaking("");
  at("sound").hidden = at("stop").hidden = true;
  const { title, text, calm } = ending(reason);
  if (calm) show(new Problem("That was the preview", "The link has been used. Ask for a new one to see it again."));
  else show(new Problem(title, text));
  announce(at("title").textContent);
}

function show(problem) {
  at("title").textContent = problem.title;
  at("lead").textContent = problem.text;
}

at("stop").addEventListener("click", () => conversation?.end());

at("sound").addEventListener("click", () => {
  at("sound").hidden = true;
  conversation?.unmute();
});
