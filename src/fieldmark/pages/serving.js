"use strict";
/* A page that asks a service about pictures.

   The state is a plain object, `reduce` leads from one to the next, and `render` shows it; `Service` is all that knows of
   the network, so that another one can stand in its place.

   about  what `/v1/classes` says
   state  {about, cards: [card]}, the newest card first
   card   {id, name, url, file, answer, problem, examples: {label: [url]}, panel, reasons, alike, typed, kept}
          answer, reasons and alike are null until they come; panel: null, "why", "alike" or "wrong"; versus: the class
          that reasons are asked for; problem: {error, hint} of the picture; trouble: {error, hint} of the panel */

const START = { about: null, cards: [] };

// ---- words

function described(about) {
  const promise = about.promised === null
    ? about.calibrated ? "No accuracy can be promised, so no name is vouched for." : "Its probabilities are not calibrated."
    : `Names that it gives are ${promiseOf(about.promised)}, as promised. Where it is not sure enough for a name, it says so.`;
  return `Tells ${about.classes.length.toLocaleString("en")} classes apart. ${promise}`;
}

// ---- state

const changed = (state, id, change) =>
  ({ ...state, cards: state.cards.map((card) => (card.id === id ? { ...card, ...change(card) } : card)) });

function reduce(state, action) {
  switch (action.type) {
    case "about":
      return { ...state, about: action.about };
    case "add":
      return { ...state, cards: [{
        id: action.id, name: action.name, url: action.url, file: action.file, answer: null, problem: null, examples: {},
        panel: null, versus: null, reasons: null, alike: null, trouble: null, typed: "", kept: null,
      }, ...state.cards] };
    case "remove":
      return { ...state, cards: state.cards.filter((card) => card.id !== action.id) };
    case "answer":
      return changed(state, action.id, () => ({ answer: action.answer, problem: null }));
    case "problem":
      return changed(state, action.id, () => ({ problem: action.problem }));
    case "examples":
      return changed(state, action.id, (card) => ({ examples: { ...card.examples, [action.label]: action.pictures } }));
    case "open": {
      const fresh = { panel: action.panel, versus: action.versus ?? null, trouble: null };
      return changed(state, action.id, (card) =>
        action.panel === "why" && action.versus === card.versus && card.reasons ? { panel: "why", trouble: null }
          : action.panel === "why" ? { ...fresh, reasons: null } : fresh);
    }
    case "close":
      return changed(state, action.id, () => ({ panel: null, trouble: null }));
    case "reasons":
      return changed(state, action.id, (card) =>
        card.versus === action.versus ? { reasons: action.reasons } : {});
    case "alike":
      return changed(state, action.id, () => ({ alike: action.alike }));
    case "trouble":
      return changed(state, action.id, () => ({ trouble: action.problem }));
    case "type":
      return changed(state, action.id, () => ({ typed: action.text }));
    case "kept":
      return changed(state, action.id, () => ({ kept: action.label, panel: null }));
    default:
      return state;
  }
}

// ---- the service

const TRIES = 4;
const pause = (seconds) => new Promise((done) => setTimeout(done, 1000 * seconds));

class Refused extends Error {
  constructor(status, problem) {
    super(problem.error);
    this.status = status;
    this.problem = problem;
  }
}

class Service {
  constructor(token) {
    this.token = token;
  }

  /** What the service answers; where it is busy, it is asked again. Throws Refused. */
  async ask(path, body = null) {
    for (let attempt = 1; ; attempt += 1) {
      let response;
      try {
        response = await fetch(path, {
          method: body ? "POST" : "GET", body,
          headers: { ...(this.token ? { Authorization: `Bearer ${this.token}` } : {}), ...(body ? { "Content-Type": "application/octet-stream" } : {}) },
        });
      } catch {
        throw new Refused(0, { error: "The service cannot be reached.", hint: "Is it still running?" });
      }
      if (response.ok) return response.json();
      const wait = Number(response.headers.get("Retry-After"));
      if (!wait || attempt === TRIES)
        throw new Refused(response.status, await response.json().catch(() => ({ error: `The service answered with status ${response.status}.`, hint: "" })));
      await pause(Math.min(wait, 10));
    }
  }
}

// ---- view

const line = (text, kind = "fact") => el("p", { class: kind }, text);

function problem(one) {
  return el("p", { class: "wrong fact" }, `${one.error.replace(/\.$/, "")}.`, one.hint ? ` ${one.hint}` : "");
}

