// A folder's photos, chosen or dropped: they are given to the field for photos beside it, one by one.
export default {
  template: `<q-btn flat dense no-caps icon="create_new_folder" label="A folder" @click="$refs.input.click()"/>
             <input ref="input" type="file" webkitdirectory multiple hidden aria-label="A folder of photos" @change="chosen">`,
  props: { field: Number, endings: Array },
  mounted() { // before the field sees it, for the field takes a folder for a file
    this.around = this.$refs.input.parentElement;
    this.around.addEventListener("drop", this.dropped, true);
  },
  unmounted() { this.around.removeEventListener("drop", this.dropped, true); },
  methods: {
    chosen(event) {
      this.give([...event.target.files]);
      event.target.value = ""; // the same folder may come again
    },
    async dropped(event) {
      const entries = [...event.dataTransfer.items].map((item) => item.webkitGetAsEntry()).filter(Boolean);
      if (!entries.some((entry) => entry.isDirectory)) return;
      event.preventDefault();
      event.stopPropagation();
      event.target.dispatchEvent(new DragEvent("dragleave")); // the field's own sign that something hovers
      const found = await Promise.all(entries.map((entry) => this.files(entry)));
      this.give(found.flat());
    },
    async files(entry) { // of a folder and those in it; the browser lists them a hundred at a time
      if (entry.isFile) return [await new Promise((done, failed) => entry.file(done, failed))];
      const reader = entry.createReader(), inside = [];
      for (;;) {
        const some = await new Promise((done, failed) => reader.readEntries(done, failed));
        if (!some.length) break;
        inside.push(...some);
      }
      return (await Promise.all(inside.map((one) => this.files(one)))).flat();
    },
    give(files) { // what else lies in a folder is no photo that somebody gave
      const photos = files.filter((file) => this.endings.some((ending) => file.name.toLowerCase().endsWith(ending)));
      if (photos.length) getElement(this.field).$refs.qRef.addFiles(photos);
      this.$emit("given", { photos: photos.length, files: files.length });
    },
  },
};
