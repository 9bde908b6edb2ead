"use strict";
/* Looking through answers. Of any number of pictures, one page of tiles is in the document at a time.

   page   {groups: [{name, count}], items: [{group, path, link, said, sure, rest, picture}]}, the least sure items first
   state  {group, at, most}; at: the first tile that is shown; most: whether the surest come first */

const EACH = 48;

/** The items of a group, in the order that was asked for. */
function members(state, page) {
  const found = page.items.filter((item) => item.group === state.group);
  return state.most ? found.reverse() : found;
}

function reduce(state, action, page) {
  switch (action.kind) {
    case "group":
      return { ...state, group: action.group, at: 0 };
    case "order":
      return { ...state, most: action.most, at: 0 };
    case "turn": {
      const at = state.at + action.by * EACH;
      return at >= 0 && at < members(state, page).length ? { ...state, at } : state;
    }
    default:
      return state;
  }
}

// ---- what is seen

function tile(item) {
  const image = item.picture
    ? el("img", { src: item.picture, alt: item.said, loading: "lazy", decoding: "async" })
    : el("div", { class: "gone" }, "the file is gone");
  return el(
    "a",
    { class: "tile", href: item.link, title: item.path, target: "_blank", rel: "noopener" },
    image,
    el("p", {}, el("b", {}, item.said), el("span", {}, item.sure)),
    ...(item.rest ? [el("p", {}, item.rest)] : []),
    el("p", { class: "soft" }, item.path.split("/").at(-1)),
  );
}

/** Which items are shown, and how many have no picture on this page. */
function placed(at, some, all, count) {
  const [first, last, whole, left] = [at + 1, at + some, all, count - all].map((number) => number.toLocaleString("en"));
  if (!all) return `${left}, of which none is shown`;
  return `${first}–${last} of ${whole}${count > all ? `, and ${left} that are not shown` : ""}`;
}

function render(state, page) {
  const group = page.groups[state.group];
  const all = members(state, page);
  const shown = all.slice(state.at, state.at + EACH);
  document.getElementById("chosen").textContent = group.name;
  document.getElementById("choose").value = String(state.group);
  for (const [number, button] of [...document.getElementById("verdicts").children].entries())
    button.setAttribute("aria-current", String(number === state.group));
  document.getElementById("tiles").replaceChildren(...shown.map(tile));
  document.getElementById("place").textContent = placed(state.at, shown.length, all.length, group.count);
  document.getElementById("back").disabled = state.at === 0;
  document.getElementById("next").disabled = state.at + EACH >= all.length;
}

function start(page) {
  let state = { group: 0, at: 0, most: false };
  const act = (action) => {
    state = reduce(state, action, page);
    render(state, page);
  };
  const turn = (by) => {
    act({ kind: "turn", by });
    document.getElementById("chosen").focus({ preventScroll: true });
    document.querySelector(".looking").scrollIntoView();
  };
  page.groups.forEach((group, number) => {
    const count = el("span", {}, group.count.toLocaleString("en"));
    const button = el("button", { type: "button" }, el("span", {}, group.name), count);
    button.addEventListener("click", () => act({ kind: "group", group: number }));
    document.getElementById("verdicts").append(button);
    const told = `${group.name} (${group.count.toLocaleString("en")})`;
    document.getElementById("choose").append(el("option", { value: String(number) }, told));
  });
  document.getElementById("choose").addEventListener("change", (event) =>
    act({ kind: "group", group: Number(event.target.value) }),
  );
  document.getElementById("order").addEventListener("change", (event) =>
    act({ kind: "order", most: event.target.value === "most" }),
  );
  document.getElementById("back").addEventListener("click", () => turn(-1));
  document.getElementById("next").addEventListener("click", () => turn(1));
  render(state, page);
}

const told = JSON.parse(document.getElementById("page").textContent);
if (told.items.length) start(told);
