"use strict";
/** Static parts of the page: pictures, settings of the run, and keys. */
window.Featlight = window.Featlight || {};

(() => {
  const { make, count, facts } = Featlight.dom;
  const KEYS = [
    ["← ↑ → ↓", "move; in an open tile: previous and next tile"],
    ["Home, End, Page keys", "first, last, one page up or down"],
    ["Enter", "open the tile"],
    ["Escape", "close; stop comparing; clear the search"],
    ["/", "search: 12, or 0-15,199, or part of a name"],
    ["c", "compare with the tile that you open next"],
    ["s", "sort by similarity to the tile"],
    ["f, a, g", "sort by feature, activation, gain"],
    ["b", "back along the trail of circuits"],
    ["m", "show the open tile in the similarity map"],
    ["r", "reverse the order"],
    ["+ and −", "larger and smaller tiles"],
    ["e", "show tiles, their best dataset examples, or both"],
    ["o", "show or ignore the transparency of maco tiles"],
    ["t", "light, dark, or system colors"],
    ["?", "show these keys"],
  ];

  /** Figures and animations, then the atlases. */
  function pictures(section, run) {
    const url = (path) => new URL(path.split("/").map(encodeURIComponent).join("/"), run.base).href;
    const name = (path) => path.slice(path.lastIndexOf("/") + 1);
    const drawn = run.figures.filter((path) => /\.(png|webp)$/.test(path));
    const other = run.figures.filter((path) => !drawn.includes(path));
    section.replaceChildren(
      drawn.length ? make("h2", {}, "Figures") : "",
      make("div.figures", {}, drawn.map((path) => make("figure", {},
        make("a", { href: url(path) }, make("img", { src: url(path), alt: `Figure ${name(path)}`, loading: "lazy" })),
        make("figcaption", {}, name(path))))),
      other.length ? make("p", {}, "Also ", other.flatMap((path, i) => [i ? ", " : "", make("a", { href: url(path) }, name(path))])) : "",
      make("h2", {}, "Atlases"),
      make("ul.atlases", {}, run.groups.map((group) => make("li", {},
        make("a", { href: url(group.atlas[0]) },
          make("img", { src: url(group.sheets[0]), alt: "", loading: "lazy" }),
          make("strong", {}, group.title)),
        make("span.soft", {}, count(group.tiles.length, "tile"),
          group.atlas.slice(1).flatMap((path, i) => [" · ", make("a", { href: url(path) }, `page ${i + 1}`)]))))),
    );
  }

  /** Settings of the run, and a form to compare it with another run. */
  function about(section, run, act) {
    const input = make("input", { type: "text", size: 32, placeholder: "../other-run", "aria-label": "Folder of the other run" });
    const form = make("form.other", {
      onsubmit: (event) => {
        event.preventDefault();
        act.beside(input.value.trim());
      },
    }, input, make("button", { type: "submit" }, "Compare"), make("button", { type: "button", onclick: () => act.beside("") }, "Stop"));
    section.replaceChildren(
      make("h2", {}, run.model),
      run.weights.startsWith("RANDOM WEIGHTS") ? make("p.loud", {}, run.weights) : "",
      facts([
        ["Weights", run.weights],
        ["Checksum", run.checksum],
        ["Made", run.created],
        ["With", Object.entries(run.versions).map(([name, version]) => `${name} ${version}`).join(", ")],
        ["Files", make("span", {}, ["config.yaml", "plan.json"].flatMap((name, i) =>
          [i ? ", " : "", make("a", { href: new URL(name, run.base).href }, name)]))],
      ]),
      ...Object.entries(run.settings).flatMap(([variant, settings]) => recipe(variant, settings)),
      make("h2", {}, "Compare with another run"),
      make("p", {}, "Enter the folder of the other run, relative to this one. Each tile is then shown beside the tile of the same name."),
      form,
    );
  }

  function recipe(variant, { table, own, shared }) {
    const [head, ...rows] = table;
    const cells = (kind, values) => make("tr", {}, values.map((value) => make(kind, kind === "th" ? { scope: "col" } : {}, String(value))));
    return [
      make("h2", {}, variant ? `Recipe of ${variant}` : "Recipe"),
      make("table", {},
        make("thead", {}, cells("th", head)),
        make("tbody", {}, rows.map((row) => cells("td", row)))),
      facts([...own, ...shared]),
    ];
  }

  function keys(dialog) {
    dialog.replaceChildren(
      make("h2", { id: "keys-title" }, "Keys"),
      make("dl.facts", {}, KEYS.map(([key, what]) => make("div", {}, make("dt", {}, make("kbd", {}, key)), make("dd", {}, what)))),
      make("button", { type: "button", onclick: () => dialog.close() }, "Close"),
    );
    dialog.showModal();
  }

  Featlight.sheets = { pictures, about, keys };
})();
