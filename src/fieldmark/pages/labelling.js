"use strict";
/* A page on which a person decides about photographs.

   The state is a plain object, `reduce` leads from one to the next, and `render` shows it. Neither knows where the page
   came from or where decisions go: a file today, a server another time.

   page   {kind, key, file, classes: [name], items: [{path, label, candidates: [name], group, picture, facts: [text],
          beside: [{picture, title, label}]}]}; label is null for a photograph that has none
   state  {at, decided: {path: {decision, label}}, past: [{at, before: {path: decision or null}}], finding, grid, chosen}
          finding: null, or {text, at} while a name is being typed; chosen: the paths marked in the grid */

const START = { at: 0, decided: {}, past: [], finding: null, grid: false, chosen: [] };

// ---- names

const plain = (text) => text.normalize("NFKD").replace(/\p{M}/gu, "").toLowerCase().trim().replace(/\s+/g, " ");

/** What the typed text may mean: classes that begin with it, then those that contain it, then a class of that name. */
function matches(text, classes, most = 8) {
  const typed = plain(text);
  if (!typed) return [];
  const named = classes.map((name) => [plain(name), name]);
  const begin = named.filter(([bare]) => bare.startsWith(typed));
  const contain = named.filter(([bare]) => !bare.startsWith(typed) && bare.includes(typed));
  const found = [...begin, ...contain].slice(0, most).map(([, name]) => ({ name, isNew: false }));
  const whole = text.normalize("NFC").trim().replace(/\s+/g, " ");
  return classes.includes(whole) ? found : [...found, { name: whole, isNew: true }];
}

// ---- state

const current = (state, page) => page.items[state.at];
const grouped = (state, page) => page.items.filter((item) => item.group === current(state, page).group);
const targets = (state, page) =>
  state.grid && state.chosen.length
    ? page.items.filter((item) => state.chosen.includes(item.path))
    : [current(state, page)];

/** What giving a name to an item means. */
const labelled = (item, name) =>
  item.label === null
    ? { decision: "label", label: name }
    : { decision: item.label === name ? "accept" : "relabel", label: name };

function withDecisions(state, items, decide) {
  const before = Object.fromEntries(items.map((item) => [item.path, own(state.decided, item.path) ?? null]));
  const made = Object.fromEntries(items.map((item) => [item.path, decide(item)]));
  return {
    ...state,
    decided: { ...state.decided, ...made },
    past: [...state.past, { at: state.at, before }],
    finding: null,
    chosen: [],
  };
}

/** The next item without a decision, from here and round; in the grid, the next group with one. Here, if all have one. */
function onward(state, page) {
  const here = current(state, page).group;
  const order = page.items.map((_, i) => (state.at + 1 + i) % page.items.length);
  const open = order.filter((i) => !Object.hasOwn(state.decided, page.items[i].path));
  const next = (state.grid ? open.find((i) => page.items[i].group !== here) : undefined) ?? open[0];
  return { ...state, at: next ?? state.at, chosen: [], finding: null };
}

/** So many tiles further, within the group. */
function within(state, page, by) {
  const members = grouped(state, page);
  const place = members.indexOf(current(state, page)) + by;
  return place in members ? page.items.indexOf(members[place]) : state.at;
}

function undone(state) {
  const last = state.past.at(-1);
  if (!last) return state;
  const decided = { ...state.decided };
  for (const [path, before] of Object.entries(last.before)) {
    if (before) decided[path] = before;
    else delete decided[path];
  }
  return { ...state, at: last.at, decided, past: state.past.slice(0, -1), chosen: [], finding: null };
}