function shot(card) {
  const image = el("img", { src: card.url, alt: `Your picture ${card.name}` });
  image.addEventListener("error", () => image.replaceWith(line("This browser cannot show the picture; the service may read it all the same.", "soft")));
  return el("figure", { class: "shot" }, image, el("figcaption", {}, name(card.name)));
}

function thumbs(pictures, alt) {
  return el("span", { class: "thumbs" }, ...pictures.map((url, at) => el("img", { src: url, alt: `${alt} ${at + 1}` })));
}

const FEW = 3; // candidates are shown whatever their probability

function candidates(card, send) {
  const best = card.answer.label;
  const strange = card.answer.familiar === false;
  return el("ol", { class: "candidates", "aria-label": "Candidates" }, ...card.answer.candidates.filter(({ probability }, at) => at < FEW || probability >= 0.01).map((one) => {
    const pictures = own(card.examples, one.label) ?? [];
    const why = one.label === best ? null : el("button", {
      type: "button", class: "small", "data-key": `why-${one.label}`,
      onclick: () => send({ type: "open", id: card.id, panel: "why", versus: one.label }),
    }, "Why not this one?");
    const below = [pictures.length ? thumbs(pictures, `Known picture of ${one.label},`) : null, why].filter(Boolean);
    return el("li", {}, name(one.label, "b"),
      strange ? el("span", {}) : el("span", { class: "soft" }, shareOf(one.probability)),
      strange ? null : el("progress", { value: one.probability, max: 1, "aria-hidden": "true" }),
      below.length ? el("span", { class: "row" }, ...below) : null);
  }));
}

function buttons(card, about, send) {
  const button = (panel, text, action) => el("button", {
    type: "button", "data-key": panel, "aria-expanded": String(card.panel === panel), onclick: () =>
      send(card.panel === panel ? { type: "close", id: card.id } : { type: "open", id: card.id, panel, ...action }),
  }, text);
  const rival = card.answer.candidates[1]?.label;
  return el("div", { class: "buttons" },
    rival ? button("why", "Show the evidence", { versus: rival }) : null,
    about.search ? button("alike", "Similar pictures") : null,
    about.corrections ? button("wrong", "This is wrong") : null,
    el("button", { type: "button", "data-key": "remove", onclick: () => send({ type: "remove", id: card.id }) }, "Remove"));
}

function why(card) {
  const told = card.reasons;
  if (!told) return el("div", {}, line(`Comparing with ${card.versus} … The first explanation takes some seconds.`, "soft"));
  const figure = (url, text) => el("figure", {}, el("img", { src: url, alt: text }), el("figcaption", {}, text));
  return el("div", {},
    el("h3", {}, "Why ", name(told.first), " and not ", name(told.second), "?"),
    line(told.meaning), told.doubt ? line(`${told.doubt}.`) : null, ...told.notes.map((one) => line(one, "soft")),
    line(`The odds are ${told.odds}.`, "soft"),
    el("div", { class: "maps" },
      figure(told.decided, `What decided: green speaks for ${told.first}, orange against it.`),
      told.regions.length ? figure(told.outlined, `What tells it from ${told.second}; the green outline counts most.`) : null),
    el("div", { class: "places" }, ...told.regions.map((one) =>
      el("div", { class: "place" },
        el("figure", {}, thumbs([one.picture], `${capital(one.title)} in this picture,`),
          el("figcaption", {}, `${capital(one.title)}: ${shareOf(one.share)} of the evidence`)),
        ...[[told.first, one.first], [told.second, one.second]].filter(([, known]) => known.length).map(([label, known]) =>
          el("figure", {}, thumbs(known, `The same place in ${label},`), el("figcaption", {}, "In known pictures of ", name(label))))))));
}

function alike(card) {
  if (!card.alike) return el("div", {}, line("Looking for similar pictures …", "soft"));
  if (!card.alike.length) return el("div", {}, line("The gallery has none."));
  return el("div", {}, el("h3", {}, "The most similar pictures"), el("div", { class: "alike" }, ...card.alike.map((one) =>
    el("figure", {}, one.picture ? el("img", { src: one.picture, alt: "" }) : null,
      el("figcaption", {}, name(one.label ?? "no label", "b"), el("br"), one.same_file ? "the same file" : one.similarity.toFixed(2))))));
}

function wrong(card, about, send, correct) {
  return el("form", { onsubmit: (event) => {
    event.preventDefault();
    correct(card);
  } }, el("div", { class: "field" },
    el("label", {}, "What is it?", el("input", {
      list: "classes", required: true, maxlength: 200, autocomplete: "off", dir: "auto", "data-key": "typed", value: card.typed,
      oninput: (event) => send({ type: "type", id: card.id, text: event.target.value }),
    })),
    el("button", { class: "primary", "data-key": "correct" }, "Keep this")),
  line(about.pictures_kept ? "The picture is kept with it, to train on." : "The picture itself is not kept.", "soft"));
}

