"use strict";
// One index, that of the point shown, moves the film, the cursors of the plots, the slider and the
// numbers; each of them moves the index.
(async () => {
  const byId = (id) => document.getElementById(id);
  const plan = JSON.parse(byId("plan").textContent);
  const roots = Object.fromEntries(
    Object.entries(plan.roots).map(([key, id]) => [id, `plot-${key}`]),
  );
  const views = await Bokeh.embed.embed_items(
    { plots: plan.document },
    [{ docid: "plots", roots, root_ids: Object.keys(roots) }],
  );
  const plots = Bokeh.documents[Bokeh.documents.length - 1];
  const named = (name) => plots.get_model_by_name(name);
  const figures = Object.values(plan.roots).map((id) => plots.get_model_by_id(id));

  // Printers see canvases of their own: those of the plots have the width of the screen.
  const copyPlots = () => {
    for (const [key, id] of Object.entries(plan.roots)) {
      const view = views.flatMap((manager) => [...manager]).find((v) => v.model.id === id);
      if (view) byId(`printed-${key}`).replaceChildren(view.export("png").canvas);
    }
  };
  const methods = [...document.querySelectorAll("details.method")];
  window.addEventListener("beforeprint", () => {
    copyPlots();
    for (const part of methods) part.dataset.was = part.open ? "open" : "";
    for (const part of methods) part.open = true;
  });
  window.addEventListener("afterprint", () => {
    for (const part of methods) part.open = part.dataset.was === "open";
  });
  window.matchMedia("print").addEventListener("change", (event) => event.matches && copyPlots());

  if (plan.timed) scrubbing();
  document.documentElement.dataset.ready = "true";

  function scrubbing() {
    const film = byId("film");
    const slider = byId("scrub");
    const shown = named("shown");
    const cursors = figures.flatMap((figure) => figure.center).filter((m) => m.name === "cursor");
    const meters = [...document.querySelectorAll("meter[data-column]")];
    const cells = [...document.querySelectorAll("dd[data-column]")];
    let index = 0;
    let face = 0;
    let wanted = null; // time that the film is to show once it has shown the last one

    const times = () => shown.data.time;
    const column = (name) => shown.data[name] ?? [];

    // The last point that is not later than a time.
    function pointAt(time) {
      const all = times();
      let low = 0;
      let high = all.length - 1;
      while (low < high) {
        const middle = (low + high + 1) >> 1;
        if (all[middle] <= time + 1e-4) low = middle;
        else high = middle - 1;
      }
      return low;
    }

    function seekFilm(time) {
      if (!film) return;
      // A little into the frame: its start may be rounded to the frame before.
      const all = times();
      const next = index + 1 < all.length ? all[index + 1] - time : 0.02;
      const target = Math.max(time - plan.film_start, 0) + Math.min(next / 2, 0.01);
      if (film.seeking) wanted = target;
      else film.currentTime = target;
    }
    film?.addEventListener("seeked", () => {
      if (wanted === null) return;
      const target = wanted;
      wanted = null;
      film.currentTime = target;
    });

    function show(next, { moveFilm = true } = {}) {
      const all = times();
      index = Math.min(Math.max(Math.round(next), 0), all.length - 1);
      const time = all[index];
      for (const cursor of cursors) cursor.location = time;
      slider.value = index;
      const words = `Frame ${Math.round(column("frame")[index])}, ${time.toFixed(3)} s`;
      slider.setAttribute("aria-valuetext", words);
      byId("where").textContent = column("success")[index] ? words : `${words}: no face`;
      for (const cell of cells) {
        const value = column(cell.dataset.column)[index];
        cell.textContent = Number.isFinite(value) ? value.toFixed(cell.dataset.digits) : "–";
      }
      for (const meter of meters) {
        const name = meter.dataset.column;
        const value = (5 * (column(name)[index] - plan.bases[name])) / plan.lane;
        meter.value = Number.isFinite(value) ? value : 0;
        document.querySelector(`[data-of="${meter.id}"]`).textContent = meter.value.toFixed(1);
      }
      if (moveFilm) seekFilm(time);
    }

    // Pointers fire more often than the screen is drawn.
    let asked = null;
    function showSoon(next) {
      if (asked === null) requestAnimationFrame(() => { const i = asked; asked = null; show(i); });
      asked = next;
    }
    const pause = () => film?.pause();

    for (const figure of figures) {
      for (const kind of ["tap", "pan"]) {
        figure.on_event(kind, (event) => {
          if (kind !== "tap" && figure.toolbar.tools.some((tool) => tool.active)) return;
          // A finger that moves up or down scrolls the page.
          if (kind === "pan" && Math.abs(event.delta_x) < Math.abs(event.delta_y)) return;
          pause();
          showSoon(pointAt(event.x));
        });
      }
    }

    slider.max = times().length - 1;
    slider.addEventListener("input", () => { pause(); showSoon(Number(slider.value)); });
    byId("back").addEventListener("click", () => { pause(); show(index - 1); });
    byId("on").addEventListener("click", () => { pause(); show(index + 1); });

    const starts = () => [...(named("events").data.left ?? [])].sort((a, b) => a - b);
    byId("event-back").addEventListener("click", () => {
      pause();
      const before = starts().filter((start) => pointAt(start) < index);
      if (before.length) show(pointAt(before[before.length - 1]));
    });
    byId("event-on").addEventListener("click", () => {
      pause();
      const after = starts().find((start) => pointAt(start) > index);
      if (after !== undefined) show(pointAt(after));
    });
    for (const button of document.querySelectorAll(".jump")) {
      button.addEventListener("click", () => { pause(); show(pointAt(Number(button.dataset.time))); });
    }

    if (film) {
      const play = byId("play");
      play.addEventListener("click", () => (film.paused ? film.play() : film.pause()));
      film.addEventListener("play", () => { play.textContent = "Pause"; follow(); });
      film.addEventListener("pause", () => { play.textContent = "Play"; });
      const at = (time) => pointAt(time + plan.film_start + 1e-3);
      const follow = () => {
        if (film.paused) return;
        const step = (_, frame) => { show(at(frame.mediaTime), { moveFilm: false }); follow(); };
        if (film.requestVideoFrameCallback) film.requestVideoFrameCallback(step);
        else requestAnimationFrame(() => step(0, { mediaTime: film.currentTime }));
      };
    }

    byId("face")?.addEventListener("change", (event) => {
      face = Number(event.target.value);
      const time = times()[index];
      for (const name of ["shown", "events", "lost"]) {
        named(name).data = { ...named(`${name}-${face}`).data };
      }
      for (const part of document.querySelectorAll("[data-face]")) {
        part.hidden = Number(part.dataset.face) !== face;
      }
      slider.max = times().length - 1;
      show(pointAt(time));
    });

    for (const id of ["scrub", "play", "back", "on", "event-back", "event-on"]) {
      if (byId(id)) byId(id).disabled = false;
    }
    if (window.innerWidth < 700) byId("now").open = false;
    show(0);
  }
})();
