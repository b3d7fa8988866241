"use strict";
/** Helpers: elements, whose text is never parsed as HTML, and formatted numbers. */
window.Featlight = window.Featlight || {};

(() => {
  const SVG = new Set(["svg", "path", "line", "text", "g", "circle", "rect", "title"]);

  /**
   * Create an element.
   * @param {string} kind      tag and classes: "p.soft"
   * @param {Object} [values]  attributes, and listeners as `on...`; null and false are left out
   * @param {...(Node|string|null)} children
   */
  function make(kind, values = {}, ...children) {
    const [tag, ...classes] = kind.split(".");
    const element = SVG.has(tag)
      ? document.createElementNS("http://www.w3.org/2000/svg", tag)
      : document.createElement(tag);
    if (classes.length) element.setAttribute("class", classes.join(" "));
    for (const [name, value] of Object.entries(values)) {
      if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
      else if (value !== null && value !== false) element.setAttribute(name, value === true ? "" : value);
    }
    element.append(...children.flat().filter((child) => child !== null));
    return element;
  }

  /** Format a number with three digits: 3.74, 0.0142, 1280, −0.5. */
  function number(value) {
    if (value === null || value === undefined) return "–";
    return String(Number(value.toPrecision(3))).replace("-", "−");
  }

  /** "1 tile", "2 tiles". */
  function count(many, noun) {
    return `${many.toLocaleString("en")} ${noun}${many === 1 ? "" : "s"}`;
  }

  /** Create a list of names and values; null values are left out. */
  function facts(pairs) {
    const list = make("dl.facts");
    for (const [name, value] of pairs) {
      if (value === null) continue;
      list.append(make("div", {}, make("dt", {}, name), make("dd", {}, value)));
    }
    return list;
  }

  /** Decode a part of a URL; return it unchanged if its percent encoding is invalid. */
  function decoded(part) {
    try {
      return decodeURIComponent(part);
    } catch {
      return part;
    }
  }

  Featlight.dom = { make, number, count, facts, decoded };
})();