function panel(card, about, send, correct) {
  if (!card.panel) return null;
  const shown = { why: () => why(card), alike: () => alike(card), wrong: () => wrong(card, about, send, correct) }[card.panel];
  return el("div", { class: "wide", "data-panel": card.panel }, card.trouble ? problem(card.trouble) : null,
    card.trouble && card.panel !== "wrong" ? null : shown());
}

function cardOf(card, about, send, correct) {
  const head = card.problem ? el("h2", {}, "No verdict")
    : card.answer ? el("h2", {}, name(capital(card.answer.said))) : el("h2", { class: "soft" }, "Looking …");
  return el("article", { class: "card", "data-id": card.id, "aria-label": card.name },
    shot(card),
    el("div", {}, head,
      card.problem ? problem(card.problem) : null,
      ...(card.answer ? sentencesOf(card.answer).map((one) => line(one)) : []),
      card.kept ? el("p", { class: "right fact" }, "Thank you. Kept as ", name(card.kept, "b"), ".") : null,
      card.answer ? candidates(card, send) : null,
      card.answer ? buttons(card, about, send)
        : el("div", { class: "buttons" }, el("button", { type: "button", "data-key": "remove", onclick: () => send({ type: "remove", id: card.id }) }, "Remove"))),
    panel(card, about, send, correct));
}

/** Draw what has changed since `before`, and leave the focus where it was. */
function render(state, before, places, send, correct) {
  const active = document.activeElement;
  const held = { id: active?.closest?.(".card")?.dataset.id, key: active?.dataset?.key };
  const old = new Map(before.cards.map((card) => [card.id, card]));
  const drawn = new Map([...places.cards.children].map((one) => [one.dataset.id, one]));
  const wanted = state.cards.map((card) =>
    old.get(card.id) === card && drawn.has(card.id) ? drawn.get(card.id) : cardOf(card, state.about, send, correct));
  wanted.forEach((one, at) => {
    if (places.cards.children[at] === one) return;
    const stale = drawn.get(one.dataset.id);
    if (stale && stale !== one && stale.isConnected) stale.replaceWith(one);
    else places.cards.insertBefore(one, places.cards.children[at] ?? null);
  });
  while (places.cards.children.length > wanted.length) places.cards.lastElementChild.remove();
  if (!held.id || document.activeElement === active) return;
  const card = places.cards.querySelector(`[data-id="${CSS.escape(held.id)}"]`);
  (card?.querySelector(`[data-key="${CSS.escape(held.key ?? "")}"]`) ?? card?.querySelector("button") ?? places.files).focus();
}

// ---- the page

function tokenOfAddress() {
  const given = new URLSearchParams(location.hash.slice(1)).get("token");
  if (given) {
    history.replaceState(null, "", location.pathname); // not for whoever looks at the screen
    sessionStorage.setItem("fieldmark token", given);
  }
  return given ?? sessionStorage.getItem("fieldmark token") ?? "";
}

