"use strict";
// The page: what happens (state) in `state`, what is seen (view) in the functions that follow. The network is in worker.js.

const state = { rules: null, examples: {}, answers: [], broken: "" };
const element = (id) => document.getElementById(id);
const worker = new Worker("worker.js");

/** Text in which no percent sign stands alone at the beginning of a line. */
const words = (text) => text.replaceAll(" %", "\u00a0%");
const line = (text, kind = "") => el("p", { class: kind }, words(text));

// ---- what happens

worker.onmessage = ({ data }) => {
  if (data.rules) {
    state.rules = data.rules;
    element("files").disabled = false;
    showGuide("");
    showPromise();
    showAbout();
  } else if (data.broken) {
    state.broken = data.broken;
  } else {
    Object.assign(state.answers[data.number], data);
    showAnswer(state.answers[data.number]);
  }
  showStatus();
};
worker.onerror = () => { state.broken = "the worker cannot start"; showStatus(); };

function ask(files) {
  if (!state.rules) return;
  for (const file of files) {
    const answer = { number: state.answers.length, name: file.name || "pasted picture", picture: URL.createObjectURL(file) };
    state.answers.push(answer);
    worker.postMessage({ number: answer.number, blob: file });
    showAnswer(answer);
  }
  showStatus();
}

element("files").onchange = ({ target }) => { ask([...target.files]); target.value = ""; };
document.addEventListener("paste", (event) => ask([...event.clipboardData.files]));
for (const kind of ["dragover", "dragleave", "drop"]) {
  document.addEventListener(kind, (event) => {
    event.preventDefault();
    element("place").classList.toggle("over", kind === "dragover");
    if (kind === "drop") ask([...event.dataTransfer.files]);
  });
}
element("find").oninput = ({ target }) => showGuide(target.value);

// ---- what is seen

function showStatus() {
  const waiting = state.answers.filter((one) => !one.verdict && !one.problem).length;
  const place = element("status");
  place.classList.toggle("wrong", Boolean(state.broken));
  if (state.broken) {
    const why = typeof WebAssembly === "undefined" ? "this browser has no WebAssembly; a current one has" : state.broken;
    place.textContent = `The model cannot be used here: ${why}.`;
  } else if (!state.rules) place.textContent = "Loading the model …";
  else if (waiting) place.textContent = `Looking at ${waiting} photograph${waiting === 1 ? "" : "s"} …`;
  else place.textContent = state.answers.length ? "" : "Ready.";
}

function showAnswer(answer) {
  const before = element(`answer-${answer.number}`), card = cardOf(answer);
  if (before) before.replaceWith(card); else element("answers").prepend(card);
}

function cardOf(answer) {
  const picture = el("img", { src: answer.picture, alt: `Your photograph ${answer.name}` });
  picture.onerror = () => picture.replaceWith(el("div", { class: "blank" }));
  const file = el("p", { class: "file" }, name(answer.name));
  const told = answer.problem
    ? [el("h3", {}, "This cannot be read as a photograph"), line(answer.problem, "soft"), file]
    : answer.verdict
      ? [...spoken(answer.verdict), file, candidates(answer.verdict)]
      : [el("h3", { class: "soft" }, "Looking …"), file];
  return el("article", { id: `answer-${answer.number}`, class: "answer" }, picture, ...told);
}

/** The verdict in plain words. */
function spoken(verdict) {
  const [first, ...rest] = sentencesOf(verdict);
  return [
    el("h3", {}, name(capital(verdict.said))),
    line(first, verdict.promised === null ? "warn" : "right"),
    ...rest.map((one) => line(one, "soft")),
  ];
}

function candidates(verdict) {
  const rows = verdict.familiar === false ? [] : verdict.candidates.filter((one, k) => k === 0 || one.probability > 0.01);
  const shown = rows.map((one) => el(
    "li", {},
    name(one.label, "div"),
    el("span", {}, words(shareOf(one.probability))),
    el("meter", { min: 0, max: 1, value: one.probability, "aria-label": `Probability of ${one.label}` }),
    pictures(one.label),
  ));
  return el("ol", { class: "candidates", "aria-label": "Candidates" }, ...shown);
}

function pictures(label) {
  const files = own(state.examples, label) ?? [];
  if (!files.length) return null;
  const shown = files.map((src) => el("img", { src, alt: `Example of ${label}`, loading: "lazy" }));
  return el("div", { class: "examples" }, ...shown);
}

/** The classes, with what is above them. */
function showGuide(wanted) {
  const [own, ...above] = state.rules.levels, asked = wanted.trim().toLowerCase();
  const higher = above.filter((level) => level.names.length > 1 && level.names.length < own.names.length);
  const cards = state.rules.classes.flatMap((label, k) => {
    const parents = higher.map((level) => level.names[level.of[k]]).join(", ");
    if (!`${label} ${parents}`.toLowerCase().includes(asked)) return [];
    return [el("li", {}, name(label, "div"), parents ? el("div", { class: "soft" }, parents) : null, pictures(label))];
  });
  element("guide").replaceChildren(cards.length ? el("ul", {}, ...cards) : line("There is no such class.", "soft"));
}

function showPromise() {
  const v = state.rules.verdicts, said = [];
  if (!v) said.push("No photograph was held out when this model was made, so its probabilities are as the network gives them, and nothing is promised.");
  else {
    if (v.threshold !== undefined) said.push(`When it gives a name, it is ${promiseOf(v.accuracy)}. On the photographs that this was tested with, ${shareOf(v.share)} got a name. This holds for photographs like those: other cameras, places or seasons may be harder.`);
    said.push("A picture that looks unlike everything that it was tested with gets no name.");
    said.push(...v.notes.map((note) => `${note.replace(/\.$/, "")}.`));
  }
  element("promise").replaceChildren(...said.map((text) => line(text)));
}

function showAbout() {
  const about = state.rules.about, words = [`Made by ${about.made_by}`, about.network];
  if (about.license) words.push(`licence of the weights it began with: ${about.license}`);
  element("about").textContent = `${words.join("; ")}. It runs in this browser and, once loaded, without a network.`;
}

// ---- without a network

fetch("examples.json").then((answer) => answer.json()).then((found) => {
  state.examples = found;
  if (state.rules) showGuide(element("find").value);
}, () => {});
if ("serviceWorker" in navigator) navigator.serviceWorker.register("offline.js").catch(() => {});