function reduce(state, action, page) {
  const clamp = (at) => Math.max(0, Math.min(page.items.length - 1, at));
  switch (action.type) {
    case "move":
      return { ...state, at: state.grid ? within(state, page, action.by) : clamp(state.at + action.by), finding: null };
    case "goto":
      return { ...state, at: clamp(action.at) };
    case "accept":
      return withDecisions(
        state, targets(state, page).filter((item) => item.label !== null),
        (item) => ({ decision: "accept", label: item.label }));
    case "drop":
      return withDecisions(state, targets(state, page), () => ({ decision: "drop", label: "" }));
    case "candidate": {
      const name = current(state, page).candidates[action.number];
      return name === undefined ? state : withDecisions(state, targets(state, page), (item) => labelled(item, name));
    }
    case "name":
      return onward(withDecisions(state, targets(state, page), (item) => labelled(item, action.name)), page);
    case "undo":
      return undone(state);
    case "onward":
      return onward(state, page);
    case "find":
      return { ...state, finding: { text: action.text, at: 0 } };
    case "point": {
      const most = matches(state.finding.text, page.classes).length - 1;
      return { ...state, finding: { ...state.finding, at: Math.max(0, Math.min(most, state.finding.at + action.by)) } };
    }
    case "leave":
      return { ...state, finding: null, chosen: state.finding ? state.chosen : [] };
    case "grid":
      return { ...state, grid: !state.grid, chosen: [] };
    case "choose": {
      const path = page.items[action.at ?? state.at].path;
      const rest = state.chosen.filter((one) => one !== path);
      return { ...state, at: action.at ?? state.at, chosen: rest.length < state.chosen.length ? rest : [...rest, path] };
    }
    case "choose all": {
      const paths = grouped(state, page).map((item) => item.path);
      return { ...state, chosen: state.chosen.length === paths.length ? [] : paths };
    }
    default:
      return state;
  }
}

/** The action of a key, or null. */
function actionOf(key, state, page) {
  if (/^[1-9]$/.test(key)) return { type: "candidate", number: Number(key) - 1 };
  const doubting = page.kind === "doubt";
  const columns = state.grid ? page.columns ?? 1 : 1;
  const keys = {
    ArrowLeft: { type: "move", by: -1 },
    ArrowRight: { type: "move", by: 1 },
    ArrowUp: { type: "move", by: -columns },
    ArrowDown: { type: "move", by: columns },
    Enter: { type: "onward" },
    Escape: { type: "leave" },
    a: doubting ? { type: "accept" } : state.grid ? { type: "choose all" } : null,
    d: { type: "drop" },
    r: { type: "find", text: "" },
    u: { type: "undo" },
    g: { type: "grid" },
    "/": { type: "find", text: "" },
    "*": state.grid ? { type: "choose all" } : null,
    " ": state.grid ? { type: "choose" } : null,
  };
  return keys[key.length === 1 ? key.toLowerCase() : key] ?? null;
}

// ---- the table

