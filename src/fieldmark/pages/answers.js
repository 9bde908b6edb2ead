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

function made(kind, values, ...inside) {
  const element = Object.assign(document.createElement(kind), values);
  element.append(...inside);
  return element;
}

function tile(item) {
  const image = item.picture
    ? made("img", { src: item.picture, alt: item.said, loading: "lazy", decoding: "async" })
    : made("div", { className: "gone" }, "the file is gone");
  return made(
    "a",
    { className: "tile", href: item.link, title: item.path, target: "_blank", rel: "noopener" },
    image,
    made("p", {}, made("b", {}, item.said), made("span", {}, item.sure)),
    ...(item.rest ? [made("p", {}, item.rest)] : []),
    made("p", { className: "soft" }, item.path.split("/").at(-1)),
  );
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
  const rest = group.count > all.length ? `, and ${(group.count - all.length).toLocaleString("en")} that are not shown` : "";
  document.getElementById("place").textContent =
    `${(state.at + 1).toLocaleString("en")}–${(state.at + shown.length).toLocaleString("en")} of ${all.length.toLocaleString("en")}${rest}`;
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
    const count = made("span", {}, group.count.toLocaleString("en"));
    const button = made("button", { type: "button" }, made("span", {}, group.name), count);
    button.addEventListener("click", () => act({ kind: "group", group: number }));
    document.getElementById("verdicts").append(button);
    const told = `${group.name} (${group.count.toLocaleString("en")})`;
    document.getElementById("choose").append(made("option", { value: String(number) }, told));
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
