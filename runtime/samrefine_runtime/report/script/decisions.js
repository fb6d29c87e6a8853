// What the reader decided of each image: {id, decision, note}, kept in this browser under the
// identity of the image's label, so that a new label is decided anew.
const decisions = (() => {
  const UNDECIDED = { decision: "", note: "" };

  class Decisions {
    constructor(report) {
      this.key = `samrefine-report/${report.identity}`;
      this.listeners = [];
      this.isKept = true;
      this.known = {};
      this.load();
      // Another tab may show the same report
      addEventListener("storage", (event) => {
        if (event.key !== this.key) return;
        this.load();
        this.changed();
      });
    }

    // Browsers may refuse to keep anything, and others may have written what is there
    load() {
      try {
        const known = JSON.parse(localStorage.getItem(this.key));
        this.known = known !== null && typeof known === "object" ? known : {};
      } catch {
        this.isKept = false;
      }
    }

    of(image) {
      return this.known[image.identity] ?? UNDECIDED;
    }

    // The note on an earlier label of this image, if there is one
    earlier(image) {
      const others = Object.entries(this.known).filter(
        ([identity, each]) => each.id === image.id && identity !== image.identity,
      );
      return others.length ? others[others.length - 1][1] : null;
    }

    set(image, change) {
      this.load();
      const next = { id: image.id, ...this.of(image), ...change };
      delete this.known[image.identity];
      if (next.decision || next.note) this.known[image.identity] = next;
      try {
        localStorage.setItem(this.key, JSON.stringify(this.known));
        this.isKept = true;
      } catch {
        this.isKept = false;
      }
      this.changed();
    }

    changed() {
      for (const listener of this.listeners) listener();
    }
  }

  // RFC 4180: a cell is quoted where a comma, quote or line break in it would end it
  const cell = (text) => (/[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);

  // A worklist of images, as `--only` of the commands takes it
  function csv(rows) {
    const lines = rows.map(({ id, decision, note }) => [id, decision, note].map(cell).join(","));
    return ["image,decision,note", ...lines, ""].join("\r\n");
  }

  return { Decisions, csv };
})();
