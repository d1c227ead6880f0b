
"use strict";
// The view of a page: reads the JSON beside it, draws with 3Dmol, and keeps table, slider, curves and view together.
(() => {
  const AXES = ["#d55e00", "#009e73", "#0072b2"]; // of the lattice vectors a, b, c
  const STYLES = {
    "ball and stick": { ball: (e) => 0.2 + 0.2 * e.covalent, stick: 0.1 },
    "spheres": { ball: (e) => e.vdw, stick: 0 },
    "sticks": { ball: () => 0.12, stick: 0.12 },
  };
  const RIBBON = "ribbon"; // of chains of N, CA, C and O
  const BACKBONE = ["N", "CA", "C", "O"];
  const FOLDS = { h: "#cf4a5c", s: "#2f6f9f", c: "#8f979f" }; // helix, strand and coil
  const FRAMES_PER_SECOND = 15;

  function made(name, properties = {}, ...children) {
    const element = Object.assign(document.createElement(name), properties);
    element.append(...children);
    return element;
  }

  function drawing(name, attributes) {
    const element = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    return element;
  }

  function choice(title, values) {
    const select = made("select", {}, ...values.map((value) => made("option", { textContent: value })));
    return [made("label", {}, title + " ", select), select];
  }

  // the sum of lattice vectors, each so often
  const along = (lattice, counts) => [0, 1, 2].map((part) =>
    counts.reduce((sum, count, axis) => sum + count * lattice[axis][part], 0));
  const point = ([x, y, z]) => ({ x, y, z });

  class Viewer {
    constructor(place) {
      Object.assign(this, JSON.parse(place.querySelector("script").textContent));
      this.table = place.querySelector("table");
      this.rows = this.table ? [...this.table.tBodies[0].rows] : [];
      this.scene = this.scenes[0];
      this.frame = 0;
      place.prepend(this.build());
      if (this.table) this.prepareTable();
      place.addEventListener("keydown", (event) => this.pressed(event));
      const probe = made("canvas");
      if (probe.getContext("webgl2") || probe.getContext("webgl")) {
        this.canvas = $3Dmol.createViewer(this.stage, { orthographic: true, minimumZoomToDistance: 2 });
      } else this.note.textContent = "This browser draws nothing in three dimensions: it has no WebGL.";
      this.show(0);
      if (!this.canvas) return;
      new ResizeObserver(() => this.canvas.resize()).observe(this.stage);
      const paint = () => this.canvas.setBackgroundColor(getComputedStyle(this.stage).backgroundColor, 1);
      matchMedia("(prefers-color-scheme: dark)").addEventListener("change", paint);
      paint();
    }

    build() {
      this.stage = made("div", { className: "stage", tabIndex: 0 });
      this.note = made("p", { className: "note" });
      this.title = made("b");
      this.play = made("button", { type: "button", textContent: "play", onclick: () => this.toggle() });
      this.slider = made("input", { type: "range", min: 0, oninput: () => this.go(Number(this.slider.value)) });
      this.slider.setAttribute("aria-label", "frame");
      this.caption = made("output");
      this.steps = made("div", { className: "controls" }, this.play, this.slider, this.caption);
      const [styles, style] = choice("atoms", [...this.scenes.some(({ ribbon }) => ribbon) ? [RIBBON] : [], ...Object.keys(STYLES)]);
      const [repeats, repeat] = choice("cells", ["1", "2", "3"]);
      this.box = made("input", { type: "checkbox", checked: true, onchange: () => this.draw() });
      const turned = made("button", { type: "button", textContent: "reset the view", onclick: () => this.center() });
      style.onchange = () => this.draw();
      repeat.onchange = () => { this.draw(); this.center(); };
      Object.assign(this, { style, repeat, boxes: made("label", {}, this.box, " cell"), repeats });
      this.legend = made("span", { className: "legend" });
      this.curves = made("div", { className: "curves" });
      const controls = made("div", { className: "controls" }, styles, repeats, this.boxes, turned, this.legend);
      return made("div", { className: "view" }, this.title, made("div", { className: "frame" }, this.stage, this.note),
        this.steps, controls, this.curves);
    }

    prepareTable() {
      this.rows.forEach((row, index) => {
        row.tabIndex = 0;
        row.onclick = () => this.show(index);
      });
      [...this.table.tHead.rows[0].cells].forEach((cell, column) => {
        const sort = made("button", { type: "button", textContent: cell.textContent, title: "sort" });
        sort.onclick = () => this.sort(cell, column);
        cell.replaceChildren(sort);
      });
    }

    sort(cell, column) {
      const down = cell.getAttribute("aria-sort") === "ascending";
      const value = (row) => row.cells[column].textContent;
      const number = (row) => (value(row) === "-" ? NaN : Number(value(row).replaceAll(",", "")));
      const numeric = this.rows.every((row) => value(row) === "-" || !Number.isNaN(number(row)));
      const compare = (one, other) => {
        if (!numeric) return value(one).localeCompare(value(other));
        return Number.isNaN(number(one)) - Number.isNaN(number(other)) || number(one) - number(other) || 0;
      };
      for (const each of cell.parentNode.cells) each.removeAttribute("aria-sort");
      cell.setAttribute("aria-sort", down ? "descending" : "ascending");
      this.table.tBodies[0].append(...[...this.rows].sort((one, other) => (down ? -1 : 1) * compare(one, other)));
    }

    pressed(event) {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      const inForm = ["SELECT", "INPUT", "BUTTON"].includes(event.target.tagName);
      const move = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      const pick = { ArrowUp: "previousElementSibling", ArrowDown: "nextElementSibling" }[event.key];
      if (move && !inForm) this.go(this.frame + move);
      else if (event.key === " " && !inForm) this.toggle();
      else if (event.key === "Enter" && event.target.tagName === "TR") this.show(this.rows.indexOf(event.target));
      else if (pick && !inForm && this.table) {
        const row = this.rows[this.scenes.indexOf(this.scene)][pick];
        if (row) this.show(this.rows.indexOf(row));
        if (row && event.target.tagName === "TR") row.focus();
      } else return;
      event.preventDefault();
    }

    show(index) {
      this.stop();
      this.scene = this.scenes[index];
      this.bonds = new Map();
      this.bonded = -1; // the frame whose bonds these are
      const many = this.scene.frames.length > 1;
      const periodic = this.scene.pbc.some(Boolean);
      this.rows.forEach((row, place) => row.setAttribute("aria-selected", place === index));
      this.title.textContent = this.scene.name;
      this.slider.max = Math.max(0, this.scene.frames.length - 1);
      this.steps.hidden = !many;
      this.repeats.hidden = this.boxes.hidden = !periodic;
      if (this.canvas) this.note.textContent = this.scene.frames.length ? "" : "Nothing of this can be drawn.";
      this.legend.replaceChildren(...[...new Set(this.scene.numbers)].map((number) => {
        const { symbol, colour } = this.elements[number];
        const dot = made("i");
        dot.style.background = colour;
        return made("span", {}, dot, symbol);
      }));
      this.drawCurves();
      this.go(this.scene.opening);
      this.center();
    }

    go(frame) {
      this.frame = Math.min(Math.max(frame, 0), Math.max(0, this.scene.frames.length - 1));
      this.moveBonds();
      this.slider.value = this.frame;
      this.caption.textContent = this.scene.labels[this.frame] ?? "";
      this.moveMarks();
      this.draw();
    }

    // bonds come and go from frame to frame, in either direction
    moveBonds() {
      const change = (bond) => this.bonds.delete(bond.join()) || this.bonds.set(bond.join(), bond);
      const last = Math.min(this.frame, this.scene.frames.length - 1);
      while (this.bonded < last) this.scene.frames[++this.bonded].changes.forEach(change);
      while (this.bonded > last) this.scene.frames[this.bonded--].changes.forEach(change);
    }

    toggle() {
      if (this.timer) return this.stop();
      if (this.scene.frames.length < 2) return;
      this.play.textContent = "stop";
      this.timer = setInterval(() => this.go((this.frame + 1) % this.scene.frames.length), 1000 / FRAMES_PER_SECOND);
    }

    stop() {
      clearInterval(this.timer);
      this.timer = 0;
      this.play.textContent = "play";
    }

    center() {
      if (!this.canvas || !this.scene.frames.length) return;
      this.canvas.setView([0, 0, 0, 0, ...this.scene.turn]);
      this.canvas.zoomTo();
      this.canvas.zoom(0.85); // it leaves no room for the size of atoms
    }

    draw() {
      if (!this.canvas) return;
      this.canvas.removeAllModels();
      this.canvas.removeAllShapes();
      this.canvas.removeAllLabels();
      const frame = this.scene.frames[this.frame];
      if (frame) {
        const ribbon = this.style.value === RIBBON && this.scene.ribbon;
        const { ball, stick } = STYLES[this.style.value] ?? STYLES.sticks;
        const model = this.canvas.addModel();
        model.addAtoms([...this.atoms(frame), ...this.corners(frame)]);
        if (ribbon) model.setStyle({}, { cartoon: { arrows: true, colorfunc: (atom) => FOLDS[atom.ss] } });
        for (const { symbol, colour, ...radii } of ribbon ? [] : Object.values(this.elements)) {
          const style = { sphere: { radius: ball(radii), color: colour } };
          if (stick) style.stick = { radius: stick, color: colour };
          model.setStyle({ elem: symbol }, style);
        }
        if (this.hasBox()) this.drawCell(this.lattice(frame));
      }
      this.canvas.render();
    }

    lattice(frame) {
      return [0, 1, 2].map((axis) => frame.cell.slice(3 * axis, 3 * axis + 3).map((part) => part / 1000));
    }

    // every atom in every cell that is shown, with the bonds whose both ends are shown
    atoms(frame) {
      const lattice = this.lattice(frame);
      const repeats = this.scene.pbc.map((periodic) => (periodic ? Number(this.repeat.value) : 1));
      const places = new Map();
      const atoms = [];
      const add = (i, image) => {
        const key = [i, ...image].join();
        if (places.has(key)) return;
        const [x, y, z] = along(lattice, image).map((part, axis) => part + frame.places[3 * i + axis] / 1000);
        places.set(key, atoms.length);
        atoms.push({ elem: this.elements[this.scene.numbers[i]].symbol, x, y, z, bonds: [], bondOrder: [], i, image, ...this.residue(i) });
      };
      const cells = (ends) => ends.reduce((found, end) =>
        found.flatMap((image) => [...Array(end).keys()].map((count) => [...image, count])), [[]]);
      for (const image of cells(repeats)) this.scene.numbers.forEach((_, i) => add(i, image));
      for (const [i, ...onFace] of this.scene.faces) {
        for (const image of cells(repeats.map((end, axis) => end + onFace[axis]))) add(i, image);
      }
      const bonded = new Map();
      for (const [i, j, ...offset] of this.bonds.values()) {
        if (!bonded.has(i)) bonded.set(i, []);
        bonded.get(i).push([j, offset]);
      }
      atoms.forEach((atom, one) => {
        for (const [j, offset] of bonded.get(atom.i) ?? []) {
          const other = places.get([j, ...atom.image.map((count, axis) => count + offset[axis])].join());
          if (other === undefined) continue;
          atom.bonds.push(other);
          atoms[other].bonds.push(one);
          atom.bondOrder.push(1);
          atoms[other].bondOrder.push(1);
        }
      });
      return atoms;
    }

    // which atom of which residue of a backbone it is
    residue(i) {
      const { ribbon } = this.scene;
      if (!ribbon) return {};
      const place = Math.floor(i / 4);
      const ss = ribbon[place];
      const ends = { ssbegin: ribbon[place - 1] !== ss, ssend: ribbon[place + 1] !== ss };
      return { atom: BACKBONE[i % 4], resi: place + 1, resn: "GLY", chain: "A", hetflag: false, serial: i, ss, ...ends };
    }

    hasBox() {
      return this.box.checked && this.scene.pbc.some(Boolean);
    }

    // atoms that are not drawn, so that the cell is in view as a whole
    corners(frame) {
      if (!this.hasBox()) return [];
      const lattice = this.lattice(frame);
      const ends = [...Array(8).keys()].map((k) => [k & 1, (k >> 1) & 1, k >> 2]);
      return ends.map((end) => ({ elem: "X", style: {}, ...point(along(lattice, end)) }));
    }

    drawCell(lattice) {
      for (let axis = 0; axis < 3; axis++) {
        const others = [0, 1, 2].filter((other) => other !== axis);
        for (let k = 0; k < 4; k++) {
          const from = [0, 0, 0];
          from[others[0]] = k & 1;
          from[others[1]] = k >> 1;
          const to = [...from];
          to[axis] = 1;
          this.canvas.addCylinder({
            start: point(along(lattice, from)), end: point(along(lattice, to)), radius: k ? 0.025 : 0.05,
            color: k ? "#8a8f98" : AXES[axis], fromCap: 1, toCap: 1,
          });
        }
        const end = [0, 0, 0];
        end[axis] = 1;
        const long = Math.hypot(...lattice[axis]);
        const place = along(lattice, end).map((part) => part * (1 + 0.9 / (long || 1)));
        if (long) this.canvas.addLabel("abc"[axis], {
          position: point(place), showBackground: false, fontColor: AXES[axis], fontSize: 16, bold: true,
          alignment: "center", inFront: true,
        });
      }
    }

    drawCurves() {
      this.marks = [];
      const count = this.scene.frames.length;
      const panels = count < 2 ? [] : Object.entries(this.scene.curves).map(([name, values]) => this.panel(name, values));
      this.curves.replaceChildren(...panels);
    }

    // a curve over the frames, in a box of 300 by 70; a click goes to the frame there
    panel(name, values) {
      const known = values.filter((value) => value !== null);
      const [low, high] = [Math.min(...known), Math.max(...known)];
      const x = (index) => 4 + (292 * index) / (values.length - 1);
      const y = (value) => 65 - (60 * (value - low)) / (high - low || 1);
      const svg = drawing("svg", { viewBox: "0 0 300 70", preserveAspectRatio: "none", role: "img", "aria-label": name });
      const mark = drawing("line", { y1: 0, y2: 70, class: "mark", "vector-effect": "non-scaling-stroke" });
      let path = "";
      let pen = "M";
      values.forEach((value, index) => {
        if (value !== null) path += `${pen}${x(index).toFixed(1)} ${y(value).toFixed(1)}`;
        pen = value === null ? "M" : "L";
      });
      svg.append(drawing("path", { d: path, "vector-effect": "non-scaling-stroke" }), mark);
      svg.onclick = (event) => {
        const box = svg.getBoundingClientRect();
        const share = ((event.clientX - box.left) / box.width * 300 - 4) / 292;
        this.go(Math.round(share * (values.length - 1)));
      };
      const value = made("b");
      this.marks.push({ mark, value, values, x });
      const range = known.length ? `${low.toPrecision(6)} to ${high.toPrecision(6)}` : "no values";
      return made("figure", {}, made("figcaption", {}, name + ": ", value, made("span", { textContent: range })), svg);
    }

    moveMarks() {
      for (const { mark, value, values, x } of this.marks) {
        mark.setAttribute("x1", x(this.frame));
        mark.setAttribute("x2", x(this.frame));
        value.textContent = values[this.frame] === null ? "-" : String(values[this.frame]);
      }
    }
  }

  document.querySelectorAll(".viewer").forEach((place) => new Viewer(place));
})();
