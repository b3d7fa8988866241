"use strict";
/** Similarity map of a layer's tiles, on the colors of their clusters; the user drags and zooms it. */
window.Featlight = window.Featlight || {};

(() => {
  const FONT = '"Helvetica Neue", Helvetica, Arial, sans-serif';
  const FINE = 6; // px; smaller tiles are dots in their cluster's color
  const BADGED = 34; // px; smaller tiles have no room for a number
  const SEEN = 32; // px; smaller tiles are not recognizable
  const LARGEST = 300; // px
  const FEW = 150; // maximum number of visible tiles for full pictures
  const STILL = 4; // px; a pointer that moves less has clicked
  const { make, count } = Featlight.dom;

  /** @typedef {{column: number, row: number, tile: Tile, cluster: number}} Spot */

  class Alike {
    /**
     * @param {HTMLElement} section
     * @param {Run} run
     * @param {{open: (tile: Tile) => void, words: (tile: Tile) => string}} act
     */
    constructor(section, run, act) {
      this.act = act;
      this.groups = run.groups.filter((group) => group.alike);
      this.sprites = new Featlight.Sprites(() => this.later());
      this.layer = make("select", { "aria-label": "Layer", onchange: () => this.choose(this.groups[this.layer.selectedIndex]) },
        ...this.groups.map((group) => make("option", {}, group.title)));
      this.cluster = make("select", { "aria-label": "Cluster", onchange: () => this.later() });
      this.said = make("p.soft");
      this.canvas = make("canvas", { "aria-hidden": "true" });
      this.heard = make("output.quiet");
      this.host = make("div.plane", {
        tabindex: 0, role: "application", "aria-label": "Tiles on a plane: arrow keys move, Enter opens, plus and minus zoom",
      }, this.canvas, this.heard);
      section.replaceChildren(
        make("div.choices", {},
          make("label", { hidden: this.groups.length < 2 }, make("span", {}, "Layer"), this.layer),
          make("label", {}, make("span", {}, "Cluster"), this.cluster),
          make("button", { type: "button", onclick: () => this.fit() }, "See all"), this.said),
        this.host);
      this.pointers = new Map();
      /** Whether the whole map stays visible when the window is resized. */
      this.whole = true;
      for (const kind of ["pointerdown", "pointermove", "pointerup", "pointercancel", "pointerleave"]) {
        this.host.addEventListener(kind, (event) => this.onPointer(event));
      }
      this.host.addEventListener("wheel", (event) => {
        event.preventDefault();
        this.zoom(Math.exp(-event.deltaY / 400), event.offsetX, event.offsetY);
      }, { passive: false });
      this.host.addEventListener("keydown", (event) => this.onKey(event));
      for (const kind of ["focus", "blur"]) this.host.addEventListener(kind, () => this.later());
      new ResizeObserver(() => (this.whole ? this.fit() : this.later())).observe(this.host);
      this.choose(this.groups[0]);
    }

    /** Show all tiles of a layer. */
    choose(group) {
      const { alike } = group;
      this.group = group;
      this.layer.selectedIndex = this.groups.indexOf(group);
      /** @type {Spot[]} */
      this.spots = group.tiles.flatMap((tile, i) => (alike.places[i] === null ? [] : [{
        tile, cluster: alike.clusters[i], column: alike.places[i] % alike.columns, row: Math.floor(alike.places[i] / alike.columns),
      }]));
      this.current = this.spots[0];
      this.hover = null;
      const sizes = new Map();
      for (const { cluster } of this.spots) sizes.set(cluster, (sizes.get(cluster) ?? 0) + 1);
      this.cluster.replaceChildren(make("option", { value: 0 }, "all"),
        ...[...sizes].sort(([a], [b]) => a - b).map(([number, size]) => make("option", { value: number }, `${number} · ${count(size, "tile")}`)));
      this.said.textContent = `${count(this.spots.length, "tile")} by the mean activations of the layer’s features: ${alike.words}. `
        + `${count(sizes.size, "k-means cluster")} of the same vectors.`;
      this.fit();
    }

    /** Bring a tile into view at a recognizable size. */
    reveal(tile) {
      if (tile.group !== this.group) this.choose(tile.group);
      const spot = this.spots.find((one) => one.tile === tile);
      if (!spot) return;
      if (this.whole) this.fit();
      const [x, y] = [this.left + (spot.column + 0.5) * this.scale, this.top + (spot.row + 0.5) * this.scale];
      if (this.scale < SEEN) this.zoom((2 * SEEN) / this.scale, x, y);
      this.go(spot);
    }

    size() {
      return { width: this.host.clientWidth, height: this.host.clientHeight };
    }

    fit() {
      const { width, height } = this.size();
      if (!width) return;
      const { columns, rows } = this.group.alike;
      this.scale = Math.min(LARGEST, width / columns, height / rows);
      [this.left, this.top] = [(width - columns * this.scale) / 2, (height - rows * this.scale) / 2];
      this.least = this.scale / 2;
      this.whole = true;
      this.later();
    }

    /** Highlight all clusters. */
    all() {
      this.cluster.value = 0;
      this.later();
    }

    /** Zoom around a point of the window. */
    zoom(times, x, y) {
      const scale = Math.min(LARGEST, Math.max(this.least, this.scale * times));
      this.left = x - ((x - this.left) * scale) / this.scale;
      this.top = y - ((y - this.top) * scale) / this.scale;
      this.scale = scale;
      this.whole = false;
      this.later();
    }

    later() {
      this.waiting ??= requestAnimationFrame(() => this.draw());
    }

    draw() {
      this.waiting = null;
      const { width, height } = this.size();
      if (!width) return;
      const density = devicePixelRatio || 1;
      const { canvas, scale } = this;
      [canvas.width, canvas.height] = [Math.round(width * density), Math.round(height * density)];
      const context = canvas.getContext("2d");
      context.setTransform(density, 0, 0, density, 0, 0);
      context.imageSmoothingQuality = "high";
      const seen = this.spots.filter(({ column, row }) => {
        const [x, y] = [this.left + column * scale, this.top + row * scale];
        return x > -scale && y > -scale && x < width && y < height;
      });
      const few = seen.length <= FEW && scale * density > this.group.side * 1.1;
      const chosen = Number(this.cluster.value);
      for (const spot of seen) this.drawSpot(context, spot, few, !chosen || chosen === spot.cluster);
      const style = getComputedStyle(this.host);
      if (this.hover) this.ring(context, this.hover, style.getPropertyValue("--ink"), 1.5);
      if (this.current && document.activeElement === this.host) {
        this.ring(context, this.current, style.getPropertyValue("--paper"), 7); // separates the ring from its cluster's color
        this.ring(context, this.current, style.getPropertyValue("--accent"), 3);
      }
    }

    drawSpot(context, { tile, column, row, cluster }, few, strong) {
      const { scale } = this;
      const [x, y] = [this.left + column * scale, this.top + row * scale];
      const away = scale < FINE ? 0 : Math.max(1, scale / 28);
      const size = scale - 2 * away;
      context.globalAlpha = strong ? 1 : 0.14;
      context.fillStyle = this.group.alike.colors[cluster - 1];
      context.fillRect(x, y, scale - (scale < FINE ? 0.5 : 0), scale - (scale < FINE ? 0.5 : 0));
      if (scale >= FINE) {
        if (tile.status === "dead") context.globalAlpha *= 0.35;
        this.sprites.draw(context, tile, x + away, y + away, size, few, false);
        context.globalAlpha = strong ? 1 : 0.14;
      }
      if (scale >= BADGED) {
        this.badge(context, x, y, String(cluster), 11, false);
        if (scale >= 2 * BADGED) this.badge(context, x, y + scale, tile.label, 11, true);
      }
      context.globalAlpha = 1;
    }

    /** Draw text on the current fill color, below or above a point. */
    badge(context, x, y, word, size, above) {
      context.font = `600 ${size}px ${FONT}`;
      const fill = context.fillStyle;
      const width = Math.min(this.scale, context.measureText(word).width + 8);
      context.fillRect(x, above ? y - size - 6 : y, width, size + 6);
      context.fillStyle = "#fff";
      context.fillText(word, x + 4, above ? y - 5 : y + size + 1, width - 8);
      context.fillStyle = fill;
    }

    ring(context, { column, row }, color, width) {
      context.strokeStyle = color;
      context.lineWidth = width;
      context.strokeRect(this.left + column * this.scale, this.top + row * this.scale, this.scale, this.scale);
    }

    /** Return the tile's spot at a point, or null. */
    at(x, y) {
      const [column, row] = [Math.floor((x - this.left) / this.scale), Math.floor((y - this.top) / this.scale)];
      return this.spots.find((spot) => spot.column === column && spot.row === row) ?? null;
    }

    /** One pointer drags or clicks, two zoom. */
    onPointer(event) {
      const { pointers } = this;
      const [x, y] = [event.offsetX, event.offsetY];
      const before = pointers.get(event.pointerId);
      if (event.type === "pointerdown") {
        this.host.setPointerCapture(event.pointerId);
        this.moved = pointers.size ? STILL : 0;
        pointers.set(event.pointerId, { x, y });
      } else if (event.type === "pointermove" && before) {
        const [other] = [...pointers].filter(([id]) => id !== event.pointerId).map(([, point]) => point);
        this.moved += Math.hypot(x - before.x, y - before.y);
        if (other) {
          const apart = (point) => Math.max(1, Math.hypot(point.x - other.x, point.y - other.y));
          this.zoom(apart({ x, y }) / apart(before), other.x, other.y);
        } else if (this.moved >= STILL) {
          this.left += x - before.x;
          this.top += y - before.y;
          this.whole = false;
          this.later();
        }
        pointers.set(event.pointerId, { x, y });
      } else if (before) {
        pointers.delete(event.pointerId);
        const spot = event.type === "pointerup" && this.moved < STILL ? this.at(x, y) : null;
        if (spot) {
          this.go(spot);
          this.act.open(spot.tile);
        }
      } else {
        const spot = event.type === "pointermove" ? this.at(x, y) : null;
        if (spot === this.hover) return;
        this.hover = spot;
        this.host.title = spot ? this.words(spot) : "";
        this.later();
      }
    }

    onKey(event) {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      const { key } = event;
      const { width, height } = this.size();
      const way = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[key];
      if (way) this.step(...way);
      else if (key === "Enter" || key === " ") this.act.open(this.current.tile);
      else if (key === "+" || key === "=") this.zoom(1.25, width / 2, height / 2);
      else if (key === "-") this.zoom(0.8, width / 2, height / 2);
      else if (key === "Home") this.fit();
      else if (key === "Escape") this.all();
      else return;
      event.preventDefault();
    }

    /** Go to the nearest tile in a direction; tiles straight ahead come first. */
    step(across, down) {
      const { column, row } = this.current;
      let [best, least] = [null, Infinity];
      for (const spot of this.spots) {
        const [x, y] = [spot.column - column, spot.row - row];
        const ahead = x * across + y * down;
        const far = ahead + 2 * Math.abs(x * down + y * across);
        if (ahead > 0 && far < least) [best, least] = [spot, far];
      }
      if (best) this.go(best);
    }

    /** Make a tile the current one, and scroll it into view. */
    go(spot) {
      this.current = spot;
      this.heard.textContent = this.words(spot);
      const { width, height } = this.size();
      const [x, y] = [this.left + spot.column * this.scale, this.top + spot.row * this.scale];
      this.left += Math.max(0, -x) - Math.max(0, x + this.scale - width);
      this.top += Math.max(0, -y) - Math.max(0, y + this.scale - height);
      this.later();
    }

    words({ tile, cluster }) {
      return `${this.act.words(tile)}, cluster ${cluster}`;
    }
  }

  Featlight.Alike = Alike;
})();
