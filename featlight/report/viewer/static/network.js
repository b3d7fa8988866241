"use strict";
/** List of layers in the network's order, each with its best tiles. */
window.Featlight = window.Featlight || {};

(() => {
  const { make, number, count } = Featlight.dom;
  const BEST = 12; // tiles in a strip

  /** Return the tiles with the highest activations, without dead ones. */
  function best(group) {
    return group.tiles.filter((tile) => tile.status === "ok" && tile.end !== null)
      .sort((a, b) => b.end - a.end || a.place - b.place).slice(0, BEST);
  }

  /** "16 of 512 features, 14 x 14" */
  function size({ tiles, shape }) {
    const map = shape?.length === 3 ? `, ${shape[1]} × ${shape[2]}` : "";
    const several = tiles.length === shape?.[0] ? count(tiles.length, "feature") : `${count(tiles.length, "tile")} of ${count(shape?.[0] ?? 0, "feature")}`;
    return shape ? `${several}${map}` : count(tiles.length, "tile");
  }

  /**
   * Fill the section.
   * @param {HTMLElement} section
   * @param {Run} run
   * @param {{open: (tile: Tile) => void, layer: (group: Group) => void}} act
   */
  function network(section, run, act) {
    section.replaceChildren(make("h2", {}, count(run.groups.length, "layer")), make("ol.layers", {}, run.groups.map((group) => {
      const tiles = best(group);
      return make("li", {},
        make("div.layer", {},
          make("button", { type: "button", title: `All tiles of ${group.title}`, onclick: () => act.layer(group) }, group.title),
          make("span.soft", {}, size(group))),
        tiles.length
          ? make("div.best", {}, tiles.map((tile) => small(tile, act)))
          : make("p.soft", {}, "No tile with an activation yet."));
    })));
  }

  function small(tile, act) {
    return make("button", {
      type: "button",
      "aria-label": `${tile.label}, ${tile.group.title}, activation ${number(tile.end)}`,
      title: `${tile.label} · ${number(tile.end)}`,
      onclick: () => act.open(tile),
    }, picture(tile));
  }

  /** Create an element that shows a tile of a sprite sheet. */
  function picture({ group, place }) {
    const element = make("span");
    const { across, perSheet, tiles, side, aspect: [high, wide] } = group;
    const [sheet, i] = [Math.floor(place / perSheet), place % perSheet];
    const rows = Math.ceil(Math.min(perSheet, tiles.length - sheet * perSheet) / across);
    const [column, row] = [i % across, Math.floor(i / across)];
    const at = (index, of) => (of > 1 ? `${(100 * index) / (of - 1)}%` : "0");
    element.style.backgroundImage = `url("${group.addresses[sheet]}")`;
    element.style.backgroundSize = `${100 * across}% ${100 * rows}%`;
    element.style.backgroundPosition = `${at(column, across)} ${at(row, rows)}`;
    const [above, beside] = [(side - high) / 2, (side - wide) / 2].map((away) => `${(100 * away) / side}%`);
    element.style.clipPath = `inset(${above} ${beside})`; // a tile that is not square is centered in its place
    return element;
  }

  Featlight.network = { network, best, picture };
})();
