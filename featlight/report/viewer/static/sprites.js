"use strict";
/** Pictures of tiles on a canvas: from the sheets of small ones, and full ones where few are shown large. */
window.Featlight = window.Featlight || {};

(() => {
  const MOST_FULL = 160; // full tiles that are kept; each holds up to half a megabyte

  class Sprites {
    /** @param {() => void} changed  called when a picture has come */
    constructor(changed) {
      this.changed = changed;
      /** @type {Map<string, HTMLImageElement>} */
      this.sheets = new Map();
      /** @type {Map<string, HTMLImageElement>} the one used last stands last */
      this.full = new Map();
    }

    /** A picture that is there, or null while it comes. */
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

    /** Lay what was drawn on white: turned over, it is darkened by its transparency, and turned back. */
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
     * Draw a tile, all of it, in the middle of a square.
     * @param {CanvasRenderingContext2D} context
     * @param {Tile} tile
     * @param {number} size     in CSS pixels
     * @param {boolean} sharp   whether to draw the full tile once it is there
     * @param {boolean} plain   whether to leave its transparency out
     * @returns {boolean} whether there was something to draw
     */
    draw(context, tile, x, y, size, sharp, plain) {
      const { group, place } = tile;
      const { side, across, aspect: [high, wide] } = group;
      const [width, height] = [(size * wide) / side, (size * high) / side];
      const [left, top] = [x + (size - width) / 2, y + (size - height) / 2];
      const full = sharp ? this.fullPicture(Featlight.model.address(tile)) : null;
      // a dead tile is opaque: nothing pulled at it
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

    /** A frame where there is no picture, or none yet; a dashed one where none will come. */
    frame(context, x, y, size, color, dashed) {
      context.strokeStyle = color;
      context.lineWidth = 1;
      context.setLineDash(dashed ? [3, 3] : []);
      context.strokeRect(x + 0.5, y + 0.5, size - 1, size - 1);
      context.setLineDash([]);
    }

    /**
     * Draw the part that counts of a tile's best example.
     * @returns {boolean} whether there was something to draw
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
