"use strict";
// The page: what happens (state) in `state`, what is seen (view) in the functions that follow. The network is in worker.js.

const state = { rules: null, examples: {}, answers: [], broken: "" };
const element = (id) => document.getElementById(id);
const worker = new Worker("worker.js");

/** A new element with this text and these children. Names come from anywhere: nothing is ever parsed as HTML. */
function make(tag, { text, children = [], ...properties } = {}) {
  const found = Object.assign(document.createElement(tag), properties);
  if (text !== undefined) found.textContent = text.replaceAll(" %", "\u00a0%"); // no number alone at the end of a line
  found.append(...children);
  return found;
}

const exact = (share) => `${(100 * share).toFixed(1)} %`;

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
  const picture = make("img", { src: answer.picture, alt: `Your photograph ${answer.name}` });
  picture.onerror = () => picture.replaceWith(make("div", { className: "blank" }));
  const card = make("article", { id: `answer-${answer.number}`, className: "answer", children: [picture] });
  const file = make("p", { className: "file", text: answer.name });
  if (answer.problem) {
    card.append(make("h3", { text: "This cannot be read as a photograph" }), make("p", { className: "soft", text: answer.problem }), file);
  } else if (!answer.verdict) {
    card.append(make("h3", { className: "soft", text: "Looking …" }), file);
  } else {
    card.append(...spoken(answer.verdict), file, candidates(answer.verdict));
  }
  return card;
}

/** The verdict in plain words. */
function spoken(verdict) {
  if (verdict.familiar === false) {
    return [
      make("h3", { text: "Unlike anything that it knows" }),
      make("p", { className: "warn", text: `This is ${verdict.reason}. It looks most like ${verdict.label}.` }),
    ];
  }
  const sure = exact(surenessOf(verdict));
  if (verdict.promised !== null) {
    const whole = verdict.name === verdict.label && !verdict.reason;
    const more = whole ? "" : ` The ${state.rules.levels[0].name} is less sure: ${verdict.reason}.`;
    return [
      make("h3", { text: saidOf(verdict) }),
      make("p", { className: "right", text: `${sure} sure. Names given like this one are right at least ${Number((100 * verdict.promised).toFixed(1))} % of the time.` }),
      ...(more ? [make("p", { className: "soft", text: more.trim() })] : []),
    ];
  }
  const why = verdict.reason && verdict.reason !== NO_PROMISE ? ` (${verdict.reason})` : "";
  return [
    make("h3", { text: `Likely ${verdict.label}` }),
    make("p", { className: "warn", text: `${sure}. Not sure enough to vouch for${why}.` }),
  ];
}

function candidates(verdict) {
  const rows = verdict.familiar === false ? [] : verdict.candidates.filter((one, k) => k === 0 || one.probability > 0.01);
  return make("ol", { className: "candidates", ariaLabel: "Candidates", children: rows.map((one) => make("li", { children: [
    make("div", { text: one.label }),
    make("span", { text: exact(one.probability) }),
    make("meter", { min: 0, max: 1, value: one.probability, ariaLabel: `Probability of ${one.label}` }),
    ...pictures(one.label),
  ] })) });
}

function pictures(label) {
  const files = state.examples[label] || [];
  if (!files.length) return [];
  return [make("div", { className: "examples", children: files.map((src) => make("img", { src, alt: `Example of ${label}`, loading: "lazy" })) })];
}

/** The classes, with what is above them. */
function showGuide(wanted) {
  const [own, ...above] = state.rules.levels, asked = wanted.trim().toLowerCase();
  const higher = above.filter((level) => level.names.length > 1 && level.names.length < own.names.length);
  const cards = state.rules.classes.flatMap((name, k) => {
    const parents = higher.map((level) => level.names[level.of[k]]).join(", ");
    if (!`${name} ${parents}`.toLowerCase().includes(asked)) return [];
    const under = parents ? [make("div", { className: "soft", text: parents })] : [];
    return [make("li", { children: [make("div", { text: name }), ...under, ...pictures(name)] })];
  });
  element("guide").replaceChildren(
    cards.length ? make("ul", { children: cards }) : make("p", { className: "soft", text: "There is no such class." }),
  );
}

function showPromise() {
  const v = state.rules.verdicts, said = [];
  if (!v) said.push("No photograph was held out when this model was made, so its probabilities are as the network gives them, and nothing is promised.");
  else {
    if (v.threshold !== undefined) said.push(`When it gives a name, it is right at least ${Number((100 * v.accuracy).toFixed(1))} % of the time. On the photographs that this was tested with, ${Math.round(100 * v.share)} % got a name. This holds for photographs like those: other cameras, places or seasons may be harder.`);
    if (v.coverage) said.push("A picture that looks unlike all of them gets no name.");
    said.push(...v.notes.map((note) => `${note.replace(/\.$/, "")}.`));
  }
  element("promise").replaceChildren(...said.map((text) => make("p", { text })));
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
