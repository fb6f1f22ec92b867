// The choice of a face: the portraits there are, and photos a person adds.

import { here } from "./api.js";
import { acceptPhotos, prepared, takePhoto } from "./photo.js";
import { at, verdict } from "./stage.js";
import { Problem } from "./words.js";

const INVITATION = "Or use your own face";
const MANY = 4;

/** What people read under a face. */
function nameOf(face) {
  return face.name ?? "Your photo";
}

export class Faces {
  #stage;
  #upload;
  #onProblem;
  #onChoice;
  #faces = [];
  #chosen = null;
  #open = false;

  /** `upload(photo)` returns a new avatar; `onChoice(face, ratio)` follows the choice. */
  constructor({ stage, upload, onChoice, onProblem }) {
    this.#stage = stage;
    this.#upload = upload;
    this.#onChoice = onChoice;
    this.#onProblem = onProblem;
    acceptPhotos({
      page: document.body,
      input: at("photo"),
      button: at("choose-file"),
      enabled: () => this.#open,
      onPhoto: (photo) => this.#offer(photo),
    });
    at("open-camera").addEventListener("click", () => this.#photograph());
  }

  /** Whether a choice can be made now. */
  open(whether) {
    this.#open = whether;
    at("gallery").disabled = !whether;
    for (const id of ["choose-file", "open-camera"]) at(id).disabled = !whether;
  }

  show(faces) {
    this.#faces = faces;
    at("faces").replaceChildren(...faces.map((face) => this.#choice(face)));
    at("faces").classList.toggle("many", faces.length > MANY);
    if (!faces.length) {
      const none = Object.assign(document.createElement("p"), { className: "hint" });
      none.textContent = "None yet. Add a photo.";
      at("faces").append(none);
    }
    const first = faces.find((face) => face.avatar_id === this.#chosen?.avatar_id) ?? faces[0];
    if (first) this.#choose(first);
  }

  async #choose(face) {
    this.#chosen = face;
    for (const radio of document.querySelectorAll("input[name=face]")) {
      radio.checked = radio.value === face.avatar_id;
    }
    const ratio = await this.#stage.portrait(here(face.image_url), () => face === this.#chosen);
    if (face === this.#chosen) this.#onChoice(face, ratio);
  }

  #choice(face) {
    const label = Object.assign(document.createElement("label"), { className: "face" });
    const radio = Object.assign(document.createElement("input"), {
      type: "radio",
      name: "face",
      value: face.avatar_id,
    });
    radio.addEventListener("change", () => {
      verdict("verdict", true, "");
      this.#choose(face);
    });
    const picture = Object.assign(document.createElement("img"), {
      src: here(face.preview_url),
      alt: "",
      width: 240,
      height: 240,
    });
    const name = Object.assign(document.createElement("span"), { textContent: nameOf(face) });
    label.append(radio, picture, name);
    return label;
  }

  async #offer(photo) {
    if (!this.#open) return;
    const focused = document.activeElement;
    this.open(false);
    at("start").disabled = true;
    at("drop-text").textContent = "Looking at the photo…";
    verdict("verdict", true, "");
    try {
      const made = await this.#upload(await prepared(photo));
      const face = { ...made };
      this.#chosen = face;
      this.show([face, ...this.#faces.filter((each) => each.avatar_id !== face.avatar_id)]);
      verdict("verdict", true, "This photo works", "It is selected.");
    } catch (problem) {
      if (!(problem instanceof Problem)) this.#onProblem(problem);
      else verdict("verdict", false, problem.title, problem.text);
      if (this.#chosen) this.#choose(this.#chosen);
    } finally {
      this.open(true);
      at("drop-text").textContent = INVITATION;
      if (document.activeElement === document.body) focused?.focus();
    }
  }

  async #photograph() {
    try {
      const photo = await takePhoto({
        dialog: at("camera"),
        video: at("viewfinder"),
        take: at("camera-take"),
        cancel: at("camera-cancel"),
      });
      if (photo) await this.#offer(photo);
    } catch (problem) {
      this.#onProblem(problem);
    }
  }
}
