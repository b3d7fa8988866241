"use strict";
/** The circuit of an open tile: what it is made of, what it feeds, and the trail of tiles that led here. */
window.Featlight = window.Featlight || {};

(() => {
  const { make, number, count } = Featlight.dom;
  const OPEN = 2; // layers that are shown at once in each direction
  /** @type {Tile[]} tiles that were left by a link, the oldest first */
  let trail = [];
  /** @type {?Tile} tile that a link has just opened */
  let linked = null;

  /** Follow a link from one tile to another. */
  function follow(from, to, act) {
    trail.push(from);
    linked = to;
    act.open(to);
  }

  /** Return to a tile of the trail, by default the last. */
  function back(act, place = trail.length - 1) {
    if (place < 0) return;
    const tile = trail[place];
    trail = trail.slice(0, place);
    linked = tile;
    act.open(tile);
  }

  /** Keep the trail if the tile was reached along it, else begin a new one. */
  function arrive(tile) {
    const before = trail.indexOf(tile);
    if (before >= 0) trail = trail.slice(0, before);
    else if (tile !== linked) trail = [];
    linked = tile;
  }

  /**
   * Fill an element with the circuit of a tile.
   * @param {HTMLElement} host
   * @param {Tile} tile
   * @param {Object} found  details of the tile
   * @param {{open: (tile: Tile) => void, copy: (text: string) => void}} act
   */
  function show(host, tile, found, act) {
    arrive(tile);
    if (!found.madeOf) return;
    if (trail.length) {
      host.append(make("nav.trail", { "aria-label": "Trail" }, trail.map((one, place) => make("button", {
        type: "button", title: `Back to ${one.label}, ${one.group.title}`, onclick: () => back(act, place),
      }, `${one.label} · ${one.group.title}`)), make("span", {}, `${tile.label} · ${tile.group.title}`)));
    }
    host.append(
      ...side("Made of", found.madeOf, found.draw, tile, act),
      ...side("Feeds", found.feeds, {}, tile, act),
    );
  }

  /** Create one direction: the nearest layers, and the others in a fold. */
  function side(title, layers, draw, tile, act) {
    const filled = layers.filter(([, links]) => links.length);
    if (!filled.length) return [];
    const blocks = filled.map(([layer, links]) => block(layer, links, draw[layer] ?? null, tile, act));
    const more = blocks.slice(OPEN);
    return [
      make("h3", {}, title),
      ...blocks.slice(0, OPEN),
      ...(more.length ? [make("details", {}, make("summary", {}, `${count(more.length, "more layer")}`), ...more)] : []),
    ];
  }

  /** Create a layer: features that excite, features that inhibit, and a command for those without a tile. */
  function block(layer, links, command, tile, act) {
    const most = Math.max(...links.map(([, , attribution]) => Math.abs(attribution)));
    const row = (name, chosen) => (chosen.length
      ? make(`div.parts.${name}`, {}, make("span.way", {}, name),
        make("ul", {}, chosen.map((link) => make("li", {}, part(link, layer, most, tile, act)))))
      : null);
    return make("section.stage", { "aria-label": layer },
      make("h4", {}, layer, links.every(([, , , weight]) => weight === null)
        ? make("small", {}, " no weights: not linear without activation functions") : null),
      row("excites", links.filter(([, , attribution]) => attribution > 0)),
      row("inhibits", links.filter(([, , attribution]) => attribution < 0)),
      command ? make("p.draw", {}, make("span", {}, "Draw the missing tiles in the run's folder: "), make("code", { tabindex: 0 }, command),
        make("button", { type: "button", onclick: () => act.copy(command) }, "Copy")) : null,
    );
  }

  /** Create a feature: picture or number, kernel, bar and numbers. */
  function part([name, key, attribution, weight, width, kernel], layer, most, tile, act) {
    const other = key === null ? null : tile.run.tiles.get(key) ?? null;
    const label = other?.label ?? String(name);
    const bar = make("span.bar");
    bar.style.width = `${(100 * Math.abs(attribution)) / most}%`;
    const has = other && (other.status === "ok" || other.status === "dead");
    const words = `${label} of ${layer}, attribution ${number(attribution)}${weight === null ? "" : `, weight ${number(weight)}`}`;
    const inside = [
      make("span.face", {}, has ? Featlight.network.picture(other) : make("span.none", {}, label)),
      kernel ? map(width, kernel, weight) : null,
      make("span.track", {}, bar),
      make("b", {}, number(attribution)),
      make("small", {}, label),
    ];
    return other
      ? make("button.part", { type: "button", "aria-label": words, title: words, onclick: () => follow(tile, other, act) }, inside)
      : make("span.part", { title: `${words}; not drawn in this run` }, inside);
  }

  /** Create a kernel: red where the earlier feature excites, blue where it inhibits. */
  function map(width, packed, weight) {
    const values = Int8Array.from(atob(packed), (sign) => sign.charCodeAt(0));
    const height = values.length / width;
    const canvas = make("canvas.kernel", { width, height, role: "img", "aria-label": `Kernel, ${height} by ${width}, sum ${number(weight)}` });
    const context = canvas.getContext("2d");
    const pixels = context.createImageData(width, height);
    values.forEach((value, i) => {
      pixels.data.set(value > 0 ? [205, 52, 40, 2 * value] : [38, 104, 196, -2 * value], 4 * i);
    });
    context.putImageData(pixels, 0, 0);
    return canvas;
  }

  Featlight.circuits = { show, back };
})();
