"use strict";
/**
 * Runs and their tiles: data from the scripts, filters and order.
 * These are classic scripts, because browsers do not load modules from disk; they share the name `Featlight`.
 *
 * @typedef {Object} Tile
 * @property {Run} run
 * @property {Group} group
 * @property {number} place     index in its group
 * @property {string} key       path below `tiles` without suffix: "Mixed_5a/00012"
 * @property {string} label     "12", "12 row 8", or the tile's name
 * @property {?number} feature  null for all features at once
 * @property {"ok"|"dead"|"failed"|"missing"} status
 * @property {?number} start    mean activation of the starting image
 * @property {?number} end      mean activation of the final image
 * @property {?number} gain     `end` minus `start`
 * @property {?number} gradient gradient norm, mean over steps
 * @property {?number} cluster  number of its cluster, from 1
 * @property {?number} example  mean activation on its best dataset example
 * @property {?number} path     median path similarity of its layers
 *
 * @typedef {Object} Group      tiles of one layer and variant, as `data.py` writes them (`shape`: [C, H, W] or [C] of the
 *                             layer's output, null for named tiles; `aspect`: height and width of a small tile in pixels,
 *                             within a square of `side`; `alike`: similarity map, if there is one), with `tiles: Tile[]`
 *                             and URLs of sprite sheets: `addresses`, `plainAddresses` without transparency,
 *                             `exampleAddresses` of best examples; null if tiles have none
 * @typedef {Object} Run        run as `data.py` writes it, with `base`: URL of its folder, `tiles: Map<key, Tile>`
 *                             and `suffix` of the tiles' files
 *
 * @typedef {Object} Query      filters and order
 * @property {string} group     a group's name; "" for all
 * @property {string} status    "" for any
 * @property {?number} cluster
 * @property {?number} low      minimum of `end`
 * @property {?number} high     maximum of `end`
 * @property {string} text      numbers and ranges such as 0-15,199, or part of a name
 * @property {"feature"|"end"|"gain"|"similarity"} sort
 * @property {boolean} reverse
 * @property {?Tile} chosen     tile that others are compared with
 * @property {Map<number, number>} likeness  cosine similarity to the chosen tile, by index in its group
 */
window.Featlight = window.Featlight || {};

