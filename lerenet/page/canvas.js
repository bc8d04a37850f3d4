// A photo that a mask is drawn on: brush, eraser, rectangle, undo, zoom; by mouse, pen, finger and keys.
// What was drawn is a list of strokes, drawn anew on undo; each change is sent to the server as a PNG.
export default {
  template: `
    <div ref="frame" class="lerenet-canvas" tabindex="0" role="application" :aria-label="label"
         style="overflow:auto;max-height:70vh;border:1px solid #ccc;background:#222;touch-action:none;outline-offset:2px"
         @keydown="key">
      <div :style="{position:'relative',width:(width*zoom)+'px',height:(height*zoom)+'px'}">
        <img :src="src" draggable="false" alt=""
             style="position:absolute;width:100%;height:100%;user-select:none;pointer-events:none">
        <canvas ref="mask" :width="width" :height="height"
                style="position:absolute;width:100%;height:100%;opacity:.5;cursor:crosshair;touch-action:none"
                @pointerdown="down" @pointermove="move" @pointerup="up" @pointercancel="up"></canvas>
        <div v-if="box" :style="box" style="position:absolute;border:2px dashed #fff;pointer-events:none"></div>
      </div>
    </div>`,
  props: { src: String, width: Number, height: Number, base: String, target: String, label: String },
  data() {
    return { tool: "brush", size: 20, suited: 20, zoom: 1,
             strokes: [], fitted: false, current: null, box: null, start: null, image: null, sent: {}, unsent: false, waiting: false, queue: Promise.resolve() };
  },
  mounted() {
    new ResizeObserver(() => { if (!this.fitted && this.$refs.frame?.clientWidth) this.fit(); }).observe(this.$refs.frame);
    this.load();
  },
  watch: { src() { this.strokes = []; this.fitted = this.unsent = false; this.$nextTick(() => { this.fit(); this.suit(); this.load(); }); }, base() { this.strokes = []; this.load(); } },
  methods: {
    fit() {
      const room = this.$refs.frame.clientWidth;
      this.fitted = room > 0 && this.width > 1;
      if (!this.fitted) return;
      this.zoom = Math.min(2, Math.max(0.05, (room - 20) / this.width));
    },
    suit() { // a brush for the photo's size, unless somebody chose another
      const size = Math.max(4, Math.round(Math.max(this.width, this.height) / 80));
      if (this.size === this.suited) { this.size = size; this.$emit("sized", { size }); }
      this.suited = size;
    },
    load() {
      this.image = null;
      this.waiting = Boolean(this.base); // nothing is drawn until the mask to go on from is there
      if (!this.base) { this.$nextTick(this.redraw); return; }
      const image = new Image(), base = this.base;
      image.onload = () => { if (this.base === base) { this.image = image; this.waiting = false; this.redraw(); } };
      image.onerror = () => { if (this.base === base) this.waiting = false; };
      image.src = base;
    },
    at(event) {
      const place = this.$refs.mask.getBoundingClientRect();
      return [(event.clientX - place.left) / place.width * this.width,
              (event.clientY - place.top) / place.height * this.height];
    },
    down(event) {
      if (event.button > 0 || this.waiting) return;
      event.preventDefault();
      this.$refs.frame.focus({ preventScroll: true });
      this.$refs.mask.setPointerCapture(event.pointerId);
      const place = this.at(event);
      this.start = place;
      this.current = { tool: this.tool, size: this.size, points: [place] };
      if (this.tool !== "rectangle") this.draw(this.current);
    },
    move(event) {
      if (!this.current) return;
      const place = this.at(event);
      if (this.tool === "rectangle") {
        const [x, y] = this.start.map((value, i) => Math.min(value, place[i]) * this.zoom);
        const [w, h] = this.start.map((value, i) => Math.abs(value - place[i]) * this.zoom);
        this.box = { left: x + "px", top: y + "px", width: w + "px", height: h + "px" };
        this.current.points = [this.start, place];
      } else {
        this.current.points.push(place);
        this.draw({ ...this.current, points: this.current.points.slice(-2) });
      }
    },
    up() {
      if (!this.current) return;
      const stroke = this.current;
      this.current = null; this.box = null;
      if (stroke.tool === "rectangle") {
        if (stroke.points.length < 2) return;
        this.draw(stroke);
      }
      this.strokes.push(stroke);
      this.send();
    },
    draw(stroke) {
      const pen = this.$refs.mask.getContext("2d");
      pen.globalCompositeOperation = stroke.tool === "eraser" ? "destination-out" : "source-over";
      pen.fillStyle = pen.strokeStyle = "rgb(255,64,64)";
      const [first, last] = [stroke.points[0], stroke.points[stroke.points.length - 1]];
      if (stroke.tool === "rectangle") {
        pen.fillRect(Math.min(first[0], last[0]), Math.min(first[1], last[1]),
                     Math.abs(first[0] - last[0]), Math.abs(first[1] - last[1]));
        return;
      }
      pen.lineWidth = stroke.size; pen.lineCap = pen.lineJoin = "round";
      pen.beginPath();
      pen.moveTo(...first);
      for (const place of stroke.points) pen.lineTo(...place);
      if (stroke.points.length === 1) pen.lineTo(first[0] + 0.01, first[1]);
      pen.stroke();
    },
    redraw() {
      const pen = this.$refs.mask.getContext("2d");
      pen.globalCompositeOperation = "source-over";
      pen.clearRect(0, 0, this.width, this.height);
      if (this.image) pen.drawImage(this.image, 0, 0, this.width, this.height);
      this.strokes.forEach((stroke) => this.draw(stroke));
    },
    send() { // the picture and its address as they are now, one after the other; a newer one of the same photo replaces it
      const target = this.target;
      const number = (this.sent[target] = (this.sent[target] || 0) + 1);
      const picture = new Promise((done) => this.$refs.mask.toBlob(done, "image/png"));
      this.queue = this.queue.then(async () => {
        const blob = await picture;
        if (number !== this.sent[target]) return;
        const answer = await fetch(target, { method: "POST", body: blob }).catch(() => ({ ok: false }));
        if (target === this.target) this.unsent = !answer.ok;
        this.$emit("drawn", { ok: answer.ok });
      });
    },
    async flush() { // whether the server has all of it, tried once more where it was not taken
      await this.queue;
      if (this.unsent) { this.send(); await this.queue; }
      return !this.unsent;
    },
    undo() { if (this.strokes.pop()) { this.redraw(); this.send(); } },
    clear() { this.strokes = []; this.image = null; this.redraw(); this.send(); },
    set_tool(tool) { this.tool = tool; },
    set_size(size) { this.size = size; },
    scale(factor) { this.zoom = Math.min(8, Math.max(0.05, this.zoom * factor)); },
    key(event) {
      const keys = { b: () => this.pick("brush"), e: () => this.pick("eraser"), r: () => this.pick("rectangle"),
                     "+": () => this.scale(1.25), "-": () => this.scale(0.8), "0": () => this.fit(),
                     "[": () => this.resize(0.8), "]": () => this.resize(1.25) };
      if ((event.ctrlKey || event.metaKey) && event.key === "z") { event.preventDefault(); this.undo(); }
      else if (!event.ctrlKey && keys[event.key]) { event.preventDefault(); keys[event.key](); }
    },
    pick(tool) { this.tool = tool; this.$emit("picked", { tool }); },
    resize(factor) { this.size = Math.max(1, Math.round(this.size * factor)); this.$emit("sized", { size: this.size }); },
  },
};
