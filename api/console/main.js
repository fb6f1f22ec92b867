// The page: choose a face, start, talk, end.

import { Api, gatewayUrl, here, ownKey } from "./api.js";
import { Conversation } from "./conversation.js";
import { Faces } from "./faces.js";
import { SpeechControls } from "./speech.js";
import { at, Stage, verdict } from "./stage.js";
import { ending, minutesLeft, Problem } from "./words.js";

const USAGE_EVERY_MS = 60_000;
const LOOK_AGAIN_MS = 4_000;
const KEY = "avatar-api-key";
const VIEWS = { key: "view-key", choosing: "view-choose", starting: "view-choose", live: "view-talk" };

const made = document.querySelector("meta[name=avatar-key]").content === "made";
let api = null;
let chosen = null;
let ratio = "4:3";
let conversation = null;
let usageClock = 0;

const stage = new Stage();
const speech = new SpeechControls({ onChange: (state) => stage.speaking(state), onProblem: tell });
const faces = new Faces({
  stage,
  upload: (photo) => withKey(() => api.upload(photo)),
  onChoice: (face, shape) => {
    [chosen, ratio] = [face, shape];
    invite();
  },
  onProblem: tell,
});

// Phases and messages

function phase(name) {
  document.body.dataset.phase = name;
  for (const id of new Set(Object.values(VIEWS))) at(id).hidden = id !== VIEWS[name];
  invite();
  faces.open(name === "choosing");
}

/** What the start button says, and whether it works. */
function invite() {
  const now = document.body.dataset.phase;
  at("start").disabled = now !== "choosing" || !chosen;
  if (now === "starting") at("start").textContent = "Starting…";
  else at("start").textContent = chosen ? `Talk to ${chosen.name ?? "this face"}` : "Start";
}

function notice(title, text = "", calm = false) {
  at("notice-title").textContent = title;
  at("notice-text").textContent = text;
  at("notice").dataset.kind = calm ? "calm" : "alarm";
  at("notice").hidden = false;
  at("notice").scrollIntoView({ block: "nearest" });
}

function tell(problem) {
  if (!(problem instanceof Problem)) {
    console.error(problem);
    problem = new Problem("Something went wrong on this page", "Reload it and try again.");
  }
  notice(problem.title, problem.text);
}

at("notice-close").addEventListener("click", () => { at("notice").hidden = true; });

// The key

async function open() {
  try {
    const key = made ? await ownKey() : sessionStorage.getItem(KEY);
    if (key) await enter(key);
    else askForKey();
  } catch (problem) {
    refused(problem);
  }
}

async function enter(key) {
  api = new Api(key);
  const [found, usage] = await Promise.all([api.avatars(), api.usage()]);
  showMinutes(usage);
  at("notice").hidden = true;
  phase("choosing");
  faces.show(found);
  lookAgain(found.length).catch(() => {});  // what there is can be used
}

/** On a server's first start its people are made one after the other. */
async function lookAgain(count) {
  await new Promise((done) => setTimeout(done, LOOK_AGAIN_MS));
  if (document.body.dataset.phase !== "choosing") return;
  const found = await api.avatars();
  if (found.length <= count) return;
  faces.show(found);
  await lookAgain(found.length);
}

function askForKey() {
  phase("key");
  at("key").focus();
}

function refused(problem) {
  tell(problem);
  if (problem.status !== 401) return;
  sessionStorage.removeItem(KEY);
  askForKey();
}

at("view-key").addEventListener("submit", async (event) => {
  event.preventDefault();
  const key = at("key").value.trim();
  try {
    await enter(key);
    sessionStorage.setItem(KEY, key);
    at("choose-file").focus();
  } catch (problem) {
    refused(problem);
  }
});

/** Keys the server makes do not live for ever; a page that stays open gets itself a new one. */
async function withKey(task) {
  try {
    return await task();
  } catch (problem) {
    const key = made && problem.status === 401 ? await ownKey().catch(() => null) : null;
    if (!key) throw problem;
    api = new Api(key);
    return task();
  }
}

function showMinutes(usage) {
  at("minutes").textContent = minutesLeft(usage.total_remaining, usage.unlimited);
  at("minutes").hidden = false;
}

async function refreshMinutes() {
  try {
    showMinutes(await withKey(() => api.usage()));
  } catch { /* the next one may get through */ }
}

// The session

at("start").addEventListener("click", async () => {
  at("notice").hidden = true;
  verdict("verdict", true, "");
  phase("starting");
  stage.busy("Waking the portrait…");
  try {
    const { session, usage } = await withKey(() => api.create(chosen.avatar_id, ratio));
    if (usage?.minutes) showMinutes(usage.minutes);
    begin(session);
  } catch (problem) {
    stage.busy("");
    phase("choosing");
    tell(problem);
    at("start").focus();
  }
});

function begin(session) {
  const mine = api;
  stage.ratio(session.aspect_ratio ?? ratio);
  at("video").muted = false;
  conversation = new Conversation({
    sessionId: session.session_id,
    token: session.session_token,
    watchUrl: here(session.room.whep_url),
    socketUrl: gatewayUrl(),
    video: at("video"),
    end: (leaving) => mine.end(session.session_id, { leaving }),
  });
  phase("live");
  at("panel").focus({ preventScroll: true });
  stage.connection("connecting");
  stage.expires(session.expiration ? new Date(session.expiration) : null);
  usageClock = setInterval(refreshMinutes, USAGE_EVERY_MS);
  speech.connect(conversation);
  const on = (type, react) => conversation.addEventListener(type, ({ detail }) => react(detail));
  on("connection", (state) => {
    stage.connection(state);
    speech.refresh();
  });
  on("speaking", (whether) => speech.speaking(whether));
  on("latency", (ms) => stage.latency(ms));
  on("refused", (text) => notice(text, "What you sent was not used."));
  on("silent", () => { at("sound").hidden = false; });
  on("over", over);
}

function over(reason) {
  clearInterval(usageClock);
  conversation = null;
  speech.connect(null);
  at("sound").hidden = true;
  stage.connection("ended");
  stage.speaking("");
  stage.latency(null);
  stage.expires(undefined);
  phase("choosing");
  const { title, text, calm } = ending(reason);
  notice(title, text, calm);
  at("start").focus({ preventScroll: true });
  refreshMinutes();
}

at("end").addEventListener("click", async () => {
  at("end").disabled = true;
  stage.busy("Ending…");
  await conversation?.end();
  at("end").disabled = false;
  stage.busy("");
});

at("sound").addEventListener("click", () => {
  at("sound").hidden = true;
  conversation?.unmute();
});

addEventListener("pageshow", (event) => {
  if (event.persisted) location.reload();  // it ended its session when it was left
});

open();