/** A cell that no spreadsheet runs, as Fieldmark's own tables have it. */
function cell(text) {
  const risky = /^'*[=+\-@\t\r]/.test(text) && !/^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(text);
  const safe = risky ? `'${text}` : text;
  return /[",;\t\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}

function table(decided, page) {
  const rows = page.items.filter((item) => Object.hasOwn(decided, item.path))
    .map((item) => [item.path, decided[item.path].decision, decided[item.path].label]);
  return [["path", "decision", "label"], ...rows].map((row) => row.map(cell).join(",") + "\n").join("");
}

// ---- view

function counts(state, page) {
  const all = Object.values(state.decided);
  const words = { accept: "accepted", relabel: "relabelled", label: "labelled", drop: "dropped" };
  const told = Object.entries(words)
    .map(([what, word]) => [all.filter((one) => one.decision === what).length, word])
    .filter(([number]) => number)
    .map(([number, word]) => `${number} ${word}`);
  return `${all.length} of ${page.items.length} decided${told.length ? `: ${told.join(", ")}` : ""}`;
}

function verdictOf(one) {
  if (!one) return null;
  const words = { accept: "accepted as", relabel: "relabelled", label: "labelled", drop: "dropped" };
  return one.decision === "drop" ? [words.drop] : [`${words[one.decision]} `, name(one.label, "b")];
}

function image(item, big) {
  return item.picture
    ? el("img", { src: item.picture, alt: big ? `The photograph ${item.path}` : "" })
    : el("p", { class: "gone soft" }, "This picture cannot be shown.");
}

function candidates(state, page, send) {
  const item = current(state, page);
  const chosen = own(state.decided, item.path);
  return el("ol", { class: "candidates" }, ...item.candidates.map((one, number) =>
    el("li", {}, el("button", {
      type: "button", "aria-pressed": String(chosen?.label === one && chosen.decision !== "drop"),
      onclick: () => send({ type: "candidate", number }),
    }, el("kbd", {}, String(number + 1)), name(one)))));
}

function finder(state, page, send) {
  if (!state.finding) return el("div", {});
  const found = matches(state.finding.text, page.classes);
  return el("div", { class: "finder" },
    el("label", { for: "typed" }, "Name of the class"),
    el("input", {
      id: "typed", role: "combobox", autocomplete: "off", dir: "auto", "aria-expanded": String(found.length > 0),
      "aria-controls": "found", "aria-activedescendant": found.length ? `found-${state.finding.at}` : null,
      oninput: (event) => send({ type: "find", text: event.target.value }),
    }),
    el("ul", { id: "found", role: "listbox", "aria-label": "Classes" }, ...found.map((one, at) =>
      el("li", {
        id: `found-${at}`, role: "option", "aria-selected": String(at === state.finding.at),
        onclick: () => send({ type: "name", name: one.name }),
      }, one.isNew ? "new class: " : "", name(one.name)))));
}

function button(key, text, action, send, disabled = false) {
  return el("button", { type: "button", disabled, onclick: () => send(action) }, el("kbd", {}, key), text);
}

function buttons(state, page, send) {
  const doubting = page.kind === "doubt";
  return el("div", { class: "buttons" },
    doubting ? button("A", "Accept the label", { type: "accept" }, send) : null,
    button("R", doubting ? "Relabel …" : "Another name …", { type: "find", text: "" }, send),
    button("D", doubting ? "Drop" : "Leave out", { type: "drop" }, send),
    button("U", "Undo", { type: "undo" }, send, !state.past.length),
    state.grid ? button("Space", "Select", { type: "choose" }, send) : null,
    state.grid ? button("*", "Select all", { type: "choose all" }, send) : null,
    button("Enter", state.grid ? "Next group" : "Go on", { type: "onward" }, send));
}

function single(state, page, send) {
  const item = current(state, page);
  const told = verdictOf(own(state.decided, item.path));
  return el("div", { class: "single" },
    el("figure", { class: "picture main" }, image(item, true), el("figcaption", { class: "soft" }, name(item.path))),
    el("div", { class: "about" },
      item.label === null ? null : el("p", { class: "given" }, "Labelled ", name(item.label, "b")),
      ...item.facts.map((text) => el("p", { class: "fact" }, text)),
      el("p", { class: "soft" }, page.kind === "doubt" ? "More likely:" : "Likeliest:"),
      candidates(state, page, send), finder(state, page, send),
      el("p", { class: told ? "told right" : "told soft" }, ...(told ?? ["Not decided yet"])),
      buttons(state, page, send)),
    el("div", { class: "beside" }, ...item.beside.map((one) =>
      el("figure", { class: "picture" },
        one.picture ? el("img", { src: one.picture, alt: "" }) : null,
        el("figcaption", {}, el("span", { class: "soft" }, one.title), el("br"), name(one.label, "b"))))));
}

function tiles(state, page, send) {
  const item = current(state, page);
  const members = grouped(state, page);
  return el("div", { class: "grid" },
    el("p", {}, `${members.length} ${item.label === null ? "taken for" : "labelled"} `, name(item.group, "b"),
      state.chosen.length ? `, ${state.chosen.length} selected` : ". Select several, and name them together."),
    candidates(state, page, send), finder(state, page, send), buttons(state, page, send),
    el("div", { class: "tiles" }, ...members.map((one) => {
      const told = verdictOf(own(state.decided, one.path));
      return el("button", {
        type: "button", class: one === item ? "tile here" : "tile", "data-path": one.path,
        "aria-pressed": String(state.chosen.includes(one.path)), "aria-current": one === item ? "true" : null,
        "aria-label": one.path, onclick: () => send({ type: "choose", at: page.items.indexOf(one) }),
      }, image(one, false), el("span", { class: told ? "right" : "soft" },
        ...(told ?? [one.label === null ? "no label yet" : name(one.label)])));
    })));
}

function spoken(state, page) {
  const item = current(state, page);
  const one = own(state.decided, item.path);
  const given = item.label === null ? "" : `, labelled ${item.label}`;
  const told = one ? ` Decided: ${one.decision} ${one.label}.` : "";
  return `${state.at + 1} of ${page.items.length}: ${item.path}${given}.${told}`;
}

function render(state, page, send, places) {
  places.stage.replaceChildren(state.grid ? tiles(state, page, send) : single(state, page, send));
  places.count.textContent = counts(state, page);
  places.progress.value = Object.keys(state.decided).length;
  places.said.textContent = spoken(state, page);
  places.place.textContent = `${state.at + 1} / ${page.items.length}`;
  places.grid.setAttribute("aria-pressed", String(state.grid));
  const input = document.getElementById("typed");
  if (input) {
    input.value = state.finding.text;
    input.focus();
  }
}

// ---- the page

function opened(key) {
  try {
    return { ...START, ...JSON.parse(localStorage.getItem(key)) };
  } catch {
    return START;
  }
}

function kept(key, state) {
  try {
    localStorage.setItem(key, JSON.stringify({ at: state.at, decided: state.decided, past: state.past }));
  } catch {
    // a browser that keeps nothing: the decisions live as long as the page
  }
}

function save(state, page) {
  const address = URL.createObjectURL(new Blob([table(state.decided, page)], { type: "text/csv" }));
  el("a", { href: address, download: page.file }).click();
  setTimeout(() => URL.revokeObjectURL(address), 10000);
}

/** How many tiles stand in a row. */
function columnsOf() {
  const boxes = [...document.querySelectorAll(".tile")];
  return Math.max(1, boxes.filter((one) => one.offsetTop === boxes[0].offsetTop).length);
}

function mount(page) {
  const places = Object.fromEntries(
    ["stage", "count", "progress", "said", "place", "grid", "save"].map((id) => [id, document.getElementById(id)]));
  const key = `fieldmark ${page.key}`;
  let state = opened(key);
  state = { ...state, at: Math.max(0, Math.min(page.items.length - 1, state.at)) };
  const send = (action) => {
    const focused = document.activeElement?.dataset?.path;
    state = reduce(state, action, page);
    kept(key, state);
    render(state, page, send, places);
    if (focused) document.querySelector(`[data-path="${CSS.escape(focused)}"]`)?.focus();
  };
  places.progress.max = page.items.length;
  places.grid.addEventListener("click", () => send({ type: "grid" }));
  places.save.addEventListener("click", () => save(state, page));
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
    const act = (action) => {
      event.preventDefault();
      send(action);
    };
    if (event.target.id === "typed") {
      const found = matches(state.finding.text, page.classes);
      if (event.key === "Escape") act({ type: "leave" });
      else if (event.key === "ArrowDown") act({ type: "point", by: 1 });
      else if (event.key === "ArrowUp") act({ type: "point", by: -1 });
      else if (event.key === "Enter") act(found.length ? { type: "name", name: found[state.finding.at].name } : {});
      return;
    }
    const pressing = event.target.closest?.("button, a") && (event.key === "Enter" || event.key === " ");
    if (pressing && !event.target.dataset.path) return; // the button's own
    if (event.key.toLowerCase() === "s") {
      event.preventDefault();
      save(state, page);
      return;
    }
    const action = actionOf(event.key, state, { ...page, columns: state.grid ? columnsOf() : 1 });
    if (action) act(action);
  });
  render(state, page, send, places);
}

if (typeof document !== "undefined") mount(JSON.parse(document.getElementById("page").textContent));
