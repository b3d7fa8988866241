"use strict";
/**
 * Runs and their tiles: what the data scripts hand over, and the choice and order of what is shown.
 * Classic scripts, as browsers load no modules from disk; they share the one name `Featlight`.
 *
 * @typedef {Object} Tile
 * @property {Run} run
 * @property {Group} group
 * @property {number} place     in its group
 * @property {string} key       its path below `tiles`, without suffix: "Mixed_5a/00012"
 * @property {string} label     "12", "12 row 8", or its name
 * @property {?number} feature  null for all features at once
 * @property {"ok"|"dead"|"failed"|"missing"} status
 * @property {?number} start    mean activation before the descent
 * @property {?number} end      mean activation after it
 * @property {?number} gain     after less before
 * @property {?number} gradient norm at the first step
 * @property {?number} cluster  of those alike, from 1
 * @property {?number} example  mean activation on the image of a data set that excites it most
 *
 * @typedef {Object} Group      of one layer and variant, as `data.py` writes it (`shape`: [C, H, W] or [C] of the layer's
 *                             output, null for named tiles; `aspect`: height and width of a small tile, in pixels of its sheet,
 *                             within a square of `side`; `alike`: where its tiles stand among those alike, if anybody has looked), with `tiles: Tile[]`, the sheets' `addresses`,
 *                             `plainAddresses` of those without transparency, and `exampleAddresses` of those of the best
 *                             examples; null where tiles have none
 * @typedef {Object} Run        as `data.py` writes it, with `base: URL of its folder`, `tiles: Map<key, Tile>`
 *                             and `suffix` of the tiles' files
 *
 * @typedef {Object} Query      what to show
 * @property {string} group     a group's name; "" for all
 * @property {string} status    "" for any
 * @property {?number} cluster
 * @property {?number} low      least activation after the descent
 * @property {?number} high
 * @property {string} text      numbers and ranges as in 0-15,199, or a part of a name
 * @property {"feature"|"end"|"gain"|"similarity"} sort
 * @property {boolean} reverse
 * @property {?Tile} chosen     that the others are compared with
 * @property {Map<number, number>} likeness  cosine to the chosen tile, by place in its group
 */
window.Featlight = window.Featlight || {};

(() => {
  /** @type {Map<string, Run>} */
  const runs = new Map();
  /** How the tiles' files of a run end, by its folder. */
  const endings = new Map();
  const loading = new Map();

  /** The folder of the run that the script which is running now belongs to: the one above `assets`. */
  function baseOfScript() {
    const source = document.currentScript.src;
    return source.slice(0, source.lastIndexOf("/assets/") + 1);
  }

  /** What `assets/tiles.js` calls. */
  Featlight.files = (files) => endings.set(baseOfScript(), files);

  /** What `assets/data.js` calls. */
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
        };
      });
      for (const tile of group.tiles) run.tiles.set(tile.key, tile);
    }
    runs.set(run.base, run);
  };

  /** What a script of details calls. */
  Featlight.details = (data) => {
    runs.get(baseOfScript()).details.set(`${data.group} ${data.start}`, data.tiles);
  };

  /** Load a script once; the promise fails where there is none. */
  function load(address) {
    if (!loading.has(address)) {
      loading.set(address, new Promise((done, fail) => {
        const script = document.createElement("script");
        script.src = address;
        script.onload = () => done();
        script.onerror = () => {
          loading.delete(address);
          script.remove();
          fail(new Error(`nothing to read at ${address}`));
        };
        document.head.append(script);
      }));
    }
    return loading.get(address);
  }

  /** The run in a folder, given from this page's own: "../other". */
  async function loadRun(path) {
    const base = new URL(`${path}/`, document.baseURI).href;
    await load(`${base}assets/tiles.js`).catch(() => null); // a run of before there was such a file
    await load(`${base}assets/data.js`);
    if (!runs.has(base)) throw new Error(`no run in ${path}`);
    return runs.get(base);
  }

  /** Whether a path may be followed from a link: below this folder or beside it, and nothing but names. */
  function isRelative(path) {
    return /^(\.\.\/)*[A-Za-z0-9_][A-Za-z0-9._ -]*(\/[A-Za-z0-9_][A-Za-z0-9._ -]*)*$/.test(path);
  }

  /** Curve, neighbours and command of a tile. */
  async function details(tile) {
    const { group, place, run } = tile;
    const sheet = Math.floor(place / group.perSheet);
    await load(new URL(group.details[sheet], run.base).href);
    return run.details.get(`${group.name} ${sheet * group.perSheet}`)[place % group.perSheet];
  }

  /** The tiles most alike a tile, the most alike first, with their cosines: [place, cosine][]. */
  async function neighbours(tile) {
    const found = await details(tile);
    if (!found.neighbours) return [];
    const bytes = (text) => Uint8Array.from(atob(text), (sign) => sign.charCodeAt(0));
    const Place = tile.group.tiles.length <= 0xffff ? Uint16Array : Uint32Array;
    const places = new Place(bytes(found.neighbours).buffer);
    const cosines = new Int8Array(bytes(found.cosines).buffer);
    return Array.from(places, (place, i) => [place, cosines[i] / 127]);
  }

  /** A test of tiles from what was typed: numbers and ranges, or a part of a name. */
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

  /** How tiles are ordered in their group; those without a number come last. */
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
   * The tiles to show, in order, group by group.
   * @param {Run} run
   * @param {Query} query
   * @returns {{group: Group, tiles: Tile[]}[]} groups without a tile are left out
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

  /** Where a tile's own picture is. */
  function address(tile) {
    return new URL(`tiles/${tile.key}${tile.run.suffix}`, tile.run.base).href;
  }

  /** Where its transparency is, gray; null where it has none. */
  function alphaAddress(tile) {
    return tile.group.plainAddresses ? new URL(`tiles/${tile.key}.alpha.png`, tile.run.base).href : null;
  }

  /** Where the pictures of a tile's examples are; null where there are none. */
  function exampleAddress(tile) {
    return tile.example !== null ? new URL(`examples/${tile.key}.jpg`, tile.run.base).href : null;
  }

  Featlight.model = { runs, loadRun, isRelative, details, neighbours, select, address, alphaAddress, exampleAddress };
})();
