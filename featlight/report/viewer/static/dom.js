"use strict";
/** Small hands: elements, whose text is always text, and numbers as people read them. */
window.Featlight = window.Featlight || {};

(() => {
  const SVG = new Set(["svg", "path", "line", "text", "g", "circle", "rect", "title"]);

  /**
   * An element.
   * @param {string} kind      tag and classes: "p.soft"
   * @param {Object} [values]  attributes; `on...` functions are listeners; null and false are left out
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

  /** Three digits: 3.74, 0.0142, 1280, −0.5. */
  function number(value) {
    if (value === null || value === undefined) return "–";
    return String(Number(value.toPrecision(3))).replace("-", "−");
  }

  /** "1 tile", "2 tiles". */
  function count(many, noun) {
    return `${many.toLocaleString("en")} ${noun}${many === 1 ? "" : "s"}`;
  }

  /** A list of names and values. */
  function facts(pairs) {
    const list = make("dl.facts");
    for (const [name, value] of pairs) {
      if (value === null) continue;
      list.append(make("div", {}, make("dt", {}, name), make("dd", {}, value)));
    }
    return list;
  }

  /** A part of an address as text; itself where its percent codes are broken. */
  function decoded(part) {
    try {
      return decodeURIComponent(part);
    } catch {
      return part;
    }
  }

  Featlight.dom = { make, number, count, facts, decoded };
})();
