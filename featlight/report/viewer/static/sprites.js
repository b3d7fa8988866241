"use strict";
/** Tiles on a canvas: small ones from sprite sheets, full pictures when few large tiles are visible. */
window.Featlight = window.Featlight || {};

(() => {
  const MOST_FULL = 160; // full tiles in the cache; each takes up to half a megabyte

  class Sprites {
    /** @param {() => void} changed  called when a picture has loaded */
    constructor(changed) {
      this.changed = changed;
      /** @type {Map<string, HTMLImageElement>} */
      this.sheets = new Map();
      /** @type {Map<string, HTMLImageElement>} in order of last use */
      this.full = new Map();
    }

    /** Return a picture, or null while it loads. */
    picture(cache, address) {
      let image = cache.get(address);
      if (!image) {
        image = new Image();
        image.decoding = "async";
        image.onload = this.changed;
        image.src = address;
        cache.set(address, image);
      }
      return image.complete && image.naturalWidth ? image : null;
    }

    fullPicture(address) {
      const image = this.picture(this.full, address);
      const entry = this.full.get(address);
      this.full.delete(address);
      this.full.set(address, entry);
      if (this.full.size > MOST_FULL) this.full.delete(this.full.keys().next().value);
      return image;
    }

    /** Composite the drawn picture on white: invert it, multiply by alpha, and invert it again. */
    lay(context, alpha, x, y, width, height) {
      context.fillStyle = "#fff";
      context.globalCompositeOperation = "difference";
      context.fillRect(x, y, width, height);
      context.globalCompositeOperation = "multiply";
      context.drawImage(alpha, x, y, width, height);
      context.globalCompositeOperation = "difference";
      context.fillRect(x, y, width, height);
      context.globalCompositeOperation = "source-over";
    }

    /**
     * Draw a whole tile, centered in a square.
     * @param {CanvasRenderingContext2D} context
     * @param {Tile} tile
     * @param {number} size     in CSS pixels
     * @param {boolean} sharp   whether to draw the full picture when it has loaded
     * @param {boolean} plain   whether to ignore transparency
     * @returns {boolean} whether something was drawn
     */
    draw(context, tile, x, y, size, sharp, plain) {
      const { group, place } = tile;
      const { side, across, aspect: [high, wide] } = group;
      const [width, height] = [(size * wide) / side, (size * high) / side];
      const [left, top] = [x + (size - width) / 2, y + (size - height) / 2];
      const full = sharp ? this.fullPicture(Featlight.model.address(tile)) : null;
      // a dead tile is opaque, because it has no gradients
      const wanted = sharp && !plain && tile.status === "ok" ? Featlight.model.alphaAddress(tile) : null;
      const alpha = wanted ? this.fullPicture(wanted) : null;
      if (full && (alpha || !wanted)) {
        context.drawImage(full, left, top, width, height);
        if (alpha) this.lay(context, alpha, left, top, width, height);
        return true;
      }
      const addresses = plain && group.plainAddresses ? group.plainAddresses : group.addresses;
      const sheet = this.picture(this.sheets, addresses[Math.floor(place / group.perSheet)]);
      if (!sheet) return false;
      const i = place % group.perSheet;
      const column = (i % across) * side + Math.floor((side - wide) / 2);
      const row = Math.floor(i / across) * side + Math.floor((side - high) / 2);
      context.drawImage(sheet, column, row, wide, high, left, top, width, height);
      return true;
    }

    /** Draw a frame in place of a picture that is loading; dashed if there is no picture. */
    frame(context, x, y, size, color, dashed) {
      context.strokeStyle = color;
      context.lineWidth = 1;
      context.setLineDash(dashed ? [3, 3] : []);
      context.strokeRect(x + 0.5, y + 0.5, size - 1, size - 1);
      context.setLineDash([]);
    }

    /**
     * Draw the crop of a tile's best example.
     * @returns {boolean} whether something was drawn
     */
    drawExample(context, tile, x, y, size, sharp) {
      const { group, place } = tile;
      const address = Featlight.model.exampleAddress(tile);
      if (!address) return false;
      const strip = sharp ? this.fullPicture(address) : null;
      if (strip) {
        const cell = strip.naturalHeight / 2;
        context.drawImage(strip, 0, 0, cell, cell, x, y, size, size);
        return true;
      }
      const sheet = this.picture(this.sheets, group.exampleAddresses[Math.floor(place / group.perSheet)]);
      if (!sheet) return false;
      const i = place % group.perSheet;
      const [column, row] = [(i % group.across) * group.side, Math.floor(i / group.across) * group.side];
      context.drawImage(sheet, column, row, group.side, group.side, x, y, size, size);
      return true;
    }
  }

  Featlight.Sprites = Sprites;
})();
