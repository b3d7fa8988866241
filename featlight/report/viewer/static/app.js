"use strict";
/**
 * The page. The address and the controls determine what is shown.
 * The address has, after `#`, a tile's key or `network`, `alike`, `pictures` or `run`; then `&with=` the key of another
 * tile, `&run=` the folder of another run, `&at=` the tile or layer to show in the similarity map.
 */
window.Featlight = window.Featlight || {};

(() => {
  const byId = (id) => document.getElementById(id);
  const state = { run: null, other: null, path: "", beside: "", pinned: null, opened: null, chosen: null, likeness: new Map(), leaves: null };
  const VIEWS = ["tiles", "network", "alike", "pictures", "run"];
  let grid;
  let plane;

  const act = {
    /** Open a tile; `from` names the view to return to, also after opening other tiles from this one. */
    open: (tile, from = null) => {
      if (!state.opened) state.leaves = from;
      goTo(tile.key, state.pinned && state.pinned !== tile ? state.pinned.key : null);
    },
    /** Close the open tile, and return to the view where it was opened. */
    close: () => {
      const { leaves, opened } = state;
      state.leaves = null;
      if (leaves) goTo(leaves, null, opened.key);
      else goTo(null);
    },
    /** Show a tile in the similarity map. */
    locate: (tile) => goTo("alike", null, tile.key),
    words: (tile) => grid.words(tile),
    move: (by) => {
      const index = grid.tiles.indexOf(state.opened) + by;
      if (index >= 0 && index < grid.tiles.length) {
        grid.go(index);
        act.open(grid.current);
      }
    },
    compare: (tile) => {
      const stop = state.pinned !== null || state.opened !== null && byId("detail").querySelector(".two");
      state.pinned = stop ? null : tile;
      if (stop) state.path = "";
      pinned();
      if (stop && state.opened) goTo(state.opened.key);
      else goTo(null);
    },
    similar: async (tile) => {
      goTo(null);
      await similar(tile);
    },
    copy: async (text) => {
      try {
        await navigator.clipboard.writeText(text);
        say("Copied.");
      } catch {
        say("The browser does not allow this page to copy. Select the text instead.");
      }
    },
    isLaid: () => !grid.plain,
    lay: () => {
      grid.plain = !grid.plain;
      document.documentElement.dataset.tiles = grid.plain ? "plain" : "laid";
      for (const button of document.querySelectorAll("button.alpha")) button.setAttribute("aria-pressed", String(!grid.plain));
      grid.later();
    },
    /** Choose the grid's content: tiles, best examples, or both. */
    shows: (what) => {
      byId("shows").value = what;
      grid.shows = what;
      grid.arrange();
      if (document.activeElement === grid.host && grid.current) grid.reveal();
    },
    layer: (group) => {
      reset();
      byId("layer").value = group.name;
      refresh();
      goTo(null);
      scrollTo(0, 0);
    },
    beside: (path) => {
      state.path = path;
      goTo(null);
    },
  };

  /** Change the address, and show its content. */
  function goTo(key, beside = null, at = null) {
    const words = [key ?? "", beside ? `with=${beside}` : "", at ? `at=${at}` : "", state.path ? `run=${encodeURIComponent(state.path)}` : ""];
    const hash = words.filter((word, i) => i === 0 || word).join("&");
    const address = hash ? `#${hash}` : location.pathname + location.search;
    if (location.href !== new URL(address, location.href).href) history.pushState(null, "", address);
    follow();
  }

  /** Show the content of the address. */
  async function follow() {
    const [key, ...words] = location.hash.slice(1).split("&");
    const values = Object.fromEntries(words.map((word) => word.split("=", 2).map(Featlight.dom.decoded)));
    await besides(values.run ?? "");
    const view = VIEWS.includes(key) ? key : "tiles";
    if (view === "network" && !byId("view-network").childElementCount) Featlight.network.network(byId("view-network"), state.run, act);
    for (const name of VIEWS) byId(`view-${name}`).hidden = name !== view;
    for (const button of document.querySelectorAll("[data-view]")) {
      button.setAttribute("aria-pressed", String(button.dataset.view === view));
    }
    const tile = state.run.tiles.get(Featlight.dom.decoded(key)) ?? null;
    if (view === "tiles") grid.arrange();
    state.opened = tile;
    if (!tile) {
      if (byId("detail").open) byId("detail").close();
      byId("detail").dataset.tile = "";
      if (view === "alike") alike(values.at); // with the dialog closed, which gives the focus back
      if (key && view === "tiles" && key.includes("/")) say(`No tile ${Featlight.dom.decoded(key)} in this run.`);
      return;
    }
    if (!grid.tiles.includes(tile)) reset();
    grid.go(grid.tiles.indexOf(tile));
    const namesake = state.other ?? state.run;
    const beside = values.with || state.other ? namesake.tiles.get(values.with || tile.key) ?? null : null;
    if (values.with && !state.other && beside) state.pinned = beside;
    pinned();
    await Featlight.detail.show(byId("detail"), tile, beside === tile ? null : beside, act);
  }

  /** Show the similarity map, at a tile's key or a layer's name. */
  function alike(at) {
    const groups = state.run.groups.filter((group) => group.alike);
    if (!groups.length) {
      byId("view-alike").replaceChildren(Featlight.dom.make("p", {}, "This run has no similarity map. Run featlight alike to make one."));
      return;
    }
    plane ??= new Featlight.Alike(byId("view-alike"), state.run, {
      open: (tile) => act.open(tile, "alike"),
      words: act.words,
    });
    const tile = state.run.tiles.get(at);
    const group = groups.find(({ name }) => name === at);
    if (tile?.group.alike) plane.reveal(tile);
    else if (group) plane.choose(group);
    plane.host.focus({ preventScroll: true });
  }

  /** Show another run beside this one; an empty path stops. */
  async function besides(path) {
    state.path = path;
    if (path === state.beside) return;
    state.beside = path;
    state.other = null;
    if (path) {
      try {
        if (!Featlight.model.isRelative(path)) throw new Error(`${path} is not a relative path such as ../other-run`);
        state.other = await Featlight.model.loadRun(path);
      } catch (error) {
        say(`${error.message}.`);
      }
    }
    grid.other = state.other;
    pinned();
    grid.arrange();
  }

  function pinned() {
    const words = [];
    if (state.pinned) words.push(`Comparing with ${state.pinned.label} of ${state.pinned.group.title}: open another tile.`);
    if (state.other) {
      const { model, weights } = state.other;
      words.push(`Left: this run. Right: ${Featlight.detail.folderOf(state.other)} (${model}, ${weights}).`);
    }
    byId("pinned").hidden = !words.length;
    byId("pinned").firstElementChild.textContent = words.join(" ");
  }

  /** Show and announce a message in place of the count. */
  function say(text) {
    byId("count").textContent = text;
  }

  function query() {
    const read = (id) => (byId(id).value.trim() && Number.isFinite(Number(byId(id).value)) ? Number(byId(id).value) : null);
    return {
      group: byId("layer").value,
      status: byId("status").value,
      cluster: read("cluster"),
      low: read("low"),
      high: read("high"),
      text: byId("search").value,
      sort: byId("sort").value,
      reverse: byId("reverse").getAttribute("aria-pressed") === "true",
      chosen: state.chosen,
      likeness: state.likeness,
    };
  }

  /** Apply the filters and the order. */
  function refresh() {
    const asked = query();
    const started = performance.now();
    const blocks = Featlight.model.select(state.run, asked);
    grid.show(blocks);
    performance.measure("featlight-refresh", { start: started });
    const total = state.run.tiles.size;
    const shown = grid.tiles.length;
    const alike = asked.sort === "similarity" && state.chosen ? `, by similarity to ${state.chosen.label}` : "";
    say((shown === total ? Featlight.dom.count(total, "tile") : `${shown.toLocaleString("en")} of ${Featlight.dom.count(total, "tile")}`) + alike);
    byId("empty").hidden = shown > 0;
    const filtered = ["layer", "status", "cluster", "low", "high"].filter((id) => byId(id).value.trim()).length;
    byId("more").textContent = filtered ? `Filter · ${filtered}` : "Filter";
  }

  function reset() {
    for (const id of ["search", "layer", "status", "cluster", "low", "high"]) byId(id).value = "";
    byId("sort").value = "feature";
    byId("reverse").setAttribute("aria-pressed", "false");
    refresh();
  }

  /** Sort by similarity to a tile. */
  async function similar(tile) {
    if (!tile) return;
    const found = await Featlight.model.neighbors(tile).catch(() => []);
    if (!found.length) {
      byId("sort").value = "feature";
      refresh();
      say(`${tile.label} has no vector to compare.`);
      return;
    }
    state.chosen = tile;
    state.likeness = new Map(found);
    byId("sort").value = "similarity";
    byId("layer").value = tile.group.name; // vectors of different layers are not comparable
    refresh();
    grid.go(Math.max(0, grid.tiles.indexOf(tile)));
  }

  function sortBy(name) {
    byId("sort").value = name;
    if (name === "similarity") similar(grid.current);
    else refresh();
  }

  function reverse() {
    const button = byId("reverse");
    button.setAttribute("aria-pressed", String(button.getAttribute("aria-pressed") !== "true"));
    refresh();
  }

  function zoom(value) {
    byId("zoom").value = Math.min(100, Math.max(0, value));
    grid.zoom(byId("zoom").value / 100);
    if (document.activeElement === grid.host && grid.current) grid.reveal();
  }

  Featlight.app = { state, act, plane: () => plane, goTo, follow, refresh, reset, sortBy, similar, reverse, zoom, pinned };

  document.addEventListener("DOMContentLoaded", () => {
    const base = new URL(".", document.baseURI).href;
    state.run = Featlight.model.runs.get(base);
    if (!state.run) {
      say("assets/data.js is missing or damaged. Run featlight --render-only to write it again.");
      return;
    }
    grid = new Featlight.Grid(byId("grid"), act);
    Featlight.app.grid = grid;
    for (const group of state.run.groups) {
      byId("layer").append(Featlight.dom.make("option", { value: group.name }, group.title));
    }
    byId("layer").prepend(Featlight.dom.make("option", { value: "" }, "all"));
    byId("layer").value = "";
    byId("alpha").hidden = !state.run.groups.some((group) => group.plainAddresses);
    const hasExamples = state.run.groups.some((group) => group.example);
    byId("shows").closest("label").hidden = !state.run.groups.some((group) => group.exampleAddresses);
    byId("sort").querySelector("[value=example]").hidden = !hasExamples;
    byId("sort").querySelector("[value=path]").hidden = !state.run.groups.some((group) => group.path);
    const clusters = Math.max(0, ...state.run.groups.map((group) => group.alike?.colors.length ?? 0));
    byId("cluster").append(Featlight.dom.make("option", { value: "" }, "any"),
      ...Array.from({ length: clusters }, (_, i) => Featlight.dom.make("option", {}, String(i + 1))));
    byId("cluster").closest("label").hidden = !clusters;
    document.querySelector('[data-view="alike"]').hidden = !clusters;
    byId("layer").closest("label").hidden = state.run.groups.length < 2;
    document.querySelector('[data-view="network"]').hidden = state.run.groups.length < 2;
    Featlight.sheets.pictures(byId("view-pictures"), state.run);
    Featlight.sheets.about(byId("view-run"), state.run, act);
    Featlight.controls(Featlight.app);
    zoom(100 * grid.goodZoom(state.run.tiles.size));
    refresh();
    follow();
  });
})();