function mount() {
  const places = Object.fromEntries(["title", "about", "token", "typed-token", "drop", "files", "camera", "fate", "said", "cards", "classes"]
    .map((id) => [id, document.getElementById(id)]));
  const service = new Service(tokenOfAddress());
  let state = START;
  let counter = 0;

  const send = (action) => {
    const before = state;
    state = reduce(state, action);
    render(state, before, places, send, correct);
    follow(action, before);
  };
  const say = (text) => { places.said.textContent = text; };
  const card = (id) => state.cards.find((one) => one.id === id);
  const asked = (label) => `/v1/explain?versus=${encodeURIComponent(label)}`;

  /** What an action sets in motion. */
  async function follow(action, before) {
    const one = action.id && card(action.id);
    if (action.type === "remove") {
      URL.revokeObjectURL(before.cards.find(({ id }) => id === action.id).url);
      places.files.focus();
    } else if (one && action.type === "open") {
      try {
        if (action.panel === "why" && !one.reasons) {
          const reasons = await service.ask(asked(action.versus), one.file);
          send({ type: "reasons", id: one.id, versus: action.versus, reasons });
          say(`${reasons.meaning} ${reasons.doubt}`);
        } else if (action.panel === "alike" && !one.alike) {
          send({ type: "alike", id: one.id, alike: (await service.ask("/v1/search", one.file)).neighbours });
          say("Similar pictures are shown.");
        } else if (action.panel === "wrong") {
          document.querySelector(`[data-id="${one.id}"] input`)?.focus();
        }
      } catch (error) {
        send({ type: "trouble", id: one.id, problem: told(error) });
        say(told(error).error);
      }
    }
  }

  async function correct(one) {
    try {
      const kept = await service.ask(`/v1/wrong?label=${encodeURIComponent(card(one.id).typed)}`, one.file);
      send({ type: "kept", id: one.id, label: kept.label });
      say(`Kept as ${kept.label}.`);
    } catch (error) {
      send({ type: "trouble", id: one.id, problem: told(error) });
      say(told(error).error);
    }
  }

  const told = (error) => {
    if (!(error instanceof Refused)) throw error;
    if (error.status === 401) askForToken();
    return error.problem;
  };

  // two pictures at a time, so that a folder of them does not fill the service's queue
  const queue = [];
  let atWork = 0;
  async function work() {
    if (atWork >= 2 || !queue.length) return;
    atWork += 1;
    const one = queue.shift();
    try {
      if (card(one.id)) await answer(one);
    } finally {
      atWork -= 1;
      work();
    }
    if (state.about.examples) illustrate(one.id);
  }

  const known = new Map(); // label → a promise of its known pictures

  function knownOf(label) {
    if (!known.has(label)) {
      const asked = service.ask(`/v1/classes/${state.about.classes.indexOf(label)}/pictures`).then(({ pictures }) => pictures);
      asked.catch(() => known.delete(label)); // the next card asks again
      known.set(label, asked);
    }
    return known.get(label);
  }

  /** Known pictures beside the candidates; a verdict does not wait for them. */
  async function illustrate(id) {
    try {
      for (const { label } of (card(id)?.answer?.candidates ?? []).slice(0, 5))
        send({ type: "examples", id, label, pictures: await knownOf(label) });
    } catch (error) {
      if (!(error instanceof Refused)) throw error; // it has its verdict; only pictures are missing
    }
  }

  async function answer(one) {
    try {
      if (one.file.size > state.about.most_bytes)
        throw new Refused(413, { error: `The picture is larger than ${Math.round(state.about.most_bytes / 2 ** 20)} MB`, hint: "Make it smaller." });
      const found = await service.ask("/v1/predict", one.file);
      send({ type: "answer", id: one.id, answer: found });
      say(`${one.name}: ${found.said}. ${sentencesOf(found).join(" ")}`);
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      send({ type: "problem", id: one.id, problem: told(error) });
      say(`${one.name}: ${error.problem.error}`);
    }
  }

  function add(files) {
    for (const file of files) {
      counter += 1;
      const one = { id: `card-${counter}`, name: file.name || "pasted picture", file, url: URL.createObjectURL(file) };
      send({ type: "add", ...one });
      queue.push(one);
    }
    work();
    work();
  }

  function askForToken() {
    places.token.hidden = false;
    places.drop.hidden = true;
    places["typed-token"].focus();
    places.about.textContent = "This service asks for its token.";
  }

  async function begin() {
    try {
      const about = await service.ask("/v1/classes");
      send({ type: "about", about });
      places.title.textContent = about.model;
      document.title = `${about.model} · Fieldmark`;
      places.about.textContent = described(about);
      places.fate.textContent = about.pictures_kept ? "Pictures are kept only if you say that an answer is wrong." : "No picture is kept.";
      places.classes.replaceChildren(...about.classes.map((one) => el("option", { value: one })));
      places.token.hidden = true;
      places.drop.hidden = false;
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      if (error.status === 401) askForToken();
      else places.about.textContent = `${error.problem.error} ${error.problem.hint}`;
    }
  }

  places.token.addEventListener("submit", (event) => {
    event.preventDefault();
    service.token = places["typed-token"].value.trim();
    sessionStorage.setItem("fieldmark token", service.token);
    begin();
  });
  for (const input of [places.files, places.camera])
    input.addEventListener("change", () => {
      add(input.files);
      input.value = "";
    });
  document.addEventListener("dragover", (event) => {
    event.preventDefault();
    places.drop.classList.add("over");
  });
  document.addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) places.drop.classList.remove("over");
  });
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    places.drop.classList.remove("over");
    if (state.about) add(event.dataTransfer.files);
  });
  document.addEventListener("paste", (event) => {
    if (state.about && event.clipboardData?.files.length) add(event.clipboardData.files);
  });
  begin();
}

if (typeof document !== "undefined") mount();