(() => {
  /** @type {Map<string, Run>} */
  const runs = new Map();
  /** Data of `assets/tiles.js`, by the run's folder. */
  const endings = new Map();
  const loading = new Map();

  /** Return the run folder of the current script: the one above `assets`. */
  function baseOfScript() {
    const source = document.currentScript.src;
    return source.slice(0, source.lastIndexOf("/assets/") + 1);
  }

  /** Called by `assets/tiles.js`. */
  Featlight.files = (files) => endings.set(baseOfScript(), files);

  /** Called by `assets/data.js`. */
  Featlight.run = (data) => {
    const base = baseOfScript();
    const { suffix = ".png" } = endings.get(base) ?? {};
    const run = { ...data, base, suffix, tiles: new Map(), details: new Map() };
    for (const group of run.groups) {
      const folder = group.folder.replace(/^tiles\//, "");
      group.addresses = group.sheets.map((path) => new URL(path, run.base).href);
      group.plainAddresses = group.plain ? group.plain.map((path) => new URL(path, run.base).href) : null;
      group.exampleAddresses = group.best ? group.best.map((path) => new URL(path, run.base).href) : null;
      group.tiles = group.stems.map((stem, place) => {
        const start = group.start[place];
        const end = group.end[place];
        return {
          run, group, place, start, end,
          key: `${folder}/${stem}`,
          label: group.labels[place],
          feature: group.features[place],
          status: group.status[place],
          gain: start === null || end === null ? null : end - start,
          gradient: group.gradient[place],
          cluster: group.alike?.clusters[place] ?? null,
          example: group.example?.[place] ?? null,
          path: group.path?.[place] ?? null,
        };
      });
      for (const tile of group.tiles) run.tiles.set(tile.key, tile);
    }
    runs.set(run.base, run);
  };

  /** Called by scripts with details of tiles. */
  Featlight.details = (data) => {
    runs.get(baseOfScript()).details.set(`${data.group} ${data.start}`, data.tiles);
  };

  /** Load a script once; the promise is rejected if it does not exist. */
  function load(address) {
    if (!loading.has(address)) {
      loading.set(address, new Promise((done, fail) => {
        const script = document.createElement("script");
        script.src = address;
        script.onload = () => done();
        script.onerror = () => {
          loading.delete(address);
          script.remove();
          fail(new Error(`cannot read ${address}`));
        };
        document.head.append(script);
      }));
    }
    return loading.get(address);
  }

  /** Load the run in a folder relative to this page, such as "../other". */
  async function loadRun(path) {
    const base = new URL(`${path}/`, document.baseURI).href;
    await load(`${base}assets/tiles.js`).catch(() => null); // older runs lack this file
    await load(`${base}assets/data.js`);
    if (!runs.has(base)) throw new Error(`no run in ${path}`);
    return runs.get(base);
  }

  /** Return whether a path from a link is safe: relative, with plain names only. */
  function isRelative(path) {
    return /^(\.\.\/)*[A-Za-z0-9_][A-Za-z0-9._ -]*(\/[A-Za-z0-9_][A-Za-z0-9._ -]*)*$/.test(path);
  }

  /** Load a tile's details: curve, neighbors and command. */
  async function details(tile) {
    const { group, place, run } = tile;
    const sheet = Math.floor(place / group.perSheet);
    await load(new URL(group.details[sheet], run.base).href);
    return run.details.get(`${group.name} ${sheet * group.perSheet}`)[place % group.perSheet];
  }

  /** Return a tile's nearest neighbors and their cosine similarities, the nearest first: [place, cosine][]. */
  async function neighbors(tile) {
    const found = await details(tile);
    if (!found.neighbours) return [];
    const bytes = (text) => Uint8Array.from(atob(text), (sign) => sign.charCodeAt(0));
    const Place = tile.group.tiles.length <= 0xffff ? Uint16Array : Uint32Array;
    const places = new Place(bytes(found.neighbours).buffer);
    const cosines = new Int8Array(bytes(found.cosines).buffer);
    return Array.from(places, (place, i) => [place, cosines[i] / 127]);
  }

  /** Return a test of tiles for a search text: numbers and ranges, or part of a name. */
  function matcher(text) {
    const words = text.trim().toLowerCase();
    if (!words) return () => true;
    if (/^\d+(\s*-\s*\d+)?(\s*,\s*(\d+(\s*-\s*\d+)?)?)*$/.test(words)) {
      const ranges = words.split(",").filter((part) => part.trim()).map((part) => part.split("-").map(Number));
      return (tile) => ranges.some(([first, last = first]) => first <= tile.feature && tile.feature <= last)
        && tile.feature !== null;
    }
    return (tile) => tile.label.toLowerCase().includes(words) || tile.key.toLowerCase().includes(words);
  }

  /** Return a comparison of tiles in a group; tiles without a value come last. */
  function comparer(query) {
    if (query.sort === "feature") return query.reverse ? (a, b) => b.place - a.place : null;
    const value = query.sort === "similarity"
      ? (tile) => (tile === query.chosen ? 2 : query.likeness.get(tile.place) ?? null)
      : (tile) => tile[query.sort];
    const sign = query.reverse ? -1 : 1;
    return (a, b) => {
      const x = value(a);
      const y = value(b);
      if (x === null || y === null) return (x === null) - (y === null) || a.place - b.place;
      return sign * (y - x) || a.place - b.place;
    };
  }

  /**
   * Return the tiles to show, in order, by group.
   * @param {Run} run
   * @param {Query} query
   * @returns {{group: Group, tiles: Tile[]}[]} groups with at least one tile
   */
  function select(run, query) {
    const matches = matcher(query.text);
    const order = comparer(query);
    const blocks = [];
    for (const group of run.groups) {
      if (query.group && group.name !== query.group) continue;
      const tiles = group.tiles.filter((tile) =>
        (!query.status || tile.status === query.status)
        && (query.cluster === null || tile.cluster === query.cluster)
        && (query.low === null || (tile.end !== null && tile.end >= query.low))
        && (query.high === null || (tile.end !== null && tile.end <= query.high))
        && matches(tile));
      if (order) tiles.sort(order);
      if (tiles.length) blocks.push({ group, tiles });
    }
    return blocks;
  }

  /** URL of a tile's picture. */
  function address(tile) {
    return new URL(`tiles/${tile.key}${tile.run.suffix}`, tile.run.base).href;
  }

  /** URL of a tile's alpha channel, a gray picture; null if it has none. */
  function alphaAddress(tile) {
    return tile.group.plainAddresses ? new URL(`tiles/${tile.key}.alpha.png`, tile.run.base).href : null;
  }

  /** URL of the picture of a tile's examples; null if it has none. */
  function exampleAddress(tile) {
    return tile.example !== null ? new URL(`examples/${tile.key}.jpg`, tile.run.base).href : null;
  }

  Featlight.model = { runs, loadRun, isRelative, details, neighbors, select, address, alphaAddress, exampleAddress };
})();
