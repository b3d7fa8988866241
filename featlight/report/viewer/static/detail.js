"use strict";
/** Details of one tile at full size, or of two side by side. */
window.Featlight = window.Featlight || {};

(() => {
  const { make, number, facts, decoded } = Featlight.dom;
  const NEAREST = 12;

  /**
   * Fill the dialog.
   * @param {HTMLDialogElement} dialog
   * @param {Tile} tile
   * @param {?Tile} beside
   * @param {{close: () => void, move: (by: number) => void, open: (tile: Tile) => void,
   *          compare: (tile: Tile) => void, similar: (tile: Tile) => void, copy: (text: string) => void,
   *          locate: (tile: Tile) => void, lay: () => void, isLaid: () => boolean}} act
   */
  async function show(dialog, tile, beside, act) {
    const shown = [tile, beside].filter(Boolean);
    const parts = shown.map((one, i) => article(one, i === 0 ? "detail-title" : null, shown.length > 1, act));
    const head = make("div.tools", {},
      make("button", { type: "button", "aria-label": "Previous tile", onclick: () => act.move(-1) }, "←"),
      make("button", { type: "button", "aria-label": "Next tile", onclick: () => act.move(1) }, "→"),
      make("span.grow"),
      make("button", { type: "button", title: "Sort by similarity to this tile", "aria-keyshortcuts": "s",
        onclick: () => act.similar(tile) }, "Similar"),
      tile.cluster
        ? make("button", { type: "button", title: "Show this tile in the similarity map", "aria-keyshortcuts": "m",
          onclick: () => act.locate(tile) }, `Cluster ${tile.cluster}`)
        : null,
      make("button", { type: "button", title: "Compare this tile with another one", "aria-keyshortcuts": "c",
        onclick: () => act.compare(tile) }, beside ? "Stop comparing" : "Compare"),
      shown.some(Featlight.model.alphaAddress)
        ? make("button.alpha", { type: "button", title: "Show the tile's transparency on white",
          "aria-keyshortcuts": "o", "aria-pressed": String(act.isLaid()), onclick: act.lay }, "Transparency")
        : null,
      make("button", { type: "button", title: "Copy a link to this tile", onclick: () => act.copy(location.href) }, "Link"),
      make("button.close", { type: "button", "aria-label": "Close", onclick: act.close }, "×"),
    );
    dialog.replaceChildren(head, make(shown.length > 1 ? "div.two" : "div.one", {}, ...parts.map((part) => part.root)));
    dialog.scrollTop = 0;
    if (!dialog.open) dialog.showModal();
    dialog.focus();
    dialog.dataset.tile = tile.key;
    const found = await Promise.all(shown.map((one) => Featlight.model.details(one).catch(() => null)));
    if (dialog.dataset.tile !== tile.key) return;
    const top = Math.max(0, ...found.flatMap((one) => (one?.curve ?? []).map(([, value]) => value ?? 0)));
    parts.forEach((part, i) => fill(part, shown[i], found[i], top, act));
    if (shown.length === 1 && found[0]) await near(parts[0], tile, act);
  }

  /** Create the part that needs no details: picture, name, numbers. */
  function article(tile, id, two, act) {
    const { group, run, status } = tile;
    const there = status === "ok" || status === "dead";
    const address = Featlight.model.address(tile);
    const picture = there
      ? make("a.picture", { href: address, "aria-label": `${tile.label}: the tile alone` },
        image(tile, { alt: `Tile of ${tile.label}, ${group.title}${status === "dead" ? ", dead" : ""}` }))
      : make("div.picture.none", {}, status);
    const title = make("h2", { id }, tile.label, " ", make("small", {}, group.title));
    const rest = make("div");
    const under = make("div.under");
    const circuit = two ? null : make("div.circuit");
    const text = make("div.text", {},
      title,
      two && run.base !== new URL(".", document.baseURI).href ? make("p.soft", {}, `of ${folderOf(run)}`) : null,
      run.weights.startsWith("RANDOM WEIGHTS") ? make("p.loud", {}, run.weights) : null,
      make("div.numbers", {},
        figure(number(tile.start), "before"), figure(number(tile.end), "after"),
        figure(number(tile.gain), "gain"), figure(number(tile.gradient), "gradient norm")),
      rest,
    );
    return { root: make("article", {}, make("div.left", {}, picture, two ? null : under), text, circuit, two ? under : null), rest, under, circuit };
  }

  /** Create a tile's picture; the style sheet composites a transparent one on white. */
  function image(tile, values) {
    const picture = make("img", { src: Featlight.model.address(tile), ...values });
    const alpha = Featlight.model.alphaAddress(tile);
    return alpha ? make("span.laid", {}, picture, make("img", { ...values, src: alpha, alt: "" })) : picture;
  }

  function figure(value, name) {
    return make("div", {}, make("b", {}, value), make("span", {}, name));
  }

  function folderOf(run) {
    return decoded(run.base.split("/").at(-2));
  }

  /** Fill in the details from the tile's script. */
  function fill(part, tile, found, top, act) {
    const { octaves, own } = tile.run.settings[tile.group.variant];
    if (!found) {
      part.rest.append(make("p.soft", {}, "The details of this tile could not be read."));
      return;
    }
    if (found.reason) part.rest.append(make("p.reason", {}, `${tile.status}: ${found.reason}`));
    if (found.curve.length) part.rest.append(Featlight.plot(found.curve, octaves, top));
    part.near = make("div");
    part.rest.append(part.near, make("h3", {}, "Recipe"), facts([
      ["Octaves", octaves.map((octave) => `${octave.steps} steps at ${octave.size} px`).join(", ")],
      ...own,
      ["Seconds", number(found.seconds)],
      ["SHA-256", found.sha256],
    ]));
    if (found.examples) {
      part.under.append(make("h3", {}, "Dataset examples"), examples(tile, found.examples),
        make("h3", {}, "Activations on the dataset and on this tile"), Featlight.histogram(...found.histogram, tile.end));
    }
    if (found.paths) {
      part.under.append(make("h3", {}, "Path similarity"), Featlight.paths(found.paths),
        make("p.soft", {}, "At 1, a layer processes this tile as it processes the tile's own examples; "
          + "at 0, no more like them than any other image of the dataset; below 0, even less."));
    }
    if (part.circuit) Featlight.circuits.show(part.circuit, tile, found, act);
    if (found.octaves.length) {
      part.under.append(make("h3", {}, "Octave by octave"), make("div.strip", {},
        found.octaves.map((path, i) => make("figure", {},
          make("img", { src: new URL(path, tile.run.base).href, alt: `End of octave ${i + 1}` }),
          make("figcaption", {}, `${octaves[i].size} px`)))));
    }
    if (found.command) {
      part.under.append(make("h3", {}, "Command for this tile"), make("pre", { tabindex: 0 }, found.command),
        make("button", { type: "button", onclick: () => act.copy(found.command) }, "Copy command"));
    } else {
      part.under.append(make("p.soft", {}, "No command makes this tile, because its network or starting image came from Python."));
    }
  }

  /** Create the list of examples: crop, whole image with the crop outlined, activation and file. */
  function examples(tile, found) {
    const address = Featlight.model.exampleAddress(tile);
    const part = (place, row, words) => {
      const picture = make("span", { role: "img", "aria-label": words });
      const across = found.length > 1 ? (100 * place) / (found.length - 1) : 0;
      picture.style.background = `url("${address}") ${across}% ${100 * row}% / ${100 * found.length}% 200%`;
      return picture;
    };
    return make("ol.examples", {}, found.map(([file, value, name], place) => make("li", { title: file },
      ...(address ? [part(place, 0, `Crop of ${file}`), part(place, 1, `${file} with the crop outlined`)] : []),
      make("b", {}, number(value)), make("small", {}, name ?? file.split("/").at(-1)))));
  }

  /** Show the most similar tiles. */
  async function near(part, tile, act) {
    const found = (await Featlight.model.neighbors(tile)).slice(0, NEAREST);
    if (!found.length) return;
    part.near.append(make("h3", {}, "Similar tiles"), make("div.near", {}, found.map(([place, cosine]) => {
      const other = tile.group.tiles[place];
      return make("button", {
        type: "button",
        "aria-label": `${other.label}, cosine ${cosine.toFixed(2)}`,
        onclick: () => act.open(other),
      }, image(other, { alt: "", loading: "lazy" }),
      make("span", {}, other.label), make("span.soft", {}, cosine.toFixed(2)));
    })));
  }

  Featlight.detail = { show, folderOf };
})();
