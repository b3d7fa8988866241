"use strict";
/** Listeners of buttons, fields and keys. */
window.Featlight = window.Featlight || {};

(() => {
  const THEMES = ["system", "light", "dark"];
  const byId = (id) => document.getElementById(id);

  /** Return the saved theme, if the browser saves data of pages from disk. */
  function remembered() {
    try {
      return localStorage.getItem("featlight-theme");
    } catch {
      return null;
    }
  }

  /** @param {"system"|"light"|"dark"} name */
  function paint(name, grid) {
    const root = document.documentElement;
    if (name === "system") delete root.dataset.theme;
    else root.dataset.theme = name;
    byId("theme").setAttribute("aria-label", `Colors: ${name === "system" ? "same as system" : name}`);
    byId("theme").title = byId("theme").getAttribute("aria-label");
    try {
      localStorage.setItem("featlight-theme", name);
    } catch { /* the choice lasts until the page is closed */ }
    grid.readColors();
    grid.later();
    Featlight.app.plane()?.later();
  }

  /** @param {typeof Featlight.app} app */
  function controls(app) {
    const { grid } = app;
    let theme = THEMES.includes(remembered()) ? remembered() : "system";
    const nextTheme = () => {
      theme = THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length];
      paint(theme, grid);
    };
    paint(theme, grid);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => paint(theme, grid));

    byId("theme").addEventListener("click", nextTheme);
    byId("help").addEventListener("click", () => Featlight.sheets.keys(byId("keys")));
    for (const button of document.querySelectorAll("[data-view]")) {
      button.addEventListener("click", () => app.goTo(button.dataset.view === "tiles" ? null : button.dataset.view));
    }
    byId("bar").addEventListener("submit", (event) => event.preventDefault());
    for (const id of ["search", "low", "high"]) byId(id).addEventListener("input", app.refresh);
    for (const id of ["status", "cluster"]) byId(id).addEventListener("change", app.refresh);
    byId("layer").addEventListener("change", () => {
      if (byId("sort").value === "similarity") byId("sort").value = "feature";
      app.refresh();
    });
    byId("sort").addEventListener("change", () => app.sortBy(byId("sort").value));
    byId("reverse").addEventListener("click", app.reverse);
    byId("alpha").addEventListener("click", app.act.lay);
    byId("shows").addEventListener("change", () => app.act.shows(byId("shows").value));
    byId("reset").addEventListener("click", app.reset);
    byId("zoom").addEventListener("input", () => app.zoom(Number(byId("zoom").value)));
    byId("more").addEventListener("click", () => {
      const open = byId("filters").classList.toggle("open");
      byId("more").setAttribute("aria-expanded", String(open));
    });
    byId("search").addEventListener("keydown", (event) => {
      if (event.key === "Enter" && grid.current) {
        grid.host.focus({ preventScroll: true });
        grid.go(0);
      }
    });
    byId("pinned").querySelector("button").addEventListener("click", () => stopComparing(app));
    document.querySelector(".skip").addEventListener("click", (event) => {
      event.preventDefault();
      grid.host.focus();
    });
    byId("detail").addEventListener("cancel", (event) => {
      event.preventDefault();
      app.act.close();
    });
    byId("detail").addEventListener("close", () => grid.host.focus({ preventScroll: true }));
    byId("detail").addEventListener("click", (event) => {
      if (event.target === byId("detail")) app.act.close();
    });
    addEventListener("popstate", app.follow);
    addEventListener("hashchange", app.follow);
    addEventListener("keydown", (event) => onKey(event, app, nextTheme));
    grid.host.addEventListener("wheel", (event) => {
      if (!event.ctrlKey) return;
      event.preventDefault();
      app.zoom(Number(byId("zoom").value) - Math.sign(event.deltaY) * 4);
    }, { passive: false });
  }

  function stopComparing(app) {
    app.state.pinned = null;
    app.state.path = "";
    app.goTo(null);
    app.pinned();
  }

  /** Return the value of the next option. */
  function next(select) {
    return select.options[(select.selectedIndex + 1) % select.options.length].value;
  }

  /** Handle keys outside of text fields. */
  function onKey(event, app, nextTheme) {
    const { key, target } = event;
    if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
    if (target.matches("input, select, textarea") && target.type !== "range") {
      if (key === "Escape" && target.id === "search") {
        target.value = "";
        app.refresh();
        app.grid.host.focus();
      }
      return;
    }
    if (byId("keys").open) return;
    const { opened } = app.state;
    const tile = opened ?? app.grid.current;
    const inTile = {
      ArrowLeft: () => app.act.move(-1),
      ArrowRight: () => app.act.move(1),
      c: () => app.act.compare(opened),
      s: () => app.act.similar(opened),
      b: () => Featlight.circuits.back(app.act),
      m: opened?.cluster ? () => app.act.locate(opened) : null,
    };
    const anywhere = {
      "/": () => byId("search").focus(),
      "?": () => Featlight.sheets.keys(byId("keys")),
      "+": () => app.zoom(Number(byId("zoom").value) + 6),
      "=": () => app.zoom(Number(byId("zoom").value) + 6),
      "-": () => app.zoom(Number(byId("zoom").value) - 6),
      t: nextTheme,
      o: byId("alpha").hidden ? null : app.act.lay,
      e: byId("shows").closest("label").hidden ? null : () => app.act.shows(next(byId("shows"))),
      f: () => app.sortBy("feature"),
      a: () => app.sortBy("end"),
      g: () => app.sortBy("gain"),
      s: () => app.similar(tile),
      r: app.reverse,
      Escape: () => stopComparing(app),
    };
    const does = opened ? inTile[key] ?? (["t", "o", "?"].includes(key) ? anywhere[key] : null) : anywhere[key];
    if (!does) return;
    event.preventDefault();
    does();
  }

  Featlight.controls = controls;
})();
