"use strict";
// What every page of ours is built of. Names of classes and files come from anywhere: nothing is ever parsed as HTML.

/** An element; children that are text stay text, whatever they hold, and those that are null are left out. */
function el(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value === true) made.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) made.setAttribute(name, value);
  }
  made.append(...children.filter((child) => child !== null));
  return made;
}

/** What a table holds under a name. A class may be called "constructor", which every object has by itself. */
const own = (table, key) => (Object.hasOwn(table, key) ? table[key] : undefined);

/** A name in whatever direction its script runs. */
const name = (text, tag = "bdi") => el(tag, { dir: "auto" }, text);
