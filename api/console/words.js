// What the page says when something ends or fails: what happened, and what to do about it.

/** A failure that a person can read: `title` says what happened, `text` what to do. */
export class Problem extends Error {
  constructor(title, text = "", { code = "", status = 0 } = {}) {
    super(title);
    this.title = title;
    this.text = text;
    this.code = code;
    this.status = status;
  }
}

const ENDS = {
  client_request: ["The session has ended", "You can start another one whenever you like."],
  websocket_closed: ["The session has ended", "The connection was closed."],
  expired: ["Time is up", "This session reached its longest duration. Start a new one to go on."],
  minutes_exhausted: ["No minutes left", "The account's minutes are used up. The person who runs this server can add more."],
  join_failed: ["The portrait could not appear", "The avatar server took too long. Please start again."],
  connection_lost: ["The connection was lost", "Check your network and start again."],
  server_error: ["The avatar server stopped", "Nothing is wrong on your side. Please start again."],
  server_shutdown: ["The server is restarting", "Wait a moment and start again."],
  room_empty: ["The session has ended", "Nobody was watching any more."],
  never_joined: ["The session has ended", "Nobody came to watch it."],
  replaced: ["Continued elsewhere", "This session was taken over by another window."],
};

const CALM = new Set(["client_request", "websocket_closed", "expired", "room_empty", "never_joined", "replaced"]);

/** Why a session ended: `{title, text, calm}`; calm: nothing went wrong. */
export function ending(reason) {
  const [title, text] = ENDS[reason] ?? ["The session has ended", "You can start another one."];
  return { title, text, calm: CALM.has(reason) };
}

/** 14 400 000 ms as "4 h", 5 400 000 as "1 h 30 min", 45 000 as "45 s". */
export function duration(ms) {
  const seconds = Math.max(0, Math.ceil(ms / 1000));
  if (seconds < 60) return `${seconds} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 10) return `${minutes}:${String(seconds % 60).padStart(2, "0")} min`;
  if (minutes < 60) return `${minutes} min`;
  const rest = minutes % 60;
  return rest ? `${Math.floor(minutes / 60)} h ${rest} min` : `${minutes / 60} h`;
}

/** Minutes an account has left, as the page shows them. */
export function minutesLeft(minutes, unlimited = false) {
  if (unlimited || minutes >= 1_000_000) return "Unlimited minutes";
  if (minutes === 1) return "1 minute left";
  return `${minutes.toLocaleString("en")} minutes left`;
}
